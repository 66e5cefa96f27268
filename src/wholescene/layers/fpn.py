"""Feature pyramid network (Lin et al., CVPR 2017, section 3): maps of one width, each finer one with what the coarser ones say."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """1x1 convolutions to one width, coarse maps enlarged and added from top to bottom, 3x3 convolutions; no norm, no activation."""

    def __init__(self, widths: Sequence[int], out: int) -> None:
        """
        Args:
            widths: channels of the maps, finest first.
            out: channels of every map that leaves.
        """
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, out, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in widths)
        for conv in (*self.lateral, *self.smooth):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, widths[i], h_i, w_i), finest first, to (B, out, h_i, w_i)."""
        joined = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for fine in range(len(joined) - 2, -1, -1):
            joined[fine] = joined[fine] + F.interpolate(joined[fine + 1], joined[fine].shape[-2:], mode="nearest")
        return [smooth(m) for smooth, m in zip(self.smooth, joined, strict=True)]
