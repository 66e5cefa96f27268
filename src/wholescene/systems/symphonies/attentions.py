"""Symphonies' attentions: deformable ones to the picture's maps or to the scene, and dense ones among instances (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from wholescene.layers.deformable_attention import DeformableAttention, FeedForward
from wholescene.ops.deformable import Shapes


class DeformableLayer(nn.Module):
    """Norm, deformable attention, residual; and a feed-forward of its own where wanted (equation 4)."""

    def __init__(self, attention: DeformableAttention, width: int, hidden: int | None, dropout: float, *, doubled_residual: bool = False) -> None:
        """
        Args:
            attention: to the maps or to the scene.
            width: channels.
            hidden: channels inside the feed-forward; None: there is none.
            dropout: on the attention's result, in training.
            doubled_residual: the normalised tokens are added too (a quirk of the released models).
        """
        super().__init__()
        self.doubled_residual = doubled_residual
        self.norm1 = nn.LayerNorm(width)
        self.attention = attention
        self.dropout = nn.Dropout(dropout)
        if hidden is not None:
            self.norm2 = nn.LayerNorm(width)
            self.feed_forward: FeedForward | None = FeedForward(width, hidden, activation=nn.GELU)
        else:
            self.feed_forward = None

    def forward(self, tokens: Tensor, references: Tensor, projected: Tensor, shapes: Shapes, positions: Tensor | None = None) -> Tensor:
        """
        Args:
            tokens: (B, n, C).
            references: (B, n, L or 1, A) where each stands on the maps.
            projected: (B, S, M, C / M), values as `attention.project` makes them.
            shapes: of the maps.
            positions: (B, n, C), for the queries alone.

        Returns:
            (B, n, C).
        """
        normed = self.norm1(tokens)
        queries = normed if positions is None else normed + positions
        attended = self.dropout(self.attention.output_proj(self.attention.read(queries, references, projected, shapes)))
        tokens = tokens + (attended + normed if self.doubled_residual else attended)
        return tokens if self.feed_forward is None else tokens + self.feed_forward(self.norm2(tokens))


class DenseLayer(nn.Module):
    """Norm, multi-head attention, residual; and a feed-forward of its own where wanted."""

    def __init__(self, width: int, heads: int, hidden: int | None, *, crosses: bool, normalised_keys: bool) -> None:
        """
        Args:
            width: channels.
            heads: of the attention.
            hidden: channels inside the feed-forward; None: there is none.
            crosses: keys and values come from other tokens.
            normalised_keys: they are normalised, as queries are.
        """
        super().__init__()
        self.normalised_keys = normalised_keys
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        if crosses and normalised_keys:
            self.norm_keys = nn.LayerNorm(width)
        if hidden is not None:
            self.norm2 = nn.LayerNorm(width)
            self.feed_forward: FeedForward | None = FeedForward(width, hidden, activation=nn.GELU)
        else:
            self.feed_forward = None

    def keys_of(self, others: Tensor) -> Tensor:
        """Other tokens (B, m, C) as keys and values."""
        return self.norm_keys(others) if self.normalised_keys else others

    def forward(self, tokens: Tensor, keys: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """
        Args:
            tokens: (B, n, C).
            keys: (B, m, C), what `keys_of` made; None: the tokens themselves.
            positions: (B, n, C), for the queries alone.

        Returns:
            (B, n, C).
        """
        normed = self.norm1(tokens)
        if keys is None:
            keys = normed if self.normalised_keys else tokens
        queries = normed if positions is None else normed + positions
        tokens = tokens + self.attention(queries, keys, keys, need_weights=False)[0]
        return tokens if self.feed_forward is None else tokens + self.feed_forward(self.norm2(tokens))


class SceneLayout:
    """How deformable attention reads the scene: as the volume that it is, or as the map that released code makes of it.

    Attributes:
        axes: of what is read, 3 or 2.
        shapes: its one shape.
    """

    def __init__(self, shape: Sequence[int], up: int, kind: Literal["volume", "squeezed", "released"]) -> None:
        """
        Args:
            shape: (X, Y, Z) of the scene.
            up: the array axis along the vertical.
            kind: `scene_sampling` of the configuration.
        """
        self.shape, self.kind = tuple(shape), kind
        first, second = (axis for axis in range(3) if axis != up)
        self.order = (first, up, second)
        self.axes = 3 if kind == "volume" else 2
        rows = self.shape[first] * self.shape[up]
        self.shapes: Shapes = [self.shape] if kind == "volume" else [(rows, self.shape[second])]
        self.slabs = self.shape[up] if kind == "released" else self.shape[first]

    def arrange(self, projected: Tensor) -> Tensor:
        """(B, N, ...) values of the voxels in C order of the scene, in the order in which they are read."""
        if self.kind == "volume":
            return projected
        whole = projected.unflatten(1, self.shape)
        return whole.movedim([1 + axis for axis in self.order], [1, 2, 3]).flatten(1, 3)

    def references(self, seats: Tensor) -> Tensor:
        """Shares (..., 3) of the scene along its array axes to references (..., 1, axes), the last axis first."""
        if self.kind == "volume":
            return seats.flip(-1)[..., None, :]
        first, up, second = (seats[..., axis] for axis in self.order)
        row = first + (up - 0.5) / self.slabs
        return torch.stack([second, row], -1)[..., None, :]
