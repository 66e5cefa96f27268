"""The segmentation head of the MonoScene family: convolution, ASPP, convolution to class logits; and its full-resolution form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.aspp import ASPP
from wholescene.layers.slabs import Stream, convolve, cut, each, gather, may_stream
from wholescene.layers.unet3d import Upsample


class SegmentationHead(nn.Module):
    """relu(conv 3x3x3) -> ASPP -> conv 3x3x3 to `classes` logits (MonoScene, section 3.4); or NDC-Scene's light form."""

    def __init__(
        self,
        width: int,
        inner: int,
        classes: int,
        dilations: Sequence[int] = (1, 2, 3),
        *,
        light: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            width: channels of the volume.
            inner: channels of the ASPP; a light head has `width` of them.
            classes: logits a voxel.
            dilations: of the ASPP.
            light: without the first convolution, and without the norms inside the ASPP's branches.
            activation_checkpointing: of the ASPP's branches.
        """
        super().__init__()
        self.conv0 = None if light else nn.Conv3d(width, inner, 3, padding=1)
        self.aspp = ASPP(inner, dilations, inner_norms=not light, activation_checkpointing=activation_checkpointing)
        self.conv_classes = nn.Conv3d(inner, classes, 3, padding=1)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to logits (B, classes, X, Y, Z)."""
        return self.conv_classes(self.aspp(volume if self.conv0 is None else F.relu(self.conv0(volume))))

    def stream(self, slabs: Iterable[Tensor]) -> Stream:
        """The same, slab by slab along the first spatial axis; eval only."""
        entered = slabs if self.conv0 is None else each(F.relu_, convolve(self.conv0, slabs))
        return convolve(self.conv_classes, self.aspp.stream(entered))


class CompletionHead(nn.Module):
    """Doubles the volume as often as the output grid asks, then segments it.

    In eval without gradients, both run in slabs along the first spatial axis, so that no volume of the output's resolution but the logits is
    ever held. `slab` is the number of slices of the input volume a slab (None: whole).
    """

    def __init__(
        self,
        width: int,
        inner: int,
        classes: int,
        doublings: int = 0,
        *,
        slab: int | None = 4,
        light: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            width: channels of the volume.
            inner: channels at the output's resolution.
            classes: logits a voxel.
            doublings: how often each axis is doubled (0: the volume has the output's resolution).
            slab: slices of the input a slab in eval.
            light: see `SegmentationHead`.
            activation_checkpointing: of the ASPP's branches.
        """
        super().__init__()
        self.slab = slab
        widths = [width] + [inner] * doublings
        self.up: Sequence[Upsample] = nn.ModuleList(Upsample(a, b) for a, b in pairwise(widths))  # type: ignore[assignment]
        self.segment = SegmentationHead(widths[-1], inner, classes, light=light, activation_checkpointing=activation_checkpointing)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, x, y, z) to logits (B, classes, x * 2^doublings, ...)."""
        if self.slab is not None and may_stream(self, volume):
            return gather(self.stream(cut(volume, self.slab)), volume.shape[2] * 2 ** len(self.up))
        for up in self.up:
            volume = up(volume)
        return self.segment(volume)

    def stream(self, slabs: Iterable[Tensor]) -> Stream:
        """Logits slab by slab, from the volume slab by slab; eval only."""
        for up in self.up:
            slabs = up.stream(slabs)
        return self.segment.stream(slabs)
