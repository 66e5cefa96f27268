"""Depth-aware deformable sampling (CGFormer, section 3.3): every head of every query reads a few places of the picture's map, each at a depth.

    out[b, q, m] = sum over points p of weights[b, q, m, p] * sum over the four cells c around p of near(c, p) * depth_c(z_p) * value[b, c, m]

near(.) are the bilinear shares, depth_c(.) interpolates cell c's depth distribution linearly between its bins. That is trilinear sampling of the
product of depth and value, zero outside the map and the bins, without the product: at full size it would hold 112 copies of the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.ops.choice import reference_forced, triton_path, without_autocast
from wholescene.ops.counting import worth

_MOST_PLACES = 2**15  # read at a time by a thread on a CPU: their indices and shares fit its cache
_MOST_READ = 2**24  # numbers read at a time elsewhere: 64 MiB in float32


def depth_aware_sampling(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of what the heads read, by the path for the device; `WHOLESCENE_OPS=reference` forces `reference`.

    Computed in float32 (float64 for float64 values) whatever autocast says, in memory that does not grow with the number of queries.

    Args:
        value: (B, h w, M, D) M heads of D channels, the cells of the map row by row.
        depth: (B, K, h, w) distribution over K bins.
        locations: (B, Q, M, P, 3) coordinates (x, y, z) of which 0 and 1 are the outer edges of the map and of the bins, so that the centre of cell
            i of n is at (i + 0.5) / n.
        weights: (B, Q, M, P).

    Returns:
        (B, Q, M, D) in the dtype of `value`.

    Raises:
        InputError: shapes that do not belong together.
    """
    _check(value, depth, locations, weights)
    kind = torch.float64 if value.dtype == torch.float64 else torch.float32
    with without_autocast(value.device), worth(4 * weights.numel() * value.shape[3]):
        places = locations.to(kind).nan_to_num(nan=-1.0)  # outside: what is no number reads zero
        given = value.to(kind), depth.to(kind), places, weights.to(kind)
        found: Tensor = reference(*given) if reference_forced() else _Sampling.apply(*given)
        return found.to(value.dtype)


