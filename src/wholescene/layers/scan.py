"""Masked attention along one axis of a volume: the Scan Block of ScanSSC (Bae, Ha and Kim, CVPR 2025, section 3.3, equation 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Order = Literal["first-to-last", "last-to-first", "centre-to-sides", "sides-to-centre"]
_MOST_SEQUENCES = 2**15  # at a time: torch's attention on a GPU refuses dropout for more than 65,535, four volumes of 128 x 128 columns


def ranks(length: int, order: Order) -> Tensor:
    """(length,) int64: how far along the scan each position of an axis lies; the positions where the scan begins have rank 0.

    >>> [ranks(5, order).tolist() for order in ("last-to-first", "centre-to-sides", "sides-to-centre")]
    [[4, 3, 2, 1, 0], [2, 1, 0, 1, 2], [0, 1, 2, 1, 0]]
    """
    ahead = torch.arange(length)
    inward = torch.minimum(ahead, ahead.flip(0))  # steps from the nearer side
    return {"first-to-last": ahead, "last-to-first": ahead.flip(0), "centre-to-sides": inward.max() - inward, "sides-to-centre": inward}[order]


def margin_region(length: int, order: Order, margin: float) -> Tensor:
    """(length,) bool: the positions that all others may attend to, a share of the axis counted from where the scan begins.

    From the centre, half of the share lies on each side of it (figure 3: 25 % to each side). Where the share is no whole number of positions it is
    rounded as the paper's pseudocode does: down on one-sided axes, and so that the sides outside of a central region have the rounded-down length.
    """
    rank = ranks(length, order)
    if order == "centre-to-sides":
        return rank <= int(rank.max()) - _whole(length * (1 - margin) / 2)
    return rank < _whole(length * margin / (2 if order == "sides-to-centre" else 1)) if margin < 1 else torch.ones(length, dtype=torch.bool)


def scan_mask(length: int, order: Order, margin: float) -> Tensor:
    """(length, length) bool, rows queries and columns keys: True where a position may attend to another; the near-to-far cascading mask.

    A position attends to itself, to those before it in the scan, to those level with it, and to the margin region.
    """
    rank = ranks(length, order)
    return (rank[None, :] <= rank[:, None]) | margin_region(length, order, margin)[None, :]


def _whole(number: float) -> int:
    return int(number + 1e-9)  # a share such as 0.29 of 100 is 28.999... in binary


class AxisCodes(nn.Module):
    """Learned codes of voxels' coordinates: one table for each of some axes, whose rows stand one after another in a voxel's channels.

    Attributes:
        axes: of the volume, in the order of the channels.
    """

    def __init__(self, axes: Sequence[int], rows: Sequence[int], width: int) -> None:
        """
        Args:
            axes: among 0, 1, 2.
            rows: of each table, at least the voxels along its axis.
            width: channels in all.
        """
        super().__init__()
        self.axes = tuple(axes)
        widths = [width // len(axes) + (i < width % len(axes)) for i in range(len(axes))]
        self.tables = nn.ParameterList(nn.Parameter(torch.rand(n, w)) for n, w in zip(rows, widths, strict=True))

    def forward(self, shape: Sequence[int], axis: int, part: slice) -> Tensor:
        """(x, y, z, width): the codes of a slab of a volume of `shape` (X, Y, Z), the slices `part` of `axis`."""
        sizes = [len(range(*part.indices(n))) if a == axis else n for a, n in enumerate(shape)]
        spread = []
        for own, table in zip(self.axes, self.tables, strict=True):
            rows = table[: shape[own]][part if own == axis else slice(None)]
            spread.append(rows.view(*(n if a == own else 1 for a, n in enumerate(sizes)), -1).expand(*sizes, -1))
        return torch.cat(spread, -1)


class AxisAttention(nn.Module):
    """Masked self-attention of sequences (MaskedSA), with several heads and one mask; codes are added to queries and keys, not to values."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, codes: Tensor | None, allowed: Tensor) -> Tensor:
        """
        Args:
            tokens: (B, N, L, C).
            codes: (N, L, C) or None.
            allowed: (L, L) bool, rows queries; the same for every sequence and head.

        Returns:
            (B, N, L, C).
        """
        width = tokens.shape[-1]
        if codes is None:
            query, key, value = self.in_proj(tokens).split(width, -1)
        else:
            weight, bias = self.in_proj.weight, self.in_proj.bias
            query, key = F.linear(tokens + codes, weight[: 2 * width], bias[: 2 * width]).split(width, -1)
            value = F.linear(tokens, weight[2 * width :], bias[2 * width :])
        query, key, value = (t.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))  # (B N, heads, L, d)
        dropout = self.dropout if self.training else 0.0
        parts = zip(*(t.split(_MOST_SEQUENCES) for t in (query, key, value)), strict=True)
        made = [F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout) for q, k, v in parts]
        mixed = made[0] if len(made) == 1 else torch.cat(made)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)).view(tokens.shape)


