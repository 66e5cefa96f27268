"""A system and a dataset for the tests of training; importing this puts the system into the table of systems."""

from __future__ import annotations

from typing import Any

import numpy as np

from dial.config import GRID
from dial.model import POISON, STEEP
from wholescene import recipes
from wholescene.camera import Camera
from wholescene.labels import SEMANTIC_KITTI, LabelSet
from wholescene.recipes import Recipe
from wholescene.structures import Frame, View
from wholescene.systems import SYSTEMS, SystemEntry

SYSTEMS["dial"] = SystemEntry("dial", "dial", "DialConfig", "Dial", "one picture", "forged for tests")


class Forged:
    """A dataset of `count` frames, some of which break a loss term or are wholly unknown."""

    labels: LabelSet = SEMANTIC_KITTI

    def __init__(self, count: int, first: int = 0, poisoned: tuple[int, ...] = (), steep: tuple[int, ...] = (), blank: tuple[int, ...] = ()) -> None:
        self.seeds = list(range(first, first + count))
        self.names = [f"forged/{seed}" for seed in self.seeds]
        self.corners = {**dict.fromkeys(steep, STEEP), **dict.fromkeys(poisoned, POISON)}
        self.blank = blank

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Frame:
        seed = self.seeds[index]
        rng = np.random.default_rng(seed)
        camera = Camera.from_fov(70, (16, 12)).on_ground(1.65)
        picture = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        picture[0, 0] = self.corners.get(index, [7, 8, 9])
        target = rng.choice([0, 0, 0, 1, 9, 13, 255], GRID.shape).astype(np.uint8)
        if index in self.blank:
            target[:] = 255
        depth = np.full((12, 16), 5.0, np.float32)
        return Frame(self.names[index], {"main": View(picture, camera)}, GRID.place(camera), depth_target=depth, targets={1: target})


def recipe(**overrides: Any) -> Recipe:
    """A recipe of `Dial`; dots of names are double underscores."""
    base = recipes.Recipe(
        name="dial", system=recipes.SystemChoice("dial"), budget=recipes.Budget(epochs=2.0), batch_size=2, checkpoint_every=1,
        optimiser=recipes.Optimiser(lr=1e-2), trainer={"accelerator": "cpu"},
    )  # fmt: skip
    return recipes.changed(base, {name.replace("__", "."): value for name, value in overrides.items()})


MONOSCENE: dict[str, Any] = {
    "system": {
        "name": "monoscene", "size": "tiny",
        "fields": {"grid": {"shape": [16, 16, 16], "voxel_size": [3.2, 3.2, 0.4]}, "preparation": {"fit": "none"}},
    },
}  # fmt: skip


class ForMonoScene(Forged):
    """The same frames for the smallest MonoScene: `recipe(**MONOSCENE)`."""

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        rng = np.random.default_rng(self.seeds[index])
        camera = frame.main.camera.resized((64, 64))
        grid = recipe(**MONOSCENE).system.config().grid.place(camera)
        picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        target = rng.choice([0, 0, 0, 1, 9, 13, 255], grid.shape).astype(np.uint8)
        if index in self.blank:
            target[:] = 255
        return Frame(frame.name, {"main": View(picture, camera)}, grid, targets={1: target})
