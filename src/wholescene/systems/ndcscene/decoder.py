"""The depth-adaptive dual decoder (section 3.3): a map and a frustum volume grow together, one step of 2D and 3D at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.layers.checkpoint import run
from wholescene.layers.phases import Phases, suits
from wholescene.layers.slabs import Stream, convolve_whole, cut, double, each, gather, may_stream

FIRST_SLICES = 2  # depths that the trunk's last map is split into


@dataclass(frozen=True)
class FrustumLevel:
    """The frustum volume at one scale. Cell (depth i, row j, column k) stands at the i-th of equal depths and at pixel (stride k, stride j).

    Attributes:
        slabs: (B, C, n, h, w) slices along the optical axis, near to far, whole or in parts; may be readable only once.
        shape: (D, h, w) of all slabs together.
        stride: pixels a cell.
    """

    slabs: Iterable[Tensor]
    shape: tuple[int, int, int]
    stride: int

    @classmethod
    def whole(cls, volume: Tensor, stride: int) -> FrustumLevel:
        """Of a volume (B, C, D, h, w) that is there."""
        depth, height, width = volume.shape[2:]
        return cls((volume,), (depth, height, width), stride)


class FrustumBottleneck(nn.Module):
    """1x1x1, dilated 3x3x3, 1x1x1 convolutions around a quarter of the width, added to the input; one norm, after the last."""

    folds = (("conv3", "bn3"),)

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        inner = width // 4
        self.conv1 = nn.Conv3d(width, inner, 1)
        self.conv2 = nn.Conv3d(inner, inner, 3, padding=dilation, dilation=dilation)
        self.conv3 = nn.Conv3d(inner, width, 1)
        self.bn3 = nn.BatchNorm3d(width)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, D, h, w) to the same."""
        inner = F.relu_(convolve_whole(self.conv2, F.relu_(self.conv1(volume))))
        return F.relu_(self.bn3(self.conv3(inner)).add_(volume))


class Deepening(nn.Module):
    """Twice the depths, by a transposed convolution along the optical axis alone; then a bottleneck."""

    folds = (("conv", "norm"),)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(width, width, (3, 1, 1), (2, 1, 1), (1, 0, 0), (1, 0, 0))
        self.norm = nn.BatchNorm3d(width)
        self.block = FrustumBottleneck(width)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, D, h, w) to (B, C, 2D, h, w)."""
        deeper: Tensor = self.block(F.leaky_relu_(self.norm(self.conv(volume)), 0.01))
        return deeper


class DualUpsample(nn.Module):
    """One step of both branches: the map is doubled and takes the encoder's skip; the volume is doubled along all axes and takes the map at every
    depth (figure 4)."""

    def __init__(self, width: int, plane: int, skip: int, out: int, *, last: bool) -> None:
        """
        Args:
            width: channels of the volume.
            plane: of the map.
            skip: of the encoder's map that joins.
            out: of volume and map that leave.
            last: no step follows, so that no map leaves.
        """
        super().__init__()
        self.plane_up = nn.ConvTranspose2d(plane, out, 3, 2, 1, 1)
        self.skip = nn.Conv2d(skip, out, 3, padding=1)
        self.mix_norm = nn.BatchNorm2d(out)
        self.mix = nn.Conv2d(out, out, 3, padding=1)
        self.volume_up = nn.ConvTranspose3d(width, out, 3, 2, 1, 1)
        self.volume_norm = nn.BatchNorm3d(out)
        self.plane_norm = None if last else nn.BatchNorm2d(out)

    def forward(self, volume: Tensor, plane: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            volume: (B, width, D, h, w).
            plane: (B, plane, h, w).
            skip: (B, skip, H, W); H and W are 2h - 1 or 2h, and likewise 2w.

        Returns:
            (B, out, 2D, H, W), and (B, out, H, W) unless this is the last step.
        """
        mixed = self.mixed(plane, skip)
        if suits(self.volume_up, volume):
            larger = gather(self.stream([volume], mixed), 2 * volume.shape[2])
        else:
            larger = self._joined(self.volume_up(volume, output_size=[2 * volume.shape[2], *mixed.shape[2:]]), mixed)
        return larger, None if self.plane_norm is None else F.leaky_relu(self.plane_norm(mixed), 0.01)

    def mixed(self, plane: Tensor, skip: Tensor) -> Tensor:
        """(B, out, H, W), the map at the skip's size."""
        joined = self.plane_up(plane, output_size=skip.shape[2:]) + self.skip(skip)
        found: Tensor = self.mix(F.leaky_relu_(self.mix_norm(joined), 0.01))
        return found

    def stream(self, slabs: Iterable[Tensor], mixed: Tensor) -> Stream:
        """The volume alone, slab by slab along the optical axis; eval only."""
        coming = iter(slabs)
        first = next(coming)
        height, width = mixed.shape[2:]
        if suits(self.volume_up, first):
            larger: Stream = Phases(self.volume_up).stream(chain([first], coming), lambda phase: phase)
        else:
            larger = double(self.volume_up, chain([first], coming), (height, width))
        return each(lambda part: self._joined(part[..., :height, :width], mixed), larger)

    def _joined(self, volume: Tensor, mixed: Tensor) -> Tensor:
        return F.leaky_relu_(self.volume_norm(volume.add_(mixed[:, :, None])), 0.01)


