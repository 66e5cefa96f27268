"""Voxels of depth maps and points against the camera's and the grid's own arithmetic, point by point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.geometry.occupancy import occupancy_of_batch, occupancy_of_depth, occupancy_of_points
from wholescene.geometry.projection import locate_batch
from wholescene.geometry.selecting import indices_of
from wholescene.grid import VoxelGrid
from wholescene.structures import Batch, Frame, View


def camera(size: tuple[int, int] = (40, 24)) -> Camera:
    lens = replace(Camera.from_fov(80, size).on_ground(1.6, 5), offset=np.array([45.0, -0.3, 0.005]))
    return lens.resized((30, 20)).mirror()


GRIDS = {
    "outdoors": VoxelGrid.from_corner((0.0, -6.4, -0.4), (16, 16, 8), (0.8, 0.8, 0.4)),
    "height in the middle": VoxelGrid.from_corner((0.0, -6.4, -0.4), (16, 8, 16), (0.8, 0.4, 0.8), "xzy"),
}


def holding(points: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    index, inside = grid.index_of(points)
    filled = np.zeros(grid.shape, bool)
    filled[tuple(index[inside].T)] = True
    return filled


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_voxel_is_occupied_where_a_pixel_of_known_depth_ends(grid: VoxelGrid) -> None:
    lens = camera()
    depth = np.random.default_rng(0).uniform(0.5, 20, (20, 30)).astype(np.float32)
    depth[:3], depth[3, :4] = 0, (np.nan, np.inf, -2, 1e30)
    found = occupancy_of_depth(torch.from_numpy(depth), lens, grid).numpy()
    assert 20 < found.sum() < 600
    points = lens.unproject(depth)
    assert np.array_equal(found, holding(points[np.abs(points).max(1) < 1e6], grid))


def test_padding_of_a_batch_gives_no_points() -> None:
    grid, lens = GRIDS["outdoors"], camera()
    depth = torch.rand(20, 30) * 10
    padded = torch.zeros(25, 41)
    padded[:20, :30] = depth
    assert torch.equal(occupancy_of_depth(padded, lens, grid), occupancy_of_depth(depth, lens, grid))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_voxel_is_occupied_where_a_point_lies(grid: VoxelGrid) -> None:
    points = np.random.default_rng(1).uniform(-8, 14, (500, 4)).astype(np.float32)
    assert np.array_equal(occupancy_of_points(torch.from_numpy(points), grid).numpy(), holding(points[:, :3], grid))
    assert not occupancy_of_points(torch.zeros(0, 4), grid).any()


def batch(**inputs: np.ndarray) -> Batch:
    frames = [Frame(f"f{i}", {"main": View(np.zeros((20, 30, 3), np.uint8), camera())}, GRIDS["outdoors"], **inputs) for i in range(2)]
    return collate(frames)


def test_a_batch_gets_the_voxels_of_each_frame_once() -> None:
    points = np.random.default_rng(1).uniform(0, 12, (50, 4)).astype(np.float32)
    made = batch(points=points)
    found = occupancy_of_batch(made, "points")
    assert torch.equal(found[1], occupancy_of_points(torch.from_numpy(points), GRIDS["outdoors"]))
    assert occupancy_of_batch(made, "points") is found
    with pytest.raises(InputError, match="have no depth"):
        occupancy_of_batch(made, "depth")


def test_unrounded_pixels_are_those_of_the_camera() -> None:
    grid, lens = GRIDS["outdoors"].coarser(2), camera()
    pixels, depth = locate_batch(batch(), 2)
    expected, metres = lens.project(grid.centres().reshape(-1, 3))
    ahead = metres > 0.1
    np.testing.assert_allclose(pixels[1].numpy()[ahead], expected[ahead], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(depth[1].numpy(), metres, rtol=1e-9, atol=1e-9)
    without = lens.project(grid.centres().reshape(-1, 3))[0] - locate_batch(batch(), 2, use_offset=False)[0][0].numpy()
    assert np.abs(without[ahead]).max() > 0.1


def test_indices_of_a_mask_are_flat_and_all_where_there_is_no_content() -> None:
    mask = torch.tensor([[False, True, True], [True, False, False]])
    assert indices_of(mask).tolist() == [1, 2, 3]
    assert indices_of(mask.to("meta")).shape == (6,)
