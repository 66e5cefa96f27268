"""Scene: what a user gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.labels import EMPTY, UNKNOWN, LabelSet


@dataclass(frozen=True, eq=False)
class Scene:
    """A completed scene.

    Attributes:
        labels: (X, Y, Z) uint8: 0 empty, 1..K-1 classes, 255 unknown, in the grid's own axis order.
        grid: where the voxels lie.
        label_set: what the labels mean.
        camera: the camera of the picture, if known.
        probability: (X, Y, Z) float16 probability of the chosen label, if known.
        probabilities: (K, X, Y, Z) float16, on request.
        picture: (H, W, 3) uint8, the picture it was made from.
        name: of the frame or file.
        provenance: system, weights, share of the grid in view, what was guessed, notes.

    Raises:
        InputError: arrays whose types or shapes do not agree, or labels that the label set does not have.
    """

    labels: NDArray[np.uint8]
    grid: VoxelGrid
    label_set: LabelSet
    camera: Camera | None = None
    probability: NDArray[np.float16] | None = None
    probabilities: NDArray[np.float16] | None = None
    picture: NDArray[np.uint8] | None = None
    name: str = "scene"
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, classes = self.grid.shape, self.label_set.classes
        _agree(self.name, "labels", self.labels, "u", shape)
        _agree(self.name, "probability", self.probability, "f", shape)
        _agree(self.name, "probabilities", self.probabilities, "f", (classes, *shape))
        _agree(self.name, "picture", self.picture, "u", (-1, -1, 3))
        beyond = np.flatnonzero(np.bincount(self.labels.ravel(), minlength=256)[classes:UNKNOWN])
        if beyond.size:
            raise InputError(
                f"{self.name}: label {classes + int(beyond[0])} is not in the label set {self.label_set.name}; "
                f"expected 0..{classes - 1}, or {UNKNOWN} for unknown; was another label set meant?"
            )

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """(X, Y, Z) where something is: neither empty nor unknown."""
        return (self.labels != EMPTY) & (self.labels != UNKNOWN)

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """The occupied voxels as points, in the order of the array.

        Returns:
            (N, 3) float64 voxel centres in the world, metres, and (N,) uint8 labels.
        """
        index = np.nonzero(self.occupied)
        pose = self.grid.T_world_grid
        local = (np.stack(index, axis=-1) + 0.5) * np.asarray(self.grid.voxel_size)
        return local @ pose[:3, :3].T + pose[:3, 3], self.labels[index]

    def counts(self) -> dict[str, int]:
        """Voxels of each class, in the order of the label set, with "empty" first and "unknown" last."""
        each = np.bincount(self.labels.ravel(), minlength=256)
        return {**dict(zip(self.label_set.names, each.tolist(), strict=False)), "unknown": int(each[UNKNOWN])}

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, whole or not at all (format: `wholescene.scene_files`).

        Raises:
            InputError: the file cannot be written, or the provenance holds something that is not plain data.
        """
        from wholescene.scene_files import save_scene

        save_scene(self, path)

    @classmethod
    def load(cls, path: str | Path, label_set: LabelSet | None = None) -> Scene:
        """Read what `save` wrote, or a plain volume: an .npz with `labels` (X, Y, Z), `voxel_size` in metres and, if you like, `origin`.

        Args:
            path: the file; nothing in it is executed, and nothing is allocated before its headers agree.
            label_set: what the labels of a plain volume mean; None: classes named by their numbers.

        Raises:
            InputError: the file is missing, damaged, of a newer format, or its parts do not agree.
        """
        from wholescene.scene_files import load_scene

        return load_scene(path, label_set)

    def export(self, path: str | Path, **options: Any) -> None:
        """Write the scene for other programs, by suffix: .ply .glb .html .png .npz (see `wholescene.view.export.export`)."""
        from wholescene.view.export import export

        export(self, path, **options)


def _agree(name: str, what: str, array: NDArray[Any] | None, kind: str, shape: tuple[int, ...]) -> None:
    """Refuse an array of another kind ("u": uint8, "f": any float) or shape (-1: any length)."""
    if array is None:
        return
    right_type = isinstance(array, np.ndarray) and (array.dtype == np.uint8 if kind == "u" else array.dtype.kind == "f")
    if not right_type:
        found = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"{name}: {what} must be a NumPy array of {'uint8' if kind == 'u' else 'floats'}; found {found}")
    if array.ndim != len(shape) or any(want not in (-1, have) for want, have in zip(shape, array.shape, strict=True)):
        expected = tuple("any" if n == -1 else n for n in shape)
        raise InputError(f"{name}: {what} have the shape {array.shape}; expected {expected} by the grid and the label set")
