"""The occupancy head of CGFormer and ScanSSC (ScanSSC, equation 2): convolution, norm, linear layer, trilinear enlargement."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.residual_pyramid import group_count
from wholescene.layers.slabs import convolve_whole
from wholescene.ops.trilinear import resize_volume


class OccupancyHead(nn.Module):
    """Semantic prediction (ScanSSC): classes on the volume's own grid, and the logits enlarged; nothing else of the output's resolution is held."""

    def __init__(self, width: int, inner: int, classes: int, factor: int) -> None:
        """
        Args:
            width: channels of the volume.
            inner: channels between.
            classes: logits a voxel.
            factor: the output grid is this many times finer.
        """
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv3d(width, inner, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(group_count(inner, least_each=2), inner)
        self.classify = nn.Conv3d(inner, classes, 1, bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, x, y, z) to logits (B, K, factor * x, factor * y, factor * z)."""
        logits: Tensor = self.classify(F.relu_(self.norm(convolve_whole(self.conv, volume))))
        if self.factor == 1:
            return logits
        return resize_volume(logits, [self.factor * n for n in logits.shape[2:]])
