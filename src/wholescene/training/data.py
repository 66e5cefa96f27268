"""From a dataset to what a training step eats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from wholescene.data import Dataset
from wholescene.data.augment import augment, generator, mirror
from wholescene.data.collate import collate
from wholescene.data.config import Augmentation
from wholescene.labels import UNKNOWN
from wholescene.preparation import Preparation, prepare
from wholescene.structures import Batch, Frame
from wholescene.training.sampler import Draw


@dataclass
class Portion:
    """What one process works on in one part of a step.

    Attributes:
        batch: the frames.
        weight: of their mean loss; 0 for a process that only takes part.
        counted: frames that count.
        blank: names of frames in which no voxel is known.
    """

    batch: Batch
    weight: float
    counted: int
    blank: tuple[str, ...] = ()

    def to(self, device: Any, non_blocking: bool = False) -> Portion:
        """The same on another device."""
        return replace(self, batch=self.batch.to(device, non_blocking))


class Remembered(TorchDataset[Frame]):
    """Frames that are made or read once and then kept in memory: for small frames that are dear to make.

    Args:
        frames: the dataset.
    """

    def __init__(self, frames: Dataset) -> None:
        self.frames, self.names, self.labels = frames, frames.names, frames.labels
        self.revision, self.protocol = getattr(frames, "revision", ""), getattr(frames, "protocol", "")
        self.kept: dict[int, Frame] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        if index not in self.kept:
            self.kept[index] = self.frames[index]
        return self.kept[index]

    def fill(self, workers: int = 0, made: Callable[[], None] = lambda: None) -> None:
        """Make all frames now, so that no later step waits for one; `made` is called after each."""
        missing = [i for i in range(len(self)) if i not in self.kept]
        loader: DataLoader[Frame] = DataLoader(self, batch_size=None, sampler=missing, num_workers=min(workers, len(missing)), collate_fn=_same)
        for index, frame in zip(missing, loader, strict=True):
            self.kept[index] = frame
            made()


def _same(frame: Any) -> Any:
    return frame


class TrainingFrames(TorchDataset[tuple[Frame, float]]):
    """Frames as the system wants them, varied by (seed, epoch, index) and by nothing else, whichever worker loads them.

    Args:
        frames: the dataset.
        preparation: of the system; applied before the augmentation, so that a mirror image is of the part that the system sees, unless the
            augmentation says otherwise.
        augmentation, seed: of the recipe.
    """

    def __init__(self, frames: Dataset, preparation: Preparation, augmentation: Augmentation, seed: int) -> None:
        self.frames, self.preparation, self.augmentation, self.seed = frames, preparation, augmentation, seed

    def __getitem__(self, draw: Draw) -> tuple[Frame, float]:
        raw, numbers = self.frames[draw.index], (self.seed, draw.epoch, draw.index)
        fitted = prepare(raw, self.preparation)
        frame = augment(fitted, self.augmentation, generator(*numbers))
        if self.augmentation.mirror_of == "whole" and frame.main.camera.mirrored != fitted.main.camera.mirrored:
            whole = augment(prepare(mirror(raw), self.preparation), replace(self.augmentation, mirror=0.0), generator(*numbers))
            frame = replace(frame, views={name: replace(view, picture=whole.views[name].picture) for name, view in frame.views.items()})
        return frame, draw.weight


def collate_portion(drawn: Sequence[tuple[Frame, float]]) -> Portion:
    """Frames and their weights to a portion."""
    frames, weights = zip(*drawn, strict=True)
    blank = tuple(f.name for f in frames if 1 in f.targets and (f.targets[1] == UNKNOWN).all())
    return Portion(collate(frames), math.fsum(weights), sum(w > 0 for w in weights), blank)
