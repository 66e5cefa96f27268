"""What voxels see of the picture (MonoMRN, "Distance Attention Projection"): x = a(delta) * F(u, v)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.geometry.projection import locate_batch
from wholescene.geometry.selecting import indices_of
from wholescene.geometry.surface import read_map, strides_of, surface_distance
from wholescene.layers.depth_bins import DepthBins
from wholescene.layers.distance_attention import DistanceAttention
from wholescene.ops.trilinear import resize_volume
from wholescene.structures import Batch, Lifted
from wholescene.systems.refine.config import Refine
from wholescene.systems.refine.joint import Joint

Look = Callable[[Tensor, int], Tensor]


class VoxelSight(nn.Module):
    """Features of the active voxels, weighted by their distance to the observed surface.

    They are read from the map of the 2D half; a system that hands on none is read from its lifted volume, which is its own projection of the map.

    Attributes:
        width: channels of x.
    """

    def __init__(self, refine: Refine, joint: Joint, width: int) -> None:
        """
        Args:
            refine: profile, reaches, source of depth.
            joint: what there is to see.
            width: channels of x.

        Raises:
            InputError: a depth head without a map.
        """
        super().__init__()
        self.joint, self.profile = joint, refine.profile
        self.width = width if joint.source != "nothing" else 0
        if not self.width:
            return
        kind = nn.Conv2d if joint.source == "pyramid" else nn.Conv3d
        self.reduce: nn.Module = nn.Identity() if joint.seen == width else kind(joint.seen, width, 1)
        steps = refine.steps if refine.reach_per_step else 1
        self.attention = DistanceAttention(refine.profile, refine.reach_behind, refine.reach_before, refine.widening_m, steps)
        if refine.depth == "head" and refine.profile != "none":
            if joint.source != "pyramid":
                raise InputError("refine: a depth head reads the map of the 2D half, and this one hands on none; set depth: given, or profile: none")
            self.depth = DepthBins(joint.seen, refine.depth_range)

    @property
    def has_depth_head(self) -> bool:
        """Whether it makes its depth itself."""
        return hasattr(self, "depth")

    @property
    def needs_depth(self) -> bool:
        """Whether frames must bring a depth map."""
        return self.width > 0 and self.profile != "none" and not self.has_depth_head and not self.joint.depth

    def prepare(self, lifted: Lifted, batch: Batch) -> tuple[Look, Tensor | None]:
        """What gives x (n, width) for a mask (B, x, y, z) of n voxels and the number of a step; and the depth of the own head.

        Raises:
            InputError: no depth map where one is needed.
        """
        if not self.width:
            return lambda mask, step: mask.new_zeros((len(indices_of(mask)), 0), dtype=torch.float32), None
        own, depth = None, lifted.depth if lifted.depth is not None else batch.depth
        if self.has_depth_head:
            depth = own = self._own_depth(lifted, batch)
        if depth is None and self.profile != "none":
            raise InputError(
                f"frames {', '.join(batch.names)} have no depth, which distance attention measures from; give it with each frame, "
                "or set refine.profile: none, or refine.depth: head"
            )
        features = self._features(lifted, batch)
        pixels, metres = locate_batch(batch, self.joint.factor)
        voxel = [max(grid.coarser(self.joint.factor).voxel_size) for grid in batch.grids]
        sizes = [camera.size for camera in batch.cameras["main"]]

        def look(mask: Tensor, step: int) -> Tensor:
            found = []
            for i, active in enumerate(map(indices_of, mask)):
                at, z, surface = pixels[i, active], metres[i, active], None if depth is None else depth[i]
                weights = self._weights(surface, at, z, sizes[i], voxel[i], step)
                found.append(features(i, active, at) * weights[:, None])
            return torch.cat(found)

        return look, own

    def _own_depth(self, lifted: Lifted, batch: Batch) -> Tensor:
        """(B, H, W) metres of the head; beyond the smaller of unlike pictures 0."""
        height, width = batch.pictures["main"].shape[2:]
        if lifted.cells is None:
            found: Tensor = self.depth(_finest(lifted), (height, width))[0]
            return found
        alone = [self.depth(_finest_of(lifted, i), (c.height, c.width))[0] for i, c in enumerate(batch.cameras["main"])]
        return torch.cat([F.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in alone])

    def _weights(self, depth: Tensor | None, pixels: Tensor, metres: Tensor, size: tuple[int, int], voxel: float, step: int) -> Tensor:
        """(n,) attention; 0 out of view, and where no surface is known."""
        if depth is None or self.profile == "none":
            u, v = pixels.unbind(1)
            return ((metres > 0) & (u >= 0) & (u < size[0]) & (v >= 0) & (v < size[1])).float()
        delta, surface, seen, _ = surface_distance(depth, pixels, metres, size, 2 * voxel)
        return torch.where(seen, self.attention(delta, surface, voxel, step), 0.0)

    def _features(self, lifted: Lifted, batch: Batch) -> Callable[[int, Tensor, Tensor], Tensor]:
        """What gives F (n, width) for the number of a frame, its voxels (n,) and their pixels (n, 2)."""
        if self.joint.source == "pyramid":
            maps = [self.reduce(_finest_of(lifted, i))[0] for i in range(len(batch))]
            pictures, cameras = batch.pictures["main"], batch.cameras["main"]
            strides = [strides_of(maps[i], pictures[i, :, : c.height, : c.width]) for i, c in enumerate(cameras)]
            return lambda i, active, pixels: read_map(maps[i], torch.nan_to_num(pixels, -1e6, -1e6, -1e6).clamp(-1e6, 1e6), strides[i])
        assert lifted.volume is not None
        volume = self.reduce(lifted.volume)
        shape = batch.grids[0].coarser(self.joint.factor).shape
        if tuple(volume.shape[2:]) != shape:
            volume = resize_volume(volume, shape)
        rows = volume.flatten(2)
        return lambda i, active, pixels: rows[i].index_select(1, active).T


def _finest_of(lifted: Lifted, frame: int) -> Tensor:
    """(1, C, h, w): that of one frame, at its own size."""
    return lifted.maps_of(frame, next(iter(lifted.pyramids)))[0]


def _finest(lifted: Lifted) -> Tensor:
    """(B, C, h, w): the finest map of the first pyramid."""
    return next(iter(lifted.pyramids.values()))[0]
