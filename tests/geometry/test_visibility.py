"""Visible, hidden, out of view: against a dense walk along every line."""

from __future__ import annotations

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.geometry.visibility import HIDDEN, OUT_OF_VIEW, VISIBLE, near, visibility
from wholescene.grid import VoxelGrid, semantic_kitti_grid


def _longest_crossing(occupied: np.ndarray, camera: Camera, grid: VoxelGrid, index: np.ndarray) -> float:
    """The longest piece (share of the line) that lies inside one occupied voxel other than the start: slab method, box by box; negative if none."""
    size = np.asarray(grid.voxel_size)
    eye = (grid.T_grid_world @ np.append(camera.position, 1.0))[:3] / size
    centre = index + 0.5
    boxes = np.argwhere(occupied)
    boxes = boxes[(boxes != index).any(1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (boxes - centre) / (eye - centre), (boxes + 1 - centre) / (eye - centre)
    enter, leave = np.minimum(first, second).max(1), np.maximum(first, second).min(1)
    return float((np.minimum(leave, 1) - np.maximum(enter, 0)).max())


@pytest.mark.parametrize(("axes", "shape"), [("xyz", (16, 18, 9)), ("xzy", (16, 9, 18))])
def test_hidden_voxels_are_those_with_another_occupied_one_on_their_line(axes: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    grid = VoxelGrid.from_corner((1, -1.8, -0.9), shape, 0.2, axes)
    occupied = rng.random(shape) < 0.05
    camera = Camera.from_fov(80, (200, 100)).on_ground(0.93, 5)
    state = visibility(occupied, camera, grid)
    assert {OUT_OF_VIEW, VISIBLE, HIDDEN} == set(np.unique(state).tolist())
    for index in np.argwhere(state != OUT_OF_VIEW):
        crossing = _longest_crossing(occupied, camera, grid, index)
        if abs(crossing) > 1e-9:  # a line that only touches an edge may count either way
            assert (state[tuple(index)] == HIDDEN) == (crossing > 0)


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


def test_an_occupancy_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="must agree"):
        visibility(np.zeros((2, 2, 2), bool), Camera.from_fov(60, (4, 3)).on_ground(1), semantic_kitti_grid())
