"""Exact voxels of a world: which class fills each voxel of a grid.

The rule, in one place: every voxel has 2 x 2 x 2 sample points, at a quarter and three quarters of each edge. A body claims a voxel if any
of them lies inside its shape (a thin body: inside the shape grown by half a sample step, so that nothing falls between sample points). Of
several bodies the one with the highest rank keeps the voxel, among equal ranks the later one. This resembles what LiDAR truth does (one
return is enough to fill a voxel), and it is exact: it is the shapes' own inside test and no mesh is involved. A coarser grid follows the same
rule with its own sample points; it is not pooled from a finer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.grid import VoxelGrid
from wholescene.worlds.solids import Body

Array = NDArray[Any]


def _any_of_two(samples: Array, axis: int) -> Array:
    """Pairs of neighbours along an axis, either one."""
    if samples.shape[axis] == 1:
        return samples
    first = np.take(samples, np.arange(0, samples.shape[axis], 2), axis=axis)
    return first | np.take(samples, np.arange(1, samples.shape[axis], 2), axis=axis)


def _claims(body: Body, corner: Array, edges: Array, low: Array, high: Array) -> Array:
    """(high - low) bool: the voxels in that window that the body claims."""
    step = edges / 2
    ticks = [corner[a] + (np.arange(2 * low[a], 2 * high[a], dtype=np.float64) + 0.5) * step[a] for a in range(3)]
    x, y, z = np.ix_(*ticks)
    # Thin along any axis must not slip through the coarsest step.
    samples = body.shape.inside(x, y, z, float(step.max()) / 2 if body.thin else 0.0)
    for axis in range(3):
        samples = _any_of_two(samples, axis)
    return np.broadcast_to(samples, tuple(high - low))


def voxelise(bodies: Sequence[Body], grid: VoxelGrid) -> NDArray[np.uint8]:
    """The class of every voxel by the rule above.

    Args:
        bodies: of the world; those with `label_at` get their class from it at voxel centres (x, y).
        grid: axis-aligned in world order x, y, z.

    Returns:
        (X, Y, Z) uint8 labels, 0 where nothing is; no voxel is unknown.
    """
    assert np.allclose(grid.T_world_grid[:3, :3], np.eye(3)), "worlds are voxelised in world order"
    corner, edges, shape = grid.T_world_grid[:3, 3], np.asarray(grid.voxel_size), np.asarray(grid.shape)
    labels = np.zeros(grid.shape, np.uint8)
    for body in sorted(bodies, key=lambda body: body.rank):
        lower, upper = body.shape.bounds()
        grown = float(edges.max()) / 4 if body.thin else 0.0
        low = np.clip(np.floor((lower - grown - corner) / edges).astype(int), 0, shape)
        high = np.clip(np.ceil((upper + grown - corner) / edges).astype(int), 0, shape)
        if np.any(low >= high):
            continue
        claimed = _claims(body, corner, edges, low, high)
        window = labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        if body.label_at is None:
            assert body.label is not None
            window[claimed] = body.label
        else:
            x, y = (corner[a] + (np.arange(low[a], high[a]) + 0.5) * edges[a] for a in range(2))
            here = np.broadcast_to(body.label_at(x[:, None], y[None, :])[..., None], claimed.shape)
            np.copyto(window, here, where=claimed)
    return labels
