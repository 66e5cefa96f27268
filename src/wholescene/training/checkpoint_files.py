"""Checkpoints on disk: written whole or not at all, read without running code, and only ever deleted by the run that wrote them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from wholescene.errors import InputError
from wholescene.files import writing
from wholescene.training.module import own_part
from wholescene.training.progress import Progress

FOLDER = "checkpoints"
SYSTEM = "system."  # what names of its tensors begin with in a training module
_NAME = re.compile(r"step-(\d+)\.ckpt")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files through a temporary name, and read as plain types and tensors."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write under a temporary name, then rename."""
        with writing(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read without running code, whatever is asked for."""
        return read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint of a training run, on the CPU.

    Raises:
        InputError: it is missing, damaged, or no checkpoint of this package.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a checkpoint of a training run") from error
    except Exception as error:  # torch raises many kinds for a damaged file, with advice that is not for users; nothing of it was executed
        raise InputError(f"{path} is damaged or no checkpoint of a training run ({type(error).__name__}); take an earlier one") from error
    own_part(found)
    return dict(found)


def _standing(path: Path) -> Standing:
    found = read_checkpoint(path)
    own, progress = own_part(found), Progress()
    try:
        progress.load_state_dict(own["progress"])
        shapes = {name.removeprefix(SYSTEM): tuple(value.shape) for name, value in found["state_dict"].items() if name.startswith(SYSTEM)}
        return Standing(path, progress, dict(own["recipe"]), bool(own["finished"]), shapes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not say where its run stood ({error}); it is damaged: take an earlier one") from error


def path_of(folder: Path, steps: int) -> Path:
    """Where the checkpoint after so many steps of the run in `folder` lies."""
    return folder / FOLDER / f"step-{steps:08d}.ckpt"


def list_checkpoints(folder: Path) -> list[Path]:
    """Those of the run in `folder`, newest first."""
    found = {int(m[1]): path for path in (folder / FOLDER).glob("step-*.ckpt") if (m := _NAME.fullmatch(path.name))}
    return [found[steps] for steps in sorted(found, reverse=True)]


@dataclass(frozen=True)
class Standing:
    """A checkpoint to go on from, and where its run stood.

    Attributes:
        path: the checkpoint.
        progress: of its run.
        recipe: of its run, as plain types.
        finished: whether that was the end.
        shapes: of the system's tensors, by name.
    """

    path: Path
    progress: Progress
    recipe: dict[str, Any]
    finished: bool
    shapes: dict[str, tuple[int, ...]]

    @property
    def folder(self) -> Path:
        """Of its run."""
        return self.path.parent.parent


def newest(source: Path) -> Standing | None:
    """The newest checkpoint that can be read: of a run's folder, or the file itself.

    One that was cut short (a full disk, a power cut) is skipped with a warning.

    Args:
        source: the folder of a run, its folder of checkpoints, or one file.

    Returns:
        None where there is no checkpoint at all.

    Raises:
        InputError: the file named cannot be read, or none of several can.
    """
    if source.is_file():
        return _standing(source)
    found = list_checkpoints(source.parent if source.name == FOLDER else source)
    for path in found:
        try:
            return _standing(path)
        except InputError as error:
            warnings.warn(f"skipping a checkpoint: {error}", stacklevel=2)
    if found:
        raise InputError(f"none of the {len(found)} checkpoints in {found[0].parent} can be read; start the run anew in another folder")
    return None
