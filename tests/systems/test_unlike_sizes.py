"""Pictures of unlike sizes in one batch: each is completed as it is alone, whatever it is padded to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View
from wholescene.systems import config_class, create, list_systems, system_class
from wholescene.systems.base import System
from wholescene.systems.config import HalfChoice
from wholescene.systems.refine.config import Refine

GRID = GridPlacement((32, 32, 16), (1.6, 1.6, 0.4), lidar_corner=None)
SIZES = ((160, 96), (131, 97), (160, 96))
SYSTEMS = [name for name in list_systems() if name != "dial" and system_class(name).looks_at_picture]
REFINED: dict[str, tuple[str, dict[str, Any]]] = {
    "monomrn with a depth head": ("monomrn", {"refine": Refine(depth="head", answer="own")}),
    "cgformer, refined": ("cgformer", {"refine": Refine(answer="own")}),
    "voxformer, refined with a depth head": ("voxformer", {"refine": Refine(depth="head", answer="own")}),
    "monoscene, refined": ("monoscene", {"refine": Refine(profile="none", answer="own")}),
    "symphonies' lift before monoscene's completion": ("monoscene", {"lift": HalfChoice("symphonies", fields={"height_factor": 1})}),
}
CASES = {**{name: (name, {}) for name in SYSTEMS}, **REFINED}


def _system(name: str, conventions: str = "clean", **fields: Any) -> System:
    torch.manual_seed(0)
    return create(name, config_class(name).preset(conventions, "tiny", grid=GRID, **fields))  # type: ignore[attr-defined]


def _frames(system: System) -> list[Frame]:
    rng = np.random.default_rng(0)
    found = []
    for number, size in enumerate(SIZES):
        camera = Camera.from_fov(75, size).on_ground(1.65, 2)
        grid = system.config.grid.place(camera)
        labels = rng.choice([0, 0, 1, 9, 255], grid.shape).astype(np.uint8)
        depth = rng.uniform(2, 40, size[::-1]).astype(np.float32) if system.needs else None
        points = rng.uniform(1, 20, (50, 4)).astype(np.float32)
        picture = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        found.append(Frame(f"forged/{number}", {"main": View(picture, camera)}, grid, depth, points=points, targets={1: labels}))
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_unlike_pictures_equals_each_alone(case: str) -> None:
    name, fields = CASES[case]
    system = _system(name, **fields).eval()
    frames = _frames(system)
    with torch.inference_mode():
        together = system(collate(frames)).logits
        alone = torch.cat([system(collate([frame])).logits for frame in frames])
    assert (together - alone).abs().max() <= 1e-5 * alone.abs().max()


@pytest.mark.parametrize("name", ["iso", "cgformer"])
def test_maps_for_the_losses_are_those_of_each_alone_and_zero_beyond(name: str) -> None:
    system = _system(name).eval()
    frames = _frames(system)
    together = system(collate(frames)).extras["depth_distribution"]
    for own, frame in zip(together, frames, strict=True):
        alone = system(collate([frame])).extras["depth_distribution"][0]
        height, width = alone.shape[1:]
        torch.testing.assert_close(own[:, :height, :width], alone, rtol=1e-3, atol=1e-5)
        assert not own[:, height:].any()
        assert not own[:, :, width:].any()


@pytest.mark.parametrize("name", SYSTEMS)
def test_unlike_pictures_train_every_parameter_together(name: str) -> None:
    system = _system(name).train()
    batch = collate(_frames(system))
    terms = system.losses(system(batch), batch)
    assert all(torch.isfinite(term) for term in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert not [n for n, p in system.named_parameters() if p.requires_grad and p.grad is None]
