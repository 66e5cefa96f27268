"""Fitting pictures to their bottom rows: where pixels go, what the camera notes of it, what depth maps become."""

from __future__ import annotations

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.grid import semantic_kitti_grid
from wholescene.preparation import Preparation, prepare
from wholescene.structures import Frame, View


def ramp(width: int, height: int) -> Frame:
    """A frame whose depth map says 10 + column + row / 4 at every pixel."""
    depth = 10 + np.arange(width, dtype=np.float32) + np.arange(height, dtype=np.float32)[:, None] / 4
    camera = Camera.from_fov(70, (width, height)).on_ground(1.65)
    return Frame("ramp", {"main": View(np.full((height, width, 3), 200, np.uint8), camera)}, semantic_kitti_grid(), depth, depth_target=depth)


@pytest.mark.parametrize("size", [(120, 40), (66, 24), (60, 20)])
def test_the_bottom_stays_and_the_camera_says_where_every_pixel_came_from(size: tuple[int, int]) -> None:
    found = prepare(ramp(60, 30), Preparation(fit="bottom", size=size, mixed_depth=True))
    camera = found.main.camera
    assert camera.size == (found.main.picture.shape[1], found.main.picture.shape[0]) == size
    u, v = 0.6 * size[0], 0.7 * size[1]
    u, v = round(u), round(v)
    before = np.linalg.inv(camera.affine) @ (u, v, 1)
    assert found.depth[v, u] == pytest.approx(10 + before[0] + before[1] / 4, abs=0.02)  # bicubic resizing keeps a ramp
    bottom = np.linalg.inv(camera.affine) @ (0, size[1] - 0.5, 1)
    assert bottom[1] == pytest.approx(29.5, abs=0.03)  # the lower edge of the last row


def test_released_code_notes_pixels_by_their_corners() -> None:
    right = prepare(ramp(60, 30), Preparation(fit="bottom", size=(120, 40))).main.camera.affine
    released = prepare(ramp(60, 30), Preparation(fit="bottom", size=(120, 40), corner_pixels=True)).main.camera.affine
    np.testing.assert_allclose(released, [[2, 0, 0], [0, 2, -20], [0, 0, 1]])
    np.testing.assert_allclose(right - released, [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def test_depths_are_not_mixed_and_what_is_added_is_unknown() -> None:
    frame = ramp(60, 20)
    frame.depth[:, 30:] += 100
    found = prepare(frame, Preparation(fit="bottom", size=(60, 28)))
    assert not found.main.picture[:8].any()
    assert not found.depth[:8].any()
    assert not found.depth_target[:8].any()
    assert np.array_equal(found.depth[8:], frame.depth)
    enlarged = prepare(frame, Preparation(fit="bottom", size=(90, 28)))
    assert set(enlarged.depth[enlarged.depth > 0]) <= set(frame.depth.flatten())
    mixed = prepare(frame, Preparation(fit="bottom", size=(90, 28), mixed_depth=True))
    assert not set(mixed.depth[mixed.depth > 0]) <= set(frame.depth.flatten())
    assert np.array_equal(mixed.depth_target, enlarged.depth_target)
