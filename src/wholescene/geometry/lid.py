"""Bins of depth that grow linearly with depth (LID: linear-increasing discretisation; Reading et al., CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor


def lid_bins(depth: Tensor, bins: int, most: float) -> Tensor:
    """The bin of each depth; bin k covers most * k (k + 1) / n to most * (k + 1) (k + 2) / n with n = bins * (bins + 1).

    Args:
        depth: (...) float, metres. The root is taken at its precision; at an edge, a neighbour may be answered.
        bins: how many.
        most: metres, where the last bin ends.

    Returns:
        (...) int64, 0 to bins - 1; `bins` for what lies in none: negative, too far, not a number.

    >>> lid_bins(torch.tensor([0.0, 0.0047, 0.0049, 9.9, 10.0, -1.0, float("nan")]), 64, 10.0).tolist()
    [0, 0, 1, 63, 64, 64, 64]
    """
    unit = 2 * most / (bins * (bins + 1))
    place = (8 * depth).div_(unit).add_(1).sqrt_().mul_(0.5).sub_(0.5)
    inside = (place >= 0) & (place <= bins)  # false where not a number
    return torch.where(inside, place, float(bins)).long()
