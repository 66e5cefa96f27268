"""Rasterising quads with NumPy alone: no GL, no display, so a picture can be made wherever Python runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2**20  # candidate pixels worked on at a time: about 30 MB


def paint(quads: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.int32]:
    """Which quad is seen at each pixel, later quads covering earlier ones (painter's algorithm).

    Args:
        quads: (N, 4, 2) corners in pixels (right, down), convex, in the order in which they are painted; pixel (0, 0) reaches from 0 to 1.
        size: (width, height) of the picture.

    Returns:
        (height, width) int32 index of the quad, -1 where there is none.
    """
    width, height = size
    seen = np.full(height * width, -1, np.int32)
    low = np.clip(np.ceil(quads.min(1) - 0.5), 0, size).astype(np.int64)
    high = np.clip(np.floor(quads.max(1) - 0.5), -1, (width - 1, height - 1)).astype(np.int64)
    spans = high - low + 1
    drawable = np.flatnonzero((spans[:, 0] > 0) & (spans[:, 1] > 0))
    buckets = _bucket(spans[drawable]) @ (65536, 1)
    for bucket in np.unique(buckets).tolist():
        chosen = drawable[buckets == bucket]  # still in painting order
        w, h = divmod(bucket, 65536)
        step = max(1, _CHUNK // (w * h))
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            pixels, owner = _covered(quads[part], low[part], high[part], w, h, width)
            owner = part[owner].astype(np.int32)
            later = owner > seen[pixels]
            seen[pixels[later]] = owner[later]  # of repeated pixels the last stays, and owners ascend
    return seen.reshape(height, width)


def edge_distance(quads: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N,) distance in pixels from points (N, 2) to the nearest edge line of their quads (N, 4, 2)."""
    nearest = np.full(len(points), np.inf, np.float32)
    for k in range(4):
        a, b = quads[:, k].astype(np.float32), quads[:, (k + 1) % 4].astype(np.float32)
        edge, to = b - a, points.astype(np.float32) - a
        across = np.abs(edge[:, 0] * to[:, 1] - edge[:, 1] * to[:, 0])
        np.minimum(nearest, across / np.maximum(np.hypot(edge[:, 0], edge[:, 1]), 1e-6), out=nearest)
    return nearest


def _bucket(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Spans rounded up so that few different ones are left: exact up to 8 pixels, then powers of two."""
    powers = 2 ** np.ceil(np.log2(np.maximum(spans, 1))).astype(np.int64)
    return np.where(spans <= 8, spans, powers)


def _covered(
    quads: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64], w: int, h: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat pixels whose centres lie in quads, and the quad's number for each, ascending; `w` x `h` pixels from `low` are tried."""
    local = (quads - low[:, None]).astype(np.float32)  # near zero, so that float32 is exact enough
    xs, ys = np.arange(w, dtype=np.float32) + 0.5, np.arange(h, dtype=np.float32)[:, None] + 0.5
    inside = np.ones((len(quads), h, w), bool)
    area = local[:, 2] - local[:, 0], local[:, 3] - local[:, 1]
    turn = np.sign(area[0][:, 0] * area[1][:, 1] - area[0][:, 1] * area[1][:, 0])
    for k in range(4):
        a = local[:, k]
        edge = (local[:, (k + 1) % 4] - a) * turn[:, None]
        across = edge[:, 0, None, None] * (ys - a[:, 1, None, None]) - edge[:, 1, None, None] * (xs - a[:, 0, None, None])
        inside &= across >= 0
    limit = high - low
    inside &= (np.arange(w) <= limit[:, 0, None, None]) & (np.arange(h)[:, None] <= limit[:, 1, None, None])
    owner, y, x = np.nonzero(inside)
    return (low[owner, 1] + y) * width + low[owner, 0] + x, owner
