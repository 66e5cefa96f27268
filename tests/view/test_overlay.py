"""The overlay: lines cut where they leave the view, the lattice at its distances, the horizon where level directions vanish."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import GridPlacement, VoxelGrid, semantic_kitti_grid
from wholescene.view.overlay import BOX, LATTICE, NEAR_M, Lattice, box_edges, clip_line, draw_overlay, horizon_line

CAMERA = Camera.from_intrinsics(360, 360, 303, 92, (620, 188)).on_ground(1.65, 3)
GRID = GridPlacement().place(CAMERA)
GREY = np.full((188, 620, 3), 60, np.uint8)

coordinates = st.tuples(*[st.floats(-400, 400)] * 2, st.floats(-5, 5))


@settings(max_examples=200, deadline=None)
@given(coordinates, coordinates)
def test_a_clipped_line_is_what_dense_points_show(start: tuple, end: tuple) -> None:
    first, last = np.array(start), np.array(end)
    shares = np.linspace(0, 1, 4001)[:, None]
    points = first + shares * (last - first)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pixels = points[:, :2] / points[:, 2:]
    inside = (points[:, 2] >= NEAR_M) & (np.abs(pixels[:, 0] - 49.5) <= 50) & (np.abs(pixels[:, 1] - 29.5) <= 30)
    found = clip_line(first, last, 100, 60)
    if found is None:
        assert inside.sum() <= 1  # a line may graze a corner between two points
        return
    for pixel in found:
        assert -0.5 - 1e-6 <= pixel[0] <= 99.5 + 1e-6
        assert -0.5 - 1e-6 <= pixel[1] <= 59.5 + 1e-6
    if inside.any():
        ends = pixels[inside][[0, -1]]
        longest = max(1.0, float(np.abs(np.diff(pixels[inside], axis=0)).max(initial=0)) * 1.5)
        assert min(np.abs(ends - np.array(found)).max(), np.abs(ends[::-1] - np.array(found)).max()) <= longest


def test_the_box_has_its_twelve_edges() -> None:
    grid = VoxelGrid.from_corner((1, 2, 3), (2, 3, 4), (0.5, 1.0, 2.0), "xzy")
    lengths = sorted(float(np.linalg.norm(end - start)) for start, end in box_edges(grid))
    assert np.allclose(lengths, [1] * 4 + [3] * 4 + [8] * 4)
    assert len({tuple(sorted((tuple(a), tuple(b)))) for a, b in box_edges(grid)}) == 12


@settings(max_examples=40, deadline=None)
@given(st.floats(-20, 20), st.floats(-3, 3), st.booleans(), st.booleans())
def test_level_directions_vanish_on_the_horizon(pitch: float, yaw: float, mirrored: bool, resized: bool) -> None:
    camera = replace(CAMERA, offset=np.array([45.0, 1, 0.01])).on_ground(1.65, pitch)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    camera = camera.posed(camera.T_cam_world @ turn, "ground")
    camera = camera.mirror() if mirrored else camera
    camera = camera.resized((400, 300)) if resized else camera
    ahead = np.linalg.inv(turn) @ np.array([[1, 1, 1], [-0.5, 0, 0.7], [0, 0, 0], [0, 0, 0]])
    far, _ = camera.project(ahead[:3].T * 1e9)
    line = horizon_line(camera)
    assert np.allclose(far @ line[:2] + line[2], 0, atol=1e-4 * np.abs(line).max())
    above, _ = camera.project(ahead[:3].T * 100 + np.array([0, 0, 30]))
    assert (above @ line[:2] + line[2] > 0).all()


def test_the_lattice_counts_from_the_point_below_the_camera() -> None:
    lattice = Lattice.of(CAMERA, GRID)
    assert lattice.step == 5
    assert [d for d, _ in lattice.rungs()] == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    for distance, (start, end) in lattice.rungs():
        assert np.allclose((start[0], start[2], end[0], end[2]), (distance, 0, distance, 0))
        assert np.allclose(sorted((start[1], end[1])), (-25.6, 25.6))
    across = sorted(start[1] for start, end in lattice.lines() if np.isclose(start[1], end[1]))
    assert np.allclose(across, np.arange(-25, 26, 5))


def test_the_ground_is_zero_in_ground_worlds_and_the_grids_bottom_elsewhere() -> None:
    pose = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
    lidar = Lattice.of(CAMERA.posed(pose, "lidar"), semantic_kitti_grid())
    assert np.allclose([start[2] for start, _ in lidar.lines()], -2)
    assert lidar.rungs()[0][1][0][0] == pytest.approx(5.27)
    assert np.allclose([start[2] for start, _ in Lattice.of(CAMERA, GRID).lines()], 0)


def test_the_lattice_follows_the_gaze_through_any_axis_order() -> None:
    """An indoor grid with its height in the middle, a camera that looks along -y: distances grow along -y, every metre."""
    grid = VoxelGrid.from_corner((-2.4, -5.0, -0.05), (60, 36, 60), 0.08, "xzy")
    turn = np.eye(4)
    turn[:2, :2] = [[0, -1], [1, 0]]  # the world's -y becomes the +x that on_ground looks along
    camera = CAMERA.posed(CAMERA.on_ground(1.2, 10).T_cam_world @ turn, "scene")
    assert camera.T_cam_world[2, 1] < -0.9
    lattice = Lattice.of(camera, grid)
    assert lattice.step == 1
    for distance, (start, end) in lattice.rungs():
        assert np.allclose((start[1], start[2], end[1], end[2]), (-distance, -0.05, -distance, -0.05))
    assert [d for d, _ in lattice.rungs()] == [1, 2, 3, 4, 5]
    upside_down = VoxelGrid((60, 60, 36), (0.08,) * 3, np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.83], [0, 0, 0, 1]]))
    assert np.allclose([start[2] for start, _ in Lattice.of(camera, upside_down).lines()], -0.05)


def nearness(image: Image.Image, pixel: np.ndarray, colour: tuple[int, int, int]) -> float:
    """How much nearer a pixel's neighbourhood came to a colour, 0 (grey as before) to 1."""
    u, v = np.rint(pixel).astype(int)
    around = np.asarray(image)[v - 1 : v + 2, u - 1 : u + 2].reshape(-1, 3).astype(float)
    start = np.linalg.norm(np.array(colour) - 60.0)
    return 1 - float(np.linalg.norm(around - np.array(colour), axis=1).min()) / start


