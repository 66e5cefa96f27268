"""Losses of semantic scene completion, each a function of a few sums that one pass over the volume makes.

    sums = VoxelSums.of(logits, targets, ids, frustums=64)
    loss = cross_entropy(sums, weights) + semantic_affinity(sums) + geometric_affinity(sums) + frustum_proportion(sums)

All take the batch as one set of known voxels, as released code does. A term that the targets leave undefined (nothing known, nothing occupied,
nothing empty, a relation without an example) is left out: it is 0 and has no gradient, where released code stops or answers NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.geometry.counting import byte_labels
from wholescene.geometry.frustums import OUT_OF_VIEW, count_known
from wholescene.labels import EMPTY, UNKNOWN

_SMALLEST = 2.0**-149  # the smallest positive float32: a class of a frustum that float32 predicts with probability 0 counts as this
_MOST_FRUSTUMS = 32765
_SLICE = 2**14  # voxels at a time on a CPU: their logits fit its cache; 16 times as many on a GPU
_LARGEST = 1e38  # gradients of the sums are kept below this: they meet probabilities in float32 again


@dataclass(frozen=True)
class VoxelSums:
    """Sums over the known voxels of each sample: B samples, F frustums and one row more for the voxels in none, K classes.

    With p the softmax of the logits over classes and y the target. The three float sums are float64 and carry gradients to the logits.

    Attributes:
        counts: (B, F + 1, K) int64, voxels with y = k.
        mass: (B, F + 1, K), sum of p_k.
        hits: (B, K), sum of p_k over voxels with y = k.
        surprise: (B, K), sum of -ln p_k over voxels with y = k.
        kind: what losses are answered in: float64 for float64 logits, else float32.
    """

    counts: Tensor
    mass: Tensor
    hits: Tensor
    surprise: Tensor
    kind: torch.dtype

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor, ids: Tensor | None = None, frustums: int = 0) -> VoxelSums:
        """One pass over the volume; probabilities are never held for more than a slice of it, forward and backward.

        Args:
            logits: (B, K, X, Y, Z) float; computed in float32 (float64 stays) whatever autocast says.
            targets: (B, X, Y, Z) integers, 0 empty, 1..K-1, 255 unknown.
            ids: (B, X, Y, Z) or (B, X*Y*Z) integers, the frustum of each voxel or -1 (`geometry.frustums`); None: no frustums.
            frustums: F.

        Raises:
            InputError: shapes that do not fit, a label or an id out of range.
        """
        if logits.dim() != 5 or targets.shape != logits.shape[:1] + logits.shape[2:]:
            shapes = f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}"
            raise InputError(f"{shapes} are not (B, K, X, Y, Z) and (B, X, Y, Z) of the same voxels")
        if frustums > _MOST_FRUSTUMS:
            raise InputError(f"{frustums} frustums: at most {_MOST_FRUSTUMS} have a number in int16")
        targets = byte_labels(targets, "targets").flatten(1)
        ids = torch.full_like(targets, OUT_OF_VIEW, dtype=torch.int16) if ids is None else ids.flatten(1)
        counts = count_known(ids, targets, frustums, logits.shape[1])
        mass, hits, surprise = _Sums.apply(logits, targets, ids.to(torch.int16), counts)
        return cls(counts, mass, hits, surprise, _kind(logits))


def cross_entropy(sums: VoxelSums, class_weights: Tensor | None = None, over: Literal["weights", "voxels"] = "weights") -> Tensor:
    """Class-weighted cross-entropy over the known voxels.

    Args:
        sums: of the volume.
        class_weights: (K,), None for ones.
        over: what the sum is divided by: the weights of the voxels' classes, or (VoxFormer) the number of voxels.

    Returns:
        scalar, float32 (float64 for float64 logits).
    """
    voxels = sums.counts.sum((0, 1)).to(sums.surprise.dtype)
    weights = torch.ones_like(voxels) if class_weights is None else class_weights.to(voxels)
    whole = (weights * voxels).sum() if over == "weights" else voxels.sum()
    return ((weights * sums.surprise.sum(0)).sum() / torch.where(whole > 0, whole, 1.0)).to(sums.kind)


def semantic_affinity(sums: VoxelSums) -> Tensor:
    """Scene-class affinity on the classes (MonoScene, section 3.2, equation 4): precision, recall and specificity of every class that occurs.

    Returns:
        scalar: the sum over the three of -ln, averaged over the classes that occur.
    """
    voxels = sums.counts.sum((0, 1)).to(sums.mass.dtype)
    known, mass, hits = voxels.sum(), sums.mass.sum((0, 1)), sums.hits.sum(0)
    others = known - voxels
    terms = _affinity(hits, mass, voxels, others - (mass - hits), others)
    occurs = voxels > 0
    return (torch.where(occurs, terms, 0.0).sum() / occurs.sum().clamp(min=1)).to(sums.kind)


def geometric_affinity(sums: VoxelSums, epsilon: float = 0.0) -> Tensor:
    """Scene-class affinity on empty against occupied (MonoScene, section 3.2): precision and recall of occupied, recall of empty.

    Args:
        sums: of the volume.
        epsilon: added to each denominator (CGFormer: 1e-5).

    Returns:
        scalar: sum of the three -ln.
    """
    voxels = sums.counts.sum((0, 1)).to(sums.mass.dtype)
    known, empty = voxels.sum(), voxels[EMPTY]
    empty_mass, empty_hits = sums.mass.sum((0, 1))[EMPTY], sums.hits.sum(0)[EMPTY]
    occupied = known - empty
    terms = _affinity(occupied - (empty_mass - empty_hits), known - empty_mass, occupied, empty_hits, empty, epsilon)
    return terms.to(sums.kind)


def frustum_proportion(sums: VoxelSums, over: Literal["batch", "samples"] = "batch") -> Tensor:
    """The frustum proportion loss: Kullback-Leibler divergence of the predicted from the true class shares of each frustum (MonoScene, section 3.4,
    equation 6).

    Args:
        sums: of the volume, made with frustums.
        over: a frustum's voxels are those of the whole batch, or (NDC-Scene) each sample's frustums count on their own.

    Returns:
        scalar: mean over the frustums that hold a known voxel (and any predicted mass).
    """
    counts, mass = sums.counts[:, :-1], sums.mass[:, :-1]
    if over == "batch":
        counts, mass = counts.sum(0, keepdim=True), mass.sum(0, keepdim=True)
    voxels, whole = counts.sum(-1, keepdim=True), mass.sum(-1, keepdim=True)
    told = (voxels > 0) & (whole > 0)
    truth = counts / voxels.clamp(min=1).to(mass.dtype)
    share = mass / torch.where(told, whole, 1.0)
    divergence = torch.where(told & (counts > 0), torch.xlogy(truth, truth) - truth * share.clamp(min=_SMALLEST).log(), 0.0)
    return (divergence.sum() / told.sum().clamp(min=1)).to(sums.kind)


def relation(logits: Tensor, targets: Tensor, epsilon: float = 0.0) -> Tensor:
    """The context relation loss: multi-label cross-entropy of the voxel to mega-voxel relations (MonoScene, section 3.3, equation 3).

    Each relation's examples weigh (number of zeros) / (number of ones) over the batch. Unknown voxels count as zeros, as in released code.

    Args:
        logits: (B, R, M, N) float.
        targets: (B, R, N, M) bool or 0/1 (`geometry.relations`).
        epsilon: added to the number of ones (ISO: 1e-5).

    Returns:
        scalar: mean over all entries.

    Raises:
        InputError: shapes that do not fit.
    """
    if logits.dim() != 4 or targets.shape != (*logits.shape[:2], logits.shape[3], logits.shape[2]):
        shapes = f"relation logits {tuple(logits.shape)} and targets {tuple(targets.shape)}"
        raise InputError(f"{shapes} are not (B, R, M, N) and (B, R, N, M) of the same voxels")
    with _plain(logits):
        values = logits.to(_kind(logits))
        if not values.numel():
            return values.sum()
        ones = targets.sum((0, 2, 3), dtype=torch.int64)
        zeros = targets.numel() // targets.shape[1] - ones
        weights = torch.where(ones > 0, zeros / (ones.to(_wide(logits)) + epsilon), 1.0).to(values.dtype)
        return F.binary_cross_entropy_with_logits(values, targets.transpose(2, 3).to(values.dtype), pos_weight=weights.view(-1, 1, 1))


def _affinity(hits: Tensor, mass: Tensor, voxels: Tensor, misses: Tensor, others: Tensor, epsilon: float = 0.0) -> Tensor:
    """-ln precision - ln recall - ln specificity, elementwise: hits/mass, hits/voxels, misses/others.

    Of a class without voxels precision says nothing either: it is 0 whatever is predicted, a cost of 100 that pulls nowhere.
    """
    precision = _neg_log_share(hits, torch.where(voxels > 0, mass, 0.0), epsilon)
    return precision + _neg_log_share(hits, voxels, epsilon) + _neg_log_share(misses, others, epsilon)


def _neg_log_share(part: Tensor, whole: Tensor, epsilon: float) -> Tensor:
    """-max(ln(part/whole), -100), with the gradient that torch's binary cross-entropy against 1 has; 0 where the whole is 0.

    The order of summation can leave the share a rounding error outside 0..1, so it is clamped.
    """
    told = whole > 0
    share = torch.where(told, part / torch.where(told, whole + epsilon, 1.0), 1.0).clamp(0.0, 1.0)
    fixed = share.detach()
    slope = (fixed - 1) / (fixed * (1 - fixed)).clamp(min=1e-12)
    return -fixed.log().clamp(min=-100.0) + slope * (share - fixed)


class _Sums(torch.autograd.Function):
    """The float sums of `VoxelSums`; the backward pass makes the probabilities again instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, ids: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        B, groups, K = counts.shape
        mass = torch.zeros(B, groups, K, dtype=_wide(logits), device=logits.device)
        hits, surprise = mass.new_zeros(B, K), mass.new_zeros(B, K)
        sizes = counts.sum(2).tolist()
        order = [_by_group(labels, groups, sum(size)) for labels, groups, size in zip(targets, ids, sizes, strict=True)]
        with _plain(logits):
            for sample, group, values, own, _ in _slices(logits, targets, order, sizes):
                told = values.gather(0, own)[0]
                top = values.amax(0)
                total = values.sub_(top).exp_().sum(0)
                values.div_(total)
                mass[sample, group] += values.sum(1, dtype=mass.dtype)
                hits[sample].index_add_(0, own[0], values.gather(0, own)[0].to(mass.dtype))
                surprise[sample].index_add_(0, own[0], total.log_().add_(top).sub_(told).to(mass.dtype))
        ctx.save_for_backward(logits, targets, *order)
        ctx.sizes = sizes
        return mass, hits, surprise

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_mass: Tensor, to_hits: Tensor, to_surprise: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, *order = ctx.saved_tensors
        gradient = torch.zeros_like(logits, memory_format=torch.contiguous_format)
        # Added in float64: for rare classes the two nearly cancel.
        to_class, to_own, to_surprise = (g.clamp(-_LARGEST, _LARGEST).to(_kind(logits)) for g in (to_mass, to_mass + to_hits[:, None], to_surprise))
        with _plain(logits):
            for sample, group, values, own, voxels in _slices(logits, targets, order, ctx.sizes):
                shares = torch.softmax(values, 0)
                surprise = to_surprise[sample][own]
                slope = to_class[sample, group][:, None].expand_as(shares).scatter(0, own, to_own[sample, group][own])
                level = torch.mul(shares, slope).sum(0, keepdim=True).sub_(surprise)
                slope.sub_(level).mul_(shares).scatter_add_(0, own, surprise.neg_())
                gradient[sample].view(len(slope), -1).index_copy_(1, voxels, slope.to(gradient.dtype))
        return gradient, None, None, None


