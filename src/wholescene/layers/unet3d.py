"""The 3D UNet of the MonoScene family (section 3.2): dimensional-decomposition residual blocks (Li et al., CVPR 2019) over three scales."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.checkpoint import run
from wholescene.layers.phases import Phases, suits
from wholescene.layers.slabs import Stream, each, enlarge


class Bottleneck(nn.Module):
    """A dimensional-decomposition residual block: one 3x3x3 convolution as three, one an axis, last axis first.

    The sums between the three take the values before their ReLUs. With stride 2 each axis is halved by its own convolution, and pooled
    copies take the short cuts.
    """

    folds = tuple((f"conv{i}", f"bn{i}") for i in range(1, 6))

    def __init__(self, width: int, inner: int, *, stride: int = 1, dilation: int = 1, expansion: int = 4, momentum: float = 0.1) -> None:
        """
        Args:
            width: input channels.
            inner: channels between; the output has inner * expansion.
            stride: 1 or 2.
            dilation: of the three axis convolutions.
            expansion: output channels over inner ones.
            momentum: of the batch norms.
        """
        super().__init__()
        s, d, out = stride, dilation, inner * expansion

        def norm(channels: int) -> nn.BatchNorm3d:
            return nn.BatchNorm3d(channels, momentum=momentum)

        def shortcut(kernel: tuple[int, int, int], channels: int, wide: int) -> nn.Sequential:
            return nn.Sequential(nn.AvgPool3d(kernel, kernel), nn.Conv3d(channels, wide, 1, bias=False), norm(wide))

        self.conv1 = nn.Conv3d(width, inner, 1, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv3d(inner, inner, (1, 1, 3), (1, 1, s), (0, 0, d), (1, 1, d), bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv3d(inner, inner, (1, 3, 1), (1, s, 1), (0, d, 0), (1, d, 1), bias=False)
        self.bn3 = norm(inner)
        self.conv4 = nn.Conv3d(inner, inner, (3, 1, 1), (s, 1, 1), (d, 0, 0), (d, 1, 1), bias=False)
        self.bn4 = norm(inner)
        self.conv5 = nn.Conv3d(inner, out, 1, bias=False)
        self.bn5 = norm(out)
        self.halves = stride == 2
        if self.halves:
            self.downsample = shortcut((2, 2, 2), width, out)
            self.downsample2 = shortcut((1, 2, 1), inner, inner)
            self.downsample3 = shortcut((2, 1, 1), inner, inner)
            self.downsample4 = shortcut((2, 1, 1), inner, inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, X, Y, Z) to (B, inner * expansion, X / stride, Y / stride, Z / stride)."""
        along_z = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        along_y = self.bn3(self.conv3(F.relu(along_z)))
        if self.halves:
            along_z = self.downsample2(along_z)
        along_y = along_y + along_z
        along_x = self.bn4(self.conv4(F.relu(along_y)))
        if self.halves:
            along_z, along_y = self.downsample3(along_z), self.downsample4(along_y)
        along_x = along_x + along_z + along_y
        out = self.bn5(self.conv5(F.relu_(along_x)))
        return F.relu_(out.add_(self.downsample(x) if self.halves else x))


class Process(nn.Sequential):
    """Bottlenecks of growing dilation that keep size and width."""

    def __init__(self, width: int, dilations: Sequence[int] = (1, 2, 3), *, momentum: float = 0.1, activation_checkpointing: bool = False) -> None:
        super().__init__(*(Bottleneck(width, width // 4, dilation=d, momentum=momentum) for d in dilations))
        self.activation_checkpointing = activation_checkpointing

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        for block in self:
            volume = run(block, volume, recompute=self.activation_checkpointing)
        return volume


class Downsample(Bottleneck):
    """Halves every axis and doubles the width."""

    def __init__(self, width: int, *, momentum: float = 0.1) -> None:
        super().__init__(width, width // 4, stride=2, expansion=8, momentum=momentum)


class Upsample(nn.Module):
    """Transposed convolution that doubles every axis exactly, or those that are said; batch norm, ReLU."""

    folds = (("conv", "norm"),)

    def __init__(self, width: int, out: int, *, momentum: float = 0.1, strides: tuple[int, int, int] = (2, 2, 2)) -> None:
        """
        Args:
            width, out: channels before and after.
            momentum: of the batch norm.
            strides: 1 or 2 along each axis.
        """
        super().__init__()
        x, y, z = strides
        self.conv = nn.ConvTranspose3d(width, out, 3, strides, 1, (x - 1, y - 1, z - 1))
        self.norm = nn.BatchNorm3d(out, momentum=momentum)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, width, X, Y, Z) to (B, out, 2X, 2Y, 2Z), or as many times as the strides say."""
        return F.relu_(self.norm(self.conv(volume)))

    def stream(self, slabs: Iterable[Tensor], then: Callable[[Tensor], Tensor] = lambda y: y) -> Stream:
        """The same, slab by slab along the first spatial axis, and what follows pointwise; eval only."""
        coming = iter(slabs)
        first = next(coming, None)
        if first is None:
            return iter(())
        coming = chain([first], coming)
        if suits(self.conv, first):
            return Phases(self.conv, self.norm).stream(coming, lambda y: then(F.relu_(y)))
        return each(lambda y: then(F.relu_(self.norm(y))), enlarge(self.conv, coming))


class Down(nn.Module):
    """One scale of the descent: process, then halve."""

    def __init__(self, width: int, *, momentum: float = 0.1, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.process = Process(width, momentum=momentum, activation_checkpointing=activation_checkpointing)
        self.halve = Downsample(width, momentum=momentum)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to (B, 2C, X/2, Y/2, Z/2)."""
        return self.halve(self.process(volume))


class UNet3D(nn.Module):
    """Two scales down, something at the coarsest one, two scales up; the skips are the inputs of the two descents, added after the ReLU.

    Attributes:
        middle: what works at the coarsest scale, (B, 4C, X/4, Y/4, Z/4) to the same and whatever else it wants to say.
    """

    def __init__(
        self,
        width: int,
        middle: nn.Module,
        *,
        momentum: float = 0.1,
        activation_checkpointing: bool = False,
        down: Callable[[int], nn.Module] | None = None,
        up: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        """
        Args:
            width: channels C of the volume, divisible by 4.
            middle: module at the coarsest scale, of width 4C; returns (volume, extra).
            momentum: of the batch norms.
            activation_checkpointing: of the descent's bottlenecks.
            down: makes one scale of the descent from its channels, which it doubles; None: process, then halve.
            up: makes one scale of the ascent from its channels and half of them; None: a transposed convolution. Momentum and activation
                checkpointing of what these make are theirs.
        """
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        down = down or partial(Down, momentum=momentum, activation_checkpointing=activation_checkpointing)
        up = up or partial(Upsample, momentum=momentum)
        self.down = nn.ModuleList(down(wide) for wide in widths[:-1])
        self.middle = middle
        self.up = nn.ModuleList(up(deep, wide) for wide, deep in pairwise(widths))

    def forward(self, volume: Tensor) -> tuple[Tensor, object]:
        """
        Args:
            volume: (B, C, X, Y, Z), every axis divisible by 4.

        Returns:
            (B, C, X, Y, Z) and what `middle` said beside its volume.
        """
        skips = []
        for down in self.down:
            skips.append(volume)
            volume = down(volume)
        volume, extra = self.middle(volume)
        for up in reversed(self.up):
            volume, skip = up(volume), skips.pop()
            volume = volume + skip if torch.is_grad_enabled() else volume.add_(skip)
        return volume, extra
