"""Refinement as an anytime method: scores, active share, time and memory by the number of steps, from one set of weights."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wholescene.data import Dataset
from wholescene.errors import InputError
from wholescene.structures import Batch, Prediction
from wholescene.systems.base import System
from wholescene.systems.refine.config import check_steps
from wholescene.training.evaluate import Evaluation, count, summed_up

_SPLITS = ("visibility", "distance")


@dataclass(frozen=True)
class AtSteps:
    """What so many steps give and take.

    Attributes:
        steps: T.
        evaluation: of the answer after them.
        active: mean share of the voxels that each step worked on, 0..1.
        seconds: of one frame's forward pass; the fastest of all, without loading.
        peak: largest memory of the process (on a GPU: of its tensors) while they were taken, bytes; 0 where that cannot be told.
    """

    steps: int
    evaluation: Evaluation
    active: tuple[float, ...]
    seconds: float
    peak: int


def parse_steps(text: str) -> tuple[int, ...]:
    """Numbers of steps from text.

    >>> parse_steps("0,1,3")
    (0, 1, 3)

    Raises:
        InputError: what is no whole number of at least 0, or far too many.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() for word in words):
        raise InputError(f"steps {text!r} are not whole numbers; write for example 0,1,2,3,5, where 0 is the coarse answer")
    numbers = tuple(int(word) for word in words)
    check_steps(max(numbers), "steps")
    return numbers


def by_steps(system: System, dataset: Dataset, steps: Sequence[int], *, about: dict[str, str] | None = None, **loading: Any) -> list[AtSteps]:
    """Score a system after each number of steps.

    Args:
        system: one that refines.
        dataset: frames with targets; read once for every number of steps.
        steps: e.g. (0, 1, 2, 3, 5).
        about: more provenance.
        loading: frames, batch_size, workers, precision as for `evaluate`.

    Raises:
        InputError: a system that does not refine.
    """
    return [_after(system, dataset, T, about or {}, loading) for T in steps]


def taking(system: System, steps: int | None) -> Any:
    """The context in which a system takes so many steps.

    Raises:
        InputError: it does not refine.
    """
    found = getattr(system, "taking", None)
    if found is None:
        raise InputError(f"{system.name} does not refine, so there are no steps to choose; set refine: mrn in its config and train it")
    return found(steps)


def table(results: Sequence[AtSteps]) -> list[tuple[str, ...]]:
    """Rows of text: a header, then one row a number of steps, scores in per cent."""
    splits = [split for split in results[0].evaluation.scores if split != "all"]
    header = ("steps", "IoU", "mIoU", *(f"mIoU {split}" for split in splits), "active % each step", "s a frame", "peak MiB")
    return [header, *(_row(result, splits) for result in results)]


def as_dict(results: Sequence[AtSteps]) -> dict[str, Any]:
    """Plain types for JSON."""
    rows = [{"steps": r.steps, "active": r.active, "seconds": r.seconds, "peak": r.peak, **r.evaluation.as_dict()} for r in results]
    return {"by_steps": rows}


def _row(result: AtSteps, splits: Sequence[str]) -> tuple[str, ...]:
    scores = result.evaluation.scores
    each = [f"{100 * scores[split].miou:.2f}" for split in splits]
    active = " ".join(f"{100 * share:.1f}" for share in result.active) or "-"
    peak = f"{result.peak / 2**20:,.0f}" if result.peak else "-"
    return (str(result.steps), f"{100 * scores['all'].iou:.2f}", f"{100 * scores['all'].miou:.2f}", *each, active, f"{result.seconds:.3f}", peak)


def _after(system: System, dataset: Dataset, steps: int, about: dict[str, str], loading: dict[str, Any]) -> AtSteps:
    times: list[float] = []
    shares: list[torch.Tensor] = []

    def timed(batch: Batch) -> Prediction:
        begun = time.perf_counter()
        prediction: Prediction = system(batch)
        if system.device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / len(batch))
        trace = prediction.extras.get("refinement")
        shares.extend([] if trace is None else trace.active_share.cpu().T)
        return prediction

    with taking(system, steps):
        begin_peak(system.device)
        counts = count(system, dataset, dataset.labels.classes, by=_SPLITS, forward=timed, **loading)  # type: ignore[arg-type]
        peak = peak_of(system.device)
    found = summed_up(counts, system, dataset, "semantic-kitti", {"steps": str(steps), **about})
    return AtSteps(steps, found, tuple(torch.stack(shares).mean(0).tolist()) if shares else (), min(times), peak)


def begin_peak(device: torch.device) -> None:
    """Forget the largest memory so far, where the system lets one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and is kept for later would hide what is taken now
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_of(device: torch.device) -> int:
    """Bytes: the largest memory since `begin_peak`; 0 where that cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
