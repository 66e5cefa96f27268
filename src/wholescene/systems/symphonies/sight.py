"""Where voxels, pixels and instance queries of Symphonies meet: projections, proposed voxels, reference points (section 3.2, equations 1 to 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.geometry.occupancy import places_of_depth
from wholescene.geometry.projection import locate_batch, project_batch
from wholescene.structures import Batch
from wholescene.systems.halves import check_grid
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.mirroring import with_cameras_unmirrored

_FARTHEST = 1e9  # pixels: beyond any picture, so that what is at the camera's plane stays a number


@dataclass(frozen=True)
class Sight:
    """The geometry of B frames; N voxels of the scene's grid in C order.

    Attributes:
        pixels: (B, N, 2) float32 (u, v) where each voxel falls; means nothing behind the camera.
        in_view: (B, N) bool.
        sizes: (B, 1, 2) float32 (width, height) of the pictures without padding.
        shape: (X, Y, Z) of the scene.
        voxels: (B, H, W, 3) int64, the voxel that each pixel's point lies in, also outside the scene; None without depth.
        known: (B, H, W) bool, which pixels have a depth; None without depth.
    """

    pixels: Tensor
    in_view: Tensor
    sizes: Tensor
    shape: tuple[int, int, int]
    voxels: Tensor | None = None
    known: Tensor | None = None

    def of(self, frame: int) -> Sight:
        """One frame of the batch, as a batch of one."""
        own = slice(frame, frame + 1)
        voxels, known = (None if t is None else t[own] for t in (self.voxels, self.known))
        return Sight(self.pixels[own], self.in_view[own], self.sizes[own], self.shape, voxels, known)

    def proposed(self) -> Tensor:
        """(B, N) bool, which voxels hold the point of at least one pixel (equation 3)."""
        assert self.voxels is not None
        assert self.known is not None
        sizes = torch.tensor(self.shape, device=self.voxels.device)
        inside = self.known & ((self.voxels >= 0) & (self.voxels < sizes)).all(-1)
        x, y, z = torch.where(inside[..., None], self.voxels, 0).unbind(-1)
        count = self.shape[0] * self.shape[1] * self.shape[2]
        flat = torch.where(inside, (x * self.shape[1] + y) * self.shape[2] + z, count).flatten(1)  # one more takes what lies nowhere
        found = torch.zeros(len(flat), count + 1, dtype=torch.bool, device=flat.device)
        return found.scatter_(1, flat, torch.ones_like(flat, dtype=torch.bool))[:, :-1]

    def voxels_of_points(self, points: Tensor) -> Tensor:
        """(B, Q, 3) int64, the voxel behind each point (B, Q, 2) of the pictures (0 and 1 are their edges); what lies outside is put at the wall,
        and a point whose pixel has no depth at the camera."""
        assert self.voxels is not None
        found = self.voxels.flatten(1, 2).gather(1, self._pixels_of(points)[..., None].expand(-1, -1, 3))
        last = torch.tensor(self.shape, device=found.device) - 1
        return torch.minimum(found.clamp(min=0), last)

    def known_at(self, points: Tensor) -> Tensor:
        """(B, Q) bool, whether the pixel of each point (B, Q, 2) of the pictures has a depth."""
        assert self.known is not None
        return self.known.flatten(1).gather(1, self._pixels_of(points))

    def _pixels_of(self, points: Tensor) -> Tensor:
        """(B, Q) int64, flat index among the padded picture's pixels."""
        assert self.known is not None
        column, row = (torch.minimum((points * self.sizes).floor(), self.sizes - 1)).long().unbind(-1)
        return row * self.known.shape[2] + column


def look(batch: Batch, config: SymphoniesConfig) -> Sight:
    """The geometry of a batch as configured, made once.

    Raises:
        InputError: the configuration needs depth and the frames have none, or the grid has another shape.
    """
    check_grid(batch, config.grid.shape)
    if config.needs_depth and batch.depth is None:
        raise InputError(f"frames {', '.join(batch.names)} have no depth, from which Symphonies proposes voxels; give it with each frame")
    if config.mirrored_scene:
        batch = with_cameras_unmirrored(batch)
    fields = (config.factors, config.projection, config.voxel_rounding, config.use_offset, config.needs_depth)

    def make() -> Sight:
        pixels, in_view = _voxels_in_picture(batch, config)
        sizes = torch.tensor([camera.size for camera in batch.cameras["main"]], dtype=torch.float32, device=batch.device)[:, None]
        if not config.needs_depth:
            return Sight(pixels, in_view, sizes, config.scene_shape)
        return Sight(pixels, in_view, sizes, config.scene_shape, *_pixels_in_voxels(batch, config))

    return batch.once(("symphonies", *fields), make)


