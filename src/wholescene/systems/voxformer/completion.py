"""VoxFormer's 3D half: all voxels look at each other, then every voxel of the output grid gets its class (sections 3.4 and 3.5)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.checkpoint import run
from wholescene.layers.slabs import gather, may_stream
from wholescene.layers.voxel_attention import VoxelTransformer
from wholescene.structures import Batch, Completed, Lifted
from wholescene.systems.halves import check_grid
from wholescene.systems.voxformer.config import VoxFormerConfig


class VoxelClassifier(nn.Module):
    """Layer norm and a linear layer, of slices that are enlarged along the last two axes first."""

    def __init__(self, width: int, classes: int, factor: int, align_corners: bool) -> None:
        super().__init__()
        self.factor, self.align_corners = factor, align_corners
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, slab: Tensor) -> Tensor:
        """(B, n, y, z, C) to logits (B, K, n, factor * y, factor * z)."""
        for axis in (2, 3):
            slab = enlarged(slab, axis, self.factor, self.align_corners)
        logits: Tensor = self.linear(self.norm(slab))
        return logits.movedim(-1, 1)


class EnlargedHead(nn.Module):
    """Trilinear enlargement to the output grid, then a class for every voxel, in slabs: the enlarged volume (1 GiB at full size) is never held."""

    slab = 1  # slices of the output at a time: on a CPU they stay in its cache
    large_slab = 16  # with gradients and on other devices

    def __init__(self, config: VoxFormerConfig) -> None:
        super().__init__()
        self.factor, self.align_corners = config.lift_factor, config.align_corners
        self.activation_checkpointing = config.activation_checkpointing
        self.classifier = VoxelClassifier(config.features, config.classes, self.factor, self.align_corners)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, x, y, z) to logits (B, K, factor * x, factor * y, factor * z)."""
        slabs = self._slabs(volume.movedim(1, -1), self.slab if may_stream(self, volume) else self.large_slab)
        return torch.cat(list(slabs), 2) if torch.is_grad_enabled() else gather(slabs, volume.shape[2] * self.factor)

    def _slabs(self, volume: Tensor, slices: int) -> Iterator[Tensor]:
        """Logits so many slices of the output's first axis at a time, from (B, x, y, z, C)."""
        for start in range(0, volume.shape[1] * self.factor, slices):
            slab = enlarged(volume, 1, self.factor, self.align_corners, slice(start, start + slices))
            yield run(self.classifier, slab, recompute=self.activation_checkpointing)


def enlarged(values: Tensor, axis: int, factor: int, align_corners: bool, part: slice = slice(None)) -> Tensor:
    """Linear interpolation along one axis to `factor` times its length, as `F.interpolate` does it; or a part of the result."""
    if factor == 1:
        return values[(slice(None),) * axis + (part,)]
    index = torch.arange(values.shape[axis], dtype=torch.float64)[None, None]  # interpolating the indices themselves gives the places
    places = F.interpolate(index, scale_factor=factor, mode="linear", align_corners=align_corners)[0, 0, part]
    below = places.floor().clamp(max=values.shape[axis] - 1)
    above = (below + 1).clamp(max=values.shape[axis] - 1)
    share = (places - below).to(values.device, values.dtype).view(-1, *(1,) * (values.dim() - axis - 1))
    below, above = (i.long().to(values.device) for i in (below, above))
    return torch.lerp(values.index_select(axis, below), values.index_select(axis, above), share)


class VoxelCompletion(nn.Module):
    """Self-attention, then the head."""

    def __init__(self, config: VoxFormerConfig) -> None:
        super().__init__()
        self.shape = config.grid.shape
        self.volume_net = VoxelTransformer(
            config.lifted_shape, config.features, layers=config.self_layers, heads=config.heads, points=config.points, hidden=config.feedforward,
            dropout=config.dropout, neighbours=config.neighbours, queues=config.queues, activation_checkpointing=config.activation_checkpointing,
        )  # fmt: skip
        self.head = EnlargedHead(config)

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z).

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        check_grid(batch, self.shape)
        assert lifted.volume is not None
        volume = self.volume_net(lifted.volume)
        return Completed(volume, lifted.grid, self.head(volume))
