"""VoxelGrid: where the voxels of a scene lie in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError

_MOST_VOXELS = 2**28  # a grid larger than this is a mistake or an attack: refuse before anything is allocated
_EDGES = (1e-3, 1e3)  # metres of a voxel
_FARTHEST = 1e8  # metres; national maps count in millions


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """A box of voxels with a pose.

    Array axis i of any volume on this grid runs along column i of `T_world_grid`; the lower corner of voxel (0, 0, 0) is its fourth column.
    The axes may be a reflection of the world's (NYUv2 stores x, height, y), so a released axis order is a pose, not a transposed copy.

    Attributes:
        shape: voxels along the three array axes.
        voxel_size: edge lengths in metres along the three array axes.
        T_world_grid: (4, 4) float64, grid (metres from the lower corner) to world; orthonormal, determinant +1 or -1.
    """

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    T_world_grid: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        size = tuple(float(s) for s in self.voxel_size)
        pose = np.asarray(self.T_world_grid, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1 or np.prod(shape, dtype=np.float64) > _MOST_VOXELS:
            raise InputError(f"grid shape {shape} is not three positive counts of at most {_MOST_VOXELS:,} voxels together")
        if len(size) != 3 or not np.all(np.isfinite(size)) or min(size) <= 0:
            raise InputError(f"voxel size {size} is not three positive lengths in metres")
        if pose.shape != (4, 4) or not np.all(np.isfinite(pose)) or not np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-5):
            raise InputError("the grid's pose T_world_grid is not a finite (4, 4) matrix with orthonormal axes")
        if np.abs(pose[:3, 3]).max() > _FARTHEST:
            raise InputError(f"the grid's corner {pose[:3, 3].tolist()} is no place; expected metres in the world, at most {_FARTHEST:,.0f}")
        pose = pose.copy()
        pose.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "voxel_size", size)
        object.__setattr__(self, "T_world_grid", pose)

    @classmethod
    def from_corner(cls, corner: Sequence[float], shape: Sequence[int], voxel_size: float | Sequence[float], axes: str = "xyz") -> VoxelGrid:
        """An axis-aligned grid.

        Args:
            corner: lower corner of the box in the world, metres (x, y, z), whatever the order of the array axes.
            shape: voxels along the array axes.
            voxel_size: one edge length, or one for each array axis, metres.
            axes: the world axis that each array axis runs along: "xyz" outdoors, "xzy" for NYUv2's released order.
        """
        if sorted(axes) != ["x", "y", "z"]:
            raise InputError(f"axes {axes!r} is not an order of x, y and z; write for example 'xyz' or 'xzy'")
        pose = np.eye(4)
        pose[:3, :3] = np.eye(3)[:, ["xyz".index(a) for a in axes]]
        pose[:3, 3] = np.asarray(corner, dtype=np.float64)
        edges = (voxel_size,) * 3 if isinstance(voxel_size, int | float) else tuple(voxel_size)
        return cls(tuple(shape), edges, pose)  # type: ignore[arg-type]  # checked in __post_init__

    def _axis_along(self, world_axis: int) -> int:
        return int(np.argmax(np.abs(self.T_world_grid[world_axis, :3])))

    @property
    def forward(self) -> int:
        """The array axis along world x (forward)."""
        return self._axis_along(0)

    @property
    def left(self) -> int:
        """The array axis along world y (left)."""
        return self._axis_along(1)

    @property
    def up(self) -> int:
        """The array axis along world z (up)."""
        return self._axis_along(2)

    @property
    def extent(self) -> NDArray[np.float64]:
        """(3,) edge lengths of the whole box along the array axes, metres."""
        return np.asarray(self.shape) * np.asarray(self.voxel_size)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def T_grid_world(self) -> NDArray[np.float64]:
        """(4, 4) float64, world to grid."""
        return np.asarray(np.linalg.inv(self.T_world_grid))

    def centres(self) -> NDArray[np.float64]:
        """(X, Y, Z, 3) float64, voxel centres in the world, metres: pose applied to (index + 0.5) * voxel_size."""
        ticks = [(np.arange(n) + 0.5) * s for n, s in zip(self.shape, self.voxel_size, strict=True)]
        rotation, corner = self.T_world_grid[:3, :3], self.T_world_grid[:3, 3]
        x, y, z = np.ix_(*ticks)
        return np.stack([rotation[a, 0] * x + rotation[a, 1] * y + rotation[a, 2] * z + corner[a] for a in range(3)], axis=-1)

    def corners(self) -> NDArray[np.float64]:
        """(8, 3) float64, the corners of the box in the world, metres; bit i of the row number picks the far end of array axis i."""
        ends = np.array([[(row >> axis) & 1 for axis in range(3)] for row in range(8)]) * self.extent
        return ends @ self.T_world_grid[:3, :3].T + self.T_world_grid[:3, 3]

    def share_in_view(self, camera: Camera) -> float:
        """Share of the voxel centres, 0 to 1, that the camera's picture holds."""
        rotation, corner = self.T_world_grid[:3, :3], self.T_world_grid[:3, 3]
        y, z = (np.arange(n) + 0.5 for n in self.shape[1:])
        seen = 0
        for x in np.arange(self.shape[0]) + 0.5:  # one slice at a time: a whole grid's centres are 50 MB
            local = np.stack(np.broadcast_arrays(x, y[:, None], z), axis=-1) * np.asarray(self.voxel_size)
            seen += int(np.count_nonzero(camera.sees(local @ rotation.T + corner)))
        return seen / self.voxels

    def index_of(self, points: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Voxel indices (..., 3) of world points (..., 3) in metres, and whether each lies inside the box."""
        pose = self.T_grid_world
        local = np.asarray(points, dtype=np.float64) @ pose[:3, :3].T + pose[:3, 3]
        index = np.floor(local / np.asarray(self.voxel_size)).astype(np.int64)
        return index, np.all((index >= 0) & (index < np.asarray(self.shape)), axis=-1)

    def coarser(self, factor: int | tuple[int, int, int]) -> VoxelGrid:
        """The same box in voxels `factor` times as large, on every axis or on each its own times.

        Raises:
            InputError: the factor does not divide the shape.
        """
        factors = (factor,) * 3 if isinstance(factor, int) else factor
        if min(factors) < 1 or any(n % f for n, f in zip(self.shape, factors, strict=True)):
            raise InputError(f"a grid of {self.shape} voxels cannot be made {factor} times coarser; every count must be a multiple of {factor}")
        shape = tuple(n // f for n, f in zip(self.shape, factors, strict=True))
        return VoxelGrid(shape, tuple(s * f for s, f in zip(self.voxel_size, factors, strict=True)), self.T_world_grid)  # type: ignore[arg-type]

    def moved(self, T_new_old: NDArray[Any]) -> VoxelGrid:
        """The same box in another world frame, given the rigid transform from the old world to the new one."""
        return VoxelGrid(self.shape, self.voxel_size, np.asarray(T_new_old, dtype=np.float64) @ self.T_world_grid)

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `VoxelGrid(**...)` is its inverse."""
        return {"shape": list(self.shape), "voxel_size": list(self.voxel_size), "T_world_grid": self.T_world_grid.tolist()}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, VoxelGrid)
            and self.shape == other.shape
            and self.voxel_size == other.voxel_size
            and np.array_equal(self.T_world_grid, other.T_world_grid)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.voxel_size, self.T_world_grid.tobytes()))


