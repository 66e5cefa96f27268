"""Scan Loss (section 3.4): cross-entropy between running means of logits and of true classes along an axis, from far voxels to near ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.geometry.counting import byte_labels
from wholescene.labels import UNKNOWN
from wholescene.layers.scan import Order, ranks

_MOST = {"cpu": 2**18}  # numbers of a slab's logits: the few copies of them that are held at a time fit a core's cache
_MOST_ELSEWHERE = 2**26


@dataclass(frozen=True)
class Run:
    """Neighbouring positions of an axis over which one running mean goes.

    Attributes:
        start, stop: the positions.
        backward: the mean begins at the last of them.
    """

    start: int
    stop: int
    backward: bool = False


def runs(length: int, order: Order) -> tuple[Run, ...]:
    """The running means of an axis of that length; the middle position of an odd one belongs to the last half, as in equation 7.

    >>> runs(5, "sides-to-centre")
    (Run(start=0, stop=2, backward=False), Run(start=2, stop=5, backward=True))
    """
    half = length // 2
    return {
        "first-to-last": (Run(0, length),),
        "last-to-first": (Run(0, length, True),),
        "sides-to-centre": (Run(0, half), Run(half, length, True)),
        "centre-to-sides": (Run(0, half, True), Run(half, length)),
    }[order]


def scan_loss(logits: Tensor, targets: Tensor, axis: int, order: Order, *, count_unknown: bool = False) -> Tensor:
    """The Scan Loss along one axis: cross-entropy of cumulatively averaged logits (equations 7 and 8).

    At each voxel, logits and one-hot classes are averaged over all voxels from the beginning of its run to itself; the loss is the mean of the
    cross-entropies between the two. Memory beside the gradient does not grow with the volume.

    Args:
        logits: (B, K, X, Y, Z) float; computed in float32 (float64 stays) whatever autocast says.
        targets: (B, X, Y, Z) integers, 0..K-1 or 255 unknown.
        axis: 0, 1 or 2, the axis that is scanned.
        order: where the means begin and how they go on.
        count_unknown: unknown voxels take part as released: with their logits, as no class, and as voxels of the mean. Else they are left out.

    Returns:
        scalar, float32 (float64 for float64 logits); 0 without gradient where no voxel counts.

    Raises:
        InputError: shapes that do not fit, a label that is no class.
    """
    if logits.dim() != 5 or targets.shape != logits.shape[:1] + logits.shape[2:]:
        shapes = f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}"
        raise InputError(f"{shapes} are not (B, K, X, Y, Z) and (B, X, Y, Z) of the same voxels")
    targets = byte_labels(targets, "targets")
    known = targets != UNKNOWN
    if bool((known & (targets >= logits.shape[1])).any()):
        raise InputError(f"targets hold a label that is neither one of the classes 0..{logits.shape[1] - 1} nor unknown (255)")
    voxels = known.numel() if count_unknown else int(known.sum())
    found: Tensor = _Scan.apply(logits, targets, axis, runs(logits.shape[2 + axis], order), count_unknown, max(1, voxels))
    return found


def near_to_far_weights(shape: Sequence[int], orders: Sequence[Order]) -> Tensor:
    """(X, Y, Z) float32: how far each voxel is, from 0 where an axis' scan begins to 1 where it ends, averaged over the axes (Table D.2 (a)).

    Args:
        shape: (X, Y, Z).
        orders: of the scan along each array axis.
    """
    shares = [(rank := ranks(n, order).float()) / rank.max().clamp(min=1) for n, order in zip(shape, orders, strict=True)]
    return (shares[0][:, None, None] + shares[1][:, None] + shares[2]) / 3


def weighted_cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor, voxel_weights: Tensor) -> Tensor:
    """Class-weighted cross-entropy whose terms have a coefficient of their own each; divided as without them.

    Args:
        logits: (B, K, X, Y, Z).
        targets: (B, X, Y, Z) integers, 255 unknown.
        class_weights: (K,).
        voxel_weights: (X, Y, Z).

    Returns:
        scalar; 0 where nothing is known.
    """
    with torch.autocast(logits.device.type, enabled=False):
        values = logits if logits.dtype == torch.float64 else logits.float()
        labels = targets.long()
        terms = F.cross_entropy(values, labels, class_weights.to(values), ignore_index=UNKNOWN, reduction="none")
        whole = class_weights.to(values)[labels.clamp(max=len(class_weights) - 1)][labels != UNKNOWN].sum()
        return (terms * voxel_weights.to(values)).sum() / torch.where(whole > 0, whole, 1.0)


class _Scan(torch.autograd.Function):
    """Works slab by slab across the scanned axis. The gradient is written down in the same pass, since the running means give both; the backward
    pass scales it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, axis: int, parts: tuple[Run, ...], count_unknown: bool, voxels: int) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        ctx.gradient = torch.empty_like(logits, memory_format=torch.contiguous_format) if wanted else None
        total = torch.zeros((), dtype=torch.float32 if logits.device.type == "mps" else torch.float64, device=logits.device)
        with torch.autocast(logits.device.type, enabled=False):
            for place in _slabs(logits, axis):
                for run in parts:
                    where = _of_run(place, axis, run)
                    labels = targets[(where[0], *where[2:])]
                    found, slope = _of_slab(logits[where], labels, axis, run.backward, count_unknown, wanted)
                    total += found
                    if slope is not None:
                        ctx.gradient[where] = slope.div_(voxels)
        return (total / voxels).to(_kind(logits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_loss: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.gradient * to_loss.to(ctx.gradient.dtype), None, None, None, None, None


def _of_slab(logits: Tensor, labels: Tensor, axis: int, backward: bool, count_unknown: bool, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """The sum of the cross-entropies in one run of one slab, and its gradient to the logits if it is wanted.

    Args:
        logits: (B, K, ...).
        labels: (B, ...).
        axis: that is scanned.
        backward: the run begins at the last position.
        count_unknown: as `scan_loss` takes it.
        wanted: the gradient is.
    """
    means, classes, counts, known = _means(logits, labels, axis, backward, count_unknown)
    along, counted = 2 + axis, torch.ones_like(counts) if count_unknown else known
    mass = known.cumsum(along).div_(counts)  # of a mean of one-hot classes: unknown voxels are no class
    partition = means.logsumexp(1, keepdim=True)
    surprise = (mass * partition).sub_((classes * means).sum(1, keepdim=True)).mul_(counted)
    found = surprise.sum(dtype=torch.float32 if logits.device.type == "mps" else torch.float64)
    if not wanted:
        return found, None
    slope = means.sub_(partition).exp_().mul_(mass).sub_(classes).mul_(counted / counts)
    slope = slope.flip(along).cumsum_(along)  # a logit is in all means that come after it
    slope, known = (slope, known.flip(along)) if backward else (slope.flip(along), known)
    return found, slope if count_unknown else slope.mul_(known)


def _means(logits: Tensor, labels: Tensor, axis: int, backward: bool, count_unknown: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Running means of one run in one slab, in the order of the run: of logits and of one-hot classes (B, K, ...), the numbers of voxels that they
    are over and which voxels are known, 0 or 1 (B, 1, ...)."""
    along = 2 + axis
    values, labels = logits.to(_kind(logits)), labels[:, None]
    if backward:
        values, labels = values.flip(along), labels.flip(along)
    is_known = labels != UNKNOWN
    known = is_known.to(values.dtype)
    means = (values if count_unknown else values * known).cumsum(along)
    classes = torch.zeros_like(means).scatter_(1, torch.where(is_known, labels, 0).long(), known).cumsum_(along)
    counts = (torch.ones_like(known) if count_unknown else known).cumsum(along).clamp_(min=1)
    return means.div_(counts), classes.div_(counts), counts, known


def _slabs(logits: Tensor, axis: int) -> Iterator[tuple[slice, ...]]:
    """Places (B, K, X, Y, Z) that together cover the volume, each whole along `axis`."""
    across = 1 if axis == 0 else 0
    slices = logits.shape[2 + across]
    step = max(1, _MOST.get(logits.device.type, _MOST_ELSEWHERE) * slices // max(1, logits.numel()))
    for start in range(0, slices, step):
        yield tuple(slice(start, min(start + step, slices)) if a == 2 + across else slice(None) for a in range(5))


def _of_run(place: tuple[slice, ...], axis: int, run: Run) -> tuple[slice, ...]:
    return tuple(slice(run.start, run.stop) if a == 2 + axis else own for a, own in enumerate(place))


def _kind(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
