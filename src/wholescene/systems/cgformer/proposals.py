"""Depth-based voxel proposals: the voxels that a pixel's point falls in (CGFormer, section 3.1, after VoxFormer)."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.grid import VoxelGrid
from wholescene.structures import Batch
from wholescene.systems.cgformer.config import GeometryConfig
from wholescene.systems.cgformer.geometry import lift_points
from wholescene.systems.cgformer.stereo import known_pixels

_FEW_POINTS, _FEW_VOXELS = 10, 2
_MARGIN = 1e-4  # metres that released code leaves at each face


def propose(batch: Batch, config: GeometryConfig) -> Tensor:
    """(B, X, Y, Z) bool on the coarser grid, from `batch.depth`."""
    assert batch.depth is not None
    frames = zip(batch.depth, batch.cameras["main"], batch.grids, strict=True)
    return torch.stack([propose_of(depth, camera, grid.coarser(config.lift_factor), config) for depth, camera, grid in frames])


def propose_of(depth: Tensor, camera: Camera, grid: VoxelGrid, config: GeometryConfig) -> Tensor:
    """Of one frame.

    Args:
        depth: (H, W) metres, 0 unknown; it may be larger than the picture, as padded maps of a batch are.
        camera: of the picture.
        grid: where voxels are proposed.
        config: what counts as known, what as inside, and what to do where next to nothing is.

    Returns:
        (X, Y, Z) bool.
    """
    released = config.arithmetic == "released"
    width, height = camera.size
    depth = depth[:height, :width]
    v, u = (torch.arange(n, device=depth.device) for n in depth.shape)
    points = lift_points(u, v[:, None], depth, camera, grid, released).reshape(-1, 3)
    known = torch.ones_like(depth, dtype=torch.bool) if config.unknown_pixels == "camera" else known_pixels(depth, config)
    extent = torch.tensor(grid.extent, dtype=points.dtype, device=points.device)
    margin = _MARGIN if released else 0.0
    inside = known.reshape(-1) & ((points > margin) & (points < extent - margin)).all(-1)
    points = points[inside]
    if len(points) < _FEW_POINTS:
        if config.few_points == "all":
            return torch.ones(grid.shape, dtype=torch.bool, device=depth.device)
        points = _near_the_origin(grid, points)
    shape = torch.tensor(grid.shape, dtype=points.dtype, device=points.device)
    x, y, z = (shape * points / extent).long().clamp(min=0).minimum(shape.long() - 1).unbind(-1)
    proposed = torch.zeros(grid.shape, dtype=torch.bool, device=depth.device)
    proposed[x, y, z] = True
    return torch.ones_like(proposed) if proposed.sum() < _FEW_VOXELS else proposed


def _near_the_origin(grid: VoxelGrid, like: Tensor) -> Tensor:
    """(10, 3) random places of the cubic metre before the world's origin, in the frame of the grid."""
    pose = torch.from_numpy(grid.T_grid_world).to(like)
    return torch.rand(_FEW_POINTS, 3, dtype=like.dtype, device=like.device) @ pose[:3, :3].T + pose[:3, 3]
