"""Streets: the same from the same seed, picture and voxels agree, and what was seen is known."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.labels import SEMANTIC_KITTI
from wholescene.structures import Frame

pytest.importorskip("embreex")

from wholescene.worlds.casting import Caster
from wholescene.worlds.layout import lay_out
from wholescene.worlds.observing import outside
from wholescene.worlds.section import Layout
from wholescene.worlds.shading import daylight, pixel_rays, render
from wholescene.worlds.solids import Prism
from wholescene.worlds.street import Streets, StreetSetting, camera_of, preset, scanner_poses, street
from wholescene.worlds.voxelising import voxelise

SMALL = replace(preset("full"), picture=(304, 92))


@functools.cache
def small(seed: int) -> Frame:
    return street(seed, SMALL)


@functools.cache
def laid_out(seed: int) -> Layout:
    return lay_out(np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed).spawn(4)[0])))


def grown(here: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With all 26 neighbours."""
    for axis in range(3):
        wide = here.copy()
        for shift, edge in ((1, 0), (-1, -1)):
            moved = np.roll(here, shift, axis)
            moved[(slice(None),) * axis + (edge,)] = False
            wide |= moved
        here = wide
    return here


def digest(frame: Frame) -> str:
    parts = (frame.main.picture, frame.depth, frame.targets[1], frame.main.camera.matrix, frame.main.camera.T_cam_world)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def test_a_seed_gives_the_same_bytes_whatever_was_made_before() -> None:
    first = digest(street(3, preset("mini")))
    np.random.default_rng(0).random(5)
    assert digest(street(4, preset("mini"))) != first
    assert digest(street(3, preset("mini"))) == first


def test_the_picture_size_changes_neither_street_nor_camera_pose() -> None:
    large, little = small(5), street(5, replace(SMALL, picture=(152, 46)))
    assert np.array_equal(large.main.camera.T_cam_world, little.main.camera.T_cam_world)
    both = (large.targets[1] != 255) & (little.targets[1] != 255)
    assert np.array_equal(large.targets[1][both], little.targets[1][both])
    assert large.main.camera.intrinsics[0, 0] == pytest.approx(2 * little.main.camera.intrinsics[0, 0])


def test_a_frame_has_the_shapes_that_systems_expect() -> None:
    frame = small(0)
    assert frame.name == "street/0"
    assert frame.main.picture.shape == (92, 304, 3)
    assert frame.main.picture.dtype == np.uint8
    assert frame.depth is not None
    assert (frame.depth.shape, frame.depth.dtype) == ((92, 304), np.float32)
    assert (frame.targets[1].shape, frame.targets[1].dtype) == ((256, 256, 32), np.uint8)
    assert set(np.unique(frame.targets[1])) <= {*range(20), 255}
    assert frame.main.camera.world == "ground"
    assert frame.grid == GridPlacement().place(frame.main.camera)
    mini = street(0, preset("mini"))
    assert mini.targets[1].shape == (64, 64, 16)
    assert np.allclose(mini.grid.extent, (51.2, 51.2, 6.4))
    assert mini.main.picture.shape == (96, 304, 3)


@pytest.mark.parametrize("seed", range(4))
def test_visible_surfaces_lie_in_or_next_to_voxels_of_their_class(seed: int) -> None:
    layout = laid_out(seed)
    camera = camera_of(np.random.Generator(np.random.PCG64(seed)), SMALL)
    grid = GridPlacement().place(camera)
    caster, rng = Caster(layout.bodies), np.random.Generator(np.random.PCG64(0))
    _, depth, hits = render(caster, layout.bodies, camera, daylight(rng), rng)
    labels = voxelise(layout.bodies, grid)
    assert np.array_equal(np.flatnonzero(depth.ravel() > 0), hits.ray)
    points = camera.unproject(depth)
    classes = np.array([body.label if body.label is not None else 0 for body in layout.bodies])[hits.body]
    ground = classes == 0
    classes[ground] = layout.plan.labels(points[ground, 0], points[ground, 1])
    index, within = grid.index_of(points)
    index, classes = index[within], classes[within]
    agreed = np.zeros(len(classes), bool)
    for label in np.unique(classes):
        near = grown(labels == label)
        agreed[classes == label] = near[tuple(index[classes == label].T)]
        assert agreed[classes == label].mean() > 0.6, SEMANTIC_KITTI.names[label]
    assert agreed.mean() >= 0.95


@pytest.mark.parametrize("seed", range(4))
def test_what_the_picture_shows_is_known(seed: int) -> None:
    frame = small(seed)
    assert frame.depth is not None
    points = frame.main.camera.unproject(frame.depth)
    index, within = frame.grid.index_of(points[np.linalg.norm(points, axis=1) < 70])
    assert (frame.targets[1][tuple(index[within].T)] != 255).mean() > 0.999