def _voxels_in_picture(batch: Batch, config: SymphoniesConfig) -> tuple[Tensor, Tensor]:
    """pixels (B, N, 2) float32 and in view (B, N) bool."""
    if config.projection == "centre":
        pixels, depth = locate_batch(batch, config.factors, config.use_offset)
        sizes = torch.tensor([camera.size for camera in batch.cameras["main"]], dtype=pixels.dtype, device=pixels.device)[:, None]
        in_view = ((pixels > -0.5) & (pixels < sizes - 0.5)).all(-1) & (depth > 0)
        return pixels.nan_to_num(_FARTHEST, _FARTHEST, -_FARTHEST).clamp(-_FARTHEST, _FARTHEST).float(), in_view
    table = project_batch(batch, config.lift_factor, "released-kitti", config.use_offset)
    finer = tuple(n * (config.height_factor if axis == config.up else 1) for axis, n in enumerate(config.scene_shape))
    held = (config.scene_shape[config.up], config.height_factor)
    pixels = table.pixels.float().unflatten(1, finer).unflatten(1 + config.up, held).mean(2 + config.up).trunc()
    in_view = table.in_view.unflatten(1, finer).unflatten(1 + config.up, held).any(2 + config.up)
    return pixels.flatten(1, 3), in_view.flatten(1)


def _pixels_in_voxels(batch: Batch, config: SymphoniesConfig) -> tuple[Tensor, Tensor]:
    """The voxel of each pixel's point (B, H, W, 3) int64, and which pixels have one (B, H, W) bool."""
    assert batch.depth is not None
    views = zip(batch.depth, batch.cameras["main"], batch.grids, strict=True)
    found = [places_of_depth(depth, _seen_by(camera, config), grid.coarser(config.factors)) for depth, camera, grid in views]
    return torch.stack([to_voxels(places, config) for places, _ in found]), torch.stack([known for _, known in found])


def to_voxels(places: Tensor, config: SymphoniesConfig) -> Tensor:
    """Places (..., 3) in voxels of the scene's grid to the voxels (..., 3) int64 that they are counted to."""
    if config.voxel_rounding == "floor":
        return places.floor().long()
    return released_points(places, config).trunc().long()


def released_points(places: Tensor, config: SymphoniesConfig) -> Tensor:
    """Places in voxels, half a voxel of the `lift_factor` times coarser grid less, as released code computes them before it cuts off the fraction."""
    half = [0.5 / (config.height_factor if axis == config.up else 1) for axis in range(3)]
    return places - torch.tensor(half, dtype=places.dtype, device=places.device)


def _seen_by(camera: Camera, config: SymphoniesConfig) -> Camera:
    """The camera that pixels are unprojected with: as recorded, or as released without its offset and in the precision of float32."""
    if config.use_offset:
        return camera
    single = (np.asarray(m, np.float32).astype(np.float64) for m in (camera.K, camera.T_cam_world))
    K, pose = single
    return replace(camera, K=K, T_cam_world=pose, offset=np.zeros(3))


def on_maps(pixels: Tensor, sizes: Tensor, strides: Sequence[int], shapes: Sequence[Sequence[int]], alignment: str) -> Tensor:
    """Where pixels lie on the maps of a picture.

    Args:
        pixels: (B, n, 2) float (u, v).
        sizes: (B, 1, 2) width and height of the pictures without padding.
        strides: pixels a cell of each of L maps.
        shapes: (h, w) of the maps, of the padded pictures.
        alignment: as `pixel_alignment` of the configuration.

    Returns:
        (B, n, L, 2), 0 and 1 being the outer edges of each map.
    """
    levels = []
    for stride, (height, width) in zip(strides, shapes, strict=True):
        cells = torch.tensor((width, height), dtype=pixels.dtype, device=pixels.device)
        if alignment == "released":
            levels.append((pixels + 0.5) / sizes * (torch.ceil(sizes / stride) / cells))
        else:  # cell i of a chain of halvings is centred on pixel i * stride
            levels.append((pixels / stride + 0.5) / cells)
    return torch.stack(levels, 2)


def seats_of(voxels: Tensor, shape: tuple[int, int, int], kind: str) -> Tensor:
    """Voxels (..., 3) int64 to shares (..., 3) float32 of the scene along its array axes, as `voxel_seats` of the configuration says."""
    sizes = torch.tensor(shape, dtype=torch.float32, device=voxels.device)
    if kind == "released":
        return voxels / (sizes - 1).clamp(min=1)
    return (voxels + 0.5) / sizes


def unravelled(flat: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(n, 3) int64 array indices of flat ones (n,) in C order."""
    return torch.stack([flat // (shape[1] * shape[2]), flat // shape[2] % shape[1], flat % shape[2]], -1)
