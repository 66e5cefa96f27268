"""Deformable attention to a picture's map at depths of its own (CGFormer, section 3.3), and the layer around it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wholescene.layers.voxel_attention import PostNormLayer
from wholescene.ops.depth_deformable import depth_aware_sampling


class DepthDeformableAttention(nn.Module):
    """Each query says where its heads look around its place on the map, at which depth, and how much each counts."""

    def __init__(self, width: int, *, heads: int = 8, points: int = 8) -> None:
        """
        Args:
            width: channels of queries, values and result, divisible by `heads`.
            heads: M.
            points: P places that a head reads.
        """
        super().__init__()
        self.heads, self.points = heads, points
        self.sampling_offsets = nn.Linear(width, heads * points * 2)
        self.sampling_offsets_depth = nn.Linear(width, heads * points)
        self.attention_weights = nn.Linear(width, heads * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self._initialise()

    def _initialise(self) -> None:
        """Every head looks in a direction of its own, every point one cell farther, all with the same weight."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        steps = torch.arange(1, self.points + 1)
        spread = (directions / directions.abs().amax(-1, keepdim=True))[:, None] * steps[:, None]
        deep = directions.mean(-1)[:, None] * steps
        for layer, bias in ((self.sampling_offsets, spread), (self.sampling_offsets_depth, deep), (self.attention_weights, torch.zeros_like(deep))):
            nn.init.zeros_(layer.weight)
            with torch.no_grad():
                layer.bias.copy_(bias.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def project(self, value: Tensor) -> Tensor:
        """Values (B, S, width) as the heads read them, (B, S, M, width / M)."""
        return self.value_proj(value).unflatten(-1, (self.heads, -1))

    def read(self, queries: Tensor, references: Tensor, projected: Tensor, depth: Tensor) -> Tensor:
        """What the heads read, before the output projection.

        Args:
            queries: (B, Q, width).
            references: (B, Q, 3) place of each on the map and among the bins, 0 and 1 being their outer edges.
            projected: (B, h w, M, width / M).
            depth: (B, bins, h, w).

        Returns:
            (B, Q, width).
        """
        M, P = self.heads, self.points
        flat = self.sampling_offsets(queries).unflatten(-1, (M, P, 2))  # in cells
        deep = self.sampling_offsets_depth(queries).unflatten(-1, (M, P, 1))  # in bins
        weights = self.attention_weights(queries).unflatten(-1, (M, P)).softmax(-1)
        _, bins, rows, columns = depth.shape
        sizes = torch.tensor((columns, rows, bins), dtype=references.dtype, device=references.device)
        locations = references[:, :, None, None] + torch.cat([flat, deep], -1) / sizes
        return depth_aware_sampling(projected, depth, locations, weights).flatten(2)


class DepthAttentionLayer(PostNormLayer):
    """Cross-attention of voxels to the picture at their depth, residual, norm, feed-forward, norm."""

    part: int | None = 32768  # queries at a time where no gradient is recorded
    attention: DepthDeformableAttention  # type: ignore[assignment]  # the post-norm frame is the same for both kinds

    def forward(self, voxels: Tensor, references: Tensor, seen: Tensor, cells: Tensor, depth: Tensor) -> Tensor:
        """
        Args:
            voxels: (1, n, width).
            references: (1, n, 3), see `DepthDeformableAttention.read`; only read where seen.
            seen: (k,) int64, which of the n voxels the picture holds; the others get the output projection's bias.
            cells: (1, h w, width) the map, row by row.
            depth: (1, bins, h, w).

        Returns:
            (1, n, width).
        """
        projected = self.attention.project(cells)
        parts = [seen] if self.part is None or torch.is_grad_enabled() else list(seen.split(self.part)) or [seen]
        read = [self.attention.read(voxels[:, some], references[:, some], projected, depth) for some in parts]
        attended = torch.zeros_like(voxels).index_copy(1, seen, torch.cat(read, 1).to(voxels.dtype))
        return self.settle(voxels, self.attention.output_proj(attended))