def test_free_space_on_the_line_of_sight_is_known_and_below_the_road_nothing_is() -> None:
    frame = small(1)
    labels, camera = frame.targets[1], frame.main.camera
    assert frame.depth is not None
    rows, columns = np.nonzero((frame.depth > 4) & (frame.depth < 40))
    halfway = camera.position + 0.5 * frame.depth[rows, columns, None] * pixel_rays(camera)[rows, columns]
    index, within = frame.grid.index_of(halfway)
    assert (labels[tuple(index[within].T)] != 255).mean() > 0.97
    under = labels[5:200, 100:156, 0]
    assert (under == 255).mean() > 0.5
    assert 0.1 < (labels == 255).mean() < 0.6


@pytest.mark.parametrize("seed", range(12))
def test_the_camera_stands_in_nothing_and_no_scanner_pose_does(seed: int) -> None:
    layout = laid_out(seed)
    assert outside(layout.bodies, np.array([[0.0, 0.0, 1.65]]), 0.4).all()
    poses = scanner_poses(layout, SMALL)
    assert len(poses) >= 4
    assert outside(layout.bodies, poses).all()


def test_every_class_occurs_over_some_streets() -> None:
    found: set[int] = set()
    for seed in range(60):
        if len(found) == 19:
            break
        layout = laid_out(seed)
        found |= {body.label for body in layout.bodies if body.label is not None}
        x, y = np.meshgrid(np.arange(0, 51, 0.4), np.arange(-25, 25, 0.4))
        found |= set(np.unique(layout.plan.labels(x, y)).tolist())
    assert found == set(range(1, 20))


def test_every_profile_is_convex_and_counter_clockwise() -> None:
    # The inside test is an intersection of half planes: it is exact for such profiles only.
    for seed in range(12):
        for shape in (body.shape for body in laid_out(seed).bodies if isinstance(body.shape, Prism)):
            edges = np.roll(shape.profile, -1, axis=0) - shape.profile
            following = np.roll(edges, -1, axis=0)
            assert (edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > -1e-9).all(), shape.profile
            turns = np.unwrap(np.arctan2(edges[:, 1], edges[:, 0]))
            assert turns[-1] - turns[0] < 2 * np.pi


def test_four_rays_a_pixel_keep_the_street_and_smooth_the_picture() -> None:
    def unrest(picture: NDArray[np.uint8]) -> float:
        return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())

    one, four = street(2, replace(SMALL, picture=(152, 46))), street(2, replace(SMALL, picture=(152, 46), samples=4))
    assert one.depth is not None
    assert four.depth is not None
    assert np.allclose(one.depth, four.depth, rtol=1e-4)
    assert unrest(four.main.picture) < unrest(one.main.picture)


def test_the_dataset_gives_frames_by_index() -> None:
    streets = Streets(range(7, 9), preset("mini"))
    assert len(streets) == 2
    assert streets.names == ["street/7", "street/8"]
    assert streets.labels is SEMANTIC_KITTI
    assert digest(streets[1]) == digest(street(8, preset("mini")))


def test_the_right_view_shows_what_the_left_one_does_shifted_by_its_disparity() -> None:
    frame, alone = street(3, preset("mini"), right=True), street(3, preset("mini"))
    assert np.array_equal(frame.main.picture, alone.main.picture)
    assert set(alone.views) == {"main"}
    left, right = frame.main.camera, frame.views["right"].camera
    points = left.unproject(frame.depth)
    (u, v), (shifted, row) = left.project(points)[0].T, right.project(points)[0].T
    near = frame.depth[frame.depth > 0]
    np.testing.assert_allclose(u - shifted, left.K[0, 0] * 0.54 / near, rtol=1e-4)
    np.testing.assert_allclose(v, row, atol=1e-6)
    inside = shifted > 0
    column, line = np.rint(shifted[inside]).astype(int), np.rint(row[inside]).astype(int)
    seen = frame.views["right"].picture[line, column].astype(int)
    own = frame.main.picture[line, np.rint(u[inside]).astype(int)].astype(int)
    there = frame.views["right"].picture[line, np.rint(u[inside]).astype(int)].astype(int)
    assert np.abs(seen - own).mean() < 0.6 * np.abs(there - own).mean()


def test_wrong_settings_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="seed of a street is -1"):
        street(-1)
    with pytest.raises(InputError, match="2 samples"):
        StreetSetting(samples=2)
    with pytest.raises(InputError, match="nearest is 'mini'"):
        preset("minni")


def test_depth_is_along_the_optical_axis() -> None:
    camera = Camera.from_intrinsics(100, 100, 49.5, 19.5, (100, 40)).on_ground(1.65, 0.0)
    rays = pixel_rays(camera)
    points = camera.position + 7.0 * rays.reshape(-1, 3)
    pixels, depth = camera.project(points)
    assert np.allclose(depth, 7.0)
    assert np.allclose(pixels.reshape(40, 100, 2)[3, 8], (8, 3), atol=1e-4)
