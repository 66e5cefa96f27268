"""Visible, hidden, out of view: against a dense walk along every line."""

from __future__ import annotations

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.geometry.visibility import HIDDEN, OUT_OF_VIEW, VISIBLE, near, visibility
from wholescene.grid import VoxelGrid, semantic_kitti_grid


def _longest_crossing(occupied: np.ndarray, camera: Camera, grid: VoxelGrid, start: np.ndarray, own: np.ndarray) -> float:
    """The longest piece (share of the line from `start`, in voxels, to the camera) inside one occupied voxel other than `own`: slab method."""
    eye = (grid.T_grid_world @ np.append(camera.position, 1.0))[:3] / np.asarray(grid.voxel_size)
    boxes = np.argwhere(occupied)
    boxes = boxes[(boxes != own).any(1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (boxes - start) / (eye - start), (boxes + 1 - start) / (eye - start)
    enter, leave = np.minimum(first, second).max(1), np.maximum(first, second).min(1)
    return float((np.minimum(leave, 1) - np.maximum(enter, 0)).max())


def _expected(occupied: np.ndarray, camera: Camera, grid: VoxelGrid, index: np.ndarray) -> int | None:
    """The state by the definition, voxel by voxel; None where a line only touches an edge and may count either way."""
    eye = (grid.T_grid_world @ np.append(camera.position, 1.0))[:3] / np.asarray(grid.voxel_size)
    if not occupied[tuple(index)]:
        crossings = [_longest_crossing(occupied, camera, grid, index + 0.5, index)]
    else:
        steps = [s * np.eye(3)[a] for a in range(3) for s in (-1, 1)]
        starts = [index + 0.5 + step / 2 for step in steps if (eye - (index + 0.5 + step / 2)) @ step > 0]
        crossings = [_longest_crossing(occupied, camera, grid, start, index) for start in starts]
    if any(abs(c) <= 1e-9 for c in crossings):
        return None
    return VISIBLE if min(crossings) < 0 else HIDDEN


@pytest.mark.parametrize(("axes", "shape"), [("xyz", (16, 18, 9)), ("xzy", (16, 9, 18))])
def test_every_voxel_in_view_has_the_state_of_the_definition(axes: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    grid = VoxelGrid.from_corner((1, -1.8, -0.9), shape, 0.2, axes)
    occupied = rng.random(shape) < 0.08
    camera = Camera.from_fov(80, (200, 100)).on_ground(0.93, 5)
    state = visibility(occupied, camera, grid)
    assert {OUT_OF_VIEW, VISIBLE, HIDDEN} == set(np.unique(state).tolist())
    assert {VISIBLE, HIDDEN} <= set(np.unique(state[occupied]).tolist())
    for index in np.argwhere(state != OUT_OF_VIEW):
        assert _expected(occupied, camera, grid, index) in (None, state[tuple(index)])


def test_a_flat_road_is_visible() -> None:
    grid = VoxelGrid.from_corner((2, -4, -0.4), (100, 40, 10), 0.2)
    road = np.zeros(grid.shape, bool)
    road[:, :, 1] = True
    state = visibility(road, Camera.from_fov(80, (1200, 400)).on_ground(1.65), grid)
    seen = state[road]
    assert (seen[seen != OUT_OF_VIEW] == VISIBLE).all()
    assert (state[:, :, 0][state[:, :, 0] != OUT_OF_VIEW] == HIDDEN).all()


def test_a_wall_hides_what_is_behind_it_and_nothing_before_it() -> None:
    grid = VoxelGrid.from_corner((1, -2, 0), (20, 20, 10), 0.2)
    wall = np.zeros(grid.shape, bool)
    wall[8] = True
    camera = Camera.from_fov(60, (400, 300)).on_ground(1.0)
    state = visibility(wall, camera, grid)
    assert (state[9:][state[9:] != OUT_OF_VIEW] == HIDDEN).all()
    assert (state[:9][state[:9] != OUT_OF_VIEW] == VISIBLE).all()


def test_voxels_outside_the_picture_are_neither_visible_nor_hidden() -> None:
    grid = VoxelGrid.from_corner((-4, -2, 0), (20, 20, 10), 0.2)
    camera = Camera.from_fov(60, (400, 300)).on_ground(1.0)
    state = visibility(np.ones(grid.shape, bool), camera, grid)
    assert (state == OUT_OF_VIEW).all()  # the whole box lies behind the camera


def test_near_is_the_first_half_along_forward_whatever_the_axis_order() -> None:
    assert near(semantic_kitti_grid())[:128].all()
    assert not near(semantic_kitti_grid())[128:].any()
    turned = VoxelGrid.from_corner((0, 0, 0), (4, 2, 6), 1.0, "zyx")
    assert near(turned)[..., :3].all()
    assert not near(turned)[..., 3:].any()


def test_near_follows_the_camera_where_the_world_is_not_turned_to_it() -> None:
    grid = VoxelGrid.from_corner((-1.0, 1.0, 0.0), (4, 3, 6), 0.5, "xzy")
    for yaw, expected in ((0.0, (0, slice(0, 2))), (np.pi / 2, (2, slice(0, 3))), (np.pi, (0, slice(2, 4))), (-np.pi / 2, (2, slice(3, 6)))):
        camera = Camera.from_fov(60, (40, 30)).on_ground(1.0, 10.0)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(yaw + 0.2), np.sin(yaw + 0.2)], [-np.sin(yaw + 0.2), np.cos(yaw + 0.2)]]
        close = near(grid, camera.posed(camera.T_cam_world @ turn))
        axis, half = expected
        index = [slice(None)] * 3
        index[axis] = half
        assert close[tuple(index)].all()
        assert close.sum() == grid.voxels // 2, yaw


def test_an_occupancy_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="must agree"):
        visibility(np.zeros((2, 2, 2), bool), Camera.from_fov(60, (4, 3)).on_ground(1), semantic_kitti_grid())
