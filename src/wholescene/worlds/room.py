"""Rooms: a whole frame from one number, and an endless dataset of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError, unknown_name
from wholescene.grid import GridPlacement, VoxelGrid
from wholescene.labels import NYUV2, UNKNOWN, LabelSet
from wholescene.structures import Frame, View
from wholescene.worlds.casting import Caster
from wholescene.worlds.observing import observe, outside
from wholescene.worlds.room_layout import lay_out
from wholescene.worlds.room_light import render, snapshot
from wholescene.worlds.room_shell import Room
from wholescene.worlds.voxelising import voxelise

_REFERENCE_WIDTH = 640  # pixels of the picture that `focal` speaks of
KNOWN = {
    "view": "the room within the picture's field of view, also behind things",
    "scan": "what was seen from several places in the room, also outside the picture",
    "all": "every voxel of the grid",
}


@dataclass(frozen=True)
class RoomSetting:
    """How rooms are made: plain numbers only.

    Attributes:
        grid: where the voxels lie before the camera; in any axis order.
        picture: (width, height) in pixels; the picture is rendered at this size, not resized to it.
        focal: lowest and highest focal length, in pixels of a picture 640 wide; scaled with the width.
        height: lowest and highest camera height above the floor, metres.
        pitch: lowest and highest pitch, degrees, positive looks down.
        roll: highest roll to either side, degrees.
        samples: rays a pixel: 1, 4 or 9.
        known: what the truth knows: "view", the room as far as the picture's field of view reaches, also behind things (NYUv2, whose truth is
            annotated with models); "scan", what was seen from several places in the room, also outside the picture (Occ-ScanNet); or "all", every
            voxel of the grid: beyond the walls nothing stands.
        poses: places that a scan looks from.
    """

    grid: GridPlacement = field(default_factory=lambda: GridPlacement((60, 36, 60), (0.08, 0.08, 0.08), "xzy", (0.0, 0.0, -0.05), None, "nyuv2"))
    picture: tuple[int, int] = (640, 480)
    focal: tuple[float, float] = (505.0, 545.0)
    height: tuple[float, float] = (1.0, 1.7)
    pitch: tuple[float, float] = (4.0, 26.0)
    roll: float = 3.0
    samples: int = 1
    known: Literal["view", "scan", "all"] = "view"
    poses: int = 8

    def __post_init__(self) -> None:
        if self.samples not in (1, 4, 9):
            raise InputError(f"{self.samples} samples a pixel in a RoomSetting; give 1, 4 or 9")
        if self.known not in KNOWN or self.poses < 1:
            raise InputError(f"a RoomSetting with known {self.known!r} and {self.poses} poses; known is view, scan or all, with at least one pose")


_NYUV2 = RoomSetting()
_UP_LAST = replace(_NYUV2, grid=GridPlacement((60, 60, 36), (0.08, 0.08, 0.08), "xyz", (0.0, 0.0, -0.05), None, "nyuv2"))
PRESETS = {
    "nyuv2": _NYUV2,
    "occscannet": replace(_UP_LAST, known="scan"),
    "half": replace(_UP_LAST, picture=(320, 240)),
    "half-all": replace(_UP_LAST, picture=(320, 240), known="all"),
    "mini": replace(_NYUV2, grid=GridPlacement((32, 20, 32), (0.15, 0.15, 0.15), "xzy", (0.0, 0.0, -0.05), None, "nyuv2"), picture=(320, 240)),
}


def preset(name: str) -> RoomSetting:
    """The setting of that name: "nyuv2" (its grid and truth), "occscannet" (likewise), "half" (Occ-ScanNet's grid, NYUv2's truth, a picture of
    320 x 240), "half-all" (that with all voxels known) or "mini" (that picture, voxels of 0.15 m).

    Raises:
        InputError: naming the nearest ones.
    """
    if name not in PRESETS:
        raise unknown_name("room setting", name, PRESETS)
    return PRESETS[name]


def camera_of(rng: np.random.Generator, setting: RoomSetting) -> Camera:
    """A hand-held camera above the world's origin, its numbers drawn within the setting's ranges."""
    width, height = setting.picture
    scale = width / _REFERENCE_WIDTH
    focal = rng.uniform(*setting.focal) * scale
    cx, cy = (width - 1) / 2 + rng.uniform(-5, 5) * scale, (height - 1) / 2 + rng.uniform(-5, 5) * scale
    camera = Camera.from_intrinsics(focal, focal, cx, cy, (width, height), source="a procedural room")
    upright = camera.on_ground(rng.uniform(*setting.height), rng.uniform(*setting.pitch))
    angle = math.radians(rng.uniform(-setting.roll, setting.roll))
    roll = np.eye(4)
    roll[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return upright.posed(roll @ upright.T_cam_world, "ground")


def in_world_order(grid: VoxelGrid) -> tuple[VoxelGrid, tuple[int, int, int]]:
    """The same voxels with array axes world x, y, z; and the axes of such a volume in the order of the grid's own: `volume.transpose(order)`.

    Args:
        grid: each array axis along a world axis.
    """
    axes = (grid.forward, grid.left, grid.up)
    shape, size = [grid.shape[a] for a in axes], [grid.voxel_size[a] for a in axes]
    order = (axes.index(0), axes.index(1), axes.index(2))
    return VoxelGrid.from_corner(grid.T_world_grid[:3, 3].tolist(), shape, size), order


def truth(caster: Caster, room: Room, grid: VoxelGrid, camera: Camera, setting: RoomSetting, seen: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Labels of a room on `grid` (in its own axis order), 255 outside the room and where the setting's truth knows nothing.

    Args:
        seen: (N, 3) world points that count as seen.
    """
    plain, order = in_world_order(grid)
    labels = voxelise(room.bodies, plain)
    if setting.known == "all":
        return np.ascontiguousarray(labels.transpose(order))
    centres = plain.centres()
    if setting.known == "view":
        known = camera.sees(centres)
    else:
        known = observe(caster, labels, plain, scan_poses(room, camera, setting.poses), {})
    known &= room.within(centres, 0.75 * max(plain.voxel_size))  # a wall is known one voxel deep
    index, inside = plain.index_of(seen)
    known[tuple(index[inside].T)] = True
    return np.ascontiguousarray(np.where(known, labels, np.uint8(UNKNOWN)).transpose(order))


