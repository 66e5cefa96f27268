"""Coarser labels: what a block of voxels is called, by the two rules that released targets were made with."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholescene.errors import InputError, unknown_name
from wholescene.geometry.counting import byte_labels, count_pairs
from wholescene.labels import EMPTY, UNKNOWN

Rule = Literal["share-95", "majority"]
RULES = ("share-95", "majority")
Labels = TypeVar("Labels", Tensor, NDArray[np.integer])

_MOST_COUNTS = 2**22  # int64 counts held at once (32 MiB); all blocks of a street volume with 256 bins each would be 512 MiB


def pool_labels(labels: Labels, factor: int, rule: Rule = "share-95") -> Labels:
    """One label for each block of `factor`^3 voxels.

    `share-95` (SSCNet's tools; MonoScene's 1/8, 1/4 and 1/16, VoxFormer's 1/2 targets): a block of which more than 95 % is empty or unknown is
    empty if it has more empty than unknown voxels, else unknown; any other block is its most frequent class.
    `majority` (LMSCNet): the most frequent class if there is any; else empty if any voxel is; else unknown.
    In both the smallest class wins a tie.

    Args:
        labels: (..., X, Y, Z) uint8 or wider integers, 0 empty, 255 unknown; a tensor on any device, or an array.
        factor: edge of a block, dividing X, Y and Z.
        rule: one of `RULES`.

    Returns:
        (..., X/factor, Y/factor, Z/factor) uint8, a tensor or an array as `labels` is.

    Raises:
        InputError: unknown rule, a grid that `factor` does not divide, labels that are not integers in 0..255.
    """
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind in "iu" and labels.dtype != np.uint8:
            labels = labels.astype(np.int64)  # torch lacks most unsigned types
        return _pool(torch.from_numpy(np.require(labels, requirements=["C", "W"])), factor, rule).numpy()
    return _pool(labels, factor, rule)


def _pool(labels: Tensor, factor: int, rule: str) -> Tensor:
    if rule not in RULES:
        raise unknown_name("down-sampling rule", rule, RULES)
    if labels.dim() < 3 or factor < 1 or any(n % factor for n in labels.shape[-3:]):
        raise InputError(f"labels of shape {tuple(labels.shape)} have no three last axes that blocks of {factor} fill; crop or pad the grid")
    lead, (X, Y, Z) = labels.shape[:-3], (n // factor for n in labels.shape[-3:])
    # Labels plus one, unknown wrapping to 0: so the counts need as many bins as there are classes, not 256.
    # One row of blocks along x at a time: (rows, factor, Y, factor, Z, factor).
    slabs = (byte_labels(labels, "labels") + 1).reshape(-1, factor, Y, factor, Z, factor)
    bins = int(slabs.max()) + 1 if slabs.numel() else 1
    columns = torch.arange(Y * Z, dtype=torch.int32, device=labels.device).view(Y, 1, Z, 1)
    step = max(1, _MOST_COUNTS // max(1, Y * Z * bins))
    pooled = torch.empty(slabs.shape[0], Y * Z, dtype=torch.uint8, device=labels.device)
    for first in range(0, slabs.shape[0], step):
        slab = slabs[first : first + step]
        rows = torch.arange(slab.shape[0], dtype=torch.int32, device=labels.device).view(-1, 1, 1, 1, 1, 1) * (Y * Z) + columns
        counts = count_pairs(rows.expand(slab.shape), slab, (slab.shape[0] * Y * Z, bins))
        pooled[first : first + step] = _decide(counts, factor**3, rule).view(-1, Y * Z)
    return pooled.view(*lead, X, Y, Z)


def _decide(counts: Tensor, block: int, rule: str) -> Tensor:
    """The label of each block from its counts (blocks, bins) of unknown, empty, class 1, class 2, ..."""
    unknown, empty, classes = counts[:, 0], counts[:, 1:2].sum(1), counts[:, 2:]
    if classes.shape[1] == 0:
        classes = counts.new_zeros(counts.shape[0], 1)
    most, winner = classes.max(1)
    if rule == "share-95":
        void = 20 * (empty + unknown) > 19 * block
        is_empty = empty > unknown
    else:
        void = most == 0
        is_empty = empty > 0
    return torch.where(void, torch.where(is_empty, EMPTY, UNKNOWN), winner + 1).to(torch.uint8)
