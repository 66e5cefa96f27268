"""Multi-scale deformable sampling (Zhu et al., Deformable DETR, ICLR 2021, equation 3): every head of every query reads a few places of some maps.

    out[b, q, m] = sum over levels l, points p of weights[b, q, m, l, p] * value_l[b, m](locations[b, q, m, l, p])

value_l(.) interpolates linearly between the centres of the cells of level l and is zero outside. Maps have two axes, or three (volumes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.ops.choice import reference_forced, without_autocast

Shapes = Sequence[Sequence[int]]

_MOST_TAPS = 2**20  # cells read at a time on a CPU: their indices and shares fit its cache
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
    with without_autocast(value.device):
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
    """The forward pass on a CPU: a bag of weighted rows of a table for every query of every head. Arguments as `reference`; no gradient."""
    B, Q, M, L, P, A = locations.shape
    table, starts = _padded_table(value, shapes)
    out = value.new_empty(B, Q, M, value.shape[3])
    step = max(1, _MOST_TAPS // (L * P * 2**A))
    for b in range(B):
        for m in range(M):
            for part in _parts(Q, step):
                rows, shares = _taps(locations[b, part, m], weights[b, part, m], shapes, starts)
                out[b, part, m] = F.embedding_bag(rows, table[b, m], per_sample_weights=shares, mode="sum")
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


def _taps(locations: Tensor, weights: Tensor, shapes: Shapes, starts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows of the padded table (q, L * P * 2^A) int32 and their shares, from locations (q, L, P, A) and weights (q, L, P) of one head."""
    rows, shares = [], []
    for level, shape in enumerate(shapes):
        first = torch.full(weights.shape[::2], starts[level], dtype=torch.int32, device=weights.device)
        parts, steps, stride = [weights[:, level]], [0], 1
        for axis, cells in enumerate(reversed(tuple(shape))):
            place = locations[:, level, :, axis] * cells + 0.5  # in padded cells, 0 and cells + 1 are zeros
            place = torch.fmin(torch.fmax(place, place.new_zeros(())), place.new_full((), cells + 1))
            below = place.floor()
            first += below.int() * stride
            above = [share * (place - below) for share in parts]
            parts = [share - upper for share, upper in zip(parts, above, strict=True)] + above
            steps += [step + stride for step in steps]
            stride *= cells + 3
        rows.append(first[..., None] + torch.tensor(steps, dtype=torch.int32, device=weights.device))
        shares.append(torch.stack(parts, -1))
    return torch.stack(rows, 1).flatten(1), torch.stack(shares, 1).flatten(1)


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
