"""Rooms: the same from the same seed, picture and voxels agree in every axis order, what is known is in the room, and lamps obey their law."""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from wholescene.data import open_dataset
from wholescene.data.config import DataConfig
from wholescene.errors import InputError
from wholescene.grid import GridPlacement, VoxelGrid
from wholescene.labels import NYUV2
from wholescene.structures import Frame

pytest.importorskip("embreex")

from wholescene.worlds.casting import Caster
from wholescene.worlds.materials import Plain
from wholescene.worlds.observing import outside
from wholescene.worlds.room import Rooms, RoomSetting, camera_of, in_world_order, preset, room, scan_poses
from wholescene.worlds.room_layout import lay_out
from wholescene.worlds.room_light import falling, render, snapshot
from wholescene.worlds.room_shell import THICK, Room, Wall
from wholescene.worlds.room_things import Lamp
from wholescene.worlds.solids import Body, Box
from wholescene.worlds.voxelising import voxelise

SMALL = replace(preset("mini"), picture=(80, 60))
PLAIN_ORDER = replace(SMALL, grid=GridPlacement((32, 32, 20), (0.15, 0.15, 0.15), "xyz", (0.0, 0.0, -0.05), None, "nyuv2"))


@functools.cache
def small(seed: int) -> Frame:
    return room(seed, SMALL)


@functools.cache
def laid_out(seed: int) -> Room:
    return lay_out(np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed).spawn(4)[0])))


