"""Projection tables against Camera.project and against the recorded pixels of released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.geometry.projection import ROUNDINGS, project_batch, project_grid
from wholescene.grid import VoxelGrid
from wholescene.structures import Frame, View

CAMERA = Camera.from_fov(75, (160, 96), offset=(3.0, -1.0, 0.01)).on_ground(1.6, 3)


@pytest.mark.parametrize("axes", ["xyz", "xzy", "yzx"])
def test_the_table_is_the_camera_s_own_projection_of_every_centre(axes: str) -> None:
    grid = VoxelGrid.from_corner((-1, -3, -0.2), (9, 7, 8), (0.9, 0.8, 0.7), axes)
    table = project_grid(CAMERA, grid)
    pixels, depth = CAMERA.project(grid.centres().reshape(-1, 3))
    seen = CAMERA.sees(grid.centres().reshape(-1, 3))
    assert seen.any()
    assert not seen.all()
    np.testing.assert_array_equal(table.in_view[0].numpy(), seen)
    np.testing.assert_array_equal(table.pixels[0].numpy()[seen], np.rint(pixels[seen]))
    np.testing.assert_allclose(table.depth[0].numpy(), depth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_all_roundings_agree_within_a_pixel(rounding: str) -> None:
    grid = VoxelGrid.from_corner((1, -3, -0.2), (20, 30, 8), 0.2)
    exact, other = project_grid(CAMERA, grid), project_grid(CAMERA, grid, rounding)  # type: ignore[arg-type]
    both = exact.in_view & other.in_view
    assert (exact.in_view != other.in_view).float().mean() < 0.01
    assert (exact.pixels - other.pixels).abs()[both].max() <= 1


def test_a_mirrored_picture_mirrors_the_pixels_and_leaves_the_voxels() -> None:
    grid = VoxelGrid.from_corner((1, -3, -0.2), (20, 30, 8), 0.2)
    plain, mirrored = project_grid(CAMERA, grid), project_grid(CAMERA.mirror(), grid)
    both = plain.in_view & mirrored.in_view
    off = (mirrored.pixels[..., 0] - (CAMERA.width - 1 - plain.pixels[..., 0])).abs()[both]
    assert off.max() <= 1  # exact ties round to the other side
    assert (off == 0).float().mean() > 0.99
    assert torch.equal(plain.pixels[..., 1][both], mirrored.pixels[..., 1][both])


def test_dropping_the_offset_moves_pixels_sideways() -> None:
    camera = Camera.from_fov(75, (1600, 960), offset=(300.0, 0, 0)).on_ground(1.6)
    grid = VoxelGrid.from_corner((1, -3, 0), (20, 30, 8), 0.2)
    with_it, without = project_grid(camera, grid), project_grid(camera, grid, use_offset=False)
    both = with_it.in_view & without.in_view
    moved = (with_it.pixels - without.pixels)[both]
    assert (moved[:, 0] > 0).all()
    assert (moved[:, 1] == 0).all()


def test_a_batch_stacks_its_frames_and_makes_each_table_once() -> None:
    picture = np.zeros((96, 160, 3), np.uint8)
    frames = [Frame(str(i), {"main": View(picture, CAMERA)}, VoxelGrid.from_corner((i, -3, 0), (4, 6, 2), 0.5)) for i in range(2)]
    batch = collate(frames)
    table = project_batch(batch, factor=2)
    assert table is project_batch(batch, factor=2)
    for i, frame in enumerate(frames):
        assert torch.equal(table.pixels[i], project_grid(CAMERA, frame.grid.coarser(2)).pixels[0])


def test_an_unknown_rounding_names_the_nearest() -> None:
    with pytest.raises(InputError, match="released-kitti"):
        project_grid(CAMERA, VoxelGrid.from_corner((0, 0, 0), (2, 2, 2), 1.0), "released-kiti")  # type: ignore[arg-type]
