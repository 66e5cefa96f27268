"""Projection tables: for each voxel its pixel, its depth, and whether the picture holds it. The only place where voxels meet pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.errors import unknown_name
from wholescene.grid import VoxelGrid
from wholescene.structures import Batch

Rounding = Literal["float64", "released-kitti", "released-nyuv2"]
Factor = int | tuple[int, int, int]
ROUNDINGS = ("float64", "released-kitti", "released-nyuv2")


@dataclass(frozen=True)
class ProjectionTable:
    """Where the voxel centres of B grids fall in B pictures; N voxels in C order of the grid's own axes.

    Attributes:
        pixels: (B, N, 2) int64 (u, v), rounded half to even; clamped far outside the picture, so never rely on them out of view.
        depth: (B, N) float32 metres along the optical axis.
        in_view: (B, N) bool, rounded pixel inside the picture and depth > 0.
    """

    pixels: Tensor
    depth: Tensor
    in_view: Tensor


def project_grid(
    camera: Camera, grid: VoxelGrid, rounding: Rounding = "float64", use_offset: bool = True, device: torch.device | str = "cpu"
) -> ProjectionTable:
    """The table of one camera and one grid (B = 1).

    The roundings name at which precision the pixel is computed before it is rounded; released weights were trained with theirs (MonoScene's
    `vox2pix`): `released-kitti` stores centres as float32, transforms in float64, K as float32; `released-nyuv2` inverts a float32
    camera-to-world pose and stays in float32. `float64` is float64 throughout, on the device.

    Args:
        camera: world frame of the grid.
        grid: any axis order.
        rounding: one of `ROUNDINGS`.
        use_offset: False drops the fourth column of P, as released MonoScene-family code does (6 cm on KITTI).
        device: where the table is wanted.

    Raises:
        InputError: unknown rounding.
    """
    if rounding not in ROUNDINGS:
        raise unknown_name("rounding", rounding, ROUNDINGS)
    offset = camera.offset if use_offset else np.zeros(3)
    if rounding == "float64":
        u, v, depth = _in_float64(camera, grid, offset, torch.device(device))
    else:
        u, v, depth = (torch.from_numpy(a).to(device) for a in _as_released(camera, grid, offset, rounding == "released-nyuv2"))
    pixels = torch.stack([u, v], dim=-1).round_().nan_to_num_(nan=-1.0).clamp_(-(2.0**31), 2.0**31).long()  # torch rounds half to even, too
    width, height = camera.size
    in_view = (pixels[:, 0] >= 0) & (pixels[:, 0] < width) & (pixels[:, 1] >= 0) & (pixels[:, 1] < height) & (depth > 0)
    return ProjectionTable(pixels[None], depth.float()[None], in_view[None])


def _in_float64(camera: Camera, grid: VoxelGrid, offset: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """u, v, depth (N,) float64: one 3x4 matrix from grid metres to homogeneous pixels, evaluated axis by axis without an (N, 4) array."""
    pixel_from_camera = camera.affine @ np.column_stack([camera.K, offset])
    matrix = pixel_from_camera @ camera.T_cam_world @ grid.T_world_grid
    ticks = [(torch.arange(n, dtype=torch.float64, device=device) + 0.5) * s for n, s in zip(grid.shape, grid.voxel_size, strict=True)]
    x, y, z = ticks[0][:, None, None], ticks[1][:, None], ticks[2]
    u, v, depth = ((row[0] * x + row[1] * y + (row[2] * z + row[3])).reshape(-1) for row in matrix.tolist())
    return u / depth, v / depth, depth


def _as_released(camera: Camera, grid: VoxelGrid, offset: np.ndarray, single: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """u, v, depth (N,) in the precision steps of released MonoScene, for an axis-aligned grid; float32 if `single`, else float64."""
    corner = grid.T_world_grid[:3, 3].astype(np.float32).astype(np.float64)
    order = [int(np.argmax(np.abs(grid.T_world_grid[:3, axis]))) for axis in range(3)]
    index = np.indices(grid.shape).reshape(3, -1)
    world = np.empty((grid.voxels, 4), np.float32)
    world[:, 3] = 1
    for axis, world_axis in enumerate(order):
        size = grid.voxel_size[axis]
        world[:, world_axis] = corner[world_axis] + size * index[axis] + size * 0.5
    pose = camera.T_cam_world
    if single:  # the stored camera-to-world pose is float32 and its inverse is taken in float32
        pose = np.linalg.inv(np.linalg.inv(pose).astype(np.float32))  # type: ignore[assignment]
    local = world @ pose.T
    K = camera.K.astype(np.float32)
    x, y, depth = local[:, 0], local[:, 1], local[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = x * K[0, 0] / depth + K[0, 2], y * K[1, 1] / depth + K[1, 2]
        if offset.any():
            w = depth + offset[2]
            u, v, depth = (x * K[0, 0] + K[0, 2] * depth + offset[0]) / w, (y * K[1, 1] + K[1, 2] * depth + offset[1]) / w, w
    affine = camera.affine
    if np.allclose(affine, np.eye(3)):
        return u, v, depth
    return affine[0, 0] * u + affine[0, 2], affine[1, 1] * v + affine[1, 2], depth  # a mirror or a crop acts on the pixel


def locate_grid(camera: Camera, grid: VoxelGrid, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """u, v (pixels, not rounded) and depth (metres) of each voxel centre, (N,) float64 each; u and v mean nothing where depth is not positive."""
    return _in_float64(camera, grid, camera.offset, torch.device(device))


def project_batch(batch: Batch, factor: Factor = 1, rounding: Rounding = "float64", use_offset: bool = True, view: str = "main") -> ProjectionTable:
    """The table of a whole batch on its device, made once and memoised on it.

    Args:
        batch: B frames.
        factor: 1 for the batch's grid, s for the s times coarser one; or one number an array axis.
        rounding, use_offset: as in `project_grid`.
        view: which picture.

    Returns:
        B stacked tables.
    """

    def make() -> ProjectionTable:
        tables = [
            project_grid(camera, grid.coarser(factor), rounding, use_offset, batch.device)
            for camera, grid in zip(batch.cameras[view], batch.grids, strict=True)
        ]
        return ProjectionTable(*(torch.cat([getattr(t, name) for t in tables]) for name in ("pixels", "depth", "in_view")))

    return batch.once(("projection", factor, rounding, use_offset, view), make)


def locate_batch(batch: Batch, factor: Factor = 1, use_offset: bool = True, view: str = "main") -> tuple[Tensor, Tensor]:
    """Where the voxel centres of a batch fall, not rounded; what is in view is for the caller to say. Made once and memoised on the batch.

    Args:
        batch, factor, use_offset, view: as in `project_batch`.

    Returns:
        pixels (B, N, 2) float64 (u, v), which mean nothing at or behind the camera plane and may not be finite there.
        depth (B, N) float64 metres along the optical axis.
    """

    def make() -> tuple[Tensor, Tensor]:
        found = [
            _in_float64(camera, grid.coarser(factor), camera.offset if use_offset else np.zeros(3), torch.device(batch.device))
            for camera, grid in zip(batch.cameras[view], batch.grids, strict=True)
        ]
        return torch.stack([torch.stack([u, v], -1) for u, v, _ in found]), torch.stack([depth for _, _, depth in found])

    return batch.once(("locations", factor, use_offset, view), make)
