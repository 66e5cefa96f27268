"""Which voxels the camera sees, which stand behind something, and which are outside the picture: the splits of every score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid

OUT_OF_VIEW, VISIBLE, HIDDEN = 0, 1, 2
STATES = ("out of view", "visible", "hidden")
_AT_ONCE = 8192  # lines walked together: few enough that their state stays in the processor's cache


def visibility(occupied: NDArray[np.bool_], camera: Camera, grid: VoxelGrid) -> NDArray[np.uint8]:
    """The state of every voxel: out of view (0), visible (1) or hidden (2).

    A voxel is in view if the picture holds its centre; it is hidden if the straight line from its centre to the camera passes through another
    occupied voxel. Lines are walked from voxel to voxel exactly (Amanatides and Woo, A Fast Voxel Traversal Algorithm, 1987), all at once;
    empty space is leapt over by the distance to the next occupied voxel.

    Args:
        occupied: (X, Y, Z) bool, the known occupied voxels of the truth.
        camera: with a pose in the grid's world.
        grid: of that shape.

    Raises:
        InputError: shapes that disagree.
    """
    if occupied.shape != grid.shape:
        raise InputError(f"occupancy of shape {occupied.shape} on a grid of {grid.shape} voxels; they must agree")
    state = np.where(camera.sees(grid.centres()), VISIBLE, OUT_OF_VIEW).astype(np.uint8)
    eye = grid.T_grid_world @ np.append(camera.position, 1.0)
    clearance = _clearance(occupied).reshape(-1)
    start = np.argwhere(state == VISIBLE)
    for some in np.array_split(start, max(1, len(start) // _AT_ONCE)):
        hidden = _blocked(clearance, np.asarray(grid.shape), some, eye[:3] / np.asarray(grid.voxel_size))
        state[tuple(some[hidden].T)] = HIDDEN
    return state


def near(grid: VoxelGrid) -> NDArray[np.bool_]:
    """(X, Y, Z) bool: the half of the grid that comes first along world x (`forward`)."""
    depth = grid.centres()[..., 0]
    return depth < (depth.min() + depth.max()) / 2


def _blocked(
    clearance: NDArray[np.uint8], shape: NDArray[np.int64], start: NDArray[np.int64], eye: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(N,) whether the line from each start voxel's centre to `eye` (voxel units) meets an occupied voxel other than the start itself.

    At each step a ray moves by at least one voxel: it leaps to the point where it must leave the empty cube around it (half-width = Chebyshev
    clearance - 1), then crosses the next face.
    """
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    origin = start + 0.5
    towards = eye - origin
    length = np.maximum(np.linalg.norm(towards, axis=1), 1e-9)
    direction = towards / length[:, None]
    direction = np.where(np.abs(direction) < 1e-12, 1e-12, direction)  # a line along a face never reaches the next one
    inverse, forward = 1 / direction, direction > 0
    blocked = np.zeros(len(start), bool)
    alive = np.arange(len(start))
    voxel = start.copy()
    reach = np.zeros(len(start), np.int64)  # half-width of the empty cube that may be leapt over; the start voxel never blocks itself
    while alive.size:
        o, inv, fwd = origin[alive], inverse[alive], forward[alive]
        wall = np.where(fwd, voxel + reach[:, None] + 1, voxel - reach[:, None])
        times = (wall - o) * inv
        axis = np.argmin(times, axis=1)
        t = np.take_along_axis(times, axis[:, None], 1)[:, 0]
        point = o + direction[alive] * t[:, None]
        voxel = np.where(reach[:, None] > 0, np.floor(point).astype(np.int64), voxel)
        rows = np.arange(len(alive))
        entered = np.where(fwd[rows, axis], wall[rows, axis], wall[rows, axis] - 1)
        voxel[rows, axis] = entered
        inside = np.all((voxel >= 0) & (voxel < shape), axis=1) & (t < length[alive])
        alive, voxel = alive[inside], voxel[inside]
        room = clearance[voxel @ strides]
        hit = room == 0
        blocked[alive[hit]] = True
        alive, voxel, reach = alive[~hit], voxel[~hit], room[~hit].astype(np.int64) - 1
    return blocked


def _clearance(occupied: NDArray[np.bool_], most: int = 16) -> NDArray[np.uint8]:
    """(X, Y, Z) Chebyshev distance in voxels to the nearest occupied voxel: 0 in it, 1 beside it, at most `most`."""
    grown = occupied.copy()
    distance = np.where(occupied, 0, most).astype(np.uint8)
    for step in range(1, most):
        for axis in range(3):
            ahead = grown.copy()
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            ahead[tuple(low)] |= grown[tuple(high)]
            ahead[tuple(high)] |= grown[tuple(low)]
            grown = ahead
        fresh = grown & (distance == most)
        if not fresh.any():
            break
        distance[fresh] = step
    return distance
