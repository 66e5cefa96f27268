"""Rays, what a scanner knows, and the noise of surfaces, each against something worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("embreex")

from wholescene.grid import VoxelGrid
from wholescene.worlds.casting import Caster
from wholescene.worlds.materials import Plain
from wholescene.worlds.observing import observe, outside
from wholescene.worlds.solids import Body, Box, Ellipsoid, upright
from wholescene.worlds.textures import noise, scatter
from wholescene.worlds.voxelising import voxelise

GREY = Plain((0.5, 0.5, 0.5))
WALL = Body(Box(np.array([5.0, 0.0, 0.0]), np.array([0.2, 4.0, 4.0])), 13, GREY)
GRID = VoxelGrid.from_corner((0.0, -5.0, -2.0), (50, 50, 20), 0.2)


def test_rays_meet_a_box_and_a_ball_where_geometry_says() -> None:
    ball = Body(Ellipsoid(np.array([0.0, 6.0, 0.0]), np.array([1.0, 1.0, 1.0]), rings=40), 15, GREY)
    caster = Caster([WALL, ball])
    directions = np.array([[1.0, 0.0, 0.0], [1.0, 0.5, 0.25], [0.0, 2.0, 0.0], [-1.0, 0.0, 0.0]])
    hits = caster.nearest(np.zeros(3), directions)
    assert hits.ray.tolist() == [0, 1, 2]
    assert hits.body.tolist() == [0, 0, 1]
    assert np.allclose(hits.t, [4.8, 4.8, 2.5], atol=5e-3)
    assert np.allclose(hits.distance, [4.8, 4.8 * np.sqrt(1.3125), 5.0], atol=1e-2)
    assert np.allclose(hits.points[1], [4.8, 2.4, 1.2], atol=1e-5)
    assert np.allclose(hits.normals, [[-1, 0, 0], [-1, 0, 0], [0, -1, 0]], atol=0.05)
    assert np.allclose(caster.distances(np.zeros(3), directions), [4.8, 4.8, 2.5, np.inf], atol=5e-3)
    assert caster.blocked(np.zeros((4, 3)), directions, 3.0).tolist() == [False, False, True, False]


def test_behind_a_wall_nothing_is_known_until_a_pose_stands_there() -> None:
    caster, labels = Caster([WALL]), voxelise([WALL], GRID)
    before = observe(caster, labels, GRID, np.array([[0.5, 0.0, 0.0]]), {})
    x = GRID.centres()[..., 0]
    in_cone = np.abs(GRID.centres()[..., 1]) < 3.0
    assert before[(x < 4.6)].all()
    assert not before[(x > 5.5) & in_cone].any()
    solid = labels == 13
    assert before[solid & (x < 5.0) & in_cone].all(), "the face towards the scanner"
    assert not before[solid & (x > 5.15)].any(), "the far face"
    after = observe(caster, labels, GRID, np.array([[0.5, 0.0, 0.0], [9.0, 0.0, 0.0]]), {})
    assert after[(x > 5.5) & in_cone].all()
    assert (after | ~before).all(), "a further pose takes nothing away"


def test_points_in_a_picture_count_as_seen() -> None:
    caster, labels = Caster([WALL]), voxelise([WALL], GRID)
    hidden = np.array([[8.05, 0.05, 0.05]])
    known = observe(caster, labels, GRID, np.array([[0.5, 0.0, 0.0]]), {}, hidden)
    index, _ = GRID.index_of(hidden)
    assert known[tuple(index[0])]


def test_outside_tells_points_within_a_body_from_others() -> None:
    turned = Body(Box(np.array([5.0, 0.0, 0.0]), np.array([3.0, 0.2, 1.0]), upright(np.pi / 2)), 13, GREY)
    points = np.array([[5.0, 2.5, 0.0], [7.0, 0.0, 0.0], [5.0, 3.2, 0.0]])
    assert outside([turned], points, 0.0).tolist() == [False, True, True]
    assert outside([turned], points, 0.3).tolist() == [False, True, False]


def test_noise_has_its_mean_and_loses_detail_with_distance() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    u, v = rng.uniform(-500, 500, (2, 20000)).astype(np.float32)
    for roughness in (0.2, 1.0, 1.5):
        near, far = noise(u, v, 4.0, 0.0, roughness), noise(u, v, 4.0, 1.0, roughness)
        assert abs(near.mean()) < 0.1
        assert near.std() == pytest.approx(1.0, abs=0.1)
        assert far.std() < near.std()
    assert np.mean(noise(u, v, 4.0) != noise(u + 32.0, v, 4.0)) < 0.02, "it repeats, but for rounding at the cells' borders"


def test_scatter_is_even_and_takes_negative_numbers_of_any_type() -> None:
    values = scatter(np.arange(-5000, 5000))
    assert np.histogram(values, 10, (0, 1))[0].min() > 850
    assert np.array_equal(values, scatter(np.arange(-5000, 5000).astype(np.float32)))
    assert abs(np.corrcoef(values, scatter(np.arange(-5000, 5000), 1))[0, 1]) < 0.05
