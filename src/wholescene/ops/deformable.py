"""Multi-scale deformable sampling (Zhu et al., Deformable DETR, ICLR 2021, equation 3): every head of every query reads a few places of some maps.

    out[b, q, m] = sum over levels l, points p of weights[b, q, m, l, p] * value_l[b, m](locations[b, q, m, l, p])

value_l(.) interpolates linearly between the centres of the cells of level l and is zero outside. Maps have two axes, or three (volumes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.ops.choice import reference_forced, triton_path, without_autocast
from wholescene.ops.counting import worth

Shapes = Sequence[Sequence[int]]

_MOST_PLACES = 2**16  # read at a time by a thread on a CPU: their indices and shares fit its cache
_MOST_READ = 2**24  # numbers read at a time elsewhere, and in the backward pass: 64 MiB in float32
_HEADS_AT_ONCE = 4  # grid_sample's backward pass has one thread a map


def deformable_sampling(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of what the heads read, by the path for the device; `WHOLESCENE_OPS=reference` forces `reference`.

    Computed in float32 (float64 for float64 values) whatever autocast says, in memory that does not grow with the number of queries.

    Args:
        value: (B, S, M, D) M heads of D channels; the cells of all levels one after another, each level in C order of its shape.
        shapes: L shapes, (h, w) or (X, Y, Z) each; their products sum to S.
        locations: (B, Q, M, L, P, A), A coordinates of which 0 and 1 are the outer edges of the map, so that the centre of cell i of n is at
            (i + 0.5) / n; the last axis of the map comes first: (x, y) for (h, w).
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M, D) in the dtype of `value`.

    Raises:
        InputError: shapes that do not belong together.
    """
    _check(value, shapes, locations, weights)
    kind = torch.float64 if value.dtype == torch.float64 else torch.float32
    with without_autocast(value.device), worth(2 ** locations.shape[-1] * weights.numel() * value.shape[3]):
        given = value.to(kind), locations.to(kind), weights.to(kind)
        if reference_forced():
            return reference(given[0], shapes, *given[1:]).to(value.dtype)
        found: Tensor = _Sampling.apply(given[0], tuple(tuple(s) for s in shapes), *given[1:])
        return found.to(value.dtype)


