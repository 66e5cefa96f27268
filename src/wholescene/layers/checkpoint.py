"""Activation checkpointing that leaves batch norm alone: less memory in training for one more forward of each block."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class _WithoutCounting:
    """While open, batch norms in `block` that train normalise as before, but count on copies of their running statistics."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.kept: list[tuple[_BatchNorm, dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        for norm in self.block.modules():
            if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats:
                buffers = {name: norm._buffers[name] for name in _STATISTICS}
                self.kept.append((norm, buffers))
                norm._buffers.update({name: None if value is None else value.clone() for name, value in buffers.items()})

    def __exit__(self, *error: object) -> None:
        for norm, buffers in self.kept:
            norm._buffers.update(buffers)
        self.kept = []


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
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _WithoutCounting(block)))
