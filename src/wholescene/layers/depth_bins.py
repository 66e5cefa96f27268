"""A small depth head: probabilities over evenly spaced bins, and their expectation in metres."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.geometry.surface import stride_of


class DepthBins(nn.Module):
    """3x3 convolution to 64 channels, ReLU, 1x1 convolution to the bins."""

    def __init__(self, width: int, metres: tuple[float, float], bins: int = 64) -> None:
        """
        Args:
            width: channels of the map.
            metres: lower edge of the first bin, upper edge of the last.
            bins: how many.
        """
        super().__init__()
        self.conv0 = nn.Conv2d(width, 64, 3, padding=1)
        self.conv1 = nn.Conv2d(64, bins, 1)
        self.metres = metres

    def forward(self, features: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A map (B, C, h, w) to depth (B, H, W) metres at the picture's size, and probabilities (B, bins, h, w).

        The last cells may reach beyond the picture; what lies there is cut off.
        """
        shares = torch.softmax(self.conv1(F.relu(self.conv0(features))).float(), 1)
        near, far = self.metres
        centres = near + (far - near) * (torch.arange(shares.shape[1], device=shares.device) + 0.5) / shares.shape[1]
        metres = torch.einsum("bdhw,d->bhw", shares, centres)
        height, width = (cells * stride_of(pixels, cells) for pixels, cells in zip(size, metres.shape[1:], strict=True))
        return F.interpolate(metres[:, None], (height, width), mode="bilinear")[:, 0, : size[0], : size[1]], shares


def log_depth_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean of |ln predicted - ln truth| over the pixels (B, H, W) whose truth is known (above 0); 0 where none is."""
    known = truth > 0
    gap = (predicted.float().clamp(min=1e-3).log() - truth.clamp(min=1e-3).log()).abs()
    return torch.where(known, gap, 0.0).sum() / known.sum().clamp(min=1)