class DualDecoder(nn.Module):
    """From the trunk's maps to the frustum volume at four scales.

    The finest is the largest tensor of the system (0.9 GiB outdoors, 1.8 indoors); in eval without gradients it leaves in slabs of `slab` coarser
    slices each and never is whole (None: whole).
    """

    def __init__(self, maps: Sequence[int], features: int, slices: int, *, slab: int | None = 4, activation_checkpointing: bool = False) -> None:
        """
        Args:
            maps: channels of the trunk's maps at strides 4, 8, 16 and 32.
            features: channels C of the two finest volumes.
            slices: depths of the finest volume.
            slab: slices of the second finest volume that each slab of the finest is made of.
            activation_checkpointing: of every step.

        Raises:
            InputError: slices that no number of doublings makes, or features that are no multiple of four.
        """
        super().__init__()
        *skips, entry = maps
        fewest = FIRST_SLICES * 2 ** len(skips)
        deepenings = (slices // fewest).bit_length() - 1
        if deepenings < 0 or slices != fewest * 2**deepenings or features % 4:
            raise InputError(
                f"a frustum volume of {slices} slices and {features} features cannot be built; expected {fewest} slices doubled any number of times, "
                "and a multiple of 4 features"
            )
        self.slab, self.activation_checkpointing = slab, activation_checkpointing
        self.widths = (4 * features, 2 * features, features, features)
        self.entry = nn.Conv2d(entry, FIRST_SLICES * self.widths[0], 3, padding=1)
        self.deepen = nn.ModuleList(Deepening(self.widths[0]) for _ in range(deepenings))
        planes = (entry, *self.widths[1:])
        steps = range(len(skips))
        self.up: Sequence[DualUpsample] = nn.ModuleList(  # type: ignore[assignment]
            DualUpsample(self.widths[i], planes[i], skips[-1 - i], self.widths[i + 1], last=i == steps[-1]) for i in steps
        )
        self.dilate = nn.ModuleList(nn.Sequential(*(FrustumBottleneck(width, d) for d in (1, 2, 3))) for width in self.widths[1:-1])

    def forward(self, maps: list[Tensor]) -> list[FrustumLevel]:
        """
        Args:
            maps: (B, C_i, ceil(H / s), ceil(W / s)) for the strides s = 4, 8, 16, 32.

        Returns:
            Levels of strides 32, 16, 8 and 4, with `widths` channels.
        """
        recompute = self.activation_checkpointing
        *skips, plane = maps
        volume = self.entry(plane).unflatten(1, (FIRST_SLICES, -1)).transpose(1, 2)
        for deepen in self.deepen:
            volume = run(deepen, volume, recompute=recompute)
        levels, stride = [FrustumLevel.whole(volume, 32)], 32
        for index, up in enumerate(self.up):
            skip, stride = skips.pop(), stride // 2
            if not skips and self.slab is not None and may_stream(self, volume):
                height, width = skip.shape[2:]
                slabs = up.stream(cut(volume, self.slab), up.mixed(plane, skip))
                levels.append(FrustumLevel(slabs, (2 * volume.shape[2], height, width), stride))
                break
            volume, plane = run(up, volume, plane, skip, recompute=recompute)
            if skips:
                volume = run(self.dilate[index], volume, recompute=recompute)
            levels.append(FrustumLevel.whole(volume, stride))
        return levels
