"""The stereo branch: a depth map as a one-hot volume over the bins, smoothed to a distribution (CGFormer, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.hourglass import Hourglass
from wholescene.systems.cgformer.config import GeometryConfig
from wholescene.systems.cgformer.encoder import STRIDE

_FAR = 1e5  # metres: what a cell without depth counts as


def known_pixels(depth: Tensor, config: GeometryConfig) -> Tensor:
    """Where a depth map (..., H, W) says something; released code takes all that is not 0, also the negative overshoot of a bicubic resize."""
    return depth != 0 if config.unknown_pixels == "camera" else torch.isfinite(depth) & (depth > 0)


def nearest_of_cells(depth: Tensor, known: Tensor) -> Tensor:
    """The smallest known depth of each cell of 8 x 8 pixels.

    Args:
        depth, known: (B, H, W), H and W multiples of 8.

    Returns:
        (B, H / 8, W / 8) metres; 1e5 where nothing is known.
    """
    cells = torch.where(known, depth, _FAR).unflatten(2, (-1, STRIDE)).unflatten(1, (-1, STRIDE))
    return cells.amin((2, 4))


def bin_of(depth: Tensor, config: GeometryConfig) -> Tensor:
    """(...) int64, 1 + the bin of each depth in metres, 0 for none."""
    start = config.depth_near - config.depth_step / 2
    place = (depth - (start if config.stereo_bins == "short" else start - config.depth_step)) / config.depth_step
    return torch.where((place >= 0) & (place < config.depth_bins + 1), place, 0.0).long()


class StereoEncoder(nn.Module):
    """Depth map to logits over the bins."""

    def __init__(self, config: GeometryConfig) -> None:
        super().__init__()
        self.config = config
        bins = config.depth_bins
        self.stem = nn.Sequential(nn.Conv2d(bins, bins, 3, padding=1, bias=False), nn.GroupNorm(2, bins))
        self.unet = Hourglass(bins, axes=2)
        self.out = nn.Conv2d(bins, bins, 1)

    def forward(self, depth: Tensor) -> Tensor:
        """(B, H, W) metres, 0 unknown, H and W multiples of 32, to logits (B, bins, H / 8, W / 8)."""
        nearest = nearest_of_cells(depth, known_pixels(depth, self.config))
        one_hot = F.one_hot(bin_of(nearest, self.config), self.config.depth_bins + 1)[..., 1:]  # (B, h, w, bins)
        logits: Tensor = self.out(self.unet(self.stem(one_hot.movedim(-1, 1).to(self.out.weight.dtype))))
        return logits
