"""Activation checkpointing that leaves batch norm alone: less memory in training for one more forward of each block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def _without_counting(block: nn.Module) -> Iterator[None]:
    """Batch norms in `block` that train normalise as before, but their running statistics stay as they are."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def run(block: nn.Module, *inputs: Any, recompute: bool) -> Any:
    """`block(*inputs)`; with `recompute`, its inner activations are made again in the backward pass instead of being kept.

    The second forward does not move the running statistics of batch norm a second time, so a training step gives the same state either way.

    Args:
        block: any module.
        inputs: what it takes.
        recompute: only acts where gradients are recorded.
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)
    return checkpoint(
        block, *inputs, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _without_counting(block)), preserve_rng_state=True
    )
