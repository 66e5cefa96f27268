"""Every system at size tiny learns two small scenes by heart: what it is made of can represent a scene, and its losses lead there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.grid import GridPlacement
from wholescene.metrics import Counts
from wholescene.preparation import prepare
from wholescene.structures import Batch, Frame, View
from wholescene.systems import config_class, create, list_systems
from wholescene.systems.base import System

GRID = GridPlacement((32, 32, 16), (0.8, 0.8, 0.4), lidar_corner=None)
SIZE = (160, 96)
MOST_STEPS = 400
ROAD, CAR, BUILDING, VEGETATION = 9, 1, 10, 11  # numbers that every label set has


def scene(seed: int) -> np.ndarray:
    """(32, 32, 16) uint8: a road, a house at one side, a car and a bush, elsewhere in each scene."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:, :, :2] = ROAD
    labels[6:26, 22 - 18 * seed : 28 - 18 * seed, 2:12] = BUILDING
    labels[10 + 6 * seed : 15 + 6 * seed, 12:15, 2:6] = CAR
    labels[18 - 8 * seed : 22 - 8 * seed, 8 + 10 * seed : 12 + 10 * seed, 2:7] = VEGETATION
    return labels


def frame(system: System, seed: int) -> Frame:
    """A scene, painted and measured through its own camera voxel by voxel, farthest first."""
    camera = Camera.from_fov(80, SIZE).on_ground(1.65, 4)
    grid = system.config.grid.place(camera)
    labels = scene(seed)
    picture = np.full((SIZE[1], SIZE[0], 3), (140, 180, 230), np.uint8)
    depth = np.zeros((SIZE[1], SIZE[0]), np.float32)
    places = grid.centres()[labels > 0]
    colours = np.random.default_rng(0).integers(0, 255, (20, 3))[labels[labels > 0]]
    (u, v), z = camera.project(places)[0].T, camera.project(places)[1]
    for i in np.argsort(-z):
        half = 0.5 * 0.8 * camera.K[0, 0] / max(z[i], 0.5)
        if z[i] > 0.5:
            rows, columns = slice(max(0, int(v[i] - half)), max(0, int(v[i] + half))), slice(max(0, int(u[i] - half)), max(0, int(u[i] + half)))
            picture[rows, columns] = colours[i]
            depth[rows, columns] = z[i]
    held = {"depth": depth, "occupancy": labels > 0, "points": places.astype(np.float32)}
    views = dict.fromkeys(["main", *(["right"] if "right" in system.needs else [])], View(picture, camera))
    inputs = {name: value for name, value in held.items() if name in system.needs}
    return prepare(Frame(f"overfit/{seed}", views, grid, depth_target=depth, targets={1: labels}, **inputs), system.config.preparation)


def miou(system: System, batch: Batch) -> float:
    """Over the classes that occur."""
    system.eval()
    with torch.no_grad():
        labels = system(batch).logits.argmax(1)
    system.train()
    counts = Counts.zero(system.config.classes)
    counts.update(labels, batch.targets[1])
    return float(np.mean([counts.compute().class_iou[c - 1] for c in (CAR, ROAD, BUILDING, VEGETATION)]))


@pytest.mark.slow  # up to a minute each
@pytest.mark.parametrize("name", [name for name in list_systems() if name != "dial"])
def test_two_frames_are_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    system = create(name, config_class(name).preset("clean", "tiny", grid=GRID))  # type: ignore[attr-defined]
    batch = collate([frame(system, seed) for seed in (0, 1)])
    optimiser = torch.optim.Adam(system.parameters(), lr=3e-3)
    best = 0.0
    for step in range(1, MOST_STEPS + 1):
        optimiser.zero_grad()
        torch.stack(list(system.losses(system(batch), batch).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 10.0)
        optimiser.step()
        if step % 25 == 0:
            best = max(best, miou(system, batch))
            if best > 0.9:
                return
    pytest.fail(f"mIoU {best:.2f} over the classes that occur")
