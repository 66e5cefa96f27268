"""Orders in which the voxels of a volume become a sequence, and the way back (GA-MonoSSC, Frustum Mamba Layer; the abstract's frustum reordering).

In frustum order the voxels of one ray follow each other, and neighbouring rays do. What the paper leaves open, and our reading of it: rays are
square cells of the picture, walked row by row in a serpentine so that consecutive cells touch; in a cell near comes before far, so that what is
seen precedes what it hides; voxels out of view come last, in the volume's own order. Raster order is what a scan takes without thought; z-order
and Hilbert order keep neighbours in space together and know no camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.errors import InputError, unknown_name
from wholescene.geometry.projection import locate_grid
from wholescene.grid import VoxelGrid
from wholescene.structures import Batch

Kind = Literal["frustum", "raster", "z-order", "hilbert"]
KINDS = ("frustum", "raster", "z-order", "hilbert")


@dataclass(frozen=True)
class VoxelOrder:
    """How voxels are ordered.

    Attributes:
        kind: one of `KINDS`; the other fields are frustum order's.
        cell: edge of a cell in pixels of the camera's picture. Half of what a voxel measures in the picture at the middle of the grid makes a cell
            one ray in effect: 8 at NYUv2's 0.08 m voxels and 640x480 pixels, 16 for groups of two.
        depth_serpentine: every second cell runs from far to near, which shortens the jumps between cells and gives up that near comes first.
        flip: as seen in the mirrored picture, u -> width - 1 - u. A camera that is mirrored itself (augmentation) needs no flip.
        group: voxels are groups of this many along each axis.
    """

    kind: Kind = "frustum"
    cell: float = 8.0
    depth_serpentine: bool = False
    flip: bool = False
    group: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("voxel order", self.kind, KINDS)
        if not self.cell > 0 or self.group < 1:
            raise InputError(f"voxel order with cells of {self.cell:g} pixels and groups of {self.group}; expected positive numbers")


@dataclass(frozen=True)
class Permutation:
    """Orders of B volumes of n voxels.

    Attributes:
        order: (B, n) int32; order[b, i] is the flat index of token i.
        inverse: (B, n) int32; inverse[b, order[b, i]] = i.
    """

    order: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, orders: Sequence[Tensor]) -> Permutation:
        """From B orders (n)."""
        order = torch.stack(list(orders)).int()
        places = torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand_as(order)
        return cls(order, torch.empty_like(order).scatter_(1, order.long(), places))

    def tokens(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the sequence (B, n, C)."""
        rows = volume.flatten(2).transpose(1, 2)
        taken: Tensor = _Taken.apply(rows, self.order, self.inverse)
        return taken

    def volume(self, tokens: Tensor, shape: Sequence[int]) -> Tensor:
        """The inverse of `tokens`: (B, n, C) to (B, C, *shape)."""
        rows: Tensor = _Taken.apply(tokens, self.inverse, self.order)
        return rows.transpose(1, 2).unflatten(2, tuple(shape))


