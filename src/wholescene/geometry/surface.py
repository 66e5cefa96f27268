"""Where points lie relative to the surface that a depth map shows, and what a map says at places between its cells."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def surface_distance(depth: Tensor, pixels: Tensor, metres: Tensor, size: tuple[int, int], edge: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How far points lie behind the observed surface along the optical axis: delta = z - d (MonoMRN's distance attention).

    d is read between the four pixels around a place (linearly), or at the nearest one where they differ by more than `edge`: depths are never mixed
    across the border of a thing. Gradients reach the depth map.

    Args:
        depth: (H, W) float metres, 0 or not finite where unknown; may be larger than the picture (padded).
        pixels: (n, 2) float (u, v) of the points, not rounded; what they are behind the camera does not matter.
        metres: (n,) float, depth z of the points.
        size: (width, height) of the picture.
        edge: metres.

    Returns:
        delta (n,) metres, 0 where nothing is known; d (n,) metres likewise; seen (n,) bool: in the picture, with a known surface; and nearest (n,)
        bool: d is that of the nearest pixel.
    """
    width, height = size
    depth = torch.where(torch.isfinite(depth), depth, 0.0)
    u, v = pixels.unbind(1)
    inside = (metres > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v = torch.where(inside, u, 0.0), torch.where(inside, v, 0.0)
    left, top = u.floor(), v.floor()
    columns, rows = ((start.long()[:, None] + torch.arange(2, device=depth.device)).clamp(max=n - 1) for start, n in ((left, width), (top, height)))
    around = depth[rows[:, :, None], columns[:, None, :]]  # (n, 2, 2)
    right, below = ((value - start).to(depth.dtype) for value, start in ((u, left), (v, top)))
    across = torch.lerp(around[:, :, 0], around[:, :, 1], right[:, None])
    between = torch.lerp(across[:, 0], across[:, 1], below)
    flat = around.flatten(1)
    nearest = (flat.amax(1) - flat.amin(1) > edge) | (flat.amin(1) <= 0)
    closest = depth[(v + 0.5).floor().long().clamp(max=height - 1), (u + 0.5).floor().long().clamp(max=width - 1)]
    found = torch.where(nearest, closest, between)
    seen = inside & (found > 0)
    found = torch.where(seen, found, 0.0)
    return torch.where(seen, metres.to(found.dtype) - found, 0.0), found, seen, nearest & inside


def read_map(features: Tensor, pixels: Tensor, stride: tuple[int, int]) -> Tensor:
    """What a map says at pixels: linear between the centres of its cells, zero outside it.

    Args:
        features: (C, h, w).
        pixels: (n, 2) float (u, v) of the picture; the centre of its top-left pixel is (0, 0).
        stride: pixels a cell along u and v; cell i is centred on pixel (i + 0.5) * stride - 0.5.

    Returns:
        (n, C) float32, float64 for float64 features.
    """
    features = features.to(torch.float64 if features.dtype == torch.float64 else torch.float32)
    height, width = features.shape[1:]
    edges = torch.tensor([width * stride[0], height * stride[1]], dtype=pixels.dtype, device=pixels.device)
    places = ((pixels + 0.5) / edges * 2 - 1).to(features.dtype)
    return F.grid_sample(features[None], places[None, None], align_corners=False)[0, :, 0].T


def strides_of(features: Tensor, pictures: Tensor) -> tuple[int, int]:
    """Pixels a cell along u and v of maps (..., h, w) of pictures (..., H, W): a power of two, as networks make maps.

    The last cells may reach beyond the picture, so the quotient of the sizes lies below the stride: 370 rows in 24 cells are cells of 16.
    """
    u, v = map(stride_of, pictures.shape[:-3:-1], features.shape[:-3:-1])
    return u, v


def stride_of(pixels: int, cells: int) -> int:
    """Pixels a cell of a map's axis, as `strides_of`.

    >>> stride_of(370, 24), stride_of(96, 24)
    (16, 4)
    """
    return int(2 ** max(0, round(math.log2(pixels / cells))))
