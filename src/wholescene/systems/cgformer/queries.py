"""Context-aware voxel queries that look at the picture (CGFormer, section 3.1 and 3.3); all other voxels keep what was lifted to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wholescene.geometry.selecting import indices_of
from wholescene.layers.checkpoint import run
from wholescene.layers.depth_attention import DepthAttentionLayer, DepthDeformableAttention
from wholescene.systems.cgformer.config import GeometryConfig


class VoxelQueries(nn.Module):
    """One learned embedding a voxel, on top of the lifted context; the proposed ones attend to the map at their depth."""

    part: int | None = 32768  # voxels at a time that are filled where no gradient is recorded

    def __init__(self, config: GeometryConfig) -> None:
        super().__init__()
        width = config.features
        self.activation_checkpointing = config.activation_checkpointing
        self.embedding = nn.Parameter(torch.randn(math.prod(config.lifted_shape), width))
        self.camera_embedding = nn.Parameter(torch.randn(1, width))
        self.level_embedding = nn.Parameter(torch.randn(config.level_rows, width))
        self.layers = nn.ModuleList(self._layer(config) for _ in range(config.cross_layers))
        self.prior = nn.Sequential(
            nn.Linear(width, config.prior_width), nn.LayerNorm(config.prior_width), nn.LeakyReLU(0.01), nn.Linear(config.prior_width, width)
        )

    @staticmethod
    def _layer(config: GeometryConfig) -> DepthAttentionLayer:
        attention = DepthDeformableAttention(config.features, heads=config.heads, points=config.points)
        return DepthAttentionLayer(attention, config.features, config.feedforward, config.dropout)  # type: ignore[arg-type]  # it has what the frame asks

    def forward(self, lifted: Tensor, context: Tensor, depth: Tensor, references: Tensor, in_view: Tensor, proposals: Tensor) -> Tensor:
        """
        Args:
            lifted: (B, N, C), what lift and splat gave each voxel.
            context: (B, C, h, w) map of the picture.
            depth: (B, bins, h, w) its depth distribution.
            references: (B, N, 3), where each voxel falls on the map and among the bins, in shares of both.
            in_view: (B, N) bool.
            proposals: (B, X, Y, Z) bool, X Y Z = N in C order.

        Returns:
            (B, N, C).
        """
        cells = context.flatten(2).transpose(1, 2) + self.camera_embedding + self.level_embedding[0]
        samples = zip(lifted, cells.split(1), depth.split(1), references, in_view, proposals, strict=True)
        return torch.stack([self._complete(one, of, bins, where, seen, indices_of(voxels)) for one, of, bins, where, seen, voxels in samples])

    def _complete(self, lifted: Tensor, cells: Tensor, depth: Tensor, references: Tensor, in_view: Tensor, proposed: Tensor) -> Tensor:
        """(N, C) of one frame: every frame proposes another number of voxels."""
        voxels = (self.embedding[proposed] + lifted[proposed])[None]
        references, seen = references[proposed][None], indices_of(in_view[proposed])
        for layer in self.layers:
            voxels = run(layer, voxels, references, seen, cells, depth, recompute=self.activation_checkpointing)
        filled = self._filled(lifted)
        return filled.index_copy(0, proposed, voxels[0].to(filled.dtype))

    def _filled(self, lifted: Tensor) -> Tensor:
        if self.part is None or torch.is_grad_enabled():
            filled: Tensor = self.prior(lifted)
            return filled
        return torch.cat([self.prior(some) for some in lifted.split(self.part)])
