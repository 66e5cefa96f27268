"""The small UNet of stereo networks (Chang and Chen, PSMNet, CVPR 2018), over maps or volumes: two scales down, two up, added before the ReLU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.slabs import convolve_whole

_GROUPS = 2


class Hourglass(nn.Module):
    """Group norms on the way down and on the skips, batch norms on the way up."""

    folds = (("up1", "up1_norm"), ("up2", "up2_norm"))

    def __init__(self, width: int, axes: int) -> None:
        """
        Args:
            width: channels, even.
            axes: 2 for maps, 3 for volumes; every axis must be a multiple of 4.
        """
        super().__init__()
        conv: Any = (nn.Conv2d, nn.Conv3d)[axes - 2]
        transposed: Any = (nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 2]
        norm: Any = (nn.BatchNorm2d, nn.BatchNorm3d)[axes - 2]

        def step(inner: int, out: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(conv(inner, out, kernel, stride, kernel // 2, bias=False), nn.GroupNorm(_GROUPS, out))

        self.conv1, self.conv2 = step(width, 2 * width, 3, 2), step(2 * width, 2 * width, 3, 1)
        self.conv3, self.conv4 = step(2 * width, 4 * width, 3, 2), step(4 * width, 4 * width, 3, 1)
        self.up1, self.up1_norm = transposed(4 * width, 2 * width, 3, 2, 1, 1, bias=False), norm(2 * width)
        self.up2, self.up2_norm = transposed(2 * width, width, 3, 2, 1, 1, bias=False), norm(width)
        self.skip1, self.skip2 = step(width, width, 1, 1), step(2 * width, 2 * width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same."""
        half = _activated(self.conv2, _activated(self.conv1, x))
        quarter = _activated(self.conv4, _activated(self.conv3, half))
        half = _summed(self.up1_norm(self.up1(quarter)), self.skip2(half))
        return _summed(self.up2_norm(self.up2(half)), self.skip1(x))


def _activated(step: nn.Sequential, x: Tensor) -> Tensor:
    conv: Any = step[0]
    made = convolve_whole(conv, x) if conv.stride[0] == 1 else conv(x)
    return F.relu_(step[1](made))


def _summed(one: Tensor, other: Tensor) -> Tensor:
    return F.relu_(one + other) if torch.is_grad_enabled() else F.relu_(one.add_(other))
