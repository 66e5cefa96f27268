"""Streets: a whole frame from one number, and an endless dataset of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError, unknown_name
from wholescene.grid import GridPlacement, VoxelGrid
from wholescene.labels import SEMANTIC_KITTI, UNKNOWN, LabelSet
from wholescene.structures import Frame, View
from wholescene.worlds.casting import Caster
from wholescene.worlds.layout import drive_on, lay_out
from wholescene.worlds.observing import observe, outside
from wholescene.worlds.section import Layout
from wholescene.worlds.shading import daylight, render
from wholescene.worlds.voxelising import voxelise

_REFERENCE_WIDTH = 1220  # pixels of the picture that `focal` speaks of
_LIDAR_HEIGHT, _LIDAR_BEHIND = 1.73, 0.27  # metres above the ground and behind the camera (KITTI's set-up)
BASELINE_M = 0.54  # of the stereo pair, as KITTI's
# How far scanners see into vegetation, and along flat ground: metres, share of the distance (see `observe`).
SEEN_INTO = {15: (1.2, 0.0)} | dict.fromkeys((9, 10, 11, 12, 17), (0.3, 0.07))


@dataclass(frozen=True)
class StreetSetting:
    """How streets are made: plain numbers only.

    Attributes:
        grid: where the voxels lie, relative to the ground below the camera.
        picture: (width, height) in pixels; the picture is rendered at this size, not resized to it.
        focal: lowest and highest focal length, in pixels of a picture 1220 wide; scaled with the width.
        height: lowest and highest camera height above the ground, metres.
        pitch: lowest and highest pitch, degrees, positive looks down.
        samples: rays a pixel: 1, 4 or 9.
        poses: how many poses see the truth, spread over `onward` metres from the camera's place along its lane.
        onward: metres that the scanner drives on.
    """

    grid: GridPlacement = field(default_factory=GridPlacement)
    picture: tuple[int, int] = (1220, 370)
    focal: tuple[float, float] = (650.0, 770.0)
    height: tuple[float, float] = (1.5, 1.8)
    pitch: tuple[float, float] = (-2.0, 2.0)
    samples: int = 1
    poses: int = 8
    onward: float = 50.0

    def __post_init__(self) -> None:
        if self.samples not in (1, 4, 9):
            raise InputError(f"{self.samples} samples a pixel in a StreetSetting; give 1, 4 or 9")
        if self.poses < 1 or not self.onward >= 0:
            raise InputError(f"a StreetSetting with {self.poses} poses over {self.onward:g} m; give at least one pose and a distance of 0 m or more")


PRESETS = {
    "full": StreetSetting(),
    "half": StreetSetting(picture=(610, 185)),
    "mini": StreetSetting(grid=GridPlacement(shape=(64, 64, 16), voxel_size=(0.8, 0.8, 0.4)), picture=(304, 96)),
}


def preset(name: str) -> StreetSetting:
    """The setting of that name: "full", "half" (full voxels, a picture of 610 x 185) or "mini".

    Raises:
        InputError: naming the nearest ones.
    """
    if name not in PRESETS:
        raise unknown_name("street setting", name, PRESETS)
    return PRESETS[name]


def camera_of(rng: np.random.Generator, setting: StreetSetting) -> Camera:
    """A KITTI-like camera above the world's origin, its numbers drawn within the setting's ranges."""
    width, height = setting.picture
    scale = width / _REFERENCE_WIDTH
    focal = rng.uniform(*setting.focal) * scale
    cx, cy = (width - 1) / 2 + rng.uniform(-10, 10) * scale, (height - 1) / 2 + rng.uniform(-10, 10) * scale
    camera = Camera.from_intrinsics(focal, focal, cx, cy, (width, height), source="a procedural street")
    return camera.on_ground(rng.uniform(*setting.height), rng.uniform(*setting.pitch))


def scanner_poses(layout: Layout, setting: StreetSetting) -> NDArray[np.float64]:
    """(P, 3) where the scanner stands: the camera's own place first, then onwards along the lane, never inside anything."""
    wanted = np.linspace(0, setting.onward, setting.poses)
    candidates = np.concatenate([wanted + shift for shift in (0.0, 3.0, -3.0, 6.0)])
    places = drive_on(layout, [float(s) - _LIDAR_BEHIND for s in candidates], _LIDAR_HEIGHT)
    points = np.array([place[:3] for place in places], dtype=np.float64)
    free = outside(layout.bodies, points).reshape(-1, setting.poses)
    first = np.argmax(free, axis=0)
    chosen = points.reshape(-1, setting.poses, 3)[first, np.arange(setting.poses)]
    return chosen[free.any(axis=0) | (np.arange(setting.poses) == 0)]


