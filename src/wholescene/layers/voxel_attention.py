"""Layers of the voxel transformers of VoxFormer (Li et al., CVPR 2023, section 3.4) and CGFormer: voxels look at a map, or at each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from wholescene.layers.checkpoint import run
from wholescene.layers.deformable_attention import DeformableAttention, FeedForward


class PostNormLayer(nn.Module):
    """What follows an attention: residual, norm, feed-forward with residual, norm."""

    def __init__(self, attention: DeformableAttention, width: int, hidden: int, dropout: float) -> None:
        """
        Args:
            attention: of the layer.
            width: channels.
            hidden: channels inside the feed-forward.
            dropout: on the attention's result and inside the feed-forward, in training.
        """
        super().__init__()
        self.attention = attention
        self.dropout = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)

    def settle(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Tokens and what the attention made of them, both (B, N, width), to the layer's result."""
        tokens = self.norm1(tokens + self.dropout(attended))
        return self.norm2(tokens + self.feed_forward(tokens))


class PictureAttentionLayer(PostNormLayer):
    """Deformable cross-attention of voxels to a map of the picture (equation 2). No position is added: every voxel has an embedding of its own."""

    def forward(self, voxels: Tensor, references: Tensor, seen: Tensor, cells: Tensor, shape: Sequence[int]) -> Tensor:
        """
        Args:
            voxels: (1, n, width).
            references: (1, n, 2) where each falls on the map, 0 and 1 being its edges; only read where seen.
            seen: (k,) int64, which of the n voxels the picture holds; the others get the output projection's bias.
            cells: (1, h w, width) the map, row by row.
            shape: (h, w).

        Returns:
            (1, n, width).
        """
        read = self.attention.read(voxels[:, seen], references[:, seen, None], self.attention.project(cells), [shape])
        attended = torch.zeros_like(voxels).index_copy(1, seen, read.to(voxels.dtype))
        return self.settle(voxels, self.attention.output_proj(attended))


class Seats(nn.Module):
    """Learned positions of the cells of a map or a volume: one table an axis, the last axis' channels first.

    Attributes:
        shape: cells along each axis.
    """

    def __init__(self, shape: Sequence[int], width: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        axes = len(self.shape)
        widths = [width // axes + (i < width % axes) for i in range(axes)]
        self.tables = nn.ParameterList(nn.Parameter(torch.rand(n, w)) for n, w in zip(reversed(self.shape), widths, strict=True))

    def forward(self, flat: Tensor) -> Tensor:
        """(n, width) for flat indices (n,) int64 in C order."""
        return torch.cat([table[i] for table, i in zip(self.tables, self._indices(flat), strict=True)], -1)

    def references(self, flat: Tensor) -> Tensor:
        """(n, A) float32, the centres of the cells, 0 and 1 being the outer edges; the last axis comes first."""
        sizes = reversed(self.shape)
        return torch.stack([(i.float() + 0.5) / n for i, n in zip(self._indices(flat), sizes, strict=True)], -1)

    def _indices(self, flat: Tensor) -> list[Tensor]:
        found = []
        for size in reversed(self.shape):
            found.append(flat % size)
            flat = flat // size
        return found


class VoxelAttentionLayer(PostNormLayer):
    """Deformable self-attention of all voxels (equation 4).

    Where the attention has two groups, its queries are voxels beside voxels with positions (twice the width), as in the released models; else
    voxels with positions. Without gradients, queries are taken `part` at a time, so that nothing but the voxels themselves is held for all of
    them (None: whole).
    """

    part: int | None = 32768

    def forward(self, voxels: Tensor, seats: Seats) -> Tensor:
        """(B, N, width) to the same; N cells of `seats.shape` in C order."""
        projected = self.attention.project(voxels)
        flat = torch.arange(math.prod(seats.shape), device=voxels.device)
        if self.part is None or torch.is_grad_enabled():
            return self._of(voxels, projected, flat, seats)
        out: Tensor | None = None
        for some in flat.split(self.part):
            made = self._of(voxels[:, some[0] : some[-1] + 1], projected, some, seats)
            out = made.new_empty(made.shape[0], len(flat), made.shape[2]) if out is None else out
            out[:, some[0] : some[-1] + 1] = made
        assert out is not None
        return out

    def _of(self, voxels: Tensor, projected: Tensor, flat: Tensor, seats: Seats) -> Tensor:
        seated = voxels + seats(flat)
        queries = torch.cat([voxels, seated], -1) if self.attention.groups == 2 else seated
        references = seats.references(flat)[None, :, None].expand(len(voxels), -1, -1, -1)
        return self.settle(voxels, self.attention.output_proj(self.attention.read(queries, references, projected, [seats.shape])))


class VoxelTransformer(nn.Module):
    """Layers of deformable self-attention over all voxels, proposed or not, with learned positions."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        *,
        layers: int,
        heads: int,
        points: int,
        hidden: int,
        dropout: float,
        neighbours: Literal["volume", "folded"] = "volume",
        queues: int = 1,
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            shape: (X, Y, Z) voxels.
            width: channels of the volume.
            layers, heads, points: of the attention; points a head.
            hidden: channels inside the feed-forwards.
            dropout: in training.
            neighbours: who a voxel sees: its neighbours in the "volume", or in the "folded" image of the released systems.
            queues: groups of points on the same values (`DeformableAttention.groups`).
            activation_checkpointing: makes each layer's activations again in the backward pass.
        """
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        cells = folded(shape) if neighbours == "folded" else shape
        self.seats = Seats(cells, width)

        def attention() -> DeformableAttention:
            return DeformableAttention(width, heads=heads, points=points, axes=len(cells), groups=queues, query_width=queues * width)

        self.layers = nn.ModuleList(VoxelAttentionLayer(attention(), width, hidden, dropout) for _ in range(layers))

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        voxels = volume.flatten(2).transpose(1, 2)
        for layer in self.layers:
            voxels = run(layer, voxels, self.seats, recompute=self.activation_checkpointing)
        return voxels.transpose(1, 2).unflatten(2, volume.shape[2:])


def folded(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Rows and columns of the image that the released VoxFormer and CGFormer make of a volume's voxels in flat order: whole columns of voxels lie
    side by side, as many as make it most nearly square (512 x 512 for 128 x 128 x 16).

    >>> folded((128, 128, 16)), folded((16, 16, 8))
    ((512, 512), (64, 32))
    """
    X, Y, Z = shape
    side = (X * Y * Z) ** 0.5
    columns = min((Z * n for n in range(1, Y + 1) if Y % n == 0), key=lambda width: abs(width - side))
    return X * Y * Z // columns, columns
