"""Reading maps between their cells along lines of sight, and the way back: how much each cell is read."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.ops.choice import without_autocast
from wholescene.ops.deformable import deformable_sampling


def read_between(features: Tensor, shares: Tensor) -> Tensor:
    """Bilinear reading between the centres of the cells, zero outside the map.

    Args:
        features: (C, h, w).
        shares: (n, 2) of the map's width and height, (0, 0) and (1, 1) being its outer corners.

    Returns:
        (n, C).
    """
    value = features.flatten(1).T[None, :, None]
    places = shares.to(value.dtype)[None, :, None, None, None]
    found = deformable_sampling(value, (tuple(features.shape[1:]),), places, torch.ones_like(places[..., 0]))
    return found[0, :, 0]


def footprint(shares: Tensor, size: tuple[int, int], weights: Tensor | None = None) -> Tensor:
    """How much each cell of a map counts when it is read at all the places: sum over places of `read_between` = the map times this.

    Args:
        shares: (n, 2), as there.
        size: (h, w).
        weights: (n) of the places; None: ones.

    Returns:
        (h, w) float32 or float64.
    """
    height, width = size
    with without_autocast(shares.device):
        weights = shares.new_ones(len(shares)) if weights is None else weights.to(shares.dtype)
        cells = shares * shares.new_tensor([width, height]) - 0.5
        below = cells.floor()
        above = cells - below
        total = shares.new_zeros(height * width)
        for down in (0, 1):
            for right in (0, 1):
                column, row = below[:, 0].long() + right, below[:, 1].long() + down
                share = (above[:, 0] if right else 1 - above[:, 0]) * (above[:, 1] if down else 1 - above[:, 1])
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                place = torch.where(inside, row * width + column, 0)
                total = total.index_add(0, place, torch.where(inside, share * weights, 0.0))
        return total.view(height, width)