def truth(caster: Caster, layout: Layout, grid: VoxelGrid, setting: StreetSetting, seen: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """(X, Y, Z) uint8 labels of a street, 255 where no pose saw anything. `seen`: (N, 3) world points that count as seen."""
    labels = voxelise(layout.bodies, grid)
    known = observe(caster, labels, grid, scanner_poses(layout, setting), SEEN_INTO, seen)
    return np.where(known, labels, np.uint8(UNKNOWN))


def right_of(camera: Camera) -> Camera:
    """The right camera of a rectified pair, `BASELINE_M` beside a camera."""
    pose = camera.T_cam_world.copy()
    pose[0, 3] -= BASELINE_M
    return camera.posed(pose, camera.world)


def street(seed: int, setting: StreetSetting | None = None, *, right: bool = False) -> Frame:
    """One street.

    Args:
        seed: not negative; the same seed and setting give the same frame.
        setting: `StreetSetting()` by default, the full size.
        right: with the right view of a rectified stereo pair.

    Returns:
        A frame with the main view, the right one where asked for, `depth` (H, W) float32 metres (0 in the sky), and `targets[1]` (X, Y, Z)
        uint8 labels of `wholescene.labels.SEMANTIC_KITTI`.

    Raises:
        InputError: a negative seed.
        MissingExtraError: Embree is not installed; install the extra `worlds`.
    """
    setting = setting or StreetSetting()
    if seed < 0:
        raise InputError(f"the seed of a street is {seed}; give a whole number from 0 on")
    # Own generators, so that a change of the picture's size changes neither the street nor its light, and a right view not the left one.
    places, eye, weather, grain, other = (np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(5))
    layout = lay_out(places, setting.grid.voxel_size[2] / 2)
    camera = camera_of(eye, setting)
    grid = setting.grid.place(camera)
    caster = Caster(layout.bodies)
    light, samples = daylight(weather), {1: 1, 4: 2, 9: 3}[setting.samples]
    picture, depth, hits = render(caster, layout.bodies, camera, light, grain, samples)
    views = {"main": View(picture, camera)}
    if right:
        views["right"] = View(render(caster, layout.bodies, right_of(camera), light, other, samples)[0], right_of(camera))
    labels = truth(caster, layout, grid, setting, hits.points[hits.distance < 75])
    return Frame(f"street/{seed}", views, grid, depth=depth, targets={1: labels})


class Streets:
    """A map-style dataset of streets: frame i is made when it is asked for.

    Args:
        seeds: one for each frame.
        setting: how they are made.
        right: whether they have the right view of a stereo pair.
    """

    def __init__(self, seeds: Sequence[int], setting: StreetSetting | None = None, *, right: bool = False) -> None:
        self.seeds, self.right = seeds, right
        self.setting = setting or StreetSetting()

    @property
    def names(self) -> list[str]:
        """Frame names."""
        return [f"street/{seed}" for seed in self.seeds]

    @property
    def labels(self) -> LabelSet:
        """What the labels mean."""
        return SEMANTIC_KITTI

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Frame:
        return street(int(self.seeds[index]), self.setting, right=self.right)

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))
