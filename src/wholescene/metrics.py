"""Scores of scene completion: integer counts first, ratios last, and the rule for absent classes named beside every mean.

    counts = SplitCounts(classes=20, splits=("visible", "hidden"))
    counts.update(prediction, targets, {"visible": visible, "hidden": hidden})
    counts["hidden"].compute().miou

A confusion matrix holds all there is to know, so it is the whole state, and sums over frames, processes and machines are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholescene.errors import InputError, unknown_name
from wholescene.geometry.counting import byte_labels, count_pairs
from wholescene.labels import EMPTY, UNKNOWN

Rule = Literal["semantic-kitti", "seen-only"]
RULES = ("semantic-kitti", "seen-only")
Volume = Tensor | NDArray[Any]
ALL = "all"
_MOST_SPLITS = 8


@dataclass(frozen=True)
class Scores:
    """Ratios, each 0 where it is undefined; all in 0..1.

    Attributes:
        rule: how absent classes enter `miou`. "semantic-kitti": the mean is over all classes but empty, a class that is neither in the truth nor
            predicted counts 0 (development kit, MonoScene family). "seen-only": such classes are left out.
        frames: how many were scored.
        voxels: known voxels scored.
        precision, recall, iou: of occupied against empty (scene completion).
        class_iou: of classes 1..K-1.
        seen: of classes 1..K-1, in the truth or predicted.
        miou: mean of `class_iou` by the rule.
    """

    rule: str
    frames: int
    voxels: int
    precision: float
    recall: float
    iou: float
    class_iou: tuple[float, ...]
    seen: tuple[bool, ...]
    miou: float

    def rows(self, names: Sequence[str]) -> list[tuple[str, float]]:
        """(name, score) a line: completion, the mean with its rule, then every class.

        Args:
            names: of all K classes, with empty.

        Raises:
            InputError: another number of names.
        """
        if len(names) != len(self.class_iou) + 1:
            raise InputError(f"{len(names)} class names for scores of {len(self.class_iou) + 1} classes (with empty)")
        completion = [("completion precision", self.precision), ("completion recall", self.recall), ("completion IoU", self.iou)]
        return [*completion, (f"mIoU ({self.rule})", self.miou), *zip(names[1:], self.class_iou, strict=True)]


@dataclass
class Counts:
    """What a set of voxels amounts to, updated frame by frame.

    Attributes:
        confusion: (K, K) int64 on the CPU, rows truth and columns prediction; known voxels only.
        frames: frames counted.
    """

    confusion: Tensor
    frames: int = 0

    @classmethod
    def zero(cls, classes: int) -> Counts:
        """Nothing counted yet, for K classes with empty.

        Raises:
            InputError: a number of classes that labels cannot have.
        """
        if not 2 <= classes <= UNKNOWN:
            raise InputError(f"{classes} classes: 2 to 255 can be counted, with empty")
        return cls(torch.zeros(classes, classes, dtype=torch.int64))

    @property
    def classes(self) -> int:
        return len(self.confusion)

    def update(self, prediction: Volume, targets: Volume) -> None:
        """Add one frame or a batch of them.

        Args:
            prediction: (X, Y, Z) or (B, X, Y, Z) integers 0..K-1; a tensor on any device, or an array.
            targets: the same shape, 0..K-1 or 255 unknown; what is predicted there does not matter.

        Raises:
            InputError: shapes that differ, labels out of range.
        """
        self._add(*_volumes(prediction, targets))

    def _add(self, predicted: Tensor, truth: Tensor) -> None:
        table = count_pairs(truth, predicted, (UNKNOWN + 1, UNKNOWN + 1)).cpu()
        K = self.classes
        _refuse(table[K:UNKNOWN].sum(1), K, "targets hold label {}, which is neither one of the classes 0..{} nor unknown (255)")
        _refuse(table[:K, K:].sum(0), K, "label {} is predicted for a known voxel; the classes are 0..{}")
        self.confusion += table[:K, :K]
        self.frames += _frames(truth)

    @property
    def tp(self) -> Tensor:
        """(K,) int64: voxels of each class that were predicted as it."""
        return self.confusion.diagonal()

    @property
    def fp(self) -> Tensor:
        """(K,) int64: voxels predicted as each class that are of another."""
        return self.confusion.sum(0) - self.tp

    @property
    def fn(self) -> Tensor:
        """(K,) int64: voxels of each class that were predicted as another."""
        return self.confusion.sum(1) - self.tp

    @property
    def completion(self) -> tuple[int, int, int]:
        """tp, fp, fn of occupied, whatever the class."""
        occupied = torch.arange(len(self.confusion)) != EMPTY
        part = self.confusion[occupied]
        return int(part[:, occupied].sum()), int(self.confusion[EMPTY, occupied].sum()), int(part[:, EMPTY].sum())

    def __add__(self, other: Counts) -> Counts:
        """The counts of both.

        Raises:
            InputError: other classes.
        """
        if self.classes != other.classes:
            raise InputError(f"counts of {self.classes} and of {other.classes} classes cannot be added")
        return Counts(self.confusion + other.confusion, self.frames + other.frames)

    def as_tensor(self) -> Tensor:
        """The whole state as one (1 + K*K,) int64 tensor; those of several processes may be summed."""
        return torch.cat([torch.tensor([self.frames]), self.confusion.reshape(-1)])

    @classmethod
    def from_tensor(cls, state: Tensor) -> Counts:
        """The inverse of `as_tensor`, from any device.

        Raises:
            InputError: a state of another size or type.
        """
        classes = math.isqrt(max(0, state.numel() - 1))
        if state.dtype != torch.int64 or state.shape != (1 + classes * classes,):
            raise InputError(f"a state of counts is (1 + K*K,) int64; found {tuple(state.shape)} {state.dtype}")
        state = state.cpu()
        return cls(state[1:].view(classes, classes).clone(), int(state[0]))

    def compute(self, rule: Rule = "semantic-kitti") -> Scores:
        """The scores of all that was counted.

        Raises:
            InputError: unknown rule.
        """
        if rule not in RULES:
            raise unknown_name("rule for absent classes", rule, RULES)
        tp, fp, fn = self.completion
        classes = [(int(a), int(a + b + c)) for a, b, c in zip(self.tp, self.fp, self.fn, strict=True)][1:]
        class_iou = tuple(_ratio(hit, union) for hit, union in classes)
        seen = tuple(union > 0 for _, union in classes)
        over = len(classes) if rule == "semantic-kitti" else sum(seen)
        return Scores(
            rule=rule,
            frames=self.frames,
            voxels=int(self.confusion.sum()),
            precision=_ratio(tp, tp + fp),
            recall=_ratio(tp, tp + fn),
            iou=_ratio(tp, tp + fp + fn),
            class_iou=class_iou,
            seen=seen,
            miou=_ratio(sum(class_iou), over),
        )


class SplitCounts:
    """Counts of the whole and of named parts of it (visible and hidden voxels, near and far), from one pass over the voxels.

    Args:
        classes: K, with empty.
        splits: names of the parts, up to eight; they may overlap and need not cover the whole. "all" is always there.

    Attributes:
        parts: split -> its counts; "all" first. Every part counts the same frames.

    Raises:
        InputError: a number of classes that labels cannot have, too many splits, a split named "all" or named twice.
    """

    def __init__(self, classes: int, splits: Sequence[str] = ()) -> None:
        if len(splits) > _MOST_SPLITS or ALL in splits or len(set(splits)) != len(splits):
            raise InputError(f"splits {list(splits)}: up to {_MOST_SPLITS} different names, none of them {ALL!r}")
        self.parts = {name: Counts.zero(classes) for name in (ALL, *splits)}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)[1:]

    def __getitem__(self, split: str) -> Counts:
        if split not in self.parts:
            raise unknown_name("split", split, self.parts)
        return self.parts[split]

    def update(self, prediction: Volume, targets: Volume, masks: Mapping[str, Volume]) -> None:
        """Add one frame or a batch of them.

        Args:
            prediction, targets: as in `Counts.update`.
            masks: for each split, bool of a shape that broadcasts to that of `targets`: the voxels that belong to it.

        Raises:
            InputError: as `Counts.update`; a mask that is missing, superfluous, not bool, or of a shape that does not fit.
        """
        if set(masks) != set(self.splits):
            raise InputError(f"masks are given for {sorted(masks)}, but the splits are {sorted(self.splits)}")
        predicted, truth = _volumes(prediction, targets)
        code = _code([_tensor(masks[name]) for name in self.splits], truth)
        self.parts[ALL]._add(predicted, truth)
        # labels are in range now; unknown voxels go to row K, which is dropped
        K, combinations = self.parts[ALL].classes, 2 ** len(self.splits)
        rows = code.mul_(K + 1).add_(truth.clamp(max=K))
        tables = count_pairs(rows, predicted.clamp(max=K - 1), (combinations * (K + 1), K)).cpu().view(combinations, K + 1, K)[:, :K]
        for bit, name in enumerate(self.splits):
            self.parts[name].confusion += tables[torch.arange(combinations) >> bit & 1 == 1].sum(0)
            self.parts[name].frames += _frames(truth)

    def __add__(self, other: SplitCounts) -> SplitCounts:
        """The counts of both.

        Raises:
            InputError: other classes or splits.
        """
        if self.splits != other.splits:
            raise InputError(f"counts over the splits {self.splits} and {other.splits} cannot be added")
        total = SplitCounts(self.parts[ALL].classes, self.splits)
        total.parts = {name: part + other.parts[name] for name, part in self.parts.items()}
        return total

    def as_tensor(self) -> Tensor:
        """The whole state as one (1 + splits, 1 + K*K) int64 tensor; those of several processes may be summed."""
        return torch.stack([part.as_tensor() for part in self.parts.values()])

    @classmethod
    def from_tensor(cls, state: Tensor, splits: Sequence[str] = ()) -> SplitCounts:
        """The inverse of `as_tensor`, from any device.

        Raises:
            InputError: a state of another size or type.
        """
        if state.dim() != 2 or len(state) != 1 + len(splits):
            raise InputError(f"a state of {len(splits)} splits is ({1 + len(splits)}, 1 + K*K) int64; found {tuple(state.shape)}")
        parts = [Counts.from_tensor(row) for row in state]
        counts = cls(parts[0].classes, splits)
        counts.parts = dict(zip(counts.parts, parts, strict=True))
        return counts


def _volumes(prediction: Volume, targets: Volume) -> tuple[Tensor, Tensor]:
    """Both as uint8 tensors of one shape on one device."""
    predicted, truth = byte_labels(_tensor(prediction), "predictions"), byte_labels(_tensor(targets), "targets")
    if predicted.shape != truth.shape:
        raise InputError(f"prediction {tuple(predicted.shape)} and targets {tuple(truth.shape)} differ in shape")
    return predicted.to(truth.device), truth


def _tensor(volume: Volume) -> Tensor:
    if isinstance(volume, Tensor):
        return volume
    wide = volume.dtype.kind in "iu" and volume.dtype != np.uint8  # torch lacks most unsigned types
    return torch.from_numpy(np.require(volume, np.int64 if wide else None, ["C", "W"]))


def _frames(truth: Tensor) -> int:
    return len(truth) if truth.dim() > 3 else 1


def _code(masks: Sequence[Tensor], truth: Tensor) -> Tensor:
    """int32 of the shape of `truth`: bit i is set where mask i holds."""
    code = torch.zeros(truth.shape, dtype=torch.int32, device=truth.device)
    for bit, mask in enumerate(masks):
        if mask.dtype != torch.bool:
            raise InputError(f"a split's mask is {mask.dtype}, not bool")
        try:
            code.add_(mask.to(code.device), alpha=1 << bit)
        except RuntimeError as error:
            raise InputError(f"a split's mask of shape {tuple(mask.shape)} does not fit targets of shape {tuple(truth.shape)}") from error
    return code


def _refuse(found: Tensor, classes: int, sentence: str) -> None:
    """Raise if any label from `classes` on was found."""
    if found.any():
        raise InputError(sentence.format(classes + int(found.nonzero()[0]), classes - 1))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
