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
from wholescene.systems.refine.stages import NOTHING_ACTIVE
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
    """Numbers of steps from text; one that is given twice counts once.

    >>> parse_steps("0,1,3,1")
    (0, 1, 3)

    Raises:
        InputError: what is no whole number of at least 0, or far too many.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.removeprefix("-").isdecimal() for word in words):
        raise InputError(f"steps {text[:80]!r} are not whole numbers; write for example 0,1,2,3,5, where 0 is the coarse answer")
    for word in words:
        check_steps(int(word[:10]), f"steps {text[:80]!r}:")
    return tuple(dict.fromkeys(int(word) for word in words))


def by_steps(system: System, dataset: Dataset, steps: Sequence[int], *, about: dict[str, str] | None = None, **loading: Any) -> list[AtSteps]:
    """Score a system after each number of steps.

    Args:
        system: one that refines.
        dataset: frames with targets; read once for every number of steps.
        steps: e.g. (0, 1, 2, 3, 5).
        about: more provenance.
        loading: frames, batch_size, workers, precision as for `evaluate`.

    Raises:
        InputError: a system that does not refine, or not so often.
    """
    with taking(system, max(steps)):
        pass  # refused before anything is scored
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
    """Rows of text: a header, then a row each score (per cent), share, time and memory; a column a number of steps."""
    splits = list(results[0].evaluation.scores)
    scores = [(f"{kind}{_of(split)}", *(f"{100 * score(r, kind, split):.2f}" for r in results)) for kind in ("IoU", "mIoU") for split in splits]
    most = max(len(r.active) for r in results)
    active = [(f"active % in step {i + 1}", *(f"{100 * r.active[i]:.1f}" if i < len(r.active) else "-" for r in results)) for i in range(most)]
    seconds = ("s a frame", *(f"{r.seconds:.3f}" for r in results))
    peak = ("peak MiB of the process", *(f"{r.peak / 2**20:,.0f}" if r.peak else "-" for r in results))
    return [("after so many steps", *(f"T={r.steps}" for r in results)), *scores, *active, seconds, peak]


def score(result: AtSteps, kind: str, split: str = "all") -> float:
    """Its "IoU" or "mIoU" of a split, 0..1."""
    scores = result.evaluation.scores[split]
    return scores.iou if kind == "IoU" else scores.miou


def _of(split: str) -> str:
    return "" if split == "all" else f" {split}"


def doubts(results: Sequence[AtSteps]) -> list[str]:
    """What a reader of the table has to know, in sentences: that refinement found nothing to work on."""
    if any(r.steps for r in results) and not any(any(r.active) for r in results):
        return [NOTHING_ACTIVE]
    return []


def as_dict(results: Sequence[AtSteps]) -> dict[str, Any]:
    """Plain types for JSON."""
    rows = [{"steps": r.steps, "active": r.active, "seconds": r.seconds, "peak": r.peak, **r.evaluation.as_dict()} for r in results]
    return {"by_steps": rows}


def of_dict(plain: Any, where: str) -> list[AtSteps]:
    """The inverse of `as_dict`.

    Raises:
        InputError: something else.
    """
    try:
        return [AtSteps(r["steps"], Evaluation.of_dict(r, where), tuple(r["active"]), r["seconds"], r["peak"]) for r in plain["by_steps"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{where} holds no scores by steps ({error!r}); remove it to score again") from error


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
