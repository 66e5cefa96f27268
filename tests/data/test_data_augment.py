"""Augmentation changes what it says and nothing else, the same way every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.data.augment import augment, flip, generator, jitter, mirror
from wholescene.data.config import Augmentation
from wholescene.errors import InputError


class Drawn:
    """A generator that draws what it is told."""

    def __init__(self, order, factors):
        self.order, self.factors = order, factors

    def permutation(self, n):
        return np.array(self.order)

    def uniform(self, low, high, size):
        assert (low, high, size) == (0.6, 1.4, 3)
        return np.array(self.factors)


def grey(picture):
    return np.rint(picture @ [0.299, 0.587, 0.114])


def blend(base, picture, factor):
    return np.floor(np.clip(base + factor * (picture - base), 0, 255))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_jitter_is_the_stated_formula_in_the_stated_order(stereo_frame, order):
    factors = (0.7, 1.3, 0.8)
    got = jitter(stereo_frame, Drawn(order, factors))
    for name in ("main", "right"):
        expected = stereo_frame.views[name].picture.astype(float)
        for step in order:
            base = (0.0, np.rint(grey(expected).mean()), grey(expected)[..., None])[step]
            expected = blend(base, expected, factors[step])
        difference = np.abs(got.views[name].picture - expected)
        assert difference.max() <= 2  # a whole number just missed in one of three steps
        assert difference.mean() < 0.05
        assert np.abs(got.views[name].picture.astype(float) - stereo_frame.views[name].picture).max() > 20
    assert got.targets is stereo_frame.targets
    assert got.main.camera is stereo_frame.main.camera


def test_the_same_seed_epoch_and_index_vary_alike_and_others_differ(stereo_frame):
    def picture(seed, epoch, index):
        return augment(stereo_frame, Augmentation(mirror=0.5), generator(seed, epoch, index)).main.picture

    assert np.array_equal(picture(1, 2, 3), picture(1, 2, 3))
    others = [picture(0, 2, 3), picture(1, 3, 3), picture(1, 2, 4), picture(1, 3, 2)]
    assert all(not np.array_equal(picture(1, 2, 3), other) for other in others)


def test_nothing_changes_where_nothing_is_asked_for(stereo_frame):
    assert augment(stereo_frame, Augmentation(jitter=0, mirror=0), generator(0, 0, 0)) is stereo_frame


def test_half_of_the_frames_are_mirrored(stereo_frame):
    turned = [augment(stereo_frame, Augmentation(jitter=0, mirror=0.5), generator(0, 0, i)).main.camera.mirrored for i in range(200)]
    assert 70 < sum(turned) < 130
    assert augment(stereo_frame, Augmentation(jitter=0, mirror=1), generator(0, 0, 0)).main.camera.mirrored


def test_a_mirrored_frame_sees_the_same_world_points_at_the_same_pixels(stereo_frame):
    got = mirror(stereo_frame)
    points = np.random.default_rng(0).uniform((-2, -1, 4), (2, 1, 6), (200, 3))
    for name, view in stereo_frame.views.items():
        before = np.rint(view.camera.project(points)[0]).astype(int)
        after = np.rint(got.views[name].camera.project(points)[0]).astype(int)
        inside = view.camera.sees(points)
        assert inside.sum() > 50
        (u, v), (x, y) = before[inside].T, after[inside].T
        assert np.array_equal(x, view.camera.width - 1 - u)
        assert np.array_equal(got.views[name].picture[y, x], view.picture[v, u])
    assert np.array_equal(got.depth[:, ::-1], stereo_frame.depth)
    assert np.array_equal(got.depth_target[:, ::-1], stereo_frame.depth_target)
    assert got.targets is stereo_frame.targets
    assert got.grid is stereo_frame.grid


def test_a_mirrored_depth_map_unprojects_to_the_same_points(stereo_frame):
    got = mirror(stereo_frame)

    def cloud(frame):
        points = frame.main.camera.unproject(frame.depth)
        return points[np.lexsort(points.T)]

    assert isinstance(got.main.camera, Camera)
    assert np.allclose(cloud(got), cloud(stereo_frame), atol=1e-9)


@pytest.mark.parametrize("field", ["jitter", "mirror"])
def test_strengths_outside_zero_to_one_are_refused(field):
    with pytest.raises(InputError, match=f"augmentation {field} is 1.5"):
        Augmentation(**{field: 1.5})


def test_a_flip_turns_the_volumes_along_the_named_axes_and_nothing_else(stereo_frame):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, stereo_frame.grid.shape).astype(np.uint8)
    frame = replace(stereo_frame, targets={1: labels}, occupancy=labels > 9, depth=None, points=None)
    flipped = flip(frame, True, False)
    assert np.array_equal(flipped.targets[1], labels[::-1])
    assert np.array_equal(flipped.occupancy, labels[::-1] > 9)
    both = flip(frame, True, True)
    assert np.array_equal(both.targets[1], labels[::-1, ::-1])
    assert both.grid == frame.grid
    assert both.main.picture is frame.main.picture


def test_a_flip_that_would_part_volume_and_points_is_refused(stereo_frame):
    frame = replace(stereo_frame, points=np.zeros((1, 4), np.float32))
    with pytest.raises(InputError, match=r"augment\.flip to 0"):
        flip(frame, False, True)