def digest(frame: Frame) -> str:
    parts = (frame.main.picture, frame.depth, frame.targets[1], frame.main.camera.matrix, frame.main.camera.T_cam_world)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def grown(here: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With all 26 neighbours."""
    wide = np.pad(here, 1)
    shifts = [(i, j, k) for i in range(3) for j in range(3) for k in range(3)]
    return np.any([wide[i : i + here.shape[0], j : j + here.shape[1], k : k + here.shape[2]] for i, j, k in shifts], axis=0)


def test_a_seed_gives_the_same_bytes_whatever_was_made_before() -> None:
    first = digest(room(3, SMALL))
    np.random.default_rng(0).random(5)
    assert digest(room(4, SMALL)) != first
    assert digest(room(3, SMALL)) == first


def test_the_picture_size_changes_neither_room_nor_camera_pose() -> None:
    large, little = room(5, replace(SMALL, picture=(160, 120))), small(5)
    assert np.array_equal(large.main.camera.T_cam_world, little.main.camera.T_cam_world)
    both = (large.targets[1] != 255) & (little.targets[1] != 255)
    assert both.mean() > 0.1
    assert np.array_equal(large.targets[1][both], little.targets[1][both])
    assert large.main.camera.intrinsics[0, 0] == pytest.approx(2 * little.main.camera.intrinsics[0, 0])


@pytest.mark.parametrize(("name", "shape", "up"), [("nyuv2", (60, 36, 60), 1), ("occscannet", (60, 60, 36), 2), ("mini", (32, 20, 32), 1)])
def test_each_setting_has_its_grid_and_a_floor_at_its_bottom(name: str, shape: tuple[int, int, int], up: int) -> None:
    frame = room(1, replace(preset(name), picture=(80, 60)))
    assert frame.targets[1].shape == frame.grid.shape == shape
    assert frame.targets[1].dtype == np.uint8
    assert set(np.unique(frame.targets[1])) <= {*range(12), 255}
    assert np.allclose(sorted(frame.grid.extent), (2.88, 4.8, 4.8) if name != "mini" else (3.0, 4.8, 4.8))
    floor = np.argwhere(frame.targets[1] == 2)
    assert len(floor) > 50
    assert (floor[:, up] == 0).mean() > 0.95
    assert frame.depth is not None
    assert (frame.depth > 0).all(), "a room is closed"


def test_the_two_axis_orders_are_the_same_room() -> None:
    for seed in range(3):
        own, plain = small(seed), room(seed, PLAIN_ORDER)
        assert np.array_equal(own.targets[1].transpose(0, 2, 1), plain.targets[1])
        rng = np.random.default_rng(seed)
        points = rng.uniform((1.0, -2.0, 0.0), (5.0, 2.0, 2.5), (500, 3))
        (a, inside), (b, _) = own.grid.index_of(points), plain.grid.index_of(points)
        assert np.array_equal(own.targets[1][tuple(a[inside].T)], plain.targets[1][tuple(b[inside].T)])


def test_world_order_and_back() -> None:
    grid = VoxelGrid.from_corner((1.0, 2.0, 3.0), (2, 5, 7), (0.1, 0.2, 0.3), "zxy")
    plain, order = in_world_order(grid)
    assert plain.shape == (5, 7, 2)
    assert np.allclose(plain.centres().transpose(*order, 3), grid.centres())


@pytest.mark.parametrize("seed", range(4))
def test_visible_surfaces_lie_in_or_next_to_voxels_of_their_class(seed: int) -> None:
    made = laid_out(seed)
    camera = camera_of(np.random.Generator(np.random.PCG64(seed)), SMALL)
    grid, _ = in_world_order(SMALL.grid.place(camera))
    caster, rng = Caster(made.bodies), np.random.Generator(np.random.PCG64(0))
    _, depth, hits = render(caster, made.bodies, made.lamps, made.panes, camera, snapshot(rng), rng)
    labels = voxelise(made.bodies, grid)
    assert np.array_equal(np.flatnonzero(depth.ravel() > 0), hits.ray)
    classes = np.array([body.label for body in made.bodies])[hits.body]
    index, within = grid.index_of(camera.unproject(depth))
    index, classes = index[within], classes[within]
    agreed = np.zeros(len(classes), bool)
    for label in np.unique(classes):
        agreed[classes == label] = grown(labels == label)[tuple(index[classes == label].T)]
    assert agreed.mean() >= 0.97


@pytest.mark.parametrize("seed", range(4))
def test_what_the_picture_shows_is_known_and_outside_the_room_nothing_is(seed: int) -> None:
    frame, made = small(seed), laid_out(seed)
    assert frame.depth is not None
    index, within = frame.grid.index_of(frame.main.camera.unproject(frame.depth))
    assert (frame.targets[1][tuple(index[within].T)] != 255).mean() > 0.999
    known = frame.targets[1] != 255
    assert not known[~made.within(frame.grid.centres(), THICK + 0.1)].any()
    unseen = ~frame.main.camera.sees(frame.grid.centres())
    assert (known & unseen).sum() < 0.1 * known.sum(), "only what a pixel's ray met beside its voxel's centre"


def test_behind_things_the_truth_of_a_model_goes_on_and_that_of_a_scan_has_holes() -> None:
    view, scan = room(2, PLAIN_ORDER), room(2, replace(PLAIN_ORDER, known="scan"))
    known = {name: frame.targets[1] != 255 for name, frame in (("view", view), ("scan", scan))}
    both = known["view"] & known["scan"]
    assert np.array_equal(view.targets[1][both], scan.targets[1][both])
    assert (known["view"] & ~known["scan"]).any(), "the inside of a cupboard"
    assert (known["scan"] & ~known["view"]).sum() > 200, "beside the picture"
    everything = room(2, replace(PLAIN_ORDER, known="all")).targets[1]
    assert not (everything == 255).any()
    assert all(np.array_equal(everything[known[name]], frame.targets[1][known[name]]) for name, frame in (("view", view), ("scan", scan)))
    assert scan_poses(laid_out(2), scan.main.camera, 3).shape == (3, 3)


@pytest.mark.parametrize("seed", range(30))
def test_the_camera_stands_in_the_room_and_in_nothing(seed: int) -> None:
    made = laid_out(seed)
    eye = np.array([[0.0, 0.0, 1.3]])
    assert made.within(eye, -0.2).all()
    assert outside(made.bodies, eye, 0.1).all()


def test_footprints_of_one_wall_do_not_stand_in_each_other_nor_before_doors() -> None:
    for seed in range(30):
        for wall in laid_out(seed).walls:
            spans = sorted((t0, t1) for t0, t1, tall in wall.taken if tall < 3)
            assert all(b[0] > a[1] - 1e-6 for a, b in itertools.pairwise(spans)), (seed, spans)
            doors = [o for o in wall.openings if o.kind == "door"]
            assert not any(t0 < door.t1 and door.t0 < t1 for door in doors for t0, t1 in spans), seed


def test_a_footprint_is_where_the_wall_says() -> None:
    wall = Wall(4.0, (2.0, 3.0), -np.pi / 2)  # the far wall of a room 3 m deep: into the room is -v, its left is +u
    assert np.allclose(wall.footprint(0.5, 0.6, 1.0), (2.0, 2.4, 3.0, 3.0))


def test_every_class_occurs_over_some_rooms() -> None:
    found = {int(body.label) for seed in range(30) for body in laid_out(seed).bodies if body.label is not None}
    assert found == set(range(1, 12))


def test_a_lamp_shines_by_the_inverse_square_and_casts_a_shadow() -> None:
    grey = Plain((0.5, 0.5, 0.5))
    floor = Body(Box(np.array([0.0, 0.0, -0.1]), np.array([4.0, 4.0, 0.1])), 2, grey)
    board = Body(Box(np.array([1.0, 0.0, 1.0]), np.array([0.2, 0.2, 0.02])), 10, grey)
    caster = Caster([floor, board])
    targets = np.array([[0.0, 0.0, 0.0], [0.0, 1.5, 0.0], [1.98, 0.0, 0.0]])  # below the lamp, beside it, behind the board
    eye = np.array([3.0, 3.0, 3.0])
    hits = caster.nearest(eye, targets - eye)
    lamp = Lamp(np.array([0.0, 0.0, 2.0]), 1e-6, np.array([3.0, 2.0, 1.0]))
    light = falling(caster, hits, [lamp], [], (3, 1), np.random.default_rng(0))
    # marks of one face are evened out, so each ray is asked for alone
    alone = [falling(caster, caster.nearest(eye, (t - eye)[None]), [lamp], [], (1, 1), np.random.default_rng(0))[0] for t in targets]
    assert light.shape == (3, 3)
    assert np.allclose(alone[0], np.array([3.0, 2.0, 1.0]) / 4, rtol=1e-3)
    far = 1.5**2 + 2.0**2
    assert np.allclose(alone[1], np.array([3.0, 2.0, 1.0]) * (2 / far**0.5) / far, rtol=1e-3)
    assert np.allclose(alone[2], 0)


def test_rooms_open_by_name_and_wrong_settings_are_refused() -> None:
    dataset = open_dataset(DataConfig(dataset="room", setting="mini", train="7..8"), "train", {"depth"})
    assert dataset.names == ["room/7", "room/8"]
    assert dataset.labels is NYUV2
    assert "within the picture's field of view" in dataset.protocol
    assert digest(dataset[1]) == digest(room(8, preset("mini")))
    assert len(Rooms(range(3))) == 3
    with pytest.raises(InputError, match="seed of a room is -1"):
        room(-1)
    with pytest.raises(InputError, match="2 samples"):
        RoomSetting(samples=2)
    with pytest.raises(InputError, match=r"the nearest is 'mini'"):
        preset("minni")
    with pytest.raises(InputError, match=r"leave data\.scales"):
        open_dataset(DataConfig(dataset="room", train="0", scales=(4,)), "train")
