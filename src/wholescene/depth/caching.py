"""Depth that was made once is kept, under a name made of everything that it depends on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from wholescene.depth.files import Metres, Valid
from wholescene.depth.protocol import DepthSource
from wholescene.errors import InputError
from wholescene.files import open_array, writing
from wholescene.structures import Frame


class Cached:
    """A source whose answers are kept in a folder: another picture, camera or source has another name there, so nothing stale is ever read."""

    def __init__(self, source: DepthSource, folder: str | Path) -> None:
        self.source, self.folder = source, Path(folder).expanduser()

    @property
    def needs(self) -> frozenset[str]:
        """Of the source."""
        return self.source.needs

    @property
    def identity(self) -> str:
        """Of the source."""
        return self.source.identity

    def __call__(self, frame: Frame) -> tuple[Metres, Valid]:
        """As every source; made only if it is not kept yet."""
        if not self.identity:
            return self.source(frame)
        path = self.path_of(frame)
        kept = _read(path, frame.main.picture.shape[:2])
        if kept is None:
            kept, _ = self.source(frame)
            with writing(path) as temporary, temporary.open("wb") as file:
                np.save(file, kept)
        return kept, kept > 0

    def path_of(self, frame: Frame) -> Path:
        """Where the depth of a frame is kept."""
        digest = hashlib.sha256(self.identity.encode())
        for name in ("main", *sorted(self.needs & frame.views.keys())):
            view = frame.views[name]
            digest.update(f"{name} {view.picture.shape}".encode())
            digest.update(view.picture.tobytes())
            digest.update((view.camera.matrix @ view.camera.T_cam_world).tobytes())
        key = digest.hexdigest()
        return self.folder / key[:2] / f"{key}.npy"


def _read(path: Path, shape: tuple[int, ...]) -> Metres | None:
    """What is kept there; None if nothing is, or something that was not written by us."""
    try:
        kept = open_array(path, "depth that was kept")
    except InputError:
        return None
    return np.array(kept) if kept.shape == shape and kept.dtype == np.float32 else None
