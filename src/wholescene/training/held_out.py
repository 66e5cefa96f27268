"""The loss on held-out frames: how a stage of training that makes no volume is judged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

from wholescene.data import Dataset
from wholescene.data.collate import collate
from wholescene.preparation import prepare
from wholescene.structures import Batch, Frame, Prediction
from wholescene.systems.base import System
from wholescene.training.evaluate import autocast, evaluating, spread


def mean_loss(
    system: System,
    dataset: Dataset,
    *,
    frames: int | None = None,
    workers: int = 0,
    precision: str = "32-true",
    forward: Callable[[Batch], Prediction] | None = None,
) -> float:
    """Mean over frames of the sum of the system's loss terms, in eval mode; in every process over all frames.

    Args:
        frames: at most this many, spread evenly; None: all.
        workers: loader processes.
        precision: Lightning's name.
        forward: how to call the system where a strategy wraps it.
    """
    preparation = system.config.preparation

    def prepared(found: list[Frame]) -> Batch:
        return collate([prepare(frame, preparation) for frame in found])

    chosen = spread(len(dataset), frames)
    loader: DataLoader[Frame] = DataLoader(dataset, 1, sampler=chosen, num_workers=workers, collate_fn=prepared)  # type: ignore[arg-type]  # has length and items
    total = 0.0
    with evaluating(system), torch.no_grad(), autocast(precision, system.device):
        for batch in loader:
            moved = batch.to(system.device)  # type: ignore[attr-defined]  # our collate makes batches
            total += float(sum(system.losses((forward or system)(moved), moved).values()))
    return total / len(chosen)
