"""The 2D UNet of the MonoScene family (section 3.1): an EfficientNet trunk and AdaBins' decoder (Bhat et al., CVPR 2021), one map a scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.backbones.efficientnet import EfficientNet
from wholescene.errors import InputError
from wholescene.layers.checkpoint import run
from wholescene.layers.resized import convolve_resized
from wholescene.layers.slabs import Stream, convolve, convolve_whole, each, gather, may_stream


class UpBlock(nn.Module):
    """Resizes to the skip's size, joins the skip, two convolutions."""

    folds = (("conv1", "norm1"), ("conv2", "norm2"))

    def __init__(self, width: int, skip: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width + skip, out, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, width, h, w) and (B, skip, H, W) to (B, out, H, W)."""
        x = F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=True)
        x = self._first(self.conv1(torch.cat([x, skip], 1)))
        return self._second(self.conv2(x))

    def stream(self, x: Tensor, skip: Tensor, band: int) -> Stream:
        """The same in bands of about `band` rows, without the resized map; eval only."""
        inner = each(self._first, convolve_resized(self.conv1, x, skip, band))
        if band >= skip.shape[2]:
            return each(lambda whole: self._second(convolve_whole(self.conv2, whole)), inner)
        return each(self._second, convolve(self.conv2, inner))

    def _first(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.norm1(x), 0.01)

    def _second(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.norm2(x), 0.01)


class Decoder2D(nn.Module):
    """From the trunk's last map up to the picture's size, half the width each time; a 1x1 convolution makes each scale's map.

    Attributes:
        scales: picture pixels per cell of the maps, finest first.
        band: rows a band in eval without gradients, None for whole maps.
    """

    def __init__(
        self,
        skips: Sequence[int],
        entry: int,
        width: int,
        out: int,
        scales: Sequence[int] = (1, 2, 4, 8),
        *,
        padding: int = 0,
        band: int | None = 32,
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            skips: channels of the maps that are joined, finest first; the first is the picture itself.
            entry: channels of the trunk's last map.
            width: channels after the entry convolution; halved by each of the up blocks.
            out: channels of every map that leaves.
            scales: which maps leave: 1 is the finest, each next one half the size.
            padding: of the 1x1 entry convolution. 1 is a quirk of the released weights (from AdaBins): a frame of bias values, which the
                following resize stretches over the picture's border.
            band: rows a band in eval.
            activation_checkpointing: of the up blocks.

        Raises:
            InputError: a scale that the decoder does not reach.
        """
        super().__init__()
        known = [2**i for i in range(len(skips))]
        if not scales or any(s not in known for s in scales):
            raise InputError(f"scales of the 2D decoder must be among {known}; found {list(scales)}")
        self.scales, self.band, self.activation_checkpointing = tuple(sorted(scales)), band, activation_checkpointing
        self.entry = nn.Conv2d(entry, width, 1, padding=padding)
        widths = [width // 2**i for i in range(len(skips) + 1)]
        finest = known.index(self.scales[0])  # nothing above the finest map that leaves is built
        coarsest_first = list(reversed(skips))[: len(skips) - finest]
        blocks = [UpBlock(deep, skip, wide) for (deep, wide), skip in zip(pairwise(widths), coarsest_first, strict=False)]
        self.up: Sequence[UpBlock] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.out = nn.ModuleDict({str(s): nn.Conv2d(widths[len(skips) - known.index(s)], out, 1) for s in self.scales})

    def forward(self, maps: list[Tensor]) -> dict[int, Tensor]:
        """
        Args:
            maps: the picture (B, 3, H, W), then the trunk's maps, finest first. Emptied, so that each is freed after its use.

        Returns:
            scale -> (B, out, ceil(H / scale), ceil(W / scale)), finest first.
        """
        x = self.entry(maps.pop())
        pyramid: dict[int, Tensor] = {}
        for block in self.up:
            skip = maps.pop()
            scale = 2 ** len(maps)
            leave = self.out[str(scale)] if scale in self.scales else nn.Identity()
            band = self._band(skip)
            if band and block is self.up[-1]:  # the widest tensor of all is never held: its bands go straight into the map that leaves
                pyramid[scale] = gather(each(leave, block.stream(x, skip, band)), skip.shape[2])
                break
            x = gather(block.stream(x, skip, band), skip.shape[2]) if band else run(block, x, skip, recompute=self.activation_checkpointing)
            if scale in self.scales:
                pyramid[scale] = leave(x)
        return dict(sorted(pyramid.items()))

    def _band(self, skip: Tensor) -> int:
        """Rows a band, 0 for the plain form."""
        return self.band if self.band is not None and may_stream(self, skip) else 0


class UNet2D(nn.Module):
    """Trunk and decoder: a pyramid of maps of one width from a picture of any size."""

    def __init__(
        self,
        variant: str = "tf_efficientnet_b7",
        out: int = 64,
        scales: Sequence[int] = (1, 2, 4, 8),
        *,
        width: int | None = None,
        padding: int = 0,
        band: int | None = 32,
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            variant: of the EfficientNet trunk.
            out: channels of every map.
            scales: which maps leave.
            width: channels after the decoder's entry; None for the trunk's own.
            padding, band: see `Decoder2D`.
            activation_checkpointing: of trunk and decoder.
        """
        super().__init__()
        self.trunk = EfficientNet(variant, activation_checkpointing=activation_checkpointing)
        *skips, entry = self.trunk.widths
        self.decoder = Decoder2D(
            (3, *skips),
            entry,
            width or entry,
            out,
            scales,
            padding=padding,
            band=band,
            activation_checkpointing=activation_checkpointing,
        )

    def forward(self, picture: Tensor) -> dict[int, Tensor]:
        """Normalised picture (B, 3, H, W) to scale -> (B, out, ceil(H / scale), ceil(W / scale)), finest first."""
        return self.decoder([picture, *self.trunk(picture)])  # type: ignore[no-any-return]
