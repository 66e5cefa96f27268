"""Scores of a system over a dataset: every frame once, integer counts summed over processes, and beside the numbers all that they depend on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from wholescene.data import Dataset
from wholescene.data.collate import collate
from wholescene.errors import InputError, unknown_name
from wholescene.files import read_bytes, write_text
from wholescene.geometry.visibility import HIDDEN, OUT_OF_VIEW, VISIBLE, near, visibility
from wholescene.labels import UNKNOWN, LabelSet, label_set
from wholescene.metrics import Rule, Scores, SplitCounts
from wholescene.preparation import Preparation, prepare
from wholescene.structures import Batch, Frame, Prediction
from wholescene.systems.base import System
from wholescene.training.provenance import hardware, software, today
from wholescene.training.sampler import shared_out

By = Literal["visibility", "distance"]
SPLITS: dict[str, tuple[str, ...]] = {"visibility": ("visible", "hidden", "out of view"), "distance": ("near", "far")}
PROTOCOL = "every known voxel of the grid, also outside the picture; one confusion matrix over all frames"
Complete = Callable[[Frame], NDArray[np.uint8]]


@dataclass(frozen=True)
class Evaluation:
    """What was scored, and how.

    Attributes:
        scores: "all", and each split.
        label_set: what the classes mean.
        provenance: protocol, rule, dataset, part, data revision, weights, hardware, software, date: name -> text.
    """

    scores: dict[str, Scores]
    label_set: LabelSet
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def miou(self) -> float:
        """Of all voxels, 0..1."""
        return self.scores["all"].miou

    @property
    def iou(self) -> float:
        """Completion IoU of all voxels, 0..1."""
        return self.scores["all"].iou

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text: a header with the splits, then a row for each score (per cent), the classes last."""
        columns = [scores.rows(self.label_set.names) for scores in self.scores.values()]
        body = [(rows[0][0], *(f"{100 * value:.2f}" for _, value in rows)) for rows in zip(*columns, strict=True)]
        return [("score in %", *self.scores), *body]

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "scores": {split: self._named(scores) for split, scores in self.scores.items()},
            "label_set": self.label_set.name,
            "provenance": self.provenance,
        }

    def _named(self, scores: Scores) -> dict[str, Any]:
        return {**asdict(scores), "class_iou": dict(zip(self.label_set.names[1:], scores.class_iou, strict=True))}

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """The inverse of `save`.

        Raises:
            InputError: the file is missing or holds no evaluation.
        """
        try:
            plain = json.loads(read_bytes(path, 2**20, "saved evaluation"))
        except ValueError as error:
            raise InputError(f"{path} holds no saved evaluation ({error}); score the weights again") from error
        return cls.of_dict(plain, str(path))

    @classmethod
    def of_dict(cls, plain: Any, where: str) -> Evaluation:
        """The inverse of `as_dict`.

        Raises:
            InputError: something else.
        """
        try:
            scores = {
                split: Scores(**{**s, "class_iou": tuple(s["class_iou"].values()), "seen": tuple(s["seen"])}) for split, s in plain["scores"].items()
            }
            return cls(scores, label_set(plain["label_set"]), plain["provenance"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where} holds no saved evaluation ({error}); score the weights again") from error

    def save(self, path: str | Path) -> None:
        """As JSON, whole or not at all."""
        write_text(path, json.dumps(self.as_dict(), indent=1))


def evaluate(
    system: System | Complete,
    dataset: Dataset,
    *,
    splits: bool = True,
    by: Sequence[By] = ("visibility", "distance"),
    rule: Rule = "semantic-kitti",
    frames: int | None = None,
    batch_size: int = 1,
    workers: int = 0,
    precision: str = "32-true",
    about: dict[str, str] | None = None,
) -> Evaluation:
    """Score a system, or a function that gives labels for a frame, over a dataset.

    Under torch.distributed every process scores its share of the frames and all get the same result.

    Args:
        system: on the device to use; or a function from a frame to (X, Y, Z) uint8 labels on its grid.
        dataset: frames with targets.
        splits: also score parts of the volume.
        by: which: "visibility" (visible, hidden, out of view, seen from the frame's own camera), "distance" (near, far).
        rule: how classes that occur nowhere enter mIoU; it is named beside the number.
        frames: at most this many, spread evenly; None: all.
        batch_size, workers: of loading; neither changes the result.
        precision: Lightning's name; mixed ones use autocast.
        about: more provenance: part, weights, ...

    Raises:
        InputError: no frames, a frame without a target, an unknown split or rule, classes that differ.
    """
    classes = dataset.labels.classes
    if isinstance(system, System) and system.config.classes != classes:
        raise InputError(f"{system.name} has {system.config.classes} classes, the dataset's label set {dataset.labels.name} has {classes}")
    loading: dict[str, Any] = {"frames": frames, "batch_size": batch_size, "workers": workers}
    counts = count(system, dataset, classes, by=by if splits else (), precision=precision, **loading)
    return summed_up(counts, system, dataset, rule, {"precision": precision, **(about or {})})


def summed_up(counts: SplitCounts, system: System | Complete, dataset: Dataset, rule: Rule, about: dict[str, str]) -> Evaluation:
    """Counts to scores with their provenance; arguments as for `evaluate`."""
    learnt = system if isinstance(system, System) else None
    provenance = {
        "protocol": str(getattr(dataset, "protocol", "") or PROTOCOL),
        "rule for absent classes": rule,
        "dataset": dataset_name(dataset),
        "data revision": str(getattr(dataset, "revision", "") or "not stated"),
        "frames": f"{counts['all'].frames} of {len(dataset)}",
        "system": learnt.said if learnt else str(getattr(system, "name", getattr(system, "__name__", "a function"))),
        "weights": str(learnt.card.get("name", "fresh weights")) if learnt else "none",
        "hardware": hardware(learnt.device if learnt else None),
        "software": software(),
        "date": today(),
        **about,
    }
    return Evaluation({split: part.compute(rule) for split, part in counts.parts.items()}, dataset.labels, provenance)


def dataset_name(dataset: Any) -> str:
    """The class of a dataset; of one around another (with depth from a source, remembered, disturbed) that of the one inside."""
    inside = getattr(dataset, "frames", None)
    return dataset_name(inside) if hasattr(inside, "names") else type(dataset).__name__


def count(
    system: System | Complete,
    dataset: Dataset,
    classes: int,
    *,
    by: Sequence[By] = (),
    frames: int | None = None,
    batch_size: int = 1,
    workers: int = 0,
    precision: str = "32-true",
    forward: Callable[[Batch], Prediction] | None = None,
) -> SplitCounts:
    """The counts behind `evaluate`, summed over processes; arguments as there.

    Args:
        forward: how to call the system where a strategy wraps it; every process calls it as often.

    Raises:
        InputError: as `evaluate`.
    """
    for name in by:
        if name not in SPLITS:
            raise unknown_name("split", name, SPLITS)
    counts = SplitCounts(classes, [split for name in by for split in SPLITS[name]])
    loading: dict[str, Any] = {"frames": frames, "batch_size": batch_size, "workers": workers}
    for labels, example in answers(system, dataset, by=by, precision=precision, forward=forward, **loading):
        counts.update(labels, example.truth, example.masks)
    return SplitCounts.from_tensor(summed_over_processes(counts.as_tensor(), system), counts.splits)


def answers(
    system: System | Complete,
    dataset: Dataset,
    *,
    by: Sequence[By] = (),
    frames: int | None = None,
    batch_size: int = 1,
    workers: int = 0,
    precision: str = "32-true",
    forward: Callable[[Batch], Prediction] | None = None,
) -> Iterator[tuple[Any, Example]]:
    """Each frame that this process scores: the labels (X, Y, Z) that the system gives, and the example. Arguments as for `count`.

    Raises:
        InputError: as `evaluate`.
    """
    chosen = spread(len(dataset), frames)
    if not chosen:
        raise InputError("the dataset holds no frame to score; check its root and part with `wholescene data check`")
    preparation = system.config.preparation if isinstance(system, System) else None
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if _shared() else (0, 1)
    order = [(chosen[i], counted) for i, counted in shared_out(len(chosen), rank, world)]
    examples = _Examples(dataset, order, preparation, tuple(by))
    device = _device(system)
    with evaluating(system), torch.no_grad(), autocast(precision, device):
        for scored, batch in DataLoader(examples, batch_size, num_workers=workers, collate_fn=_stacked):
            labels = _predicted(forward or system, batch.to(device)) if isinstance(system, System) else None
            for i, example in enumerate(scored):
                if example.counts:
                    yield (labels[i] if labels is not None else system(example.frame)), example  # type: ignore[arg-type]


def summed_over_processes(state: Tensor, system: System | Complete) -> Tensor:
    """The sum of a state of counts over all processes; the state itself where there is one."""
    if not _shared():
        return state
    state = state.to(_device(system) if torch.distributed.get_backend() != "gloo" else "cpu")
    torch.distributed.all_reduce(state)
    return state


def _shared() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _device(system: System | Complete) -> torch.device:
    return system.device if isinstance(system, System) else torch.device("cpu")


def spread(frames: int, most: int | None) -> list[int]:
    """Indices of at most `most` frames, evenly over all of them.

    >>> spread(10, 4)
    [0, 3, 6, 9]
    """
    if most is None or most >= frames:
        return list(range(frames))
    return sorted({int(i) for i in np.linspace(0, frames - 1, most).round()})


@contextlib.contextmanager
def evaluating(system: Any) -> Iterator[None]:
    """A module in eval mode inside the block, every part of it in its own mode again after it; anything else is left alone."""
    modes = {module: module.training for module in system.modules()} if isinstance(system, nn.Module) else {}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def autocast(precision: str, device: torch.device) -> Any:
    """The context of a precision that Lightning names "32-true", "bf16-mixed" or "16-mixed"."""
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision == "32-true":
        return contextlib.nullcontext()
    if precision not in kinds:
        raise unknown_name("precision", precision, ("32-true", *kinds))
    return torch.autocast(device.type, kinds[precision])


@dataclass
class Example:
    """A frame to score.

    Attributes:
        frame: as the system wants it.
        truth: (X, Y, Z) uint8.
        masks: split -> (X, Y, Z) bool.
        counts: False for one that only fills a process's list.
    """

    frame: Frame
    truth: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    counts: bool


class _Examples(TorchDataset[Example]):
    def __init__(self, dataset: Dataset, order: list[tuple[int, bool]], preparation: Preparation | None, by: tuple[By, ...]) -> None:
        self.dataset, self.order, self.preparation, self.by = dataset, order, preparation, by

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> Example:
        index, counts = self.order[place]
        frame = self.dataset[index]
        if 1 not in frame.targets:
            raise InputError(f"{frame.name} has no target to score against; a hidden truth is scored by its server: write a submission")
        truth = frame.targets[1]
        masks = {} if not counts else split_masks(frame, truth, self.by)
        return Example(prepare(frame, self.preparation) if self.preparation else frame, truth, masks, counts)


def split_masks(frame: Frame, truth: NDArray[np.uint8], by: Sequence[By]) -> dict[str, NDArray[np.bool_]]:
    """Split -> (X, Y, Z) bool, for the parts that `by` names, by the truth (X, Y, Z) and the frame's main camera."""
    masks = {}
    if "visibility" in by:
        state = visibility((truth != 0) & (truth != UNKNOWN), frame.main.camera, frame.grid)
        masks = {"visible": state == VISIBLE, "hidden": state == HIDDEN, "out of view": state == OUT_OF_VIEW}
    if "distance" in by:
        close = near(frame.grid, frame.main.camera)
        masks |= {"near": close, "far": ~close}
    return masks


def _stacked(examples: Sequence[Example]) -> tuple[Sequence[Example], Batch]:
    return examples, collate([e.frame for e in examples])


def _predicted(forward: Callable[[Batch], Prediction], batch: Batch) -> Tensor:
    """(B, X, Y, Z) uint8 labels."""
    logits = forward(batch).logits
    if logits is None:
        raise InputError("the system answers no volume in this configuration (a stage before completion?), so it cannot be scored")
    return logits.argmax(1).to(torch.uint8)