class _Taken(torch.autograd.Function):
    """Rows in another order; the gradient is the way back, a second reading, where autograd would add rows one by one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return _take(rows, order)

    @staticmethod
    def backward(ctx: Any, to_taken: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        found: Tensor = _Taken.apply(to_taken, inverse, order)
        return found, None, None


def _take(rows: Tensor, order: Tensor) -> Tensor:
    """(B, n, C) by (B, n); whole rows are copied, so they must lie together first."""
    return torch.stack([own.contiguous().index_select(0, places) for own, places in zip(rows, order, strict=True)])


def order_batch(batch: Batch, how: VoxelOrder, factor: int = 1, view: str = "main") -> Permutation:
    """The order of each volume of a batch, made once and memoised on it.

    Args:
        batch: B frames.
        how: the order; its groups are groups of the voxels that `factor` makes.
        factor: 1 for the batch's grid, s for the s times coarser one.
        view: whose camera.
    """

    def make() -> Permutation:
        pairs = zip(batch.cameras[view], batch.grids, strict=True)
        return Permutation.of([order_voxels(camera, grid.coarser(factor), how, batch.device) for camera, grid in pairs])

    return batch.once(("order", how, factor, view), make)


def order_voxels(camera: Camera, grid: VoxelGrid, how: VoxelOrder, device: torch.device | str = "cpu") -> Tensor:
    """(n,) int64: the flat index of each token's voxel (or group), in C order of the grid's own axes. Computed in float64.

    Raises:
        InputError: a grid that the group does not divide.
    """
    grid = grid.coarser(how.group)
    if how.kind != "frustum":
        return _of_shape(grid.shape, how.kind).to(device)
    u, v, depth = locate_grid(camera, grid, device)
    if how.flip:
        u = camera.width - 1 - u
    inside = (depth > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    columns = -int(-camera.width // how.cell)
    column, row = (torch.where(inside, place / how.cell, 0.0).floor().long() for place in (u, v))
    number = row * columns + torch.where(row % 2 == 0, column, columns - 1 - column)
    backwards = how.depth_serpentine & (number % 2 == 1)
    along = torch.where(inside, torch.where(backwards, -depth, depth), 0.0)
    cell = torch.where(inside, number, torch.iinfo(torch.int64).max)
    by_depth = torch.argsort(along, stable=True)
    return by_depth[torch.argsort(cell[by_depth], stable=True)]


@lru_cache(maxsize=16)
def _of_shape(shape: tuple[int, int, int], kind: str) -> Tensor:
    """Orders that know no camera. A curve runs through the smallest cube of a power of two; what lies outside the grid is left out."""
    if kind == "raster":
        return torch.arange(shape[0] * shape[1] * shape[2])
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")).flatten(1)
    bits = max(1, (max(shape) - 1).bit_length())
    return torch.argsort(_CURVES[kind](places, bits))


def _z_order(places: Tensor, bits: int) -> Tensor:
    """(n,) the bits of three coordinates (3, n) interleaved, the first axis highest (Morton, 1966)."""
    code = torch.zeros_like(places[0])
    for bit in range(bits):
        for axis in range(3):
            code |= ((places[axis] >> bit) & 1) << (3 * bit + 2 - axis)
    return code


def _hilbert(places: Tensor, bits: int) -> Tensor:
    """(n,) place on the Hilbert curve of coordinates (3, n) (Skilling, Programming the Hilbert curve, AIP 707, 2004).

    From the highest bit down, each octant's reflections and exchanges of axes are undone; the coordinates' bits are then a Gray code.
    """
    x = [axis.clone() for axis in places]
    for bit in reversed(range(1, bits)):
        high, low = 1 << bit, (1 << bit) - 1
        for axis in range(3):
            set_here = (x[axis] & high) > 0
            swapped = torch.where(set_here, 0, (x[0] ^ x[axis]) & low)
            x[0] = torch.where(set_here, x[0] ^ low, x[0] ^ swapped)
            x[axis] = x[axis] ^ swapped if axis else x[0]
    x[1] = x[1] ^ x[0]
    x[2] = x[2] ^ x[1]
    turned = torch.zeros_like(x[0])
    for bit in reversed(range(1, bits)):
        turned = torch.where((x[2] & (1 << bit)) > 0, turned ^ ((1 << bit) - 1), turned)
    return _z_order(torch.stack([axis ^ turned for axis in x]), bits)


_CURVES: dict[str, Callable[[Tensor, int], Tensor]] = {"z-order": _z_order, "hilbert": _hilbert}


@dataclass(frozen=True)
class Jumps:
    """How far consecutive tokens that are in view lie apart.

    Attributes:
        image: mean, median, 95th percentile and largest distance in the picture, pixels.
        space: mean and 95th percentile of the distance in space, metres.
    """

    image: tuple[float, float, float, float]
    space: tuple[float, float]


def steps(camera: Camera, grid: VoxelGrid, how: VoxelOrder) -> tuple[Tensor, Tensor]:
    """How far consecutive tokens that are in view lie apart: (n - 1) pixels in the picture, and (n - 1) metres in space, float64 both."""
    order = order_voxels(camera, grid, how)
    grid = grid.coarser(how.group)
    u, v, depth = locate_grid(camera, grid)
    if how.flip:
        u = camera.width - 1 - u
    inside = (depth > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    taken = order[inside[order]]
    in_space = torch.from_numpy(grid.centres()).view(-1, 3)[taken].diff(dim=0).norm(dim=1)
    return torch.stack([u, v], 1)[taken].diff(dim=0).norm(dim=1), in_space


def jumps(camera: Camera, grid: VoxelGrid, how: VoxelOrder) -> Jumps:
    """The discontinuity of an order, over the voxels in view (at least two)."""
    in_image, in_space = steps(camera, grid, how)
    median, most = (float(in_image.quantile(q)) for q in (0.5, 0.95))
    return Jumps((float(in_image.mean()), median, most, float(in_image.max())), (float(in_space.mean()), float(in_space.quantile(0.95))))
