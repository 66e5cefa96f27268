"""Viewpoints: from where a scene is looked at, and the lines that show where its camera stood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import unknown_name
from wholescene.grid import VoxelGrid

Array = NDArray[np.float64]
Lines = list[tuple[Array, Array]]  # pairs of world points, (3,) metres

# Where the eye is: its turn from behind towards the left and its height above the horizon in degrees, and its distance in box diagonals.
VIEWS = {"behind": (0.0, 38.0, 1.25), "left": (62.0, 34.0, 1.25), "right": (-62.0, 34.0, 1.25), "above": (0.0, 89.5, 2.5)}


@dataclass(frozen=True)
class Viewpoint:
    """A pinhole that looks at a scene; world axes x forward, y left, z up.

    Attributes:
        eye: (3,) world, metres.
        axes: (3, 3) rows right, down, forward of the view in the world.
        focal: pixels.
        middle: (2,) pixel that the view direction meets.
    """

    eye: Array
    axes: Array
    focal: float
    middle: Array

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points (..., 3) to pixels (..., 2) and depth (...) in metres; pixels mean nothing where the depth is not positive."""
        local = (points - self.eye) @ self.axes.T
        depth = local[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return local[..., :2] / depth[..., None] * self.focal + self.middle, depth


def heading(camera: Camera | None) -> float:
    """The quarter turn from world x towards y that comes nearest to where the camera looks, radians; 0 without a known pose.

    Some worlds (NYUv2's own) have the camera look along y; "behind" means behind the camera in these too.
    """
    if camera is None or not camera.pose_known:
        return 0.0
    x, y, _ = camera.T_cam_world[2, :3]
    return float(np.round(np.arctan2(y, x) / (np.pi / 2)) * (np.pi / 2))


def fitted(view: str, box: Array, size: tuple[int, int], forward_is: float = 0.0, margin: float = 0.03) -> Viewpoint:
    """The viewpoint of that name, zoomed and shifted so that the corners (N, 3) of a box just fill a picture of (width, height).

    `forward_is` is the angle in radians from world x towards y that counts as forward.

    Raises:
        InputError: no view has that name.
    """
    if view not in VIEWS:
        raise unknown_name("view", view, VIEWS)
    turn, height, far = (np.radians(VIEWS[view][0]) - forward_is, np.radians(VIEWS[view][1]), VIEWS[view][2])
    forward = np.array([np.cos(turn) * np.cos(height), -np.sin(turn) * np.cos(height), -np.sin(height)])
    right = np.array([-np.sin(turn), -np.cos(turn), 0.0])
    axes = np.stack([right, np.cross(forward, right), forward])
    low, high = box.min(0), box.max(0)
    eye = (low + high) / 2 - forward * far * float(np.linalg.norm(high - low))
    pixels, _ = Viewpoint(eye, axes, 1.0, np.zeros(2)).project(box)
    low, high = pixels.min(0), pixels.max(0)
    focal = float(np.min(np.asarray(size) * (1 - 2 * margin) / np.maximum(high - low, 1e-9)))
    return Viewpoint(eye, axes, focal, np.asarray(size) / 2 - focal * (low + high) / 2)


def through(camera: Camera, size: tuple[int, int]) -> Viewpoint:
    """The scene's own camera as a viewpoint, its picture fitted into (width, height); skew and unequal focal lengths are left out."""
    K = camera.intrinsics
    zoom = min(size[0] / camera.width, size[1] / camera.height)
    middle = (K[:2, 2] + 0.5 - np.array(camera.size) / 2) * zoom + np.array(size) / 2
    return Viewpoint(camera.position, camera.T_cam_world[:3, :3], float(abs(K[1, 1])) * zoom, middle)


def floor_outline(grid: VoxelGrid, height: float) -> Lines:
    """The four lower edges of the grid's box as pairs of world points, drawn at that height in the world, metres."""
    corners = grid.corners()
    ring = corners[np.argsort(corners[:, 2])[:4]]
    ring[:, 2] = height
    around = ring - ring.mean(0)
    ring = ring[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
    return [(ring[k], ring[(k + 1) % 4]) for k in range(4)]


def camera_lines(camera: Camera | None, reach: float) -> Lines:
    """The camera as a little pyramid of lines: four edges of its view `reach` metres long and their frame; empty without a known pose."""
    if camera is None or not camera.pose_known:
        return []
    ends = [(-0.5, -0.5), (camera.width - 0.5, -0.5), (camera.width - 0.5, camera.height - 0.5), (-0.5, camera.height - 0.5)]
    matrix = camera.matrix
    tips = []
    for u, v in ends:
        local = np.linalg.solve(matrix[:, :3], reach * np.array([u, v, 1.0]) - matrix[:, 3])
        tips.append(camera.T_cam_world[:3, :3].T @ (local - camera.T_cam_world[:3, 3]))
    position = camera.position
    return [(position, tip) for tip in tips] + [(tips[k], tips[(k + 1) % 4]) for k in range(4)]
