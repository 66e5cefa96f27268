"""Metric depth from the maps of a relative depth network: bins whose centres are drawn to attractors (ZoeDepth, Bhat et al., 2023, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTRACTORS = (16, 8, 4, 1)
_STRENGTH = 300.0  # the released configuration says 1000, which never reaches the function
_SMALL = 1e-4
_STIRLING = 1e-7
_COLDEST, _HOTTEST = 0.0212, 50.0  # temperatures


class MetricBins(nn.Module):
    """Seed bins at the coarsest map, moved at each finer one; then a binomial distribution over them at every pixel."""

    def __init__(self, features: int, relative: int, *, embedding: int = 128, bins: int = 64) -> None:
        """
        Args:
            features: channels of the decoder's maps.
            relative: channels of the last map before the relative depth.
            embedding: channels that say what a pixel's bins are like.
            bins: how many.
        """
        super().__init__()
        self.bottleneck = nn.Conv2d(features, features, 1)
        self.seed_bins = _pointwise(features, features, bins, nn.Softplus())
        self.seed_embedding = _pointwise(features, embedding, embedding)
        self.projectors = nn.ModuleList(_pointwise(features, embedding, embedding) for _ in ATTRACTORS)
        self.attractors = nn.ModuleList(_pointwise(embedding, embedding, n, nn.Softplus()) for n in ATTRACTORS)
        joined = relative + 1 + embedding
        self.binomial = nn.Sequential(nn.Conv2d(joined, joined // 2, 1), nn.GELU(), nn.Conv2d(joined // 2, 4, 1), nn.Softplus())

    def forward(self, deepest: Tensor, fused: Sequence[Tensor], last: Tensor, relative: Tensor) -> Tensor:
        """
        Args:
            deepest: (B, features, h, w), the decoder's deepest map before it was fused.
            fused: four (B, features, ...), finest first.
            last: (B, relative, H, W).
            relative: (B, 1, H, W) relative depth.

        Returns:
            (B, H, W) metres.
        """
        start = self.bottleneck(deepest)
        centres, before = self.seed_bins(start), self.seed_embedding(start)
        for project, attract, level in zip(self.projectors, self.attractors, reversed(fused), strict=True):
            embedding = project(level)
            centres = _resized(centres, level)
            centres = centres + _pull(attract(embedding + _resized(before, level)), centres)
            before = embedding
        told = self.binomial(torch.cat([last, relative, _resized(before, last)], 1)) + _SMALL
        success = told[:, :1] / (told[:, :1] + told[:, 1:2])
        temperature = _COLDEST + (_HOTTEST - _COLDEST) * told[:, 2:3] / (told[:, 2:3] + told[:, 3:4])
        return (binomial(success, temperature, centres.shape[1]) * _resized(centres, last)).sum(1)


def binomial(success: Tensor, temperature: Tensor, bins: int) -> Tensor:
    """How likely each bin is if its number counts the successes of `bins` - 1 trials; sharper the lower the temperature.

    Args:
        success, temperature: (B, 1, H, W).
        bins: how many.

    Returns:
        (B, bins, H, W): softmax over k of ln(C(bins - 1, k) p^k (1 - p)^(bins - 1 - k)) / temperature, C by Stirling's formula.
    """
    k = torch.arange(bins, dtype=success.dtype, device=success.device)[:, None, None]
    others = bins - 1 - k
    trials = bins - 1 + _STIRLING
    ways = trials * math.log(trials) - (k + _STIRLING) * (k + _STIRLING).log() - others * (others + _STIRLING).log()
    logits = ways + k * success.clamp(_SMALL, 1).log() + others * (1 - success).clamp(_SMALL, 1).log()
    return torch.softmax(logits / temperature, 1)


def _pull(attractors: Tensor, centres: Tensor) -> Tensor:
    """How far the centres (B, bins, h, w) move: the mean over the attractors (B, n, h, w) of d / (1 + 300 d^2), d from centre to attractor."""
    total = torch.zeros_like(centres)
    for attractor in attractors.split(1, 1):
        distance = attractor - centres
        total += distance / (1 + _STRENGTH * distance**2)
    return total / attractors.shape[1]


def _pointwise(width: int, inner: int, out: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, inner, 1), nn.ReLU(inplace=True), nn.Conv2d(inner, out, 1), *last)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
