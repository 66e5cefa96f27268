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

STREET = GridPlacement((32, 32, 16), (0.8, 0.8, 0.4), lidar_corner=None)
ROOM = GridPlacement((24, 16, 24), (0.2, 0.2, 0.2), "xzy", (0.0, 0.0, 0.0), None, "nyuv2")
SIZE = (160, 96)
MOST_STEPS = 400
ROAD, CAR, BUILDING, VEGETATION = 9, 1, 10, 11  # numbers that every label set has
CEILING, FLOOR, WALL, WINDOW, CHAIR, BED, SOFA, TABLE, TVS, FURNITURE, OBJECTS = range(1, 12)


def street(seed: int) -> np.ndarray:
    """(32, 32, 16) uint8: a road, a house at one side, a car and a bush, elsewhere in each scene."""
    labels = np.zeros(STREET.shape, np.uint8)
    labels[:, :, :2] = ROAD
    labels[6:26, 22 - 18 * seed : 28 - 18 * seed, 2:12] = BUILDING
    labels[10 + 6 * seed : 15 + 6 * seed, 12:15, 2:6] = CAR
    labels[18 - 8 * seed : 22 - 8 * seed, 8 + 10 * seed : 12 + 10 * seed, 2:7] = VEGETATION
    return labels


def room(seed: int) -> np.ndarray:
    """(24, 16, 24) uint8 (forward, up, left): floor, ceiling, three walls, a window, and one thing of every other class, elsewhere in each room."""
    labels = np.zeros(ROOM.shape, np.uint8)
    labels[:, 0], labels[:, -1] = FLOOR, CEILING
    labels[:, 1:-1, 0] = labels[:, 1:-1, -1] = labels[-1, 1:-1] = WALL
    labels[-1, 6:11, 4 + 6 * seed : 10 + 6 * seed] = WINDOW
    things = {BED: (12, 3, 9), SOFA: (5, 4, 5), TABLE: (6, 4, 4), CHAIR: (3, 5, 3), FURNITURE: (3, 10, 5), TVS: (2, 4, 5), OBJECTS: (3, 3, 3)}
    corners = [(10, 13), (3, 3), (4, 17), (9, 8), (19, 3), (21, 9), (14, 4)]
    for (thing, size), (ahead, left) in zip(things.items(), corners[seed:] + corners[:seed], strict=True):
        end, right = min(23, ahead + size[0]), min(23, left + size[2])
        labels[ahead:end, 1 : 1 + size[1], left:right] = thing
    return labels


def frame(system: System, labels: np.ndarray, seed: int) -> Frame:
    """A scene, painted and measured through its own camera voxel by voxel, farthest first."""
    camera = Camera.from_fov(80, SIZE).on_ground(system.config.camera_height_m, system.config.camera_pitch_deg + 4)
    grid = system.config.grid.place(camera)
    picture = np.full((SIZE[1], SIZE[0], 3), (140, 180, 230), np.uint8)
    depth = np.zeros((SIZE[1], SIZE[0]), np.float32)
    places = grid.centres()[labels > 0]
    colours = np.random.default_rng(0).integers(0, 255, (20, 3))[labels[labels > 0]]
    (u, v), z = camera.project(places)[0].T, camera.project(places)[1]
    for i in np.argsort(-z):
        half = 0.5 * max(grid.voxel_size) * camera.K[0, 0] / max(z[i], 0.5)
        if z[i] > 0.5:
            rows, columns = slice(max(0, int(v[i] - half)), max(0, int(v[i] + half))), slice(max(0, int(u[i] - half)), max(0, int(u[i] + half)))
            picture[rows, columns] = colours[i]
            depth[rows, columns] = z[i]
    held = {"depth": depth, "occupancy": labels > 0, "points": places.astype(np.float32)}
    views = dict.fromkeys(["main", *(["right"] if "right" in system.needs else [])], View(picture, camera))
    inputs = {name: value for name, value in held.items() if name in system.needs}
    return prepare(Frame(f"overfit/{seed}", views, grid, depth_target=depth, targets={1: labels}, **inputs), system.config.preparation)


def miou(system: System, batch: Batch) -> float:
    """Over the classes that occur, empty aside."""
    system.eval()
    with torch.no_grad():
        labels = system(batch).logits.argmax(1)
    system.train()
    counts = Counts.zero(system.config.classes)
    counts.update(labels, batch.targets[1])
    occur = batch.targets[1].unique().tolist()[1:]
    return float(np.mean([counts.compute().class_iou[c - 1] for c in occur]))


def check_that_it_learns(system: System, scenes: list[np.ndarray], most_steps: int = MOST_STEPS) -> None:
    batch = collate([frame(system, labels, seed) for seed, labels in enumerate(scenes)])
    optimiser = torch.optim.Adam(system.parameters(), lr=3e-3)
    best = 0.0
    for step in range(1, most_steps + 1):
        optimiser.zero_grad()
        torch.stack(list(system.losses(system(batch), batch).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 10.0)
        optimiser.step()
        if step % 25 == 0:
            best = max(best, miou(system, batch))
            if best > 0.9:
                return
    pytest.fail(f"mIoU {best:.2f} over the classes that occur")


@pytest.mark.slow  # up to a minute each
@pytest.mark.parametrize("name", [name for name in list_systems() if name != "dial"])
def test_two_streets_are_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    system = create(name, config_class(name).preset("clean", "tiny", grid=STREET))  # type: ignore[attr-defined]
    check_that_it_learns(system, [street(0), street(1)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ga-monossc", "iso", "monomrn", "monoscene", "ndc-scene"])
def test_two_rooms_are_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    system = create(name, config_class(name).preset("clean", "tiny", setting="nyuv2", grid=ROOM))  # type: ignore[attr-defined]
    check_that_it_learns(system, [room(0), room(1)])
