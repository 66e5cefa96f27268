"""SECOND's neck (Yan et al., Sensors 2018): maps of several strides brought to one, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SECONDFPN(nn.Module):
    """Every map through a convolution or transposed convolution whose kernel is its stride, batch norm and ReLU; then all channels together."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], out: int, stride: int, *, momentum: float = 0.01) -> None:
        """
        Args:
            widths: channels of the maps.
            strides: picture pixels per cell of each.
            out: channels that each gives.
            stride: of the result; each map's stride is a multiple or a divisor of it.
            momentum: of the batch norms.
        """
        super().__init__()
        self.width = out * len(widths)
        self.blocks = nn.ModuleList(_block(width, own, out, stride, momentum) for width, own in zip(widths, strides, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, widths[i], H / strides[i], W / strides[i]) to (B, width, H / stride, W / stride)."""
        return torch.cat([block(m) for block, m in zip(self.blocks, maps, strict=True)], 1)


def _block(width: int, own: int, out: int, stride: int, momentum: float) -> nn.Sequential:
    conv: nn.Module
    if own < stride:
        factor = stride // own
        conv = nn.Conv2d(width, out, factor, factor, bias=False)
    else:
        factor = own // stride
        conv = nn.ConvTranspose2d(width, out, factor, factor, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out, eps=1e-3, momentum=momentum), nn.ReLU(inplace=True))
