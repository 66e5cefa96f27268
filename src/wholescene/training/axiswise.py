"""Scores along depth, width and height, as ScanSSC analyses its distance-dependent completion imbalance (Bae, Ha and Kim, CVPR 2025, section 3.1 and
supplement E): for any system.

Bins run with the axes of the world: depth from near to far, width from right to left, height from the bottom up. One confusion matrix a bin, summed
over frames; so every bin, quarter and half is exact whatever it is cut into afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wholescene.data import Dataset
from wholescene.errors import InputError
from wholescene.files import read_bytes, write_text
from wholescene.geometry.counting import count_pairs
from wholescene.grid import VoxelGrid
from wholescene.labels import EMPTY, UNKNOWN, LabelSet, label_set
from wholescene.metrics import Counts, Rule, Scores, SplitCounts, Volume
from wholescene.systems.base import System
from wholescene.training.evaluate import Complete, answers, summed_over_processes, summed_up

AXES = ("depth", "width", "height")
QUARTERS = ("(1)", "(2)", "(3)", "(4)")
# The benchmark's categories (SemanticKITTI's page); large and small ones as in Table E.1. Class names of any label set.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "large": {
        "ground": ("road", "parking", "sidewalk", "other-ground"),
        "structure": ("building", "other-structure"),
        "nature": ("vegetation", "trunk", "terrain"),
    },
    "small": {
        "vehicle": ("car", "bicycle", "motorcycle", "truck", "other-vehicle"),
        "human": ("person", "bicyclist", "motorcyclist"),
        "object": ("fence", "pole", "traffic-sign", "other-object"),
    },
}


class AxisCounts:
    """Confusion matrices of every slice of the grid across each axis.

    Args:
        classes: K, with empty.
        lengths: voxels along depth, width and height.

    Attributes:
        tables: axis -> (n, K, K) int64 on the CPU, rows truth and columns prediction; known voxels only.
        frames: frames counted.
    """

    def __init__(self, classes: int, lengths: Sequence[int]) -> None:
        self.classes, self.frames = classes, 0
        self.tables = {axis: torch.zeros(n, classes, classes, dtype=torch.int64) for axis, n in zip(AXES, lengths, strict=True)}

    def update(self, prediction: Volume, targets: Volume, grid: VoxelGrid) -> None:
        """Add one frame.

        Args:
            prediction: (X, Y, Z) integers 0..K-1; a tensor on any device, or an array.
            targets: the same shape, 0..K-1 or 255 unknown.
            grid: whose axes say which array axis is depth, width and height.

        Raises:
            InputError: shapes that differ, labels out of range, a grid of another shape than the first.
        """
        Counts.zero(self.classes).update(prediction, targets)  # refuses what cannot be counted
        truth = torch.as_tensor(targets).to(torch.int32)
        predicted = torch.as_tensor(prediction).to(truth.device, torch.int32)
        K = self.classes
        rows, columns = torch.where(truth == UNKNOWN, K, truth), predicted.clamp(max=K - 1)
        for axis, (array_axis, backward) in zip(AXES, array_axes(grid), strict=True):
            n = truth.shape[array_axis]
            if n != len(self.tables[axis]):
                raise InputError(f"a grid of {tuple(truth.shape)} voxels has {n} along its {axis}; the frames before it had {len(self.tables[axis])}")
            bins = torch.arange(n, dtype=torch.int32, device=truth.device).view(*(-1 if a == array_axis else 1 for a in range(3)))
            table = count_pairs(bins * (K + 1) + rows, columns, (n * (K + 1), K)).cpu().view(n, K + 1, K)[:, :K]
            self.tables[axis] += table.flip(0) if backward else table
        self.frames += 1

    def as_tensor(self) -> Tensor:
        """The whole state as one int64 tensor; those of several processes may be summed."""
        return torch.cat([torch.tensor([self.frames]), *(table.flatten() for table in self.tables.values())])

    def filled(self, state: Tensor) -> AxisCounts:
        """Counts of these sizes with a state from `as_tensor`."""
        made = AxisCounts(self.classes, [len(table) for table in self.tables.values()])
        first, *parts = state.cpu().split([1, *(table.numel() for table in self.tables.values())])
        made.frames = int(first)
        made.tables = {axis: part.view_as(table).clone() for (axis, table), part in zip(self.tables.items(), parts, strict=True)}
        return made

    def part(self, axis: str, which: Any = slice(None)) -> Counts:
        """The counts of some slices across an axis; all by default, which is the whole volume."""
        return Counts(self.tables[axis][which].sum(0), self.frames)


@dataclass(frozen=True)
class AxisScore:
    """Of one bin or quarter, each in 0..1.

    Attributes:
        recall, iou: of occupied against empty.
        miou: by the rule of the evaluation.
        occupied: share of all the truth's occupied voxels that lie here.
    """

    recall: float
    iou: float
    miou: float
    occupied: float


@dataclass(frozen=True)
class AxisEvaluation:
    """Scores along the three axes.

    Attributes:
        bins: axis -> one score a slice of the grid.
        quarters: axis -> four scores, each of its voxels' summed counts (figure 2, table 1).
        groups: axis -> mIoU of each group of classes in the distant half: the far half, the outer quarters, the lower half (Table E.1), and of
            "large" and "small" together; empty for label sets without these classes.
        positions: axis -> metres of the bins' centres: from the near end, from the middle (positive to the left), from the bottom.
        miou, iou: of the whole volume.
        label_set: what the classes mean.
        provenance: name -> text.
    """

    bins: dict[str, tuple[AxisScore, ...]]
    quarters: dict[str, tuple[AxisScore, ...]]
    groups: dict[str, dict[str, float]]
    positions: dict[str, tuple[float, ...]]
    miou: float
    iou: float
    label_set: LabelSet
    provenance: dict[str, str] = field(default_factory=dict)

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text: a header, then a row a quarter of each axis, in per cent; beside the scores of the quarter the mean over its bins."""
        rows = []
        for axis in AXES:
            bins, length = self.bins[axis], len(self.bins[axis])
            for i, (name, score) in enumerate(zip(QUARTERS, self.quarters[axis], strict=True)):
                own = bins[_quarter(length, i)]
                means = [float(np.mean([getattr(b, what) for b in own])) if own else 0.0 for what in ("recall", "iou", "miou")]
                rows.append((f"{axis} {name}", *(_percent(v) for v in (score.recall, score.iou, score.miou, *means, score.occupied))))
        header = ("part, in %", "recall", "IoU", "mIoU", "mean recall of bins", "mean IoU", "mean mIoU", "share of occupied")
        return [header, *rows]

    def group_table(self) -> list[tuple[str, ...]]:
        """Rows of text: a header, then a row an axis, in per cent; no rows for label sets without these classes."""
        if not self.groups:
            return []
        return [
            ("mIoU in the distant half, in %", *next(iter(self.groups.values()))),
            *((a, *map(_percent, g.values())) for a, g in self.groups.items()),
        ]

    def save(self, path: str | Path) -> None:
        """As JSON, whole or not at all."""
        write_text(path, json.dumps({**asdict(self), "label_set": self.label_set.name}, indent=1))

    @classmethod
    def load(cls, path: str | Path) -> AxisEvaluation:
        """The inverse of `save`.

        Raises:
            InputError: the file is missing or holds no such evaluation.
        """
        try:
            plain = json.loads(read_bytes(path, 2**24, "saved evaluation"))
            scores = {what: {axis: tuple(AxisScore(**s) for s in plain[what][axis]) for axis in AXES} for what in ("bins", "quarters")}
            positions = {axis: tuple(plain["positions"][axis]) for axis in AXES}
            for axis in AXES:
                if len(scores["bins"][axis]) != len(positions[axis]) or len(scores["quarters"][axis]) != len(QUARTERS):
                    raise ValueError(f"numbers of bins, positions or quarters along {axis} do not agree")
                numbers = [*positions[axis], *(v for what in scores.values() for s in what[axis] for v in asdict(s).values())]
                if not np.isfinite(np.asarray(numbers, np.float64)).all():
                    raise ValueError(f"scores or positions along {axis} are not all finite")
            if not isinstance(plain["provenance"], dict):
                raise TypeError("the provenance is no mapping")
            return cls(**{**plain, **scores, "positions": positions, "label_set": label_set(plain["label_set"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} holds no evaluation along the axes ({error}); score the weights again with --by axis") from error


def evaluate_axes(
    system: System | Complete,
    dataset: Dataset,
    *,
    rule: Rule = "semantic-kitti",
    frames: int | None = None,
    batch_size: int = 1,
    workers: int = 0,
    precision: str = "32-true",
    about: dict[str, str] | None = None,
) -> AxisEvaluation:
    """Score a system, or a function that gives labels for a frame, along the axes of the volume; arguments as for `evaluate.evaluate`.

    Raises:
        InputError: as there, and frames whose grids differ in shape or voxel size.
    """
    classes = dataset.labels.classes
    if isinstance(system, System) and system.config.classes != classes:
        raise InputError(f"{system.name} has {system.config.classes} classes, the dataset's label set {dataset.labels.name} has {classes}")
    grid, counts = None, None
    for labels, example in answers(system, dataset, frames=frames, batch_size=batch_size, workers=workers, precision=precision):
        if grid is None:
            grid = example.frame.grid
            counts = AxisCounts(classes, [grid.shape[a] for a, _ in array_axes(grid)])
        assert counts is not None
        if example.frame.grid.voxel_size != grid.voxel_size:
            raise InputError(f"{example.frame.name} has voxels of {example.frame.grid.voxel_size} m, the frames before it of {grid.voxel_size} m")
        counts.update(labels, example.truth, example.frame.grid)
    if grid is None or counts is None:
        raise InputError("this process got no frame to score; run with fewer processes")
    counts = counts.filled(summed_over_processes(counts.as_tensor(), system))
    whole = SplitCounts(classes)
    whole.parts["all"] = counts.part("depth")
    overall = summed_up(whole, system, dataset, rule, {"precision": precision, **(about or {})})
    return computed(counts, grid, dataset.labels, rule, overall.provenance)


def computed(
    counts: AxisCounts, grid: VoxelGrid, labels: LabelSet, rule: Rule = "semantic-kitti", provenance: Mapping[str, str] | None = None
) -> AxisEvaluation:
    """Counts to scores."""
    all_scores = counts.part("depth").compute(rule)
    bins, quarters, groups, positions = {}, {}, {}, {}
    for axis, (array_axis, _) in zip(AXES, array_axes(grid), strict=True):
        n = len(counts.tables[axis])
        bins[axis] = tuple(_score(counts, axis, slice(i, i + 1), rule) for i in range(n))
        quarters[axis] = tuple(_score(counts, axis, _quarter(n, i), rule) for i in range(4))
        own = group_scores(counts.part(axis, distant(axis, n)).compute(rule), labels, rule)
        if own:
            groups[axis] = own
        centres = (np.arange(n) + 0.5 - (n / 2 if axis == "width" else 0)) * grid.voxel_size[array_axis]
        positions[axis] = tuple(round(float(c), 6) for c in centres)
    return AxisEvaluation(bins, quarters, groups, positions, all_scores.miou, all_scores.iou, labels, dict(provenance or {}))


def array_axes(grid: VoxelGrid) -> list[tuple[int, bool]]:
    """Of depth, width and height: the array axis, and whether it runs against the world's."""
    return [(axis, bool(grid.T_world_grid[world, axis] < 0)) for world, axis in enumerate((grid.forward, grid.left, grid.up))]


def distant(axis: str, length: int) -> Tensor:
    """(length,) bool: the distant half of an axis: far, outer (a quarter on each side), or lower."""
    place = torch.arange(length)
    if axis == "width":
        side = length // 4
        return (place < side) | (place >= length - side)
    return place >= length - length // 2 if axis == "depth" else place < length // 2


def group_scores(scores: Scores, labels: LabelSet, rule: Rule) -> dict[str, float]:
    """Group-wise mean IoU (Table E.1): of each group of classes, and of the large and the small groups' classes together; empty where the label set
    has none of a group."""
    iou = dict(zip(labels.names[1:], zip(scores.class_iou, scores.seen, strict=True), strict=True))
    found: dict[str, float] = {}
    for size, groups in GROUPS.items():
        for group, names in groups.items():
            found[group] = _mean([iou[name] for name in names if name in iou], rule)
        found[size] = _mean([iou[name] for names in groups.values() for name in names if name in iou], rule)
    missing = [g for groups in GROUPS.values() for g, names in groups.items() if not any(name in iou for name in names)]
    return {} if missing else found


def _mean(scores: list[tuple[float, bool]], rule: Rule) -> float:
    counted = [iou for iou, seen in scores if seen or rule == "semantic-kitti"]
    return sum(counted) / len(counted) if counted else 0.0


def _score(counts: AxisCounts, axis: str, which: slice, rule: Rule) -> AxisScore:
    part = counts.part(axis, which)
    scores = part.compute(rule)
    occupied = torch.arange(counts.classes) != EMPTY
    whole = int(counts.tables[axis][:, occupied].sum())
    return AxisScore(scores.recall, scores.iou, scores.miou, int(part.confusion[occupied].sum()) / whole if whole else 0.0)


def _quarter(length: int, index: int) -> slice:
    """The slices of a quarter; where four does not divide the axis, the boundaries are rounded down."""
    return slice(index * length // 4, (index + 1) * length // 4)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
