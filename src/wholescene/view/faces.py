"""Exposed faces: the part of a voxel volume that can be seen at all, and so the only part worth drawing or exporting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.grid import VoxelGrid

# Corners of the face in direction 2 * axis + side (side 0 at the lower end), counter-clockwise seen from outside in a right-handed grid.
_CORNERS = np.array([
    [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]], [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],
    [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], [[0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0]],
    [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]], [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
], np.int64)  # fmt: skip


@dataclass(frozen=True)
class Faces:
    """Exposed faces of a volume.

    Attributes:
        voxels: (N, 3) int64, the voxel that each face belongs to.
        directions: (N,) int64, 2 * array axis + side (0: its lower end, 1: its upper end).
    """

    voxels: NDArray[np.int64]
    directions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.directions)

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Faces:
        return Faces(self.voxels[chosen], self.directions[chosen])

    def lattice(self) -> NDArray[np.int64]:
        """(N, 4, 3) corners as points of the voxel lattice, (0, 0, 0) to the grid's shape."""
        return self.voxels[:, None] + _CORNERS[self.directions]

    def corners(self, grid: VoxelGrid) -> NDArray[np.float64]:
        """(N, 4, 3) corners in the world, metres, counter-clockwise seen from outside, whatever the handedness of the grid."""
        points = in_world(self.lattice(), grid)
        return points if np.linalg.det(grid.T_world_grid[:3, :3]) > 0 else points[:, ::-1]


def in_world(lattice: NDArray[Any], grid: VoxelGrid) -> NDArray[np.float64]:
    """Points of the voxel lattice (..., 3), whole numbers at corners, to world points (..., 3) in metres."""
    pose = grid.T_world_grid
    return np.asarray((lattice * np.asarray(grid.voxel_size)) @ pose[:3, :3].T + pose[:3, 3])


def normals(grid: VoxelGrid) -> NDArray[np.float64]:
    """(6, 3) outward unit normals in the world of the six face directions."""
    axes = grid.T_world_grid[:3, :3].T
    return np.stack([axes * -1.0, axes], axis=1).reshape(6, 3)


def exposed_faces(solid: NDArray[np.bool_]) -> Faces:
    """The faces of solid voxels (X, Y, Z) that touch a voxel that is not solid, or the border of the volume."""
    voxels, directions = [], []
    for axis in range(3):
        along = np.moveaxis(solid, axis, 0)
        for side in (0, 1):
            exposed = solid.copy()
            if side:
                np.moveaxis(exposed, axis, 0)[:-1] &= ~along[1:]
            else:
                np.moveaxis(exposed, axis, 0)[1:] &= ~along[:-1]
            found = np.argwhere(exposed)
            voxels.append(found)
            directions.append(np.full(len(found), 2 * axis + side, np.int64))
    return Faces(np.concatenate(voxels), np.concatenate(directions))


def crowding(solid: NDArray[np.bool_], faces: Faces) -> NDArray[np.int64]:
    """(N,) how many of the eight neighbours of the open voxel before each face, within the face's plane, are solid: 0 is free, 8 a pit.

    Light from the sky reaches a crowded face less; drawing it darker shows where things meet.
    """
    padded = np.pad(solid, 1)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    axis, side = faces.directions // 2, faces.directions % 2
    open_voxel = (faces.voxels + 1) @ strides + strides[axis] * (2 * side - 1)
    first, second = strides[(axis + 1) % 3], strides[(axis + 2) % 3]
    flat = padded.ravel()
    count = np.zeros(len(faces), np.int64)
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            if a or b:
                count += flat[open_voxel + a * first + b * second]
    return count


def back_to_front(faces: Faces, grid: VoxelGrid, eye: NDArray[np.float64]) -> Faces:
    """The faces turned to the eye, a world point (3,), farthest first.

    Along a ray from the eye the distance in voxels from the eye grows on every array axis; so any order that sorts by these three distances
    paints what is in front later, without a depth buffer and without ties.
    """
    pose = grid.T_grid_world
    here = (pose[:3, :3] @ eye + pose[:3, 3]) / np.asarray(grid.voxel_size)
    axis, side = faces.directions // 2, faces.directions % 2
    plane = np.take_along_axis(faces.voxels, axis[:, None], 1)[:, 0] + side
    faces = faces[np.where(side == 1, here[axis] > plane, here[axis] < plane)]
    far = -np.abs(faces.voxels + 0.5 - here)
    return faces[np.lexsort(far.T)]
