"""What the geometric decoder says of space: occupied or not, in slices of depth behind every pixel (the BCE of supplement A.3, equation 9)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.ops.choice import without_autocast


class SliceOccupancy(nn.Module):
    """Logits of the finest geometric map, one a slice of depth; a voxel reads them trilinearly at its pixel and its depth.

    Attributes:
        range_m: metres that the slices fill evenly.
    """

    def __init__(self, width: int, slices: int, range_m: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, max(1, width // 2), 3, padding=1)
        self.slices = nn.Conv2d(max(1, width // 2), slices, 1)
        self.range_m = range_m

    def forward(self, level: Tensor) -> Tensor:
        """(B, C, h, w) to logits (B, slices, h, w)."""
        logits: Tensor = self.slices(F.relu(self.conv(level)))
        return logits

    def at_voxels(self, logits: Tensor, shares: Tensor, depth: Tensor) -> Tensor:
        """
        Args:
            logits: (slices, h, w) of one frame.
            shares: (n, 2) of the picture's width and height.
            depth: (n) metres along the optical axis.

        Returns:
            (n) logits; beyond the middle of the outer slices and cells, theirs.
        """
        places = torch.cat([shares, depth[:, None] / self.range_m], 1).to(torch.float32)
        with without_autocast(logits.device):
            read = F.grid_sample(
                logits.float()[None, None], 2 * places[None, :, None, None] - 1, mode="bilinear", padding_mode="border", align_corners=False
            )
        return read.flatten()


def occupancy_loss(logits: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of occupied against empty, averaged over the voxels that have a logit and a label; 0 where there are none.

    Args:
        logits: (B, X, Y, Z).
        known: (B, X, Y, Z) bool, whether a voxel has a logit.
        labels: (B, X, Y, Z) uint8, 0 empty, 255 unknown.
    """
    counts = known & (labels != 255)
    each = F.binary_cross_entropy_with_logits(logits.float(), (labels > 0).float(), reduction="none")
    return torch.where(counts, each, 0.0).sum() / counts.sum().clamp(min=1)
