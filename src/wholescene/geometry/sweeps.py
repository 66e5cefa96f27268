"""A sweep in a picture: the depth, and the class, of the nearest point of every pixel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.labels import UNKNOWN


def project_points(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Pixels (n, 2) float64 (u, v) and depth (n,) float64 metres of world points (n, 3 or more), computed in float64."""
    matrix = torch.from_numpy(camera.matrix @ np.vstack([camera.T_cam_world[:3], (0, 0, 0, 1)])).to(points.device)
    places = points[:, :3].double() @ matrix[:, :3].T + matrix[:, 3]
    return places[:, :2] / places[:, 2:], places[:, 2]


def depth_of_points(points: Tensor, camera: Camera) -> Tensor:
    """(H, W) float32 metres along the optical axis, 0 where no point falls; the nearest point of a pixel counts. Pixels are rounded half to even."""
    pixel, depth = _in_picture(points, camera)[:2]
    return _nearest(pixel, depth, camera)


def labels_of_points(points: Tensor, labels: Tensor, camera: Camera) -> Tensor:
    """(H, W) uint8, the class of the nearest point of every pixel, 255 where no point falls.

    Args:
        points: (n, 3 or more) float, world metres.
        labels: (n,) uint8.
        camera: of the picture.
    """
    pixel, depth, kept = _in_picture(points, camera)
    wins = depth == _nearest(pixel, depth, camera).view(-1)[pixel]
    flat = torch.full((camera.height * camera.width,), UNKNOWN, dtype=torch.uint8, device=points.device)
    flat[pixel[wins]] = labels[kept][wins]
    return flat.view(camera.height, camera.width)


def _in_picture(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Flat pixel (k,) int64 and depth (k,) float32 of the points before the camera and between the centres of the outer pixels; which they are."""
    places, depth = project_points(points, camera)
    last = torch.tensor((camera.width - 1, camera.height - 1), dtype=places.dtype, device=places.device)
    kept = ((places >= 0) & (places <= last)).all(-1) & (depth > 0)
    u, v = places[kept].round().long().unbind(-1)
    return v * camera.width + u, depth[kept].float(), kept


def _nearest(pixel: Tensor, depth: Tensor, camera: Camera) -> Tensor:
    flat = torch.full((camera.height * camera.width,), torch.inf, device=depth.device)
    flat = flat.scatter_reduce(0, pixel, depth, "amin")
    return torch.where(flat.isinf(), 0.0, flat).view(camera.height, camera.width)
