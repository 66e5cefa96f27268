"""Lovász-softmax (Berman, Triki and Blaschko, CVPR 2018): the Jaccard index of every class as a loss, in closed form.

For a class with errors e = |[y = c] - p_c| sorted from large to small, G foreground voxels in all, and a foreground and b background ones among the
first k, the loss is the sum of e_k (J_k - J_(k-1)) with J = 1 - (G - a) / (G + b). The usual code takes those differences in float32; on 2 million
voxels half of them are wrong by more than a third. In closed form nothing cancels: a foreground voxel weighs 1 / (G + b), a background one
(G - a) / ((G + b) (G + b - 1)), and where there is no foreground the largest error alone weighs 1. Counts are integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.labels import UNKNOWN

Classes = Literal["present", "all"]
_SLICE = 2**14  # voxels


def lovasz_softmax(logits: Tensor, targets: Tensor, classes: Classes = "present", ignore: int | None = UNKNOWN) -> Tensor:
    """The mean over classes of the Lovász extension of their Jaccard loss; the whole batch is one set of voxels.

    Computed in float32 (float64 for float64 logits). One class at a time is sorted; a tensor of the logits' size is kept for the gradient.

    Args:
        logits: (B, K, ...) float.
        targets: (B, ...) integers 0..K-1, and `ignore`.
        classes: "present": the mean is over classes that occur in the targets; "all": over all K.
        ignore: label of the voxels that do not count; None: all count.

    Returns:
        scalar; 0 where no voxel counts.

    Raises:
        InputError: shapes that do not fit.
    """
    if targets.shape != logits.shape[:1] + logits.shape[2:]:
        raise InputError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} are not (B, K, ...) and (B, ...) of the same voxels")
    found: Tensor = _Loss.apply(logits, targets, classes, ignore, True)[0]
    return found


def lovasz(probabilities: Tensor, targets: Tensor, classes: Classes = "present", ignore: int | None = UNKNOWN) -> tuple[Tensor, Tensor]:
    """As `lovasz_softmax`, of probabilities (B, K, ...) that need not sum to one; equal errors are taken in the order of the voxels.

    Returns:
        the loss, and that of each class (K,), -1 where a class is left out (without gradient).
    """
    loss, of_class = _Loss.apply(probabilities, targets, classes, ignore, False)
    return loss, of_class


class _Loss(torch.autograd.Function):
    """The gradient is known as soon as a class is sorted, so it is written down then; the backward pass scales it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, targets: Tensor, classes: Classes, ignore: int | None, softmax: bool) -> tuple[Tensor, Tensor]:
        kind = torch.float64 if values.dtype == torch.float64 else torch.float32
        K, flat = values.shape[1], values.flatten(2)
        labels = targets.reshape(len(values), -1)
        counted = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
        own = labels[counted]
        occurs = torch.bincount(own.long(), minlength=K)[:K] > 0
        chosen = [k for k in range(K) if len(own) and (classes == "all" or bool(occurs[k]))]
        where = [row.nonzero()[:, 0] for row in counted]
        p = torch.cat([part[chosen] for _, _, part in _slices(flat, where, kind, softmax)], 1) if chosen else flat.new_zeros(0, 0)  # (chosen, n)
        of_class = torch.full((K,), -1.0, dtype=_wide(values), device=values.device)
        pull = torch.zeros(len(own), dtype=kind, device=values.device)
        wanted = ctx.needs_input_grad[0]
        for row, k in zip(p, chosen, strict=True):
            of_class[k], gradient = _class_loss(row, own == k)
            if wanted:
                row.copy_(gradient.div_(len(chosen)).mul_(row) if softmax else gradient.div_(len(chosen)))
                pull += row
        ctx.slope, ctx.shape, ctx.dtype = None, values.shape, values.dtype
        if wanted:
            ctx.slope = torch.zeros(flat.shape, dtype=kind, device=values.device)
            start = 0
            for item, voxels, part in _slices(flat, where, kind, softmax) if chosen else ():
                stop = start + len(voxels)
                slope = part.mul_(-pull[start:stop]) if softmax else torch.zeros_like(part)  # through the softmax: p_k (g_k - sum of g p)
                slope[chosen] += p[:, start:stop]
                ctx.slope[item].index_copy_(1, voxels, slope)
                start = stop
        loss = of_class[chosen].mean() if chosen else of_class.new_zeros(())
        ctx.mark_non_differentiable(of_class)
        return loss.to(kind), of_class.to(kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_loss: Tensor, to_class: Tensor) -> tuple[Tensor, None, None, None, None]:
        return (ctx.slope * to_loss).view(ctx.shape).to(ctx.dtype), None, None, None, None


def _slices(flat: Tensor, where: Sequence[Tensor], kind: torch.dtype, softmax: bool) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The voxels that count, as many at a time as fit a cache.

    Yields:
        item, indices (m,) of its voxels, and probabilities (K, m) there, of logits or as they are.
    """
    for item, voxels in enumerate(where):
        for part in voxels.split(_SLICE if flat.device.type == "cpu" else 16 * _SLICE) if len(voxels) else ():
            values = flat[item].index_select(1, part).to(kind)
            yield item, part, torch.softmax(values, 0) if softmax else values


def _class_loss(p: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of one class (float64) and its gradient to the probabilities p (n,); foreground: (n,) bool, n > 0."""
    errors = torch.where(foreground, 1 - p, p).clamp_(min=0).add_(0.0)  # a softmax can pass 1 by a rounding error; -0 becomes 0
    total = int(foreground.sum())
    gradient = torch.zeros_like(p)
    if not total:
        worst = errors.argmax()
        gradient[worst] = 1
        return errors[worst].to(_wide(p)), gradient
    ordered, hit, order = _from_large_to_small(errors, foreground)
    a = hit.cumsum(0)
    union = torch.arange(1, len(p) + 1, device=p.device).sub_(a).add_(total).to(torch.float64 if p.dtype == torch.float64 else torch.float32)
    shares = torch.where(hit, 1, (total - a).to(union.dtype))
    weights = shares.div_(torch.where(hit, union, (union * (union - 1)).clamp_(min=1)))
    loss = torch.dot(weights.to(_wide(p)), ordered.to(_wide(p)))
    gradient[order] = weights.mul_(1 - 2 * hit.to(weights.dtype)).to(p.dtype)
    return loss, gradient


def _from_large_to_small(errors: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Errors (n,) of at least 0 in stable descending order, with their foreground flags, and that order."""
    if errors.device.type != "cpu" or errors.dtype != torch.float32 or len(errors) >= 2**31:
        ordered, order = torch.sort(errors, descending=True, stable=True)
        return ordered, foreground[order], order
    # Floats of at least 0 are ordered as their bits are: with index and flag below them, NumPy sorts plain integers, several times as fast, and
    # neither has to be gathered afterwards.
    words = np.empty((len(errors), 2), "<u4")
    np.bitwise_or(np.arange(0, 2 * len(errors), 2, dtype=np.uint32), foreground.numpy(), out=words[:, 0])
    np.invert(errors.numpy().view(np.uint32), out=words[:, 1])
    words.view("<u8")[:, 0].sort()
    ordered = torch.from_numpy((~words[:, 1]).view(np.float32))
    return ordered, torch.from_numpy((words[:, 0] & 1).astype(bool)), torch.from_numpy((words[:, 0] >> 1).astype(np.int64))


def _wide(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
