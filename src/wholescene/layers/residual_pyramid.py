"""A small 3D ResNet and a generalised feature pyramid over it: CGFormer's local branch (Yu et al., NeurIPS 2024, section 3.4) and ScanSSC's
spatial mixing network (Bae, Ha and Kim, CVPR 2025, equation 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.checkpoint import run
from wholescene.layers.slabs import Stream, aligned, convolve, convolve_whole, cut, each, gather, may_stream, split
from wholescene.ops.trilinear import resize_volume


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with batch norm and a short cut; the first block of a stage has a 3x3x3 convolution there too."""

    folds = (("conv1", "bn1"), ("conv2", "bn2"), ("conv_short", "bn_short"))

    def __init__(self, width: int, *, stride: int = 1, projects: bool = False) -> None:
        super().__init__()

        def conv(stride: int) -> nn.Conv3d:
            return nn.Conv3d(width, width, 3, stride, 1, bias=False)

        self.conv1 = conv(stride)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = conv(1)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv_short = conv(stride) if projects else None
        self.bn_short = nn.BatchNorm3d(width) if projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to (B, C, ceil(X / stride), ...)."""
        y = F.relu_(self.bn1(convolve_whole(self.conv1, x)))
        y = self.bn2(convolve_whole(self.conv2, y))
        short = x if self.conv_short is None else self.bn_short(convolve_whole(self.conv_short, x))
        return F.relu_(y.add_(short))

    def stream(self, slabs: Iterable[Tensor]) -> Stream:
        """The same for stride 1, slab by slab along the first spatial axis; eval only."""
        skip, own = split(slabs, 2)
        inner = each(lambda y: F.relu_(self.bn1(y)), convolve(self.conv1, own))
        outer = each(self.bn2, convolve(self.conv2, inner))
        short = skip if self.conv_short is None else each(self.bn_short, convolve(self.conv_short, skip))
        for y, x in aligned(outer, short):
            yield F.relu_(y + x)


class VolumeResNet(nn.Module):
    """Stages of residual blocks of one width; every stage after the first halves the volume."""

    slab = 6  # slices at a time, where the first stage is worked through in slabs

    def __init__(self, width: int, blocks: Sequence[int], *, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, stride=2 if stage and not i else 1, projects=not i) for i in range(count))
            for stage, count in enumerate(blocks)
        )

    def forward(self, volume: Tensor) -> list[Tensor]:
        """(B, C, X, Y, Z) to one volume a stage, finest first: (B, C, ceil(X / 2^i), ...)."""
        found = [self._finest(volume)]
        for stage in self.stages[1:]:
            found.append(self._through(stage, found[-1]))
        return found

    def _finest(self, volume: Tensor) -> Tensor:
        if not may_stream(self, volume):
            return self._through(self.stages[0], volume)
        slabs = cut(volume, self.slab)
        for block in self.stages[0].children():
            slabs = block.stream(slabs)  # type: ignore[operator]  # residual blocks all
        return gather(slabs, volume.shape[2])

    def _through(self, stage: nn.Module, volume: Tensor) -> Tensor:
        for block in stage.children():
            volume = run(block, volume, recompute=self.activation_checkpointing)
        return volume


class GeneralisedFPN(nn.Module):
    """From the coarsest level up: enlarge, lay beside the finer level, 1x1 and 3x3 convolution with norm and ReLU each (an LSS-style pyramid).

    Works on maps or on volumes.
    """

    def __init__(self, widths: Sequence[int], out: int, axes: int, norm: Callable[[int], nn.Module]) -> None:
        """
        Args:
            widths: channels of the levels, finest first.
            out: channels of all that leaves a convolution.
            axes: 2 or 3.
            norm: makes the norm of so many channels.
        """
        super().__init__()
        conv = nn.Conv2d if axes == 2 else nn.Conv3d
        coarser = [*(out for _ in widths[:-2]), widths[-1]]  # what each level meets
        self.lateral = nn.ModuleList(conv(own + met, out, 1, bias=False) for own, met in zip(widths, coarser, strict=False))
        self.lateral_norm = nn.ModuleList(norm(out) for _ in coarser)
        self.smooth = nn.ModuleList(conv(out, out, 3, padding=1, bias=False) for _ in coarser)
        self.smooth_norm = nn.ModuleList(norm(out) for _ in coarser)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Levels (B, widths[i], ...), finest first, to (B, out, ...) of the finest one's size. The list is emptied, so that no level lives longer
        than it must."""
        joined = levels.pop()
        while levels:
            joined = self._join(len(levels) - 1, levels.pop(), joined)
        return joined

    def _join(self, level: int, fine: Tensor, coarse: Tensor) -> Tensor:
        size = fine.shape[2:]
        lateral: nn.Conv3d = self.lateral[level]  # type: ignore[assignment]  # or a Conv2d
        if torch.is_grad_enabled():
            joined = lateral(torch.cat([fine, self._enlarged(coarse, size)], 1))
        else:  # a 1x1 convolution and an enlargement are both linear, so the convolution may come first and be cheap
            apply = F.conv2d if fine.dim() == 4 else F.conv3d
            own, met = lateral.weight.split([fine.shape[1], coarse.shape[1]], 1)
            joined = apply(fine, own).add_(self._enlarged(apply(coarse, met), size))
        del fine, coarse
        joined = F.relu_(self.lateral_norm[level](joined))
        return F.relu_(self.smooth_norm[level](convolve_whole(self.smooth[level], joined)))  # type: ignore[arg-type]  # convolutions all

    def _enlarged(self, coarse: Tensor, size: Sequence[int]) -> Tensor:
        if coarse.dim() == 4:
            return F.interpolate(coarse, tuple(size), mode="bilinear", align_corners=False)
        return resize_volume(coarse, size)


class ResidualPyramid(nn.Module):
    """The 3D ResNet and the pyramid that brings its levels back to the finest."""

    def __init__(self, width: int, blocks: Sequence[int] = (2, 2, 2), *, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.trunk = VolumeResNet(width, blocks, activation_checkpointing=activation_checkpointing)
        self.neck = GeneralisedFPN([width] * len(blocks), width, 3, lambda channels: nn.GroupNorm(group_count(channels), channels))

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        return self.neck(self.trunk(volume))


def group_count(channels: int, most: int = 32, least_each: int = 4) -> int:
    """Groups of a group norm: 32 as released, fewer where a group would have fewer than so many channels or they cannot be shared out.

    >>> group_count(128), group_count(16), group_count(64, least_each=2), group_count(144)
    (32, 4, 32, 24)
    """
    return next(count for count in range(max(1, min(most, channels // least_each)), 0, -1) if channels % count == 0)