def reference(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The specification: one `grid_sample` a level. Arguments as `deformable_sampling`, of one float dtype."""
    B, _, M, D = value.shape
    Q, P, A = locations.shape[1], *locations.shape[-2:]
    total = value.new_zeros(B, Q, M, D)
    for level, part in enumerate(value.split([math.prod(s) for s in shapes], 1)):
        maps = part.permute(0, 2, 3, 1).reshape(B * M, D, *shapes[level])
        places = locations[:, :, :, level].transpose(1, 2).reshape(B * M, Q, *(1,) * (A - 2), P, A)
        read = F.grid_sample(maps, 2 * places - 1, align_corners=False).view(B, M, D, Q, P)
        total = total + torch.einsum("bmdqp,bqmp->bqmd", read, weights[:, :, :, level])
    return total


def cpu(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The forward pass on a CPU: for every query of every head a bag of weighted rows of a table, one bag a corner. Arguments as `reference`; no
    gradient."""
    B, Q, M, L, P, _ = locations.shape
    table, starts = _padded_table(value, shapes)
    out = value.new_zeros(B, Q, M, value.shape[3])
    if locations.isnan().any():
        locations = locations.nan_to_num(nan=-1.0)  # outside: what is no number reads zero
    most = max(1, _MOST_PLACES * torch.get_num_threads() // P)
    for b, m, part, level in product(range(B), range(M), _parts(Q, most), range(L)):
        rows, corners = _corners(locations[b, part, m, level], weights[b, part, m, level], shapes[level])
        for step, shares in corners:
            out[b, part, m] += F.embedding_bag(rows, table[b, m, starts[level] + step :], per_sample_weights=shares, mode="sum")
    return out


def _padded_table(value: Tensor, shapes: Shapes) -> tuple[Tensor, list[int]]:
    """(B, M, rows, D) with zeros around every map (one cell before, two after on each axis), and the row where each level starts.

    A place outside is moved to the nearest zero, so that no corner needs a test.
    """
    B, _, M, D = value.shape
    levels, starts, start = [], [], 0
    for part, shape in zip(value.split([math.prod(s) for s in shapes], 1), shapes, strict=True):
        maps = part.transpose(1, 2).reshape(B, M, *shape, D)
        levels.append(F.pad(maps, (0, 0, *(1, 2) * len(shape))).flatten(2, -2))
        starts.append(start)
        start += levels[-1].shape[2]
    return torch.cat(levels, 2) if len(levels) > 1 else levels[0], starts


def _corners(locations: Tensor, weights: Tensor, shape: Sequence[int]) -> tuple[Tensor, list[tuple[int, Tensor]]]:
    """How places (q, P, A) of weights (q, P) read a padded map: the row of their lowest corner (q, P) int32, and for each of the 2^A corners how many
    rows farther it lies and its share (q, P) of the weight."""
    rows, corners, stride = None, [(0, weights)], 1
    for axis, cells in enumerate(reversed(tuple(shape))):
        place = (locations[..., axis] * cells).add_(0.5).clamp_(0, cells + 1)  # in padded cells; 0 and cells + 1 are zeros
        below = place.floor()
        place.sub_(below)
        rows = below.int() if rows is None else rows.add_(below.int(), alpha=stride)
        above = [(step + stride, share * place) for step, share in corners]
        corners = [(step, share - upper) for (step, share), (_, upper) in zip(corners, above, strict=True)] + above
        stride *= cells + 3
    assert rows is not None
    return rows, corners


class _Sampling(torch.autograd.Function):
    """Bounded memory in both directions: nothing of the size queries x points x channels is kept, the backward pass reads again."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        if value.is_meta:
            return value.new_empty(*locations.shape[:3], value.shape[3])
        if value.device.type == "cpu":
            return cpu(value, shapes, locations, weights)
        fast = triton_path("deformable", value)
        if fast is not None:
            return fast.forward(value, shapes, locations, weights)  # type: ignore[no-any-return]
        out = value.new_empty(*locations.shape[:3], value.shape[3])
        for heads, queries in _blocks(value, locations):
            out[:, queries, heads] = reference(value[:, :, heads], shapes, locations[:, queries, heads], weights[:, queries, heads])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_out: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        given: tuple[Tensor, Tensor, Tensor] = ctx.saved_tensors
        value, locations, weights = given
        to_value, to_locations, to_weights = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in given)
        if value.is_meta:
            return to_value, None, to_locations, to_weights
        fast = triton_path("deformable", value)
        if fast is not None:
            found = fast.backward(value, ctx.shapes, locations, weights, to_out)
            return found[0], None, found[1], found[2]
        for heads, queries in _blocks(value, locations):
            with torch.enable_grad():
                parts = [t.detach().requires_grad_() for t in (value[:, :, heads], locations[:, queries, heads], weights[:, queries, heads])]
                out = reference(parts[0], ctx.shapes, parts[1], parts[2])
            found = torch.autograd.grad(out, parts, to_out[:, queries, heads])
            to_value[:, :, heads] += found[0]
            to_locations[:, queries, heads], to_weights[:, queries, heads] = found[1], found[2]
        return to_value, None, to_locations, to_weights


def _blocks(value: Tensor, locations: Tensor) -> Iterator[tuple[slice, slice]]:
    """Heads and queries of which the reference reads at most `_MOST_READ` numbers at a time."""
    B, Q, M, L, P, _ = locations.shape
    for heads in _parts(M, M if value.device.type != "cpu" else _HEADS_AT_ONCE):
        of_query = B * (heads.stop - heads.start) * L * P * value.shape[3]
        for queries in _parts(Q, max(1, _MOST_READ // max(1, of_query))):
            yield heads, queries


def _parts(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _check(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> None:
    axes = {len(s) for s in shapes}
    cells = sum(math.prod(s) for s in shapes)
    B, S, M = value.shape[:3] if value.dim() == 4 else (0, 0, 0)
    expected = (B, locations.shape[1] if locations.dim() > 1 else 0, M, len(shapes))
    fits = (
        value.dim() == 4
        and axes in ({2}, {3})
        and cells == S
        and locations.dim() == 6
        and axes == {locations.shape[5]}
        and tuple(locations.shape[:4]) == expected
        and weights.shape == locations.shape[:5]
    )
    if not fits:
        raise InputError(
            f"deformable sampling wants value (B, S, M, D), locations (B, Q, M, L, P, A) and weights (B, Q, M, L, P) of L maps with A axes (2 or 3) "
            f"and S cells in all; found {tuple(value.shape)}, {tuple(locations.shape)}, {tuple(weights.shape)} and maps {[tuple(s) for s in shapes]}"
        )
