"""Stereo: pairs made from a known depth come back, and cameras that are no pair are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.depth.sources import depth_source
from wholescene.depth.stereo import SemiGlobalStereo, agree, match, rectified
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View

SIZE, FOCAL, BASELINE = (320, 120), 200.0, 0.5


def camera(**more: object) -> Camera:
    return Camera.from_intrinsics(FOCAL, FOCAL, 150.0, 60.0, SIZE, **more).on_ground(1.5, 3)  # type: ignore[arg-type]


def made_pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wall with a nearer box in front of it, in smooth noise: left and right pictures (H, W, 3), and the left picture's disparity (H, W)."""
    width, height = SIZE
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (height, width + 64))
    texture = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 0)) / 3
    disparity = np.full((height, width), 10)
    disparity[30:90, 120:200] = 25
    left = texture[:, :width]
    right = left.copy()
    for value in (10, 25):  # the nearer one last, so that it hides what is behind
        row, column = np.nonzero(disparity == value)
        inside = column - value >= 0
        right[row[inside], column[inside] - value] = left[row[inside], column[inside]]
    return (*(np.repeat(p.astype(np.uint8)[..., None], 3, -1) for p in (left, right)), disparity)


def pair_frame(right_camera: Camera) -> tuple[Frame, np.ndarray]:
    left, right, disparity = made_pair()
    views = {"main": View(left, camera()), "right": View(right, right_camera)}
    return Frame("pair", views, GridPlacement((8, 8, 4), (2, 2, 1)).place(camera())), disparity


def test_the_depth_of_a_made_pair_comes_back() -> None:
    frame, disparity = pair_frame(camera().beside(BASELINE))
    metres, valid = depth_source("stereo:2.5")(frame)
    truth = FOCAL * BASELINE / disparity
    assert metres.dtype == np.float32
    assert metres.shape == SIZE[::-1]
    assert not metres[~valid].any()
    assert valid[:, 30:].mean() > 0.8
    assert (np.abs(metres - truth)[valid] < 0.1 * truth[valid]).mean() > 0.97
    hidden = np.zeros_like(valid)
    hidden[35:85, 106:118] = True  # wall that the box hides from the right camera
    assert valid[hidden].mean() < 0.3


def test_another_principal_point_of_the_right_camera_is_reckoned_with() -> None:
    shifted = replace(camera(), K=camera().K + np.array([[0, 0, -6.0], [0, 0, 0], [0, 0, 0]])).beside(BASELINE)
    assert rectified(camera(), shifted, "pair") == pytest.approx((6.0, FOCAL * BASELINE))
    frame, disparity = pair_frame(shifted)
    metres, valid = SemiGlobalStereo()(frame)
    truth = FOCAL * BASELINE / (disparity - 6)
    assert (np.abs(metres - truth)[valid] < 0.2 * truth[valid]).mean() > 0.95


def test_offset_rotation_history_and_pose_of_a_pair_count() -> None:
    left = replace(camera(), offset=np.array([46.9, 0.12, 0.006]))
    right = left.beside(0.54)
    for edit in (lambda c: c, lambda c: c.cropped(10, 5, 200, 100), lambda c: c.resized((160, 60))):
        one, other = edit(left), edit(right)
        shift, constant = rectified(one, other, "pair")
        point = np.array([[12.0, 1.0, 0.4]])
        (pixel,), (depth,) = one.project(point)
        (seen,), _ = other.project(point)
        assert constant / (pixel[0] - seen[0] - shift) == pytest.approx(depth)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (camera(), "there is no baseline; give the distance between them"),
        (Camera.from_intrinsics(FOCAL, FOCAL, 150, 60, SIZE).on_ground(1.5, 4).beside(0.5), "not a rectified pair"),
        (Camera.from_intrinsics(FOCAL * 1.1, FOCAL * 1.1, 150, 60, SIZE).on_ground(1.5, 3).beside(0.5), "not a rectified pair"),
        (Camera.from_intrinsics(FOCAL, FOCAL, 150, 60, SIZE).on_ground(1.6, 3).beside(0.5), "not a rectified pair"),
    ],
)
def test_two_cameras_that_are_no_pair_are_refused(right: Camera, said: str) -> None:
    with pytest.raises(InputError, match=said):
        rectified(camera(), right, "pair")


def test_exchanged_pictures_a_missing_one_and_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"0\.500 m to the left of the left one; exchange"):
        rectified(camera().beside(0.5), camera(), "pair")
    frame, _ = pair_frame(camera().beside(0.5))
    with pytest.raises(InputError, match="has no right picture"):
        SemiGlobalStereo()(replace(frame, views={"main": frame.main}))
    small = View(frame.views["right"].picture[:, 1:], frame.views["right"].camera.cropped(1, 0, SIZE[0] - 1, SIZE[1]))
    with pytest.raises(InputError, match="of one size"):
        SemiGlobalStereo()(replace(frame, views={**frame.views, "right": small}))
    with pytest.raises(InputError, match="baseline of 0 m"):
        camera().beside(0)


def test_both_directions_must_agree() -> None:
    of_left = np.array([[-1, 2, 2, 3, 0, 2.4]], np.float32)
    of_right = np.array([[3, 2, 0, 2, 1, 1]], np.float32)
    # pixel 1 points out of the picture, 2 at 0, 3 at 0, 5 at 3
    assert agree(of_left, of_right, 0.5).tolist() == [[False, False, False, True, False, True]]
    assert agree(of_left, of_right, 1.0).tolist() == [[False, False, True, True, False, True]]


def test_a_picture_without_texture_has_no_depth_and_the_left_edge_has_one() -> None:
    flat = np.full((40, 96, 3), 128, np.uint8)
    _, valid = match(flat, flat, 16)
    assert not valid.any()
    left, right, _ = made_pair()
    disparity, valid = match(left, right, 40)
    edge = valid[:, 12:30]  # nearer to the edge than the disparities that are searched
    assert edge.mean() > 0.6
    assert np.abs(disparity[:, 12:30][edge] - 10).mean() < 1


def test_real_pairs_agree_with_lidar(real_pictures: Path) -> None:
    """Measured: 0.6 to 7 % of the points off by more than 3 pixels, 66 to 92 % of the pixels with a depth."""
    from stereo import pairs, score

    scores = [score(frame, points) for frame, points in pairs(real_pictures.parent)]
    assert len(scores) == 7
    assert max(one.bad for one in scores) < 0.08
    assert min(one.density for one in scores) > 0.6
    assert max(one.median for one in scores) < 0.025


def test_a_reach_beyond_all_pictures_is_the_longest_one_that_is_searched() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 48, 3), dtype=np.uint8)
    longest, endless = (match(picture, np.roll(picture, -3, 1), reach)[0] for reach in (512.0, np.inf))
    assert np.array_equal(longest, endless)
