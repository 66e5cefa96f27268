"""Where the picture's cells and the grid's voxels meet, in the conventions of the config: points of the frustum, places of the voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.geometry.projection import locate_batch
from wholescene.grid import VoxelGrid
from wholescene.ops.lss_pooling import VoxelBags
from wholescene.structures import Batch
from wholescene.systems.cgformer.config import GeometryConfig
from wholescene.systems.cgformer.encoder import STRIDE

CAMERA_NUMBERS = 33
_MARGIN = 1e-5  # of the map's width and of the bins' range: released code sees strictly less


def camera_numbers(camera: Camera, motion: np.ndarray[Any, Any] | None = None) -> Tensor:
    """What the depth net is told of a camera, (33,) float32: fx, fy, cx, cy and offset as recorded, the picture's affine, how the scene was moved
    for augmentation, and the pose from camera to world.

    Args:
        camera: of the picture.
        motion: (4, 4); None: not moved.
    """
    K, affine = camera.K, camera.affine
    moved = np.eye(4) if motion is None else motion
    pose = np.linalg.inv(camera.T_cam_world)
    parts = [
        (K[0, 0], K[1, 1], K[0, 2], K[1, 2]), camera.offset, affine[0], affine[1],
        moved[0, :2], moved[1, :2], (moved[2, 2],), moved[:3, 3], pose[:3].reshape(-1),
    ]  # fmt: skip
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def lift_points(u: Tensor, v: Tensor, depth: Tensor, camera: Camera, grid: VoxelGrid, released: bool = False) -> Tensor:
    """Points of a picture in the frame of a grid.

    Args:
        u, v: pixels, of shapes that broadcast with `depth`.
        depth: metres along the optical axis.
        camera: of the picture, with its offset.
        grid: in the camera's world.
        released: float32, in the steps of the released code; else float64.

    Returns:
        (..., 3) metres from the grid's lower corner along its axes.
    """
    if released:
        return _lift_in_float32(u, v, depth, camera, grid)
    grid_from_camera = grid.T_grid_world @ np.linalg.inv(camera.T_cam_world)
    matrix = grid_from_camera[:3, :3] @ np.linalg.inv(camera.matrix[:, :3])
    corner = grid_from_camera[:3, 3] - matrix @ camera.matrix[:, 3]
    u, v, depth = u.double(), v.double(), depth.double()
    return torch.stack([(a * u + b * v + c) * depth + start for (a, b, c), start in zip(matrix.tolist(), corner.tolist(), strict=True)], -1)


def _lift_in_float32(u: Tensor, v: Tensor, depth: Tensor, camera: Camera, grid: VoxelGrid) -> Tensor:
    def single(values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(depth.device)

    history = np.eye(3)
    history[:2, :2] = camera.affine[:2, :2]
    pose, to_grid = np.linalg.inv(camera.T_cam_world), grid.T_grid_world
    pixels = torch.stack(torch.broadcast_tensors(u.float(), v.float(), depth.float()), -1)
    pixels = pixels - single(np.append(camera.affine[:2, 2], 0.0))
    rays = pixels @ torch.linalg.inv(single(history)).T
    scaled = torch.cat([rays[..., :2] * rays[..., 2:], rays[..., 2:]], -1) - single(camera.offset)
    world_from_camera = single(pose[:3, :3]) @ torch.linalg.inv(single(camera.K))  # one matrix first: another order moves points to other voxels
    points = scaled @ world_from_camera.T + single(pose[:3, 3])
    if not np.array_equal(to_grid[:3, :3], np.eye(3)):
        points = points @ single(to_grid[:3, :3]).T
    return points + single(to_grid[:3, 3])


def frustum_points(cells: Sequence[int], camera: Camera, grid: VoxelGrid, config: GeometryConfig) -> Tensor:
    """The points of all bins of all cells of a map.

    Args:
        cells: (h, w) of the map at stride 8.
        camera: of the picture, which may be smaller than the map.
        grid: to lift to.
        config: alignment, bins and arithmetic.

    Returns:
        (bins, h, w, 3) metres in the frame of the grid (see `lift_points`).
    """
    released = config.pixel_alignment == "released"
    u, v = (
        torch.linspace(0, n * STRIDE - 1, n) if released else torch.arange(n, dtype=torch.float64) * STRIDE + (STRIDE - 1) / 2
        for n in reversed(tuple(cells))
    )
    depth = config.depth_near + config.depth_step * torch.arange(config.depth_bins, dtype=torch.float64)
    return lift_points(u, v[:, None], depth[:, None, None], camera, grid, config.arithmetic == "released")


def voxels_of(points: Tensor, grid: VoxelGrid, config: GeometryConfig) -> Tensor:
    """The flat voxel (C order) of each point (..., 3) in metres in the frame of the grid; -1 for none."""
    places = points / torch.tensor(grid.voxel_size, dtype=points.dtype, device=points.device)
    index = places.trunc() if config.lower_faces == "truncated" else places.floor()
    shape = torch.tensor(grid.shape, dtype=points.dtype, device=points.device)
    inside = ((index >= 0) & (index < shape)).all(-1)
    x, y, z = torch.where(inside[..., None], index, 0.0).long().unbind(-1)
    return torch.where(inside, (x * grid.shape[1] + y) * grid.shape[2] + z, -1)


def frustum_bags(batch: Batch, cells: Sequence[int], config: GeometryConfig) -> list[VoxelBags]:
    """For each frame the points of its frustum by voxel of the coarser grid; cells beside the true picture (padding) have none. Made once a batch."""

    def make() -> list[VoxelBags]:
        made = []
        for camera, fine in zip(batch.cameras["main"], batch.grids, strict=True):
            grid = fine.coarser(config.lift_factor)
            voxels = voxels_of(frustum_points(cells, camera, grid, config), grid, config)
            across, down = (-(-n // STRIDE) for n in camera.size)
            voxels[:, down:] = -1
            voxels[:, :, across:] = -1
            made.append(VoxelBags.of(voxels.reshape(-1).to(batch.device), grid.voxels))
        return made

    bins = (config.depth_bins, config.depth_near, config.depth_step)
    return batch.once(("frustum", tuple(cells), config.lift_factor, bins, config.pixel_alignment, config.lower_faces, config.arithmetic), make)


def places_of_voxels(batch: Batch, cells: Sequence[int], config: GeometryConfig) -> tuple[Tensor, Tensor]:
    """Where the centres of the coarser grid's voxels fall on the map and among the bins.

    Args:
        batch: B frames.
        cells: (h, w) of the map at stride 8.
        config: alignment and bins.

    Returns:
        references (B, N, 3) float32 (x, y, z), 0 and 1 being the outer edges of map and bins, all 0 where not in view; and in_view (B, N) bool.
    """
    pixels, depth = locate_batch(batch, config.lift_factor)
    sizes = torch.tensor([camera.size for camera in batch.cameras["main"]], dtype=pixels.dtype, device=pixels.device)[:, None]
    edges = torch.tensor(tuple(reversed(tuple(cells))), dtype=pixels.dtype, device=pixels.device) * STRIDE
    near = config.depth_near if config.cross_bins == "shifted" else config.depth_range[0]
    share = (depth - near) / (config.depth_bins * config.depth_step)
    if config.pixel_alignment == "released":
        places = pixels / edges
        inside = (pixels / sizes > _MARGIN) & (pixels / sizes < 1 - _MARGIN)
        in_view = inside.all(-1) & (share > _MARGIN)
    else:
        places = (pixels + 0.5) / edges
        in_view = ((pixels > -0.5) & (pixels < sizes - 0.5)).all(-1) & (depth > _MARGIN)
    references = torch.cat([places, share[..., None]], -1)
    return torch.where(in_view[..., None], references, 0.0).float(), in_view
