"""Mask updating (MonoMRN): which voxels the next step of refinement works on."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class OccupancyHead(nn.Module):
    """Class probabilities to logits of empty and occupied, by two 3x3x3 convolutions.

    They reach two voxels far, and must: states outside the mask do not change, so a rule that looks at one voxel could never let one in.
    """

    folds = (("conv0", "norm"),)

    def __init__(self, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv0 = nn.Conv3d(classes, classes, 3, padding=1)
        self.norm = nn.BatchNorm3d(classes)
        self.dropout = nn.Dropout3d(dropout)
        self.conv1 = nn.Conv3d(classes, 2, 3, padding=1)

    def forward(self, probabilities: Tensor) -> Tensor:
        """(B, K, X, Y, Z) to (B, 2, X, Y, Z)."""
        logits: Tensor = self.conv1(self.dropout(F.relu(self.norm(self.conv0(probabilities)))))
        return logits
