"""Multi-scale deformable attention (Zhu et al., Deformable DETR, ICLR 2021) as VoxFormer, Symphonies and their family use it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wholescene.ops.deformable import Shapes, deformable_sampling


class DeformableAttention(nn.Module):
    """Each query says where its heads look around its reference point, and how much each place counts (equation 3)."""

    def __init__(
        self, width: int, *, heads: int = 8, levels: int = 1, points: int = 4, axes: int = 2, query_width: int | None = None, groups: int = 1
    ) -> None:
        """
        Args:
            width: channels of values and result, divisible by `heads`.
            heads: M.
            levels: L maps.
            points: P places that a head reads on each map.
            axes: of the maps, 2 or 3.
            query_width: channels of the queries; None: `width`.
            groups: the places of a head come in so many groups with a softmax each, whose results are averaged. 2 is what is left of
                BEVFormer's attention to the present and the past where both are the same (a quirk of VoxFormer and CGFormer).
        """
        super().__init__()
        self.heads, self.levels, self.points, self.axes, self.groups = heads, levels, points, axes, groups
        reads = heads * groups * levels * points
        query_width = query_width or width
        self.sampling_offsets = nn.Linear(query_width, reads * axes)
        self.attention_weights = nn.Linear(query_width, reads)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self._initialise()

    def _initialise(self) -> None:
        """Every head looks in a direction of its own, every point one cell farther, all with the same weight (appendix A.4)."""
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin(), (2 * angles).cos()], -1)[:, : self.axes]
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)
        spread = directions[:, None, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(spread.expand(-1, self.groups, self.levels, -1, -1).flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, references: Tensor, value: Tensor, shapes: Shapes) -> Tensor:
        """
        Args:
            queries: (B, Q, query_width), positions added where there are any.
            references: (B, Q, L or 1, A) where each query stands on each map: 0 and 1 are its outer edges, its last axis comes first (x, y).
            value: (B, S, width), the cells of all maps one after another.
            shapes: L shapes of A axes; their products sum to S.

        Returns:
            (B, Q, width).
        """
        return self.output_proj(self.read(queries, references, self.project(value), shapes))

    def project(self, value: Tensor) -> Tensor:
        """Values (B, S, width) as the heads read them, (B, S, M, width / M)."""
        return self.value_proj(value).unflatten(-1, (self.heads, -1))

    def read(self, queries: Tensor, references: Tensor, projected: Tensor, shapes: Shapes) -> Tensor:
        """What the heads read from projected values, (B, Q, width), before the output projection. Arguments as `forward`."""
        return deformable_sampling(projected, shapes, *self.places(queries, references, shapes)).flatten(2)

    def places(self, queries: Tensor, references: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """Where the heads look (B, Q, M, L, P, A), as `deformable_sampling` takes it, and how much each place counts (B, Q, M, L, P); arguments as
        `forward`. P is the number of points of all groups."""
        M, G, L, P, A = self.heads, self.groups, self.levels, self.points, self.axes
        offsets = self.sampling_offsets(queries).unflatten(-1, (M, G, L, P, A))  # in cells
        offsets = offsets.transpose(3, 4).flatten(4, 5)  # (B, Q, M, L, G P, A)
        weights = self.attention_weights(queries).unflatten(-1, (M, G, L * P)).softmax(-1).unflatten(-1, (L, P))
        weights = weights.transpose(3, 4).flatten(4, 5)  # (B, Q, M, L, G P)
        if G > 1:
            weights = weights / G
        cells = torch.tensor([tuple(reversed(tuple(s))) for s in shapes], dtype=references.dtype, device=references.device)
        locations = references[:, :, None, :, None] + offsets / cells[:, None]
        return locations, weights


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, and dropout after each where asked for; no residual."""

    def __init__(self, width: int, hidden: int, *, dropout: float = 0.0, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.activation = activation()
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) to the same."""
        return self.dropout(self.narrow(self.dropout(self.activation(self.widen(tokens)))))
