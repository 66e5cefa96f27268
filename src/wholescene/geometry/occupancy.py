"""Which voxels hold a point: of a depth map, or of a sweep."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.structures import Batch


def occupancy_of_depth(depth: Tensor, camera: Camera, grid: VoxelGrid) -> Tensor:
    """Voxels in which a pixel's point lies (the pseudo point cloud of VoxFormer, section 3.3); arguments as for `voxels_of_depth`.

    Returns:
        (X, Y, Z) bool.
    """
    return _filled(voxels_of_depth(depth, camera, grid), grid.shape)


def voxels_of_depth(depth: Tensor, camera: Camera, grid: VoxelGrid) -> Tensor:
    """The voxel in which each pixel's point lies; arguments as for `places_of_depth`.

    Returns:
        (H, W) int64, flat index in C order of the grid's shape; the number of its voxels where the depth is unknown or the point lies outside.
    """
    return _voxels(*places_of_depth(depth, camera, grid), grid.shape)


def places_of_depth(depth: Tensor, camera: Camera, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
    """Where the pixels' points lie in a grid, computed in float64 on the map's device.

    Args:
        depth: (H, W) float, metres along the optical axis; what is not finite or not positive is unknown and gives no point. It may be larger
            than the camera's picture, as padded maps of a batch are.
        camera: of the picture, with its offset; pixels are taken at their centres.
        grid: in the camera's world.

    Returns:
        places (H, W, 3) float64 in voxels along the array axes, 0 being the lower corner (voxel i reaches from i to i + 1), and known (H, W) bool.
    """
    # voxel coordinates = affine @ (u d, v d, d) + corner, one row an axis, without an array of points
    pixel_from_camera, offset = camera.matrix[:, :3], camera.matrix[:, 3]
    grid_from_camera = grid.T_grid_world @ np.linalg.inv(camera.T_cam_world)
    affine = grid_from_camera[:3, :3] @ np.linalg.inv(pixel_from_camera)
    corner = grid_from_camera[:3, 3] - affine @ offset
    metres = depth.double()
    known = torch.isfinite(metres) & (metres > 0)
    v, u = (torch.arange(n, dtype=torch.float64, device=depth.device) for n in depth.shape)
    axes = []
    for row, start, size in zip(affine.tolist(), corner.tolist(), grid.voxel_size, strict=True):
        axes.append(((row[0] * u + row[1] * v[:, None] + row[2]) * metres + start) / size)
    return torch.stack(axes, -1), known


def occupancy_of_points(points: Tensor, grid: VoxelGrid) -> Tensor:
    """Voxels in which a point lies, computed in float64.

    Args:
        points: (N, 3 or more) float, world metres (x, y, z, ...).
        grid: in the same world.

    Returns:
        (X, Y, Z) bool.
    """
    pose = torch.from_numpy(grid.T_grid_world).to(points.device)
    local = points[:, :3].double() @ pose[:3, :3].T + pose[:3, 3]
    places = local / torch.tensor(grid.voxel_size, dtype=torch.float64, device=points.device)
    return _filled(_voxels(places, torch.isfinite(places).all(-1), grid.shape), grid.shape)


def _voxels(places: Tensor, known: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(...) int64 flat indices of places (..., 3) in voxels; the number of voxels for what is not known or lies outside."""
    index = places.floor()
    sizes = torch.tensor(shape, dtype=places.dtype, device=places.device)
    inside = known & ((index >= 0) & (index < sizes)).all(-1)
    x, y, z = torch.where(inside[..., None], index, 0.0).long().unbind(-1)
    return torch.where(inside, (x * shape[1] + y) * shape[2] + z, shape[0] * shape[1] * shape[2])


def _filled(voxels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(X, Y, Z) bool: those of the flat indices."""
    filled = torch.zeros(shape[0] * shape[1] * shape[2] + 1, dtype=torch.bool, device=voxels.device)  # the last one takes what lies nowhere
    filled[voxels.reshape(-1)] = True
    return filled[:-1].view(shape)


def occupancy_of_batch(batch: Batch, source: str) -> Tensor:
    """What a system that eats occupancy gets, made once a batch.

    Args:
        batch: B frames.
        source: "occupancy" (as the frames give it), or made from their "depth" or "points".

    Returns:
        (B, X, Y, Z) bool on the batch's grids.

    Raises:
        InputError: the frames do not have it.
    """
    given = getattr(batch, source)
    if given is None:
        raise InputError(f"frames {', '.join(batch.names)} have no {source}, which this system makes its voxels from; give it with each frame")
    if source == "occupancy":
        found: Tensor = given
        return found

    def make() -> Tensor:
        if source == "depth":
            views = zip(given, batch.cameras["main"], batch.grids, strict=True)
            return torch.stack([occupancy_of_depth(depth, camera, grid) for depth, camera, grid in views])
        return torch.stack([occupancy_of_points(points, grid) for points, grid in zip(given, batch.grids, strict=True)])

    return batch.once(("occupancy", source), make)
