"""The picture's own depth and context, told how the camera is built (CGFormer, section 3.2, after BEVDepth; Li et al., AAAI 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.camera_gate import CameraGate
from wholescene.layers.checkpoint import run
from wholescene.layers.few_norm import FewNorm1d, FewNorm2d
from wholescene.layers.residual import ResidualBlock
from wholescene.layers.slabs import convolve_whole
from wholescene.ops.deformable_conv import deformable_convolution
from wholescene.systems.cgformer.config import GeometryConfig

_GROUPS = 4  # of the deformable convolution
_DILATIONS = (1, 6, 12, 18)


class CameraScale(nn.Module):
    """A camera's numbers brought near 1: what is in pixels, or in pixels times metres, by a thousand, positions by ten."""

    def forward(self, camera: Tensor) -> Tensor:
        """(B, 33) to the same."""
        pixels, offset, history = [1e3] * 4, [1e3, 1e3, 1.0], [1.0, 1.0, 1e3] * 2
        moved, pose = [1.0] * 5 + [10.0] * 3, [1.0, 1.0, 1.0, 10.0] * 3
        return camera / camera.new_tensor(pixels + offset + history + moved + pose)


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., DeepLab v3, 2017): four dilations and the mean over the picture, side by side."""

    folds = (("conv1", "bn1"),)

    def __init__(self, width: int, pooled_norm: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1 if d == 1 else 3, padding=0 if d == 1 else d, dilation=d, bias=False), nn.BatchNorm2d(width))
            for d in _DILATIONS
        )
        self.pooled = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), pooled_norm)
        self.conv1 = nn.Conv2d(width * (len(_DILATIONS) + 1), width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        whole = self.pooled(x.mean((2, 3), keepdim=True)).expand_as(x)
        seen = [F.relu(branch(x)) for branch in self.branches]
        return self.dropout(F.relu(self.bn1(self.conv1(torch.cat([*seen, F.relu(whole)], 1)))))


class DeformableConv(nn.Module):
    """A 3x3 convolution that reads where a convolution of the same map says (version 1: no modulation)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width // _GROUPS, 3, 3))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.conv_offset = nn.Conv2d(width, 18, 3, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return deformable_convolution(x, self.conv_offset(x), self.weight)


class CameraAwareNet(nn.Module):
    """Depth logits and context of every cell of the map, each gated by the camera."""

    def __init__(self, config: GeometryConfig, width: int, numbers: int) -> None:
        """
        Args:
            config: bins and features.
            width: channels of the map.
            numbers: that describe a camera.
        """
        super().__init__()
        bins = config.depth_bins
        self.activation_checkpointing = config.activation_checkpointing
        self.reduce = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        over_batch = config.frame_norms == "batch"
        self.norm = FewNorm1d(numbers) if over_batch else CameraScale()
        self.context_gate = CameraGate(numbers, width)
        self.context = nn.Conv2d(width, config.features, 1)
        self.depth_gate = CameraGate(numbers, width)
        self.depth = nn.Sequential(
            ResidualBlock(width, bins), ResidualBlock(bins, bins), ResidualBlock(bins, bins),
            AtrousPyramid(bins, FewNorm2d(bins) if over_batch else nn.GroupNorm(1, bins)), DeformableConv(bins), nn.Conv2d(bins, bins, 1),
        )  # fmt: skip

    def forward(self, features: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            features: (B, width, h, w).
            camera: (B, numbers).

        Returns:
            depth logits (B, bins, h, w) and context (B, features, h, w).
        """
        camera = self.norm(camera)
        conv, *rest = self.reduce
        reduced = convolve_whole(conv, features)  # type: ignore[arg-type]  # a Conv2d
        for layer in rest:
            reduced = layer(reduced)
        logits = self.depth_gate(reduced, camera)
        for block in self.depth:
            logits = run(block, logits, recompute=self.activation_checkpointing)
        return logits, self.context(self.context_gate(reduced, camera))
