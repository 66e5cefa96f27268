"""Frames of noise for any system at size tiny, with whatever it needs."""

from __future__ import annotations

import numpy as np

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.grid import GridPlacement
from wholescene.preparation import prepare
from wholescene.structures import Batch, Frame, View
from wholescene.systems.base import System

GRID = GridPlacement((32, 32, 16), (1.6, 1.6, 0.4), lidar_corner=None)


def frame(system: System, seed: int = 0, size: tuple[int, int] = (160, 96)) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(75, size).on_ground(1.65 + 0.1 * seed, 2)
    grid = system.config.grid.place(camera)
    classes = system.config.classes
    labels = rng.choice([0, 0, 0, 1, 9, classes - 1, 255], grid.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    more = {
        "depth": rng.uniform(2, 40, (size[1], size[0])).astype(np.float32),
        "occupancy": labels % 255 > 0,
        "points": rng.uniform(1, 20, (50, 4)).astype(np.float32),
    }
    views = dict.fromkeys(["main", *(["right"] if "right" in system.needs else [])], View(picture, camera))
    inputs = {name: value for name, value in more.items() if name in system.needs}
    return prepare(Frame(f"forged/{seed}", views, grid, targets={1: labels}, **inputs), system.config.preparation)


def batch(system: System, *seeds: int) -> Batch:
    return collate([frame(system, seed) for seed in seeds])
