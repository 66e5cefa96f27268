"""One contract for every registered system at size tiny; a new system gets it by being listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.checkpoints import native
from wholescene.data.collate import collate
from wholescene.grid import GridPlacement
from wholescene.preparation import prepare
from wholescene.scene import Scene
from wholescene.structures import Batch, Frame, View
from wholescene.systems import config_class, create, list_systems
from wholescene.systems.base import System
from wholescene.weights import load

SYSTEMS = [name for name in list_systems() if name != "dial"]  # forged by the tests of training, where they are imported first
GRID = GridPlacement((32, 32, 16), (1.6, 1.6, 0.4), lidar_corner=None)


def _system(name: str) -> System:
    torch.manual_seed(0)
    return create(name, config_class(name).preset("clean", "tiny", grid=GRID))  # type: ignore[attr-defined]


def _frame(system: System, seed: int = 0, size: tuple[int, int] = (160, 96)) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(75, size).on_ground(1.65 + 0.1 * seed, 2)
    grid = system.config.grid.place(camera)
    labels = rng.choice([0, 0, 0, 1, 9, 13, 15, 255], grid.shape).astype(np.uint8)
    labels = np.where(labels == 255, labels, labels % system.config.classes).astype(np.uint8)
    picture = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    more = {
        "depth": rng.uniform(2, 40, (size[1], size[0])).astype(np.float32),
        "occupancy": labels % 255 > 0,
        "points": rng.uniform(1, 20, (50, 4)).astype(np.float32),
    }
    inputs = {k: v for k, v in more.items() if k in system.needs}
    frame = Frame(f"forged/{seed}", {"main": View(picture, camera)}, grid, targets={1: labels}, **inputs)
    return prepare(frame, system.config.preparation)


def _batch(system: System, *seeds: int) -> Batch:
    return collate([_frame(system, seed) for seed in seeds])


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> System:
    return _system(request.param)


def test_logits_are_finite_and_lie_on_the_batch_grid(system: System) -> None:
    system.eval()
    with torch.inference_mode():
        prediction = system(_batch(system, 0, 1))
    assert prediction.logits is not None
    assert prediction.logits.shape == (2, system.config.classes, *GRID.shape)
    assert torch.isfinite(prediction.logits).all()


def test_every_parameter_gets_a_gradient_from_the_losses(system: System) -> None:
    system.train()
    system.zero_grad()
    batch = _batch(system, 0, 1)
    terms = system.losses(system(batch), batch)
    assert all(torch.isfinite(t) for t in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    dead = [n for n, p in system.named_parameters() if p.grad is None]
    assert not dead, f"no gradient reaches {dead}"


def test_a_batch_of_two_equals_two_of_one(system: System) -> None:
    system.eval()
    with torch.inference_mode():
        together = system(_batch(system, 0, 1)).logits
        apart = torch.cat([system(_batch(system, seed)).logits for seed in (0, 1)])
    assert (together - apart).abs().max() <= 1e-5 * apart.abs().max()


def test_eval_is_deterministic_and_leaves_the_state_alone(system: System) -> None:
    system.eval()
    before = {k: v.clone() for k, v in system.state_dict().items()}
    with torch.inference_mode():
        first, second = system(_batch(system, 0)).logits, system(_batch(system, 0)).logits
    assert torch.equal(first, second)
    assert all(torch.equal(before[k], v) for k, v in system.state_dict().items())


def test_the_state_dict_carries_the_whole_system(system: System) -> None:
    other = create(system.name, system.config)
    other.load_state_dict(system.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(system.eval()(_batch(system, 0)).logits, other.eval()(_batch(system, 0)).logits)


def test_a_weights_file_gives_the_same_system_back(system: System, tmp_path: Path) -> None:
    """A file is read into a system without numbers, so that what is in no state dict would stay without one."""
    system.eval()
    native.save(tmp_path / "here.safetensors", system)
    again = load(tmp_path / "here.safetensors")
    batch = _batch(system, 0)
    with torch.inference_mode():  # numbers that lie elsewhere in memory are summed in another order
        torch.testing.assert_close(again(batch).logits, system(batch).logits, rtol=1e-4, atol=1e-4)


def test_the_picture_matters(system: System) -> None:
    if not system.looks_at_picture:
        pytest.skip(f"{system.name} completes {sorted(system.needs)} alone")
    system.eval()
    first, second = _frame(system, 0), _frame(system, 1)
    swapped = first.with_main(second.main.picture, first.main.camera)
    with torch.inference_mode():
        assert not torch.equal(system(collate([first])).logits, system(collate([swapped])).logits)


def test_another_picture_size_and_bfloat16_work(system: System) -> None:
    system.eval()
    batch = collate([_frame(system, 0, (203, 117))])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = system(batch).logits
    assert logits.shape[2:] == GRID.shape
    assert torch.isfinite(logits.float()).all()


def test_activation_checkpointing_changes_no_gradient(system: System) -> None:
    plain = create(system.name, system.config)
    saving = create(system.name, replace(system.config, activation_checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    grads = []
    for model in (plain, saving):
        model.train()
        batch = _batch(model, 0, 1)
        torch.manual_seed(0)  # the same dropout in both
        sum(model.losses(model(batch), batch).values()).backward()  # type: ignore[union-attr]
        grads.append({n: p.grad for n, p in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_predict_gives_a_scene_that_says_what_was_guessed(system: System) -> None:
    if system.needs:
        pytest.skip(f"{system.name} needs {sorted(system.needs)} beside the picture")
    picture = np.full((96, 160, 3), 90, np.uint8)
    scene = system.predict(picture, Camera.from_fov(75, (160, 96)))
    assert isinstance(scene, Scene)
    assert scene.labels.shape == GRID.shape
    assert scene.labels.dtype == np.uint8
    assert 0 < scene.provenance["share_in_view"] < 1
    assert any("height" in guess for guess in scene.provenance["guesses"])
