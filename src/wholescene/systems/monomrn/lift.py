"""MonoMRN's 2D half: picture -> map and depth -> features on the surface that the depth shows (figure 2, "2D-3D mapping")."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.geometry.occupancy import voxels_of_depth
from wholescene.geometry.projection import project_batch
from wholescene.geometry.selecting import indices_of
from wholescene.geometry.surface import read_map
from wholescene.grid import VoxelGrid
from wholescene.layers.depth_bins import DepthBins, log_depth_loss
from wholescene.layers.flosp import FLoSP
from wholescene.layers.unet2d import UNet2D
from wholescene.structures import Batch, Lifted, Prediction
from wholescene.systems.base import normalise
from wholescene.systems.halves import Half2D
from wholescene.systems.monomrn.config import MonoMRNConfig

_PIXELS = 2**15  # read at a time


class SurfaceLift(Half2D):
    """2D UNet, depth, and the mapping of pixels to voxels."""

    gives: ClassVar[frozenset[str]] = frozenset({"pyramids", "depth"})

    def __init__(self, config: MonoMRNConfig) -> None:
        super().__init__()
        self.config, self.width, self.factor = config, config.features, config.lift_factor
        recompute = config.activation_checkpointing
        scales = (config.map_scale,)
        self.encoder = UNet2D(config.encoder, config.features, scales, width=config.decoder_width, activation_checkpointing=recompute)
        self.lift = FLoSP() if config.mapping == "sight" else SurfaceProjection(config.mapping)
        if config.depth == "head":
            self.depth = DepthBins(config.features, config.depth_range)
        elif config.mapping == "sight":
            self.gives = frozenset({"pyramids"})  # type: ignore[misc]  # depends on the configuration

    @property
    def needs(self) -> frozenset[str]:
        """A depth map, unless the head makes it or nothing is mapped by it."""
        return frozenset({"depth"}) if self.config.depth == "given" and self.config.mapping != "sight" else frozenset()

    @property
    def supervision(self) -> frozenset[str]:
        """The true depth, for the head's loss."""
        return frozenset({"depth"}) if self.config.depth == "head" else frozenset()

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z) on the grid that is `lift_factor` times coarser than the batch's; the map, and the depth (B, H, W).

        Raises:
            InputError: no depth where it is to be given.
        """
        config, pictures = self.config, batch.pictures["main"]
        grids = tuple(grid.coarser(config.lift_factor) for grid in batch.grids)
        maps = self.encoder(normalise(pictures, config.preparation))
        features = maps[config.map_scale]
        shares, depth = None, batch.depth
        if config.depth == "head":
            depth, shares = self.depth(features, pictures.shape[2:])
        if isinstance(self.lift, FLoSP):
            table = project_batch(batch, config.lift_factor)
            volume = self.lift(maps, table.pixels, table.in_view, grids[0].shape)
        elif depth is None:
            raise InputError(f"frames {', '.join(batch.names)} have no depth, which MonoMRN maps pixels to voxels by; give it with each frame")
        else:
            volume = self.lift(features, depth, (config.map_scale, config.map_scale), batch.cameras["main"], grids)
        extras = {} if shares is None else {"depth": depth}
        return Lifted(volume, grids, {"picture": [features]}, depth, shares, extras=extras)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The depth head's, where there is one and the frames know the depth."""
        truth = batch.depth_target if batch.depth_target is not None else batch.depth
        if "depth" not in prediction.extras or truth is None:
            return {}
        return {"depth": log_depth_loss(prediction.extras["depth"], truth)}


class SurfaceProjection(torch.nn.Module):
    """Every voxel takes the features of the pixels whose points lie in it; no parameters.

    A voxel without a pixel then takes the sum over its 3x3x3 neighbours divided by 27, once, which closes the gaps between the rows of a far picture.
    """

    def __init__(self, mapping: str) -> None:
        """
        Args:
            mapping: "surface": the mean of the pixels; "index": the last one, row by row.
        """
        super().__init__()
        self.mapping = mapping

    def forward(self, features: Tensor, depth: Tensor, stride: tuple[int, int], cameras: tuple[Camera, ...], grids: tuple[VoxelGrid, ...]) -> Tensor:
        """
        Args:
            features: (B, C, h, w) map.
            depth: (B, H, W) metres, 0 unknown.
            stride: pixels a cell of the map along u and v.
            cameras, grids: B of each.

        Returns:
            (B, C, X, Y, Z).
        """
        frames = zip(features, depth.detach(), cameras, grids, strict=True)
        return torch.stack([self._project(one, metres, stride, camera, grid) for one, metres, camera, grid in frames])

    def _project(self, features: Tensor, depth: Tensor, stride: tuple[int, int], camera: Camera, grid: VoxelGrid) -> Tensor:
        """(C, X, Y, Z) of one frame."""
        voxels = voxels_of_depth(depth, camera, grid).reshape(-1)
        seen = indices_of(voxels < grid.voxels)
        if self.mapping == "index":
            seen = _last_of_each(voxels[seen], seen, grid.voxels)
        rows, counts = features.new_zeros(grid.voxels, features.shape[0], dtype=_kind(features)), torch.zeros(grid.voxels, device=depth.device)
        for pixels in seen.split(_PIXELS):
            u, v = pixels % depth.shape[1], pixels.div(depth.shape[1], rounding_mode="floor")
            rows.index_add_(0, voxels[pixels], read_map(features, torch.stack([u, v], 1).float(), stride))
            counts.index_add_(0, voxels[pixels], torch.ones_like(u, dtype=counts.dtype))
        volume = (rows / counts.clamp(min=1).to(rows.dtype)[:, None]).T.reshape(-1, *grid.shape)
        return torch.where(counts.view(grid.shape) > 0, volume, F.avg_pool3d(volume[None], 3, 1, 1)[0])


def _last_of_each(voxels: Tensor, pixels: Tensor, count: int) -> Tensor:
    """For every voxel that occurs in `voxels` (n,), the largest of its `pixels` (n,)."""
    last = torch.full((count,), -1, dtype=pixels.dtype, device=pixels.device).scatter_reduce_(0, voxels, pixels, "amax")
    return last[last >= 0].sort().values


def _kind(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32