@dataclass(frozen=True)
class GridPlacement:
    """A grid as a config holds it: plain numbers, and the rule that places it for a camera.

    The rule `ground` puts the lower corner at `corner` relative to the point on the ground below the camera (x forward, y left, z up); in a
    LiDAR world it takes `lidar_corner`, the corner in that frame. The rule `nyuv2` centres the box horizontally on the point 3.4 m before the
    camera, with its bottom at `corner[2]` above the floor (SSCNet's own placement; Song et al. 2017).

    Attributes:
        shape: voxels along the array axes.
        voxel_size: metres along the array axes.
        axes: world axis of each array axis.
        corner: lower corner in world x, y, z, metres, relative to the ground below the camera.
        lidar_corner: lower corner in a LiDAR world, metres; None: as for the ground.
        rule: "ground" or "nyuv2".
    """

    shape: tuple[int, int, int] = (256, 256, 32)
    voxel_size: tuple[float, float, float] = (0.2, 0.2, 0.2)
    axes: str = "xyz"
    corner: tuple[float, float, float] = (-0.27, -25.6, -0.27)
    lidar_corner: tuple[float, float, float] | None = (0.0, -25.6, -2.0)
    rule: str = "ground"

    def __post_init__(self) -> None:
        if np.prod(self.shape, dtype=np.float64) > _MOST_VOXELS:
            shape = " x ".join(f"{n:,}" for n in self.shape)
            raise InputError(f"the grid shape {shape} is too large; expected at most {_MOST_VOXELS:,} voxels together")
        if sorted(self.axes) != ["x", "y", "z"]:
            raise InputError(f"a grid's axes {self.axes!r} are not an order of x, y and z; write for example 'xyz' or 'xzy'")
        if not all(_EDGES[0] <= size <= _EDGES[1] for size in self.voxel_size):
            sizes = " x ".join(f"{size:g}" for size in self.voxel_size)
            raise InputError(f"the voxel size {sizes} is not three positive lengths from {_EDGES[0]:g} to {_EDGES[1]:,.0f} m")
        if not all(abs(c) <= _FARTHEST for c in (*self.corner, *(self.lidar_corner or ()))):
            raise InputError(f"a grid's corner {self.corner} or {self.lidar_corner} is not within {_FARTHEST:,.0f} m of the camera")

    def place(self, camera: Camera, height_m: float = 1.65) -> VoxelGrid:
        """The grid for a camera with a known pose.

        Args:
            camera: its pose places the grid; in a "ground" world the ground is z = 0.
            height_m: camera above the ground, for worlds whose ground height is not known.

        Raises:
            InputError: the camera has no pose, or the rule is unknown.
        """
        camera.require_pose()
        if self.rule not in ("ground", "nyuv2"):
            raise InputError(f"unknown grid rule {self.rule!r}; known: ground, nyuv2")
        x, y, z = camera.position
        ground = 0.0 if camera.world == "ground" else float(z) - height_m
        if self.rule == "nyuv2":
            ahead = np.linalg.inv(camera.T_cam_world) @ np.array([0.0, 0.0, 3.4, 1.0])
            edges = {axis: n * s for axis, n, s in zip(self.axes, self.shape, self.voxel_size, strict=True)}
            corner = (float(ahead[0] - edges["x"] / 2), float(ahead[1] - edges["y"] / 2), ground + self.corner[2])
        elif camera.world == "lidar" and self.lidar_corner is not None:
            corner = self.lidar_corner
        else:
            corner = (float(x) + self.corner[0], float(y) + self.corner[1], ground + self.corner[2])
        return VoxelGrid.from_corner(corner, self.shape, self.voxel_size, self.axes)


def semantic_kitti_grid() -> VoxelGrid:
    """SemanticKITTI's volume in the LiDAR frame of its frame: 256 x 256 x 32 voxels of 0.2 m from (0, -25.6, -2)."""
    return VoxelGrid.from_corner((0.0, -25.6, -2.0), (256, 256, 32), 0.2)
