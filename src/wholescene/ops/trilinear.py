"""Trilinear resizing of volumes as three products with small matrices, one an axis: several times as fast on a CPU as a loop over voxels.

Linear interpolation along an axis is a product with a matrix of two numbers a row, and the three axes do not depend on one another. The gradient
is the same with the matrices transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.ops.choice import reference_forced, without_autocast
from wholescene.ops.counting import worth

_ROWS = 64  # of a product: a matrix is empty away from its diagonal, so a long axis goes in pieces
_CHANNELS = 2**18  # numbers of the result at a time

Band = tuple[slice, slice, Tensor]  # rows, the columns that are not empty there, and what stands there


def resize_volume(volume: Tensor, size: Sequence[int]) -> Tensor:
    """Trilinear interpolation between voxel centres, by the path for the device; `WHOLESCENE_OPS=reference` forces `reference`.

    Args:
        volume: (B, C, x, y, z) float.
        size: (X, Y, Z).

    Returns:
        (B, C, X, Y, Z) in the dtype of `volume`, computed in float32 (float64 for float64) whatever autocast says.
    """
    if volume.device.type != "cpu" or not volume.numel() or reference_forced():
        return reference(volume, size)
    with without_autocast(volume.device), worth(0):  # resizing is not counted
        found: Tensor = _Resize.apply(volume if volume.dtype == torch.float64 else volume.float(), tuple(size))
        return found.to(volume.dtype)


def reference(volume: Tensor, size: Sequence[int]) -> Tensor:
    """The specification: PyTorch's own. Arguments as `resize_volume`."""
    return F.interpolate(volume, tuple(size), mode="trilinear", align_corners=False)


class _Resize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, size: tuple[int, int, int]) -> Tensor:
        ctx.axes = [(small, large, volume.dtype) for small, large in zip(volume.shape[2:], size, strict=True)]
        return _resize(volume, [_bands(*axis, False) for axis in ctx.axes], size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        size = tuple(small for small, _, _ in ctx.axes)
        return _resize(slope, [_bands(*axis, True) for axis in ctx.axes], size), None


def _resize(volume: Tensor, bands: Sequence[tuple[Band, ...]], size: Sequence[int]) -> Tensor:
    """A few channels at a time, which stay in the cache between the axes."""
    made = volume.new_empty(*volume.shape[:2], *size)
    _, y, z = volume.shape[2:]
    X, Y, Z = size
    step = max(1, _CHANNELS // (X * Y * Z))
    for given, out in zip(volume.contiguous().flatten(0, 1).split(step), made.flatten(0, 1).split(step), strict=True):
        along_x = _along(given.flatten(2), bands[0], X)
        along_y = _along(along_x.view(-1, y, z), bands[1], Y).view(-1, z)
        flat = out.view(-1, Z)
        for rows, needed, weights in bands[2]:
            torch.mm(along_y[:, needed], weights.T, out=flat[:, rows])
    return made


def _along(given: Tensor, bands: tuple[Band, ...], length: int) -> Tensor:
    """(n, l, m) to (n, length, m)."""
    if len(bands) == 1:
        return torch.matmul(bands[0][2], given[:, bands[0][1]])
    made = given.new_empty(len(given), length, given.shape[2])
    for rows, needed, weights in bands:
        made[:, rows] = torch.matmul(weights, given[:, needed])
    return made


@lru_cache(128)
def _bands(small: int, large: int, dtype: torch.dtype, transposed: bool) -> tuple[Band, ...]:
    """The matrix that resizes an axis of `small` cells to `large`, (large, small), or its transpose, in pieces of rows."""
    matrix = F.interpolate(torch.eye(small, dtype=dtype)[None], large, mode="linear", align_corners=False)[0].T
    matrix = matrix.T if transposed else matrix
    bands = []
    for start in range(0, len(matrix), _ROWS):
        rows = matrix[start : start + _ROWS]
        used = rows.any(0).nonzero()[:, 0]
        needed = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        bands.append((slice(start, start + len(rows)), needed, rows[:, needed].contiguous()))
    return tuple(bands)
