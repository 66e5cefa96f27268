"""What was seen: which voxels a scanner knows after it has driven on.

SemanticKITTI's truth is accumulated from the sweeps of the following poses; a voxel that no sweep saw is unknown (Behley et al. 2019, section
on scene completion). Here a few later poses look in all directions, far coarser than a scanner turns but to all heights, and a voxel is known
if the line from one of them reaches it, or reaches a little less far when something stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.grid import VoxelGrid
from wholescene.worlds.casting import Caster
from wholescene.worlds.solids import Body

Array = NDArray[Any]

_TURNS, _LEVELS = 600, 100


def _panorama(caster: Caster, origin: Array, pixels: tuple[int, int]) -> Array:
    """(turns, levels) float32 metres to what is met, in all directions; levels are even in the signed root of a slope, finest at the horizon."""
    turns, levels = pixels
    azimuth = (np.arange(turns) + 0.5) / turns * 2 * np.pi - np.pi
    root = (np.arange(levels) + 0.5) / levels * 2 - 1
    level = np.sign(root) * root**2  # height / (reach + |height|), both over the ground plane
    z = level / (1 - np.abs(level))
    a, z = np.broadcast_arrays(azimuth[:, None], z[None, :])
    directions = np.stack([np.cos(a), np.sin(a), z], axis=-1).astype(np.float32).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return caster.distances(origin, directions).reshape(turns, levels)


def _sees(panorama: Array, origin: Array, x: Array, y: Array, z: Array, metres: Array | float, share: Array | float = 0.0) -> Array:
    """(...) bool: whether points are nearer than what the panorama meets there, or not much farther: by `metres` plus a share of it."""
    turns, levels = panorama.shape
    dx, dy, dz = x - np.float32(origin[0]), y - np.float32(origin[1]), z - np.float32(origin[2])
    column = ((np.arctan2(dy, dx) + np.float32(np.pi)) * np.float32(turns / (2 * np.pi))).astype(np.int32) % turns
    reach = np.sqrt(dx * dx + dy * dy)
    height = np.abs(dz)
    root = np.copysign(np.sqrt(height / (reach + height + np.float32(1e-6))), dz)
    row = np.minimum(((root + 1) * np.float32(levels / 2)).astype(np.int32), levels - 1)
    met = panorama.ravel()[column * levels + row]
    near = met * (1 + share) + metres
    return reach * reach + dz * dz <= near * near


def outside(bodies: Sequence[Body], points: Array, margin: float = 0.3) -> Array:
    """(N,) bool: which points (N, 3) lie in none of the bodies (grown by `margin` metres); the ground is left out."""
    free = np.ones(len(points), bool)
    for body in bodies:
        low, high = body.shape.bounds()
        near = np.all((points > low - margin) & (points < high + margin), axis=1) & free
        if body.label_at is None and near.any():
            free[near] &= ~body.shape.inside(points[near, 0], points[near, 1], points[near, 2], margin)
    return free


def observe(
    caster: Caster,
    labels: NDArray[np.uint8],
    grid: VoxelGrid,
    poses: Array,
    depth_of: dict[int, tuple[float, float]],
    seen_points: Array | None = None,
) -> NDArray[np.bool_]:
    """Which voxels are known.

    Args:
        caster: of the world.
        labels: (X, Y, Z) the whole truth on `grid`.
        grid: axis-aligned in world order.
        poses: (P, 3) where a scanner stood, world metres.
        depth_of: how much farther than the nearest surface a class is still seen: metres (leaves let light through), and a share of the
            distance (flat ground, where a small angle is a long way); 0.3 m and nothing for those not named.
        seen_points: (N, 3) world points that count as seen whatever the poses say (what the picture shows).

    Returns:
        (X, Y, Z) bool.
    """
    shape, edges, corner = grid.shape, np.asarray(grid.voxel_size, np.float32), grid.T_world_grid[:3, 3].astype(np.float32)
    block = 2 if edges[0] < 0.4 else 1
    panoramas = [_panorama(caster, pose, (_TURNS, _LEVELS)) for pose in poses]
    known = _see_free(panoramas, poses, shape, edges, corner, block)
    solid = np.flatnonzero(labels.ravel())
    x, y, z = ((i.astype(np.float32) + np.float32(0.5)) * edges[a] + corner[a] for a, i in enumerate(np.unravel_index(solid, shape)))
    table = np.tile(np.array([0.3, 0.0], np.float32), (256, 1))
    for label, extra in depth_of.items():
        table[label] = extra
    metres, share = table[labels.ravel()[solid]].T
    metres = np.maximum(metres, np.float32(0.75 * edges.max()))
    pending = np.arange(len(solid))
    seen = np.zeros(len(solid), bool)
    for panorama, pose in zip(panoramas, poses, strict=True):
        found = _sees(panorama, pose, x[pending], y[pending], z[pending], metres[pending], share[pending])
        seen[pending[found]] = True
        pending = pending[~found]
    known.ravel()[solid] = seen
    if seen_points is not None:
        index, within = grid.index_of(seen_points)
        known[tuple(index[within].T)] = True
    return known


def _see_free(panoramas: list[Array], poses: Array, shape: tuple[int, int, int], edges: Array, corner: Array, block: int) -> Array:
    """(X, Y, Z) bool: free space, decided for blocks of `block` x `block` columns."""
    blocks = (shape[0] // block, shape[1] // block, shape[2])
    ticks = [((np.arange(n, dtype=np.float32) + np.float32(0.5)) * edges[a] * (block if a < 2 else 1) + corner[a]) for a, n in enumerate(blocks)]
    known = np.zeros(blocks, bool).ravel()
    pending = np.arange(known.size)
    for panorama, pose in zip(panoramas, poses, strict=True):
        i, j, k = np.unravel_index(pending, blocks)
        found = _sees(panorama, pose, ticks[0][i], ticks[1][j], ticks[2][k], 0.05)
        known[pending[found]] = True
        pending = pending[~found]
    return np.repeat(np.repeat(known.reshape(blocks), block, axis=0), block, axis=1)
