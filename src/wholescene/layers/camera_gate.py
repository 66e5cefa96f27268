"""Channel gates that say how a camera is built: squeeze and excitation with the camera where the mean over the picture would be (BEVDepth,
Li et al., AAAI 2023)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CameraGate(nn.Module):
    """Two linear layers on the camera's numbers, then two 1x1 convolutions to a gate a channel."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(numbers, width)
        self.fc2 = nn.Linear(width, width)
        self.conv_reduce = nn.Conv2d(width, width, 1)
        self.conv_expand = nn.Conv2d(width, width, 1)

    def gates(self, camera: Tensor) -> Tensor:
        """(B, numbers) to (B, width, 1, 1), each between 0 and 1."""
        inner = self.fc2(F.relu(self.fc1(camera)))[..., None, None]
        found: Tensor = self.conv_expand(F.relu(self.conv_reduce(inner))).sigmoid()
        return found

    def forward(self, features: Tensor, camera: Tensor) -> Tensor:
        """(B, width, h, w) gated by (B, numbers)."""
        return features * self.gates(camera)
