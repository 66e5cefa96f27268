"""Every recipe for rooms runs one step: its data in the true layout, its losses, its optimiser and its schedule, at size tiny."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fake_indoor import write_fake_nyuv2, write_fake_occscannet
from wholescene import recipes
from wholescene.data import open_dataset
from wholescene.recipes import Recipe, load
from wholescene.systems import create
from wholescene.training.data import TrainingFrames, collate_portion
from wholescene.training.optimising import make_optimiser
from wholescene.training.sampler import Draw

INDOORS = ("nyuv2", "occscannet", "room")
FEW = {"nyuv2": {}, "occscannet": {}, "room": {"data.train": "0..1", "data.val": "1000000"}}
ROOMS = [name for name in recipes.names() if load(name).data.dataset in INDOORS]
FAST = ("monoscene-nyuv2",)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("indoors")
    return {"nyuv2": str(write_fake_nyuv2(folder / "nyu")), "occscannet": str(write_fake_occscannet(folder / "occscannet"))}


def shrunk(recipe: Recipe, roots: dict[str, str]) -> Recipe:
    """The recipe at size tiny on a small picture; everything else as it is written."""
    changes: dict[str, Any] = {"system.size": "tiny", "system.conventions": "clean", "init_from": [], "data.root": roots.get(recipe.data.dataset)}
    changes |= FEW[recipe.data.dataset]
    halves = {
        half: {**choice, "size": "tiny", "conventions": "clean"} for half in ("lift", "completion") if (choice := recipe.system.fields.get(half))
    }
    small = {**recipe.system.fields, **halves, "preparation": {"fit": "resize", "size": [160, 120]}}
    return recipes.changed(recipe, {**changes, "system.fields": small})


def test_there_are_recipes_for_rooms() -> None:
    assert "monoscene-nyuv2" in ROOMS


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in ROOMS])
def test_a_recipe_for_rooms_runs_a_step(name: str, roots: dict[str, str]) -> None:
    whole = load(name)
    if whole.data.dataset == "room":
        pytest.importorskip("embreex")
    for stage in recipes.stages_of(whole):
        recipe = shrunk(stage, roots)
        torch.manual_seed(recipe.seed)
        system = create(recipe.system.name, recipe.system.config())
        assert system.config.classes == 12
        val = open_dataset(recipe.data, "val", system.needs)
        assert val[0].targets[1].shape == system.config.grid.shape, "the grid of the data is the system's"
        frames = TrainingFrames(open_dataset(recipe.data, "train", system.needs), system.config.preparation, recipe.data.augment, recipe.seed)
        portion = collate_portion([frames[Draw(0, index, 0.5)] for index in range(2)])
        optimiser, rates = make_optimiser(system, recipe.optimiser)
        assert all(rate > 0 for rate in rates)
        before = {n: p.detach().clone() for n, p in system.named_parameters()}
        system.train()
        losses = system.losses(system(portion.batch), portion.batch)
        total = sum(losses.values(), torch.zeros(()))
        assert math.isfinite(total.item())
        total.backward()
        optimiser.step()
        assert any(not torch.equal(before[n], p) for n, p in system.named_parameters())
        length = recipe.budget.length
        assert 0 < recipe.schedule.factor(length / 2, length) <= 1
        assert recipe.schedule.factor(length, length) <= recipe.schedule.factor(length / 2, length)


def test_monoscene_on_nyuv2_has_the_published_settings() -> None:
    found = load("monoscene-nyuv2")
    assert (found.optimiser.name, found.optimiser.lr, found.optimiser.weight_decay, found.optimiser.groups) == ("adamw", 1e-4, 1e-4, ())
    assert [found.schedule.factor(epoch, 30) for epoch in (0, 19.99, 20, 29.99)] == [1, 1, pytest.approx(0.1), pytest.approx(0.1)]
    assert (found.budget.epochs, found.batch_size, found.clip, found.precision, found.ema) == (30, 4, None, "32-true", 0)
    assert (found.data.augment.jitter, found.data.augment.mirror) == (0.4, 0.5)
    config = found.system.config()
    assert config == type(config).preset("exact", "full", "nyuv2")  # type: ignore[attr-defined]
    assert config.weights_of_classes() == (0.05, *[1.0] * 11)


@pytest.mark.parametrize(
    ("name", "rate", "epochs", "drop", "batch"),
    [
        ("ga-monossc-nyuv2", 2e-4, 30, 20, 4),
        ("ga-monossc-occscannet-mini", 1e-4, 60, 40, 4),
        ("ga-monossc-occscannet", 1e-4, 10, 7, 16),
        *((f"ga-monossc-iso-{half}-{data}", *more) for half in ("lift", "completion") for data, *more in (
            ("nyuv2", 2e-4, 30, 20, 4), ("occscannet-mini", 1e-4, 60, 40, 4),
        )),
    ],
)  # fmt: skip
def test_ga_monossc_and_its_exchanged_halves_have_the_published_settings(name: str, rate: float, epochs: int, drop: int, batch: int) -> None:
    found = load(name)
    assert (found.optimiser.name, found.optimiser.lr, found.budget.epochs, found.batch_size) == ("adamw", rate, epochs, batch)
    assert found.schedule.factor(drop - 0.01, epochs) == 1 > found.schedule.factor(drop, epochs)
    config = found.system.config()
    chosen = {half: choice.system for half in ("lift", "completion") if (choice := getattr(config, half)) is not None}
    assert chosen == ({"lift": "iso"} if "iso-lift" in name else {"completion": "iso"} if "iso-completion" in name else {})
    assert config.grid.shape == ((60, 36, 60) if "nyuv2" in name else (60, 60, 36))


@pytest.mark.parametrize("changes", [{}, {"directions": "both"}, {"scan": "ssd"}], ids=["alternate", "both", "ssd"])
def test_decay_rates_and_skips_of_scans_are_not_decayed_in_either_direction(roots: dict[str, str], changes: dict[str, Any]) -> None:
    recipe = shrunk(load("ga-monossc-nyuv2"), roots)
    recipe = recipes.changed(recipe, {f"system.fields.{name}": value for name, value in changes.items()})
    system = create(recipe.system.name, recipe.system.config())
    kept = {id(p) for group in make_optimiser(system, recipe.optimiser)[0].param_groups if group["weight_decay"] == 0 for p in group["params"]}
    own = ("A_log", "A_b_log", "D", "D_b")
    assert {n for n, p in system.named_parameters() if id(p) in kept} == {n for n, _ in system.named_parameters() if n.split(".")[-1] in own}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *(("ga-monossc-nyuv2", {half: {"system": other}}) for half in ("lift", "completion") for other in ("iso", "monoscene")),
        ("ga-monossc-nyuv2", {"scan": "none"}),
        *(("iso-nyuv2", {"lift": {"system": other}}) for other in ("ga-monossc", "monoscene")),
        ("iso-nyuv2", {"completion": {"system": "ga-monossc"}}),
    ],
)
def test_a_half_is_exchanged_by_one_field_of_a_recipe(name: str, changes: dict[str, Any], roots: dict[str, str]) -> None:
    """A group of the optimiser for a part that is not there any more is passed over."""
    recipe = shrunk(recipes.changed(load(name), {f"system.fields.{field}": value for field, value in changes.items()}), roots)
    with torch.device("meta"):
        system = create(recipe.system.name, recipe.system.config())
    assert make_optimiser(system, recipe.optimiser)[1]


def test_units_of_studies_in_rooms_have_the_same_data_and_steps() -> None:
    units = [load(name) for name in ROOMS if name.endswith("-room-mini")]
    assert len(units) >= 4
    for unit in units:
        one, other = unit, load("monoscene-room-mini")
        assert (one.data, one.budget, one.optimiser, one.schedule, one.batch_size) == (
            other.data, other.budget, other.optimiser, other.schedule, other.batch_size,
        )  # fmt: skip
