"""NDC-Scene's 3D network: two scales down, a light context prior, two scales up. Outdoors the height is never halved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers import unet3d
from wholescene.layers.aspp import ASPP
from wholescene.layers.checkpoint import run
from wholescene.layers.slabs import convolve_whole
from wholescene.layers.unet3d import UNet3D, Upsample

Strides = tuple[int, int, int]


class Downsample(nn.Module):
    """Divides the axes by their strides and doubles the width, with an averaged shortcut."""

    folds = (("conv3", "bn3"),)

    def __init__(self, width: int, strides: Strides) -> None:
        super().__init__()
        inner, out = width // 2, 2 * width
        self.conv1 = nn.Conv3d(width, inner, 1)
        self.conv2 = nn.Conv3d(inner, inner, 3, strides, 1)
        self.conv3 = nn.Conv3d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        # the zeros of the padding count in the mean, as released and as in the networks this one follows
        self.downsample = nn.Sequential(nn.AvgPool3d(3, strides, 1), nn.Conv3d(width, out, 1, bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to (B, 2C, X / s, Y / s, Z / s) of each axis' stride s."""
        inner = F.relu_(self.conv2(F.relu_(self.conv1(x))))
        return F.relu_(self.bn3(self.conv3(inner)).add_(self.downsample(x)))


class Process(nn.Module):
    """Two residual blocks of a 3x3x3 and a 1x1x1 convolution, the second one dilated by three."""

    folds = (("conv2", "bn2"), ("conv4", "bn4"))

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.conv1 = nn.Conv3d(width, inner, 3, padding=1)
        self.conv2 = nn.Conv3d(inner, width, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, inner, 3, padding=3, dilation=3)
        self.conv4 = nn.Conv3d(inner, width, 1, bias=False)
        self.bn4 = nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        x = F.relu_(self.bn2(self.conv2(F.relu_(convolve_whole(self.conv1, x)))).add_(x))
        return F.relu_(self.bn4(self.conv4(F.relu_(convolve_whole(self.conv3, x)))).add_(x))


class Descent(nn.Module):
    """One scale down: halve, then process at the doubled width (MonoScene processes first)."""

    def __init__(self, halve: nn.Module, process: nn.Module, activation_checkpointing: bool) -> None:
        super().__init__()
        self.halve, self.process, self.activation_checkpointing = halve, process, activation_checkpointing

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to twice the channels on a coarser grid."""
        x = run(self.halve, x, recompute=self.activation_checkpointing)
        processed: Tensor = run(self.process, x, recompute=self.activation_checkpointing)
        return processed


class NeighbourContext(nn.Module):
    """The context prior in its light form: relations of each coarse voxel to its neighbours are told, and supervise, but weigh nothing."""

    def __init__(self, width: int, relations: int, neighbours: int, strides: Strides, *, activation_checkpointing: bool = False) -> None:
        """
        Args:
            width: channels.
            relations: R.
            neighbours: M of each voxel.
            strides: of the voxels that relations are told of.
            activation_checkpointing: of the ASPP's branches.
        """
        super().__init__()
        self.told = (relations, neighbours)
        self.aspp = ASPP(width, activation_checkpointing=activation_checkpointing)
        self.relations = nn.Conv3d(width, relations * neighbours, 1, strides)
        # no activation between the convolutions, as released
        self.merge = nn.Sequential(
            nn.Conv3d(2 * width, width // 2, 1),
            nn.Conv3d(width // 2, width // 2, 3, padding=1),
            nn.Conv3d(width // 2, width, 1),
            nn.BatchNorm3d(width),
        )

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            volume: (B, C, X, Y, Z).

        Returns:
            volume: the same shape.
            relation_logits: (B, R, M, N) of N voxels in C order.
        """
        seen = self.aspp(volume)
        logits = self.relations(seen).flatten(2).unflatten(1, self.told)
        return F.relu_(self.merge(torch.cat([volume, seen], 1)).add_(seen)), logits


def keep_height(width: int, middle: nn.Module, strides: Strides, *, activation_checkpointing: bool) -> UNet3D:
    """The outdoor network, of plain convolutions; `strides` of each scale are 1 along the height."""
    return UNet3D(
        width, middle,
        down=lambda wide: Descent(Downsample(wide, strides), Process(2 * wide), activation_checkpointing),
        up=lambda deep, wide: Upsample(deep, wide, strides=strides),
    )  # fmt: skip


def ddr(width: int, middle: nn.Module, *, activation_checkpointing: bool) -> UNet3D:
    """The indoor network, of MonoScene's residual blocks."""
    return UNet3D(width, middle, down=lambda wide: Descent(unet3d.Downsample(wide), unet3d.Process(2 * wide), activation_checkpointing), up=Upsample)


def strides_keeping(axis: int) -> Strides:
    """Two along every array axis but one.

    >>> strides_keeping(2)
    (2, 2, 1)
    """
    kept: Sequence[int] = [1 if i == axis else 2 for i in range(3)]
    return (kept[0], kept[1], kept[2])