def reference(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """The specification, corner by corner. Arguments as `depth_aware_sampling`, of one float dtype."""
    _, bins, rows, columns = depth.shape
    B, _, M, D = value.shape
    Q, P = locations.shape[1], locations.shape[3]
    sizes = torch.tensor((columns, rows, bins), dtype=value.dtype, device=value.device)
    places = (locations * sizes - 0.5).clamp(-2, max(depth.shape[1:]) + 1)
    lowest, heads = places.floor(), value.transpose(1, 2)
    total = value.new_zeros(B, Q, M, D)
    for right, down in product((0, 1), (0, 1)):
        x, y = lowest[..., 0] + right, lowest[..., 1] + down
        near = (1 - (places[..., 0] - x).abs()) * (1 - (places[..., 1] - y).abs())
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        cell = torch.where(inside, y * columns + x, 0.0).long()  # (B, Q, M, P)
        score = torch.zeros_like(near)
        for farther in (0, 1):
            z = lowest[..., 2] + farther
            known = inside & (z >= 0) & (z < bins)
            flat = torch.where(known, z, 0.0).long() * (rows * columns) + cell
            mass = depth.flatten(1).gather(1, flat.flatten(1)).view_as(near)
            score = score + torch.where(known, mass * (1 - (places[..., 2] - z).abs()), 0.0)
        index = cell.transpose(1, 2).reshape(B, M, Q * P, 1).expand(-1, -1, -1, D)
        read = heads.gather(2, index).view(B, M, Q, P, D)
        total = total + torch.einsum("bmqpd,bqmp->bqmd", read, weights * near * score)
    return total


def cpu(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """The forward pass on a CPU: for every query of every head a bag of weighted rows of a table. Arguments as `reference`; no gradient."""
    B, Q, M, _, _ = locations.shape
    cells, scores = _padded(value, depth)
    out = value.new_empty(B, Q, M, value.shape[3])
    for b, m, part in _blocks(locations):
        out[b, part, m] = _read(cells[b, m], scores[b], depth.shape, locations[b, part, m], weights[b, part, m])
    return out


def _padded(value: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Values (B, M, rows, D) and depths (B, rows, K + 3), with zeros around the map and the bins (one before, two after on each axis).

    A place outside is moved to the nearest zero, so that no corner needs a test.
    """
    B, _, M, D = value.shape
    rows, columns = depth.shape[-2:]
    maps = value.transpose(1, 2).reshape(B, M, rows, columns, D)
    cells = F.pad(maps, (0, 0, 1, 2, 1, 2)).flatten(2, 3)
    return cells, F.pad(depth.permute(0, 2, 3, 1), (1, 2, 1, 2, 1, 2)).flatten(1, 2)


def _read(cells: Tensor, scores: Tensor, shape: torch.Size, locations: Tensor, weights: Tensor) -> Tensor:
    """What one head reads: (rows, D), (rows, K + 3), (q, P, 3), (q, P) to (q, D); has all gradients."""
    _, bins, rows, columns = shape
    x, y, z = ((locations[..., i] * n + 0.5).clamp(0, n + 1) for i, n in enumerate((columns, rows, bins)))  # in padded cells
    left, top, near = (t.detach().floor() for t in (x, y, z))
    right, down, far = x - left, y - top, z - near
    row = left.int().add_(top.int(), alpha=columns + 3)
    flat, found = scores.reshape(-1), None
    first = row * (bins + 3) + near.int()
    for lower, vertical in ((0, weights - weights * down), (columns + 3, weights * down)):
        beside = vertical * right
        for step, share in ((lower, vertical - beside), (lower + 1, beside)):
            index = (first + step * (bins + 3)).view(-1)
            nearer, farther = (flat.index_select(0, i).view_as(share) for i in (index, index + 1))
            bag = F.embedding_bag(row, cells[step:], per_sample_weights=share * torch.lerp(nearer, farther, far), mode="sum")
            found = bag if found is None else found + bag
    assert found is not None
    return found


class _Sampling(torch.autograd.Function):
    """Bounded memory in both directions: nothing of the size queries x points is kept but the inputs, the backward pass reads again."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, depth, locations, weights)
        if value.is_meta:
            return value.new_empty(*locations.shape[:3], value.shape[3])
        if value.device.type == "cpu":
            return cpu(value, depth, locations, weights)
        fast = triton_path("depth_deformable", value)
        if fast is not None:
            return fast.forward(value, depth, locations, weights)  # type: ignore[no-any-return]
        parts = [reference(value, depth, locations[:, part], weights[:, part]) for part in _parts(locations, value.shape[3])]
        return torch.cat(parts, 1) if parts else value.new_zeros(*locations.shape[:3], value.shape[3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        given: tuple[Tensor, ...] = ctx.saved_tensors
        value, depth, locations, weights = given
        if value.is_meta:
            return torch.empty_like(value), torch.empty_like(depth), torch.empty_like(locations), torch.empty_like(weights)
        if value.device.type == "cpu":
            return _cpu_backward(value, depth, locations, weights, to_out)
        fast = triton_path("depth_deformable", value)
        if fast is not None:
            return fast.backward(value, depth, locations, weights, to_out)  # type: ignore[no-any-return]
        to_value, to_depth, to_locations, to_weights = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in given)
        for part in _parts(locations, value.shape[3]):
            with torch.enable_grad():
                parts = [t.detach().requires_grad_() for t in (value, depth, locations[:, part], weights[:, part])]
                out = reference(*parts)
            found = torch.autograd.grad(out, parts, to_out[:, part])
            to_value += found[0]
            to_depth += found[1]
            to_locations[:, part], to_weights[:, part] = found[2], found[3]
        return to_value, to_depth, to_locations, to_weights


def _cpu_backward(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor, to_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of all four inputs, a part of one head's queries at a time."""
    B, _, M, D = value.shape
    rows, columns = depth.shape[-2:]
    cells, scores = _padded(value, depth)
    to_cells, to_scores = torch.zeros_like(cells), torch.zeros_like(scores)
    to_locations, to_weights = torch.zeros_like(locations), torch.zeros_like(weights)
    for b, m, part in _blocks(locations):
        with torch.enable_grad():
            parts = [t.detach().requires_grad_() for t in (cells[b, m], scores[b], locations[b, part, m], weights[b, part, m])]
            out = _read(parts[0], parts[1], depth.shape, parts[2], parts[3])
        found = torch.autograd.grad(out, parts, to_out[b, part, m])
        to_cells[b, m] += found[0]
        to_scores[b] += found[1]
        to_locations[b, part, m], to_weights[b, part, m] = found[2], found[3]
    to_value = to_cells.unflatten(2, (rows + 3, columns + 3))[:, :, 1:-2, 1:-2].reshape(B, M, rows * columns, D).transpose(1, 2)
    to_depth = to_scores.unflatten(1, (rows + 3, columns + 3))[:, 1:-2, 1:-2, 1:-2].permute(0, 3, 1, 2)
    return to_value, to_depth, to_locations, to_weights


def _blocks(locations: Tensor) -> Iterator[tuple[int, int, slice]]:
    """Samples, heads and queries that a CPU reads at a time."""
    B, Q, M, P, _ = locations.shape
    step = max(1, _MOST_PLACES * torch.get_num_threads() // P)
    for b, m, start in product(range(B), range(M), range(0, Q, step)):
        yield b, m, slice(start, min(start + step, Q))


def _parts(locations: Tensor, channels: int) -> Iterator[slice]:
    """Queries of which the reference reads at most `_MOST_READ` numbers at a time."""
    B, Q, M, P, _ = locations.shape
    step = max(1, _MOST_READ // max(1, B * M * P * channels))
    for start in range(0, Q, step):
        yield slice(start, min(start + step, Q))


def _check(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> None:
    fits = (
        value.dim() == 4
        and depth.dim() == 4
        and locations.dim() == 5
        and locations.shape[-1] == 3
        and weights.shape == locations.shape[:-1]
        and value.shape[0] == depth.shape[0] == locations.shape[0]
        and value.shape[1] == depth.shape[2] * depth.shape[3]
        and value.shape[2] == locations.shape[2]
    )
    if not fits:
        raise InputError(
            "depth-aware sampling wants value (B, h w, M, D), depth (B, K, h, w), locations (B, Q, M, P, 3) and weights (B, Q, M, P); "
            f"found {tuple(value.shape)}, {tuple(depth.shape)}, {tuple(locations.shape)} and {tuple(weights.shape)}"
        )
