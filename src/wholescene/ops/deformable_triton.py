"""Deformable sampling on a GPU in one pass each way: no read place is ever written to memory. See `ops.deformable` for the formula.

One program serves a block of queries of one head and walks over levels, points and corners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

Shapes = Sequence[Sequence[int]]
_QUERIES = 32  # of one program


def forward(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """(B, Q, M, D). Arguments as `ops.deformable.reference`, on a GPU (or anywhere in Triton's interpreter)."""
    value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
    out = value.new_zeros(*locations.shape[:3], value.shape[3])
    if out.numel():
        tables, numbers = _tables(shapes, value.device), _numbers(value, locations)
        _forward[_programs(locations)](value, *tables, locations, weights, out, *numbers, **_fixed(value, locations))
    return out


def backward(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, to_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for value, locations and weights, given that (B, Q, M, D) for the output."""
    value, locations, weights, to_out = (t.contiguous() for t in (value, locations, weights, to_out))
    made = torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
    if to_out.numel():
        tables, numbers = _tables(shapes, value.device), _numbers(value, locations)
        _backward[_programs(locations)](value, *tables, locations, weights, to_out, *made, *numbers, **_fixed(value, locations))
    return made


def _programs(locations: Tensor) -> tuple[int, int]:
    B, Q, M = locations.shape[:3]
    return triton.cdiv(Q, _QUERIES), B * M


def _tables(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    """(L, A) cells along each coordinate (the map's last axis first), (L,) the first cell of each level."""
    cells = [math.prod(s) for s in shapes]
    starts = [sum(cells[:level]) for level in range(len(cells))]
    return torch.tensor([list(reversed(s)) for s in shapes], dtype=torch.int32, device=device), torch.tensor(starts, dtype=torch.int64, device=device)


def _numbers(value: Tensor, locations: Tensor) -> tuple[int, int, int, int]:
    return value.shape[1], locations.shape[1], value.shape[2], value.shape[3]


def _fixed(value: Tensor, locations: Tensor) -> dict[str, int]:
    L, P, A = locations.shape[3:]
    return {"L": L, "P": P, "A": A, "QUERIES": _QUERIES, "CHANNELS": triton.next_power_of_2(value.shape[3])}


@triton.jit  # type: ignore[untyped-decorator]
def _cell(at, axis, sizes, level, locations, mask, A: tl.constexpr):  # type: ignore[no-untyped-def]
    """Along one coordinate: cells of the level, the cell below the place as a float, and how far above that cell's centre the place lies."""
    n = tl.load(sizes + level * A + axis)
    place = tl.load(locations + at * A + axis, mask=mask, other=-2.0) * n - 0.5
    below = tl.floor(place)
    return n, below, place - below


@triton.jit  # type: ignore[untyped-decorator]
def _corner(n, below, share, UP: tl.constexpr):  # type: ignore[no-untyped-def]
    """One side along one coordinate: whether it lies in the map, its cell, and its share. What is no number lies nowhere."""
    cell = below + UP
    inside = (cell >= 0) & (cell <= n - 1)
    return inside, tl.where(inside, cell, 0).to(tl.int64), tl.where(inside, share if UP else 1 - share, 0)


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    value, sizes, starts, locations, weights, out, S, Q, M, D,
    L: tl.constexpr, P: tl.constexpr, A: tl.constexpr, QUERIES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    b, m = (tl.program_id(1) // M).to(tl.int64), tl.program_id(1) % M
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channel = tl.arange(0, CHANNELS)
    real, held = query < Q, channel < D
    line = (b * Q + query) * M + m
    total = tl.zeros((QUERIES, CHANNELS), dtype=out.dtype.element_ty)
    for level in range(L):
        start = tl.load(starts + level)
        for point in range(P):
            at = (line * L + level) * P + point
            weight = tl.load(weights + at, mask=real, other=0.0)
            nx, x, fx = _cell(at, 0, sizes, level, locations, real, A)
            ny, y, fy = _cell(at, 1, sizes, level, locations, real, A)
            nz, z, fz = nx, x, fx
            if A == 3:
                nz, z, fz = _cell(at, 2, sizes, level, locations, real, A)
            for corner in tl.static_range(1 << A):
                in_x, cell, share = _corner(nx, x, fx, corner & 1)
                in_y, row, share_y = _corner(ny, y, fy, (corner >> 1) & 1)
                inside, cell, share = in_x & in_y & real, cell + row * nx, share * share_y
                if A == 3:
                    in_z, layer, share_z = _corner(nz, z, fz, (corner >> 2) & 1)
                    inside, cell, share = inside & in_z, cell + layer * nx * ny, share * share_z
                rows = ((b * S + start + cell) * M + m) * D
                read = tl.load(value + rows[:, None] + channel[None, :], mask=inside[:, None] & held[None, :], other=0.0)
                total += (weight * share)[:, None] * read
    tl.store(out + line[:, None] * D + channel[None, :], total, mask=real[:, None] & held[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    value, sizes, starts, locations, weights, to_out, to_value, to_locations, to_weights, S, Q, M, D,
    L: tl.constexpr, P: tl.constexpr, A: tl.constexpr, QUERIES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    b, m = (tl.program_id(1) // M).to(tl.int64), tl.program_id(1) % M
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channel = tl.arange(0, CHANNELS)
    real, held = query < Q, channel < D
    line = (b * Q + query) * M + m
    slope = tl.load(to_out + line[:, None] * D + channel[None, :], mask=real[:, None] & held[None, :], other=0.0)
    for level in range(L):
        start = tl.load(starts + level)
        for point in range(P):
            at = (line * L + level) * P + point
            weight = tl.load(weights + at, mask=real, other=0.0)
            nx, x, fx = _cell(at, 0, sizes, level, locations, real, A)
            ny, y, fy = _cell(at, 1, sizes, level, locations, real, A)
            nz, z, fz = nx, x, fx
            if A == 3:
                nz, z, fz = _cell(at, 2, sizes, level, locations, real, A)
            to_weight = tl.zeros((QUERIES,), dtype=slope.dtype)
            to_x = tl.zeros((QUERIES,), dtype=slope.dtype)
            to_y = tl.zeros((QUERIES,), dtype=slope.dtype)
            to_z = tl.zeros((QUERIES,), dtype=slope.dtype)
            for corner in tl.static_range(1 << A):
                in_x, cell, share_x = _corner(nx, x, fx, corner & 1)
                in_y, row, share_y = _corner(ny, y, fy, (corner >> 1) & 1)
                inside, cell = in_x & in_y & real, cell + row * nx
                share_z = share_x * 0 + 1
                if A == 3:
                    in_z, layer, share_z = _corner(nz, z, fz, (corner >> 2) & 1)
                    inside, cell = inside & in_z, cell + layer * nx * ny
                rows = ((b * S + start + cell) * M + m) * D
                mask = inside[:, None] & held[None, :]
                read = tl.load(value + rows[:, None] + channel[None, :], mask=mask, other=0.0)
                met = tl.sum(read * slope, axis=1)  # zero outside
                share = share_x * share_y * share_z
                tl.atomic_add(to_value + rows[:, None] + channel[None, :], (weight * share)[:, None] * slope, mask=mask)
                to_weight += share * met
                to_x += (2 * (corner & 1) - 1) * share_y * share_z * met
                to_y += (2 * ((corner >> 1) & 1) - 1) * share_x * share_z * met
                if A == 3:
                    to_z += (2 * ((corner >> 2) & 1) - 1) * share_x * share_y * met
            tl.store(to_weights + at, to_weight, mask=real)
            tl.store(to_locations + at * A, weight * to_x * nx, mask=real)
            tl.store(to_locations + at * A + 1, weight * to_y * ny, mask=real)
            if A == 3:
                tl.store(to_locations + at * A + 2, weight * to_z * nz, mask=real)
