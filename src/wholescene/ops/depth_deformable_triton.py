"""Depth-aware deformable sampling on a GPU in one pass each way. See `ops.depth_deformable` for the formula.

One program serves a block of queries of one head; the corners are those of `ops.deformable_triton`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from wholescene.ops.deformable_triton import _corner

_QUERIES = 32  # of one program


def forward(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """(B, Q, M, D). Arguments as `ops.depth_deformable.reference`, on a GPU (or anywhere in Triton's interpreter)."""
    value, depth, locations, weights = (t.contiguous() for t in (value, depth, locations, weights))
    out = value.new_zeros(*locations.shape[:3], value.shape[3])
    if out.numel():
        _forward[_programs(locations)](value, depth, locations, weights, out, *_numbers(value, depth, locations), **_fixed(value, locations))
    return out


def backward(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor, to_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients for value, depth, locations and weights, given that (B, Q, M, D) for the output."""
    given = tuple(t.contiguous() for t in (value, depth, locations, weights))
    made = torch.zeros_like(given[0]), torch.zeros_like(given[1]), torch.zeros_like(given[2]), torch.zeros_like(given[3])
    if to_out.numel():
        numbers = _numbers(value, depth, locations)
        _backward[_programs(locations)](*given, to_out.contiguous(), *made, *numbers, **_fixed(value, locations))
    return made


def _programs(locations: Tensor) -> tuple[int, int]:
    B, Q, M = locations.shape[:3]
    return triton.cdiv(Q, _QUERIES), B * M


def _numbers(value: Tensor, depth: Tensor, locations: Tensor) -> tuple[int, ...]:
    return locations.shape[1], value.shape[2], value.shape[3], *depth.shape[1:]


def _fixed(value: Tensor, locations: Tensor) -> dict[str, int]:
    return {"P": locations.shape[3], "QUERIES": _QUERIES, "CHANNELS": triton.next_power_of_2(value.shape[3])}


@triton.jit  # type: ignore[untyped-decorator]
def _place(at, axis, cells, locations, mask):  # type: ignore[no-untyped-def]
    """The cell below a place along one coordinate, as a float, and how far above that cell's centre the place lies."""
    place = tl.load(locations + at * 3 + axis, mask=mask, other=-2.0) * cells - 0.5
    below = tl.floor(place)
    return below, place - below


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    value, depth, locations, weights, out, Q, M, D, bins, rows, columns,
    P: tl.constexpr, QUERIES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    b, m = (tl.program_id(1) // M).to(tl.int64), tl.program_id(1) % M
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channel = tl.arange(0, CHANNELS)
    real, held = query < Q, channel < D
    line, plane = (b * Q + query) * M + m, rows * columns
    total = tl.zeros((QUERIES, CHANNELS), dtype=out.dtype.element_ty)
    for point in range(P):
        at = line * P + point
        weight = tl.load(weights + at, mask=real, other=0.0)
        x, fx = _place(at, 0, columns, locations, real)
        y, fy = _place(at, 1, rows, locations, real)
        z, fz = _place(at, 2, bins, locations, real)
        for corner in tl.static_range(4):
            in_x, cell, share_x = _corner(columns, x, fx, corner & 1)
            in_y, row, share_y = _corner(rows, y, fy, corner >> 1)
            inside, cell = in_x & in_y & real, cell + row * columns
            score = share_x * 0
            for farther in tl.static_range(2):
                in_z, bin, share_z = _corner(bins, z, fz, farther)
                mass = tl.load(depth + (b * bins + bin) * plane + cell, mask=inside & in_z, other=0.0)
                score += mass * share_z
            first = ((b * plane + cell) * M + m) * D
            read = tl.load(value + first[:, None] + channel[None, :], mask=inside[:, None] & held[None, :], other=0.0)
            total += (weight * share_x * share_y * score)[:, None] * read
    tl.store(out + line[:, None] * D + channel[None, :], total, mask=real[:, None] & held[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    value, depth, locations, weights, to_out, to_value, to_depth, to_locations, to_weights, Q, M, D, bins, rows, columns,
    P: tl.constexpr, QUERIES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    b, m = (tl.program_id(1) // M).to(tl.int64), tl.program_id(1) % M
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channel = tl.arange(0, CHANNELS)
    real, held = query < Q, channel < D
    line, plane = (b * Q + query) * M + m, rows * columns
    slope = tl.load(to_out + line[:, None] * D + channel[None, :], mask=real[:, None] & held[None, :], other=0.0)
    for point in range(P):
        at = line * P + point
        weight = tl.load(weights + at, mask=real, other=0.0)
        x, fx = _place(at, 0, columns, locations, real)
        y, fy = _place(at, 1, rows, locations, real)
        z, fz = _place(at, 2, bins, locations, real)
        to_weight = tl.zeros((QUERIES,), dtype=slope.dtype)
        to_x = tl.zeros((QUERIES,), dtype=slope.dtype)
        to_y = tl.zeros((QUERIES,), dtype=slope.dtype)
        to_z = tl.zeros((QUERIES,), dtype=slope.dtype)
        for corner in tl.static_range(4):
            in_x, cell, share_x = _corner(columns, x, fx, corner & 1)
            in_y, row, share_y = _corner(rows, y, fy, corner >> 1)
            inside, cell = in_x & in_y & real, cell + row * columns
            near = share_x * share_y
            first = ((b * plane + cell) * M + m) * D
            mask = inside[:, None] & held[None, :]
            met = tl.sum(tl.load(value + first[:, None] + channel[None, :], mask=mask, other=0.0) * slope, axis=1)  # zero outside
            score, steep = share_x * 0, share_x * 0
            for farther in tl.static_range(2):
                in_z, bin, share_z = _corner(bins, z, fz, farther)
                where = (b * bins + bin) * plane + cell
                mass = tl.load(depth + where, mask=inside & in_z, other=0.0)
                score += mass * share_z
                steep += mass * (2 * farther - 1)
                tl.atomic_add(to_depth + where, weight * near * share_z * met, mask=inside & in_z)
            tl.atomic_add(to_value + first[:, None] + channel[None, :], (weight * near * score)[:, None] * slope, mask=mask)
            to_weight += near * score * met
            to_x += (2 * (corner & 1) - 1) * share_y * score * met
            to_y += (2 * (corner >> 1) - 1) * share_x * score * met
            to_z += near * steep * met
        tl.store(to_weights + at, to_weight, mask=real)
        tl.store(to_locations + at * 3, weight * to_x * columns, mask=real)
        tl.store(to_locations + at * 3 + 1, weight * to_y * rows, mask=real)
        tl.store(to_locations + at * 3 + 2, weight * to_z * bins, mask=real)
