"""Which voxels the camera sees, which stand behind something, and which are outside the picture: the splits of every score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid

OUT_OF_VIEW, VISIBLE, HIDDEN = 0, 1, 2
STATES = ("out of view", "visible", "hidden")
_AT_ONCE = 16384  # lines walked together: few enough that their state stays in the processor's cache


def visibility(occupied: NDArray[np.bool_], camera: Camera, grid: VoxelGrid) -> NDArray[np.uint8]:
    """The state of every voxel: out of view (0), visible (1) or hidden (2).

    A voxel is in view if the picture holds its centre. An empty (or unknown) voxel is hidden if the straight line from its centre to the camera
    passes through an occupied one. An occupied voxel is visible if such a line is free from the middle of one of its faces: lines to centres would
    call a flat road hidden, since at a grazing angle they pass through its own nearer voxels. Lines are walked from voxel to voxel exactly
    (Amanatides and Woo, A Fast Voxel Traversal Algorithm, 1987), many at once; empty space is leapt over.

    Args:
        occupied: (X, Y, Z) bool, the known occupied voxels of the truth.
        camera: with a pose in the grid's world.
        grid: of that shape.

    Raises:
        InputError: shapes that disagree.
    """
    if occupied.shape != grid.shape:
        raise InputError(f"occupancy of shape {occupied.shape} on a grid of {grid.shape} voxels; they must agree")
    in_view = camera.sees(grid.centres())
    state = np.where(in_view, HIDDEN, OUT_OF_VIEW).astype(np.uint8)
    eye = np.asarray((grid.T_grid_world @ np.append(camera.position, 1.0))[:3] / np.asarray(grid.voxel_size), np.float64)
    clearance = _clearance(occupied)
    empty = np.argwhere(in_view & ~occupied)
    state[tuple(empty[_free(clearance, empty, (empty + 0.5).astype(np.float64), eye)].T)] = VISIBLE
    solid = np.argwhere(in_view & occupied)
    for axis, side in ((axis, side) for axis in range(3) for side in (-1, 1)):
        step = np.eye(3, dtype=np.int64)[axis] * side
        faces = solid[(eye - (solid + 0.5 + step / 2)) @ step > 0]  # those that look towards the camera
        before = faces + step
        exposed = _inside(before, grid.shape) & ~occupied[tuple(np.clip(before, 0, np.asarray(grid.shape) - 1).T)]
        outside = ~_inside(before, grid.shape)
        faces, before = faces[exposed | outside], before[exposed | outside]
        free = outside[exposed | outside]
        free[~free] = _free(clearance, before[~free], faces[~free] + 0.5 + step / 2, eye)
        state[tuple(faces[free].T)] = VISIBLE
    return state


def near(grid: VoxelGrid, camera: Camera | None = None) -> NDArray[np.bool_]:
    """(X, Y, Z) bool: the half of the grid that comes first along world x (`forward`), or along the horizontal axis that the camera looks along.

    Args:
        grid: in any axis order.
        camera: for worlds that are not turned to their camera, as NYUv2's, in which it looks along y.
    """
    axis, sign = 0, 1.0
    if camera is not None:
        ahead = camera.T_cam_world[2, :2]  # the optical axis in the world
        axis = int(np.argmax(np.abs(ahead)))
        sign = float(np.sign(ahead[axis])) or 1.0
    depth = sign * grid.centres()[..., axis]
    return depth < (depth.min() + depth.max()) / 2


def _inside(voxels: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.asarray(np.all((voxels >= 0) & (voxels < np.asarray(shape)), axis=1))


def _free(clearance: NDArray[np.uint8], voxels: NDArray[np.int64], origins: NDArray[np.float64], eye: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether the lines from `origins`, which lie in `voxels`, to `eye` (all in voxel units) meet no occupied voxel after the first."""
    pieces = max(1, len(voxels) // _AT_ONCE)
    parts = zip(np.array_split(voxels, pieces), np.array_split(origins, pieces), strict=True)
    return np.concatenate([_walk(clearance, v, o, eye) for v, o in parts])


def _walk(clearance: NDArray[np.uint8], voxel: NDArray[np.int64], origin: NDArray[np.float64], eye: NDArray[np.float64]) -> NDArray[np.bool_]:
    """As `_free`, for lines that are walked together.

    At each step a line leaps to the point where it must leave the empty cube around it (half-width = Chebyshev clearance - 1), then crosses the
    next face.
    """
    strides, room_of = (clearance.shape[1] * clearance.shape[2], clearance.shape[2], 1), clearance.reshape(-1)
    towards = (eye - origin).T.copy()  # (3, N): each axis lies together in memory
    towards[np.abs(towards) < 1e-9] = 1e-9  # a line along a face never reaches the next one
    inverse, ahead = 1 / towards, towards > 0
    start, place = origin.T.copy(), voxel.T.copy()
    free = np.ones(len(voxel), bool)
    alive = np.arange(len(voxel))
    reach = np.zeros(len(voxel), np.int64)  # half-width of the empty cube that may be leapt over; nothing is known of the first voxel
    while alive.size:
        walls = place + np.where(ahead, reach + 1, -reach)
        times = (walls - start) * inverse  # share of the line at which each wall is met
        t = times.min(axis=0)
        np.floor(start + towards * t, out=times, casting="unsafe")
        entered = np.where(ahead, walls, walls - 1)
        crossed = (walls - start) * inverse == t
        place = np.where(crossed, entered, np.where(reach > 0, times.astype(np.int64), place))
        inside = t < 1
        for axis, size in enumerate(clearance.shape):
            inside &= (place[axis] >= 0) & (place[axis] < size)
        flat = place[0] * strides[0] + place[1] * strides[1] + place[2]
        room = room_of[np.where(inside, flat, 0)]
        free[alive[inside & (room == 0)]] = False
        going = inside & (room > 0)
        alive, reach = alive[going], room[going].astype(np.int64) - 1
        start, towards, inverse = start[:, going], towards[:, going], inverse[:, going]
        ahead, place = ahead[:, going], place[:, going]
    return free


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