def _by_group(labels: Tensor, groups: Tensor, known: int) -> Tensor:
    """The known voxels of one sample (int64 indices), sorted by frustum; those in none come last."""
    keys = torch.where(labels == UNKNOWN, _MOST_FRUSTUMS + 2, torch.where(groups == OUT_OF_VIEW, _MOST_FRUSTUMS + 1, groups))
    return torch.argsort(keys, stable=True)[:known]


def _slices(
    logits: Tensor, targets: Tensor, order: Sequence[Tensor], sizes: Sequence[Sequence[int]]
) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
    """The known voxels, as many of one group at a time as fit a cache.

    Yields:
        sample, group, logits (K, n), the voxels' classes (1, n) int64, and their indices (n).
    """
    most = _SLICE if logits.device.type == "cpu" else 16 * _SLICE
    for sample, voxels in enumerate(order):
        values, labels = logits[sample].flatten(1), targets[sample]
        for group, members in enumerate(voxels.split(list(sizes[sample]))):
            for part in members.split(most) if len(members) else ():
                yield sample, group, values.index_select(1, part).to(_kind(logits)), labels.index_select(0, part).long()[None], part


def _plain(tensor: Tensor) -> torch.autocast:
    """Autocast off: sums over a million voxels are not for half precision."""
    return torch.autocast(tensor.device.type, enabled=False)


def _kind(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _wide(logits: Tensor) -> torch.dtype:
    return torch.float32 if logits.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