def scan_poses(room: Room, camera: Camera, count: int) -> NDArray[np.float64]:
    """(P, 3) where a scan looks from: the camera's own place first, then free places spread over the room at eye height."""
    length, depth, _ = room.size
    shares = np.array([(0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25), (0.5, 0.2), (0.5, 0.8), (0.15, 0.5), (0.85, 0.5)])
    points = np.array([room.corner.point(a * length, b * depth, 1.5) for a, b in shares])
    free = points[outside(room.bodies, points, 0.1)]
    return np.concatenate([camera.position[None], free[: count - 1]])


def room(seed: int, setting: RoomSetting | None = None) -> Frame:
    """One room.

    Args:
        seed: not negative; the same seed and setting give the same frame.
        setting: `RoomSetting()` by default, NYUv2's grid and picture.

    Returns:
        A frame with the main view, `depth` and `depth_target` (H, W) float32 metres, and `targets[1]` uint8 labels of
        `wholescene.labels.NYUV2` on the frame's grid.

    Raises:
        InputError: a negative seed.
        MissingExtraError: Embree is not installed; install the extra `worlds`.
    """
    setting = setting or RoomSetting()
    if seed < 0:
        raise InputError(f"the seed of a room is {seed}; give a whole number from 0 on")
    # Four generators, so that a change of the picture's size changes neither the room nor its light.
    things, eye, hand, grain = (np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(4))
    made = lay_out(things)
    camera = camera_of(eye, setting)
    grid = setting.grid.place(camera)
    caster = Caster(made.bodies)
    across = {1: 1, 4: 2, 9: 3}[setting.samples]
    picture, depth, hits = render(caster, made.bodies, made.lamps, made.panes, camera, snapshot(hand), grain, across)
    labels = truth(caster, made, grid, camera, setting, hits.points)
    return Frame(f"room/{seed}", {"main": View(picture, camera)}, grid, depth=depth, depth_target=depth, targets={1: labels})


class Rooms:
    """A map-style dataset of rooms: frame i is made when it is asked for.

    Args:
        seeds: one for each frame.
        setting: how they are made.
    """

    def __init__(self, seeds: Sequence[int], setting: RoomSetting | None = None) -> None:
        self.seeds = seeds
        self.setting = setting or RoomSetting()

    @property
    def names(self) -> list[str]:
        """Frame names."""
        return [f"room/{seed}" for seed in self.seeds]

    @property
    def labels(self) -> LabelSet:
        """What the labels mean."""
        return NYUV2

    @property
    def protocol(self) -> str:
        """What is scored, in words, for reports."""
        return f"every known voxel, known being {KNOWN[self.setting.known]}; one confusion matrix over all frames"

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Frame:
        return room(int(self.seeds[index]), self.setting)

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))
