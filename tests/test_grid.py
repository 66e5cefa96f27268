"""The voxel grid: where voxels lie, which one holds a point, and where a config puts its grid for a camera."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import GridPlacement, VoxelGrid, semantic_kitti_grid

NYUV2 = GridPlacement((60, 36, 60), (0.08, 0.08, 0.08), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")


@st.composite
def grids(draw: st.DrawFn) -> VoxelGrid:
    """Any axis order, any turn about the vertical, uneven voxels."""
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    edges = tuple(draw(st.floats(0.05, 2)) for _ in range(3))
    corner = tuple(draw(st.floats(-30, 30)) for _ in range(3))
    grid = VoxelGrid.from_corner(corner, shape, edges, "".join(draw(st.permutations("xyz"))))
    angle = draw(st.floats(-3.1, 3.1))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return grid.moved(turn)


@settings(max_examples=60, deadline=None)
@given(grids())
def test_centres_follow_the_definition_and_find_their_own_voxel(grid: VoxelGrid) -> None:
    centres = grid.centres()
    for index in np.ndindex(grid.shape):
        local = [(index[i] + 0.5) * grid.voxel_size[i] for i in range(3)]
        world = [sum(grid.T_world_grid[a][i] * local[i] for i in range(3)) + grid.T_world_grid[a][3] for a in range(3)]
        assert np.allclose(centres[index], world)
    index, inside = grid.index_of(centres)
    assert inside.all()
    assert np.array_equal(index, np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))


@settings(max_examples=40, deadline=None)
@given(grids())
def test_corners_bound_the_box(grid: VoxelGrid) -> None:
    corners = grid.corners()
    assert np.allclose(corners.mean(0), grid.centres().mean((0, 1, 2)))
    assert np.allclose(corners[7] - corners[0], grid.T_world_grid[:3, :3] @ (np.array(grid.shape) * grid.voxel_size))
    middle = corners.mean(0)
    assert grid.index_of(middle + (corners - middle) * 0.999)[1].all()
    assert not grid.index_of(middle + (corners - middle) * 1.001)[1].any()


def test_semantic_kittis_grid_is_the_published_one() -> None:
    grid = semantic_kitti_grid()
    assert grid.voxels == 2097152
    assert np.allclose(grid.centres()[0, 0, 0], (0.1, -25.5, -1.9))
    assert np.allclose(grid.centres()[-1, -1, -1], (51.1, 25.5, 4.3))
    assert (grid.forward, grid.left, grid.up) == (0, 1, 2)


def test_an_axis_order_is_a_pose() -> None:
    grid = VoxelGrid.from_corner((1, 2, 3), (4, 5, 6), (0.1, 0.2, 0.3), "xzy")
    assert (grid.forward, grid.up, grid.left) == (0, 1, 2)
    assert np.linalg.det(grid.T_world_grid) == pytest.approx(-1)
    assert np.allclose(grid.centres()[1, 2, 3], (1 + 1.5 * 0.1, 2 + 3.5 * 0.3, 3 + 2.5 * 0.2))


def test_a_coarser_grid_is_the_same_box_of_means() -> None:
    grid = VoxelGrid.from_corner((1, 2, 3), (4, 8, 2), (0.1, 0.2, 0.3), "yxz")
    coarse = grid.coarser(2)
    assert coarse.shape == (2, 4, 1)
    assert np.allclose(coarse.centres(), grid.centres().reshape(2, 2, 4, 2, 1, 2, 3).mean((1, 3, 5)))
    with pytest.raises(InputError, match="multiple of 4"):
        grid.coarser(4)
    flat = grid.coarser((2, 1, 1))
    assert (flat.shape[0], flat.shape[1:]) == (grid.shape[0] // 2, grid.shape[1:])
    np.testing.assert_allclose(flat.extent, grid.extent)


def test_a_moved_grid_carries_its_voxels_along() -> None:
    grid = VoxelGrid.from_corner((1, 2, 3), (2, 3, 4), 0.5, "xzy")
    move = np.array([[0.0, -1, 0, 7], [1, 0, 0, 8], [0, 0, 1, 9], [0, 0, 0, 1]])
    assert np.allclose(grid.moved(move).centres(), grid.centres() @ move[:3, :3].T + move[:3, 3])


def test_equal_grids_are_equal_and_plain_types_hold_them() -> None:
    grid = VoxelGrid.from_corner((1, 2, 3), (2, 3, 4), (0.1, 0.2, 0.3), "xzy")
    again = VoxelGrid(**json.loads(json.dumps(grid.as_dict())))
    assert again == grid
    assert hash(again) == hash(grid)
    assert grid != VoxelGrid.from_corner((1, 2, 3.001), (2, 3, 4), (0.1, 0.2, 0.3), "xzy")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (((0, 4, 4), (1, 1, 1)), "grid shape"),
        (((4, 4), (1, 1, 1)), "grid shape"),
        (((100000, 100000, 100), (1, 1, 1)), "268,435,456 voxels"),
        (((4, 4, 4), (1, 0, 1)), "voxel size"),
        (((4, 4, 4), (1, np.nan, 1)), "voxel size"),
        (((4, 4, 4), (1, 1, 1), np.diag([2.0, 1, 1, 1])), "orthonormal"),
        (((4, 4, 4), (1, 1, 1), np.full((4, 4), np.nan)), "orthonormal"),
        (((4, 4, 4), (1, 1, 1), np.eye(4) + 1e30 * np.eye(4, k=3)), "corner"),
    ],
)
def test_what_is_no_grid_is_refused(made: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        VoxelGrid(*made)
    with pytest.raises(InputError, match="order of x, y and z"):
        VoxelGrid.from_corner((0, 0, 0), (1, 1, 1), 1, "xyy")


@settings(max_examples=20, deadline=None)
@given(grids(), st.floats(-20, 20))
def test_the_share_in_view_is_the_mean_over_all_centres(grid: VoxelGrid, pitch: float) -> None:
    camera = Camera.from_fov(80, (40, 30)).on_ground(1.5, pitch)
    assert grid.share_in_view(camera) == pytest.approx(float(camera.sees(grid.centres()).mean()))


def test_a_street_grid_starts_below_the_camera_on_the_ground() -> None:
    grid = GridPlacement().place(Camera.from_fov(80, (40, 30)).on_ground(1.65, 5))
    assert np.allclose(grid.corners()[0], (-0.27, -25.6, -0.27))
    assert grid.shape == (256, 256, 32)


def test_a_lidar_world_takes_its_own_corner_and_others_the_height() -> None:
    pose = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])  # 0.27 m before and 0.08 m below the LiDAR
    camera = Camera.from_fov(80, (40, 30))
    assert GridPlacement().place(camera.posed(pose, "lidar")) == semantic_kitti_grid()
    elsewhere = GridPlacement(lidar_corner=None).place(camera.posed(pose, "scene"), height_m=1.65)
    assert np.allclose(elsewhere.corners()[0], (0.0, -25.6, -0.08 - 1.65 - 0.27))


def test_an_indoor_grid_is_centred_before_the_camera_with_its_bottom_under_the_floor() -> None:
    level = Camera.from_fov(60, (40, 30)).on_ground(1.2, 20)
    move = np.eye(4)
    move[:3, 3] = (-2, -3, 0)  # the camera now stands at (2, 3)
    grid = NYUV2.place(level.posed(level.T_cam_world @ move, "ground"))
    low, high = grid.corners().min(0), grid.corners().max(0)
    assert np.allclose(high - low, (4.8, 4.8, 2.88))
    assert np.allclose((low + high)[:2] / 2, (2 + 3.4 * np.cos(np.radians(20)), 3))
    assert low[2] == pytest.approx(-0.05)


def test_the_indoor_rule_gives_the_corner_that_the_release_stores(real_pictures: Path) -> None:
    files = sorted((real_pictures.parent / "nyu" / "depthbin").rglob("*.bin"))
    assert files
    for file in files[:3]:
        with file.open("rb") as stream:
            numbers = struct.unpack("<19f", stream.read(76))
        camera = Camera.from_intrinsics(518.8579, 518.8579, 320, 240, (640, 480)).posed(np.linalg.inv(np.reshape(numbers[3:], (4, 4))))
        height = float(camera.position[2])  # the release's floor is at 0
        assert np.allclose(NYUV2.place(camera, height).corners()[0], numbers[:3], atol=1e-5)


def test_a_grid_needs_a_pose_and_a_known_rule() -> None:
    with pytest.raises(InputError, match=r"no pose.*--height"):
        GridPlacement().place(Camera.from_fov(60, (40, 30)))
    with pytest.raises(InputError, match="unknown grid rule 'nyu'"):
        GridPlacement(rule="nyu").place(Camera.from_fov(60, (40, 30)).on_ground(1))
