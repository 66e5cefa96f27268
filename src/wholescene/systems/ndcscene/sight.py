"""Where voxels lie in normalised device coordinates: pixel and normalised depth, not rounded, and which of them are in view (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wholescene.geometry.frustums import OUT_OF_VIEW
from wholescene.geometry.projection import locate_batch
from wholescene.structures import Batch
from wholescene.systems.ndcscene.config import NDCSceneConfig


@dataclass(frozen=True)
class Sight:
    """The voxel centres of B grids as B cameras see them; N voxels in C order of the grid's own axes.

    Attributes:
        pixels: (B, N, 2) float64 (u, v); they mean nothing out of view.
        depth: (B, N) float64, 0 at the near and 1 at the far end of the depth range.
        in_view: (B, N) bool: between the centres of the picture's outermost pixels and within the depth range, ends included.
    """

    pixels: Tensor
    depth: Tensor
    in_view: Tensor


def sight_of(batch: Batch, factor: int, config: NDCSceneConfig) -> Sight:
    """The sight of a batch on the grid that is `factor` times coarser, made once and memoised on the batch."""
    near, far = config.depth_range

    def make() -> Sight:
        pixels, depth = locate_batch(batch, factor, config.use_offset)
        last = _sizes(batch) - 1
        inside = ((pixels >= 0) & (pixels <= last)).all(-1) & (depth >= near) & (depth <= far)
        return Sight(pixels, (depth - near) / (far - near), inside)

    return batch.once(("normalised device coordinates", factor, near, far, config.use_offset), make)


def frustums_of(batch: Batch, config: NDCSceneConfig) -> Tensor:
    """(B, N) int16, the local frustum of each voxel of the batch's grid, -1 out of view; row by row of equal tiles of the picture.

    Unlike MonoScene's, a voxel's tile is that of its pixel before rounding, and the depth range counts.
    """
    sight, divisions = sight_of(batch, 1, config), config.frustum_divisions
    column, row = (sight.pixels / _sizes(batch) * divisions).floor().unbind(-1)
    return torch.where(sight.in_view, row * divisions + column, OUT_OF_VIEW).to(torch.int16)


def _sizes(batch: Batch) -> Tensor:
    """(B, 1, 2) float64, width and height of the pictures."""
    return torch.tensor([camera.size for camera in batch.cameras["main"]], dtype=torch.float64, device=batch.device)[:, None]
