"""Sparse convolution on a GPU in one pass each way: neighbours are read where they lie, so nothing is gathered into memory. See `ops.sparse_conv`.

A program makes a tile of output rows by output channels and walks over the kernel's offsets; an offset at which none of its rows has a neighbour is
skipped. The gradient of the weights is summed over parts of the rows, then over the parts, in a fixed order: no atomic addition.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from wholescene.ops.neighbours import Links
from wholescene.ops.products import float32_products

_ROWS, _CHANNELS = 64, 64  # of a tile, at most
_MOST_PARTS = 64


def forward(features: Tensor, by_offset: Tensor, links: Links) -> Tensor:
    """(n_out, Cout) from features (n_in, Cin) and weights (K, Cout, Cin), on a GPU (or anywhere in Triton's interpreter)."""
    features, by_offset = features.contiguous(), by_offset.contiguous()
    K, Cout, Cin = by_offset.shape
    out = features.new_empty(links.outputs, Cout)
    if out.numel():
        deep, wide = _tile(Cin), _tile(Cout)
        programs = triton.cdiv(links.outputs, _ROWS), triton.cdiv(Cout, wide)
        numbers = links.outputs, links.inputs, Cin, Cout
        _forward[programs](links.rows, features, by_offset, out, *numbers, K=K, ROWS=_ROWS, DEEP=deep, WIDE=wide, PRECISION=float32_products())
    return out


def weight(features: Tensor, to_out: Tensor, links: Links) -> Tensor:
    """(K, Cin, Cout), the gradient of the weights, given that (n_out, Cout) for the output."""
    features, to_out = features.contiguous(), to_out.contiguous()
    K, Cin, Cout = links.rows.shape[1], features.shape[1], to_out.shape[1]
    deep, wide = _tile(Cin), _tile(Cout)
    blocks = triton.cdiv(links.outputs, _ROWS)
    parts = min(_MOST_PARTS, blocks)
    made = features.new_zeros(max(1, parts), K, Cin, Cout)
    if parts:
        programs = K, triton.cdiv(Cin, deep) * triton.cdiv(Cout, wide), parts
        numbers = links.outputs, links.inputs, Cin, Cout, triton.cdiv(blocks, parts)
        _weight[programs](links.rows, features, to_out, made, *numbers, K=K, ROWS=_ROWS, DEEP=deep, WIDE=wide, PRECISION=float32_products())
    return made.sum(0)


def _tile(channels: int) -> int:
    """Of channels: a power of two, at least what a product of tiles takes."""
    return max(16, min(_CHANNELS, triton.next_power_of_2(channels)))


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    rows, features, weights, out, n_out, n_in, Cin, Cout,
    K: tl.constexpr, ROWS: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    total = tl.zeros((ROWS, WIDE), dtype=out.dtype.element_ty)
    for k in range(K):
        near = tl.load(rows + row * K + k, mask=row < n_out, other=n_in).to(tl.int64)
        found = near < n_in
        if tl.max(found.to(tl.int32), axis=0) > 0:
            for start in range(0, Cin, DEEP):
                channel = start + tl.arange(0, DEEP)
                real = channel < Cin
                read = tl.load(features + near[:, None] * Cin + channel[None, :], mask=found[:, None] & real[None, :], other=0.0)
                at = weights + (k * Cout + column[None, :]) * Cin + channel[:, None]
                total = tl.dot(read, tl.load(at, mask=real[:, None] & (column < Cout)[None, :], other=0.0), total, input_precision=PRECISION)
    tl.store(out + row[:, None] * Cout + column[None, :], total, mask=(row < n_out)[:, None] & (column < Cout)[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _weight(  # type: ignore[no-untyped-def]
    rows, features, to_out, made, n_out, n_in, Cin, Cout, blocks,
    K: tl.constexpr, ROWS: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    k, part = tl.program_id(0), tl.program_id(2)
    across = tl.cdiv(Cout, WIDE)
    channel = (tl.program_id(1) // across) * DEEP + tl.arange(0, DEEP)
    column = (tl.program_id(1) % across) * WIDE + tl.arange(0, WIDE)
    total = tl.zeros((DEEP, WIDE), dtype=made.dtype.element_ty)
    for block in range(blocks):
        row = (part.to(tl.int64) * blocks + block) * ROWS + tl.arange(0, ROWS)
        near = tl.load(rows + row * K + k, mask=row < n_out, other=n_in).to(tl.int64)
        found = near < n_in
        if tl.max(found.to(tl.int32), axis=0) > 0:
            at = features + near[None, :] * Cin + channel[:, None]  # (DEEP, ROWS)
            read = tl.load(at, mask=found[None, :] & (channel < Cin)[:, None], other=0.0)
            slope = tl.load(to_out + row[:, None] * Cout + column[None, :], mask=found[:, None] & (column < Cout)[None, :], other=0.0)
            total = tl.dot(read, slope, total, input_precision=PRECISION)
    place = made + ((part * K + k).to(tl.int64) * Cin + channel[:, None]) * Cout + column[None, :]
    tl.store(place, total, mask=(channel < Cin)[:, None] & (column < Cout)[None, :])