class ScanBlock(nn.Module):
    """One pre-norm transformer layer along an axis of a volume, masked so that each voxel sees what lies before it in the scan (equation 3).

    Attributes:
        axis: of the volume.
        order: from where to where the scan goes.
        margin: share of the axis that every voxel sees.
        part: voxels worked through at a time where no gradient is recorded; None: all.
    """

    part: int | None = 2**14

    def __init__(
        self, axis: int, width: int, hidden: int, heads: int, *, order: Order = "first-to-last", margin: float = 0.0, dropout: float = 0.0
    ) -> None:
        """
        Args:
            axis: 0, 1 or 2.
            width: channels, divisible by `heads`.
            hidden: channels inside the feed-forward.
            heads: of the attention.
            order, margin: of the mask.
            dropout: on attention weights, on the attention's result and on the feed-forward's, in training.
        """
        super().__init__()
        self.axis, self.order, self.margin = axis, order, margin
        self.norm1 = nn.LayerNorm(width)
        self.attention = AxisAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, volume: Tensor, codes: AxisCodes | None = None) -> Tensor:
        """(B, C, X, Y, Z) to the same, contiguous where no gradient is recorded."""
        allowed = scan_mask(volume.shape[2 + self.axis], self.order, self.margin).to(volume.device)
        if torch.is_grad_enabled():
            return self._slab(volume, self._codes(codes, volume, slice(None)), allowed)
        out: Tensor | None = None
        for part in self._parts(volume):
            made = self._slab(volume[self._place(part)], self._codes(codes, volume, part), allowed)
            out = made.new_empty(volume.shape) if out is None else out
            out[self._place(part)] = made
        assert out is not None
        return out

    @property
    def _across(self) -> int:
        """The axis that slabs are cut along."""
        return 1 if self.axis == 0 else 0

    def _parts(self, volume: Tensor) -> Iterator[slice]:
        slices = volume.shape[2 + self._across]
        step = slices if self.part is None else max(1, self.part * slices * volume.shape[1] // max(1, volume.numel()))
        for start in range(0, slices, step):
            yield slice(start, min(start + step, slices))

    def _place(self, part: slice) -> tuple[slice, ...]:
        return (*(slice(None),) * (2 + self._across), part)

    def _codes(self, codes: AxisCodes | None, volume: Tensor, part: slice) -> Tensor | None:
        return None if codes is None else codes(volume.shape[2:], self._across, part).movedim(self.axis, 2).flatten(0, 1)

    def _slab(self, slab: Tensor, codes: Tensor | None, allowed: Tensor) -> Tensor:
        """(B, C, x, y, z) to the same, whole along the block's axis; codes (N, L, C) of its N sequences."""
        rows = slab.movedim(1, -1).movedim(1 + self.axis, 3)  # (B, p, q, L, C)
        tokens = rows.flatten(1, 2)
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens), codes, allowed))
        tokens = tokens + self.dropout(self.narrow(F.relu(self.widen(self.norm2(tokens)))))
        return tokens.view(rows.shape).movedim(3, 1 + self.axis).movedim(-1, 1)
