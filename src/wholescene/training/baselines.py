"""What a system must beat: labels for a frame without any learning of how it looks, scored by the same code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wholescene.data import Dataset
from wholescene.errors import InputError
from wholescene.labels import EMPTY, UNKNOWN
from wholescene.structures import Frame
from wholescene.training.evaluate import spread


@dataclass(frozen=True)
class EverythingEmpty:
    """Empty everywhere."""

    name: ClassVar[str] = "everything empty"

    def __call__(self, frame: Frame) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8."""
        return np.full(frame.grid.shape, EMPTY, np.uint8)


@dataclass(frozen=True)
class VisibleFromPerfectDepth:
    """Occupied is what the true depth map hits, and nothing behind it: what a perfect depth network without completion would give.

    Occupied voxels get one class, so only the completion scores mean something.

    Attributes:
        label: the class that occupied voxels get.
    """

    label: int = 1
    name: ClassVar[str] = "visible from perfect depth, nothing behind it (IoU only)"

    def __call__(self, frame: Frame) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8.

        Raises:
            InputError: the frame has no depth map.
        """
        depth = frame.depth_target if frame.depth_target is not None else frame.depth
        if depth is None:
            raise InputError(f"{frame.name} has no depth map; this baseline needs true depth, which procedural worlds give")
        labels = np.full(frame.grid.shape, EMPTY, np.uint8)
        index, inside = frame.grid.index_of(frame.main.camera.unproject(depth))
        labels[tuple(index[inside].T)] = self.label
        return labels


@dataclass(frozen=True)
class MostFrequent:
    """Each voxel is the class that it most often was in training frames, whatever the picture shows.

    Attributes:
        labels: (X, Y, Z) uint8.
        frames: how many it was counted over.
    """

    labels: NDArray[np.uint8]
    frames: int
    name: ClassVar[str] = "most frequent class of each voxel in training"

    @classmethod
    def of(cls, dataset: Dataset, classes: int, frames: int | None = None) -> MostFrequent:
        """Count over a dataset of frames on grids of one shape.

        Args:
            dataset: training frames with targets.
            classes: K, with empty.
            frames: at most this many, spread evenly; None: all.

        Raises:
            InputError: no frames, or grids of different shapes.
        """
        chosen = spread(len(dataset), frames)
        if not chosen:
            raise InputError("no frames to count over; check the training part of the dataset")
        counts: NDArray[np.int32] | None = None
        for index in chosen:
            target = dataset[index].targets[1]
            if counts is None:
                counts = np.zeros((classes, target.size), np.int32)
                shape = target.shape
            if target.shape != shape:
                raise InputError(f"frames on grids of {shape} and of {target.shape} voxels cannot be counted together")
            flat = target.reshape(-1)
            known = np.flatnonzero(flat != UNKNOWN)
            counts[flat[known], known] += 1
        assert counts is not None
        return cls(counts.argmax(0).astype(np.uint8).reshape(shape), len(chosen))

    def __call__(self, frame: Frame) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8, the same for every frame.

        Raises:
            InputError: a grid of another shape.
        """
        if frame.grid.shape != self.labels.shape:
            raise InputError(f"{frame.name} has a grid of {frame.grid.shape} voxels; the counts are of {self.labels.shape}")
        return self.labels
