"""A tiny Symphonies and forged frames for it, shared by the tests of the system and of what looks into it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.model import Symphonies

GRID = GridPlacement((16, 16, 16), (1.6, 1.6, 0.4), lidar_corner=None)
SIZE = (96, 64)


def config(conventions: str = "clean", setting: str = "semantic-kitti", **fields: Any) -> SymphoniesConfig:
    return SymphoniesConfig.preset(conventions, "tiny", setting, **{"grid": GRID, **fields})


def system(conventions: str = "clean", setting: str = "semantic-kitti", **fields: Any) -> Symphonies:
    torch.manual_seed(0)
    return Symphonies(config(conventions, setting, **fields)).eval()


def frame(seed: int = 0, size: tuple[int, int] = SIZE, grid: GridPlacement = GRID) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(75, size).on_ground(1.65, 2)
    voxels = grid.place(camera)
    depth = rng.uniform(2, 25, size[::-1]).astype(np.float32)
    labels = rng.choice([0, 0, 1, 9, 11, 255], voxels.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Frame(f"forged/{seed}", {"main": View(picture, camera)}, voxels, depth, targets={1: labels})


def logits_of(model: Symphonies, *frames: Frame) -> Tensor:
    with torch.inference_mode():
        return model(collate(frames)).logits
