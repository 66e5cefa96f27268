"""How the features of the scanned axes become one volume: tri-feature fusion (equations 5 and 6) and the alternatives of Table D.1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLAB = 8  # slices at a time where no gradient is recorded


class TriFeatureFusion(nn.Module):
    """Each voxel weighs the features by what all of them say of it."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.weigh = nn.Conv3d(features * width, features, 1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (B, C, X, Y, Z) to one; without gradients it is written into the first of them."""
        return weighted_sum(features, torch.softmax(self.weights(features), 1))

    def weights(self, features: list[Tensor]) -> Tensor:
        """(B, features, X, Y, Z), before the softmax: the 1x1x1 convolution of all features side by side, which are never laid there."""
        shares = self.weigh.weight.split([f.shape[1] for f in features], 1)
        total = F.conv3d(features[0], shares[0])
        for feature, share in zip(features[1:], shares[1:], strict=True):
            total = total + F.conv3d(feature, share)
        return total


class ConcatLinear(nn.Module):
    """A linear layer of all features side by side."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.project = nn.Conv3d(features * width, width, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (B, C, X, Y, Z) to one."""
        return self.project(torch.cat(features, 1))


class Average(nn.Module):
    """The mean of the features."""

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (B, C, X, Y, Z) to one."""
        return torch.stack(features).mean(0)


class WeightedSum(nn.Module):
    """Each voxel of the grid has learned weights of its own, the same for every picture."""

    def __init__(self, shape: Sequence[int], features: int) -> None:
        super().__init__()
        self.shares = nn.Parameter(torch.full((features, *shape), 1 / features))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (B, C, X, Y, Z) to one."""
        return weighted_sum(features, self.shares[None])


def weighted_sum(features: list[Tensor], weights: Tensor) -> Tensor:
    """Features (B, C, X, Y, Z) times weights (B or 1, features, X, Y, Z), summed; on a CPU without gradients in place, into the first feature."""
    first = features[0]
    if torch.is_grad_enabled() or first.device.type != "cpu":
        total = first * weights[:, :1]
        for i, feature in enumerate(features[1:], 1):
            total = total + feature * weights[:, i, None]
        return total
    for start in range(0, first.shape[2], _SLAB):
        part = slice(start, start + _SLAB)
        own = first[:, :, part].mul_(weights[:, :1, part])
        for i, feature in enumerate(features[1:], 1):
            own.addcmul_(feature[:, :, part], weights[:, i, None, part])
    return first