@pytest.mark.parametrize("mirrored", [False, True])
def test_lines_are_painted_where_the_camera_projects_them(mirrored: bool) -> None:
    camera = CAMERA.mirror() if mirrored else CAMERA
    image = draw_overlay(GREY, camera, GRID)
    assert image.size == (620, 188)
    on_lattice = camera.project(np.array([[10.0, 2.2, 0], [15, -4.1, 0], [12, 5, 0]]))[0]
    between = camera.project(np.array([[8.0, 2.5, 0], [12.5, -2.5, 0]]))[0]
    on_box = camera.project(np.array([[51.2 - 0.27, 25.6, 4.0]]))[0]
    assert all(nearness(image, pixel, LATTICE) > 0.5 for pixel in on_lattice)
    assert all(nearness(image, pixel, LATTICE) < 0.1 for pixel in between)
    assert nearness(image, on_box[0], BOX) > 0.5


def test_a_grid_behind_the_camera_leaves_the_picture_alone_below_the_words() -> None:
    behind = VoxelGrid.from_corner((-30, -5, 0), (20, 20, 20), 0.5)
    image = np.asarray(draw_overlay(GREY, CAMERA.on_ground(1.65, 60), behind))
    assert (image[60:] == 60).all()
    assert (image[:30] != 60).any()


@pytest.mark.parametrize("size", [(7, 5), (40, 900), (2000, 1400)])
@pytest.mark.parametrize("pitch", [-89.0, 0.0, 89.0])
def test_any_size_and_gaze_draws(size: tuple[int, int], pitch: float) -> None:
    camera = Camera.from_fov(70, size, guesses=("field of view",)).noted("a note " * 40).on_ground(1.65, pitch)
    assert draw_overlay(Image.new("L", size), camera, GRID).size == size


def test_a_picture_of_another_size_and_a_camera_without_pose_are_refused() -> None:
    with pytest.raises(InputError, match="620 x 180 pixels but its camera says 620 x 188"):
        draw_overlay(GREY[:180], CAMERA, GRID)
    with pytest.raises(InputError, match="no pose"):
        draw_overlay(GREY, Camera.from_fov(70, (620, 188)), GRID)
