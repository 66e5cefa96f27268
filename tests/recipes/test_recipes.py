"""Recipes: strict, complete, and the numbers of the papers that they name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wholescene import recipes
from wholescene.errors import InputError
from wholescene.recipes import Schedule, load

NAMES = recipes.names()


def test_monoscene_on_semantic_kitti_has_the_published_settings() -> None:
    found = load("monoscene-semantic-kitti")
    assert (found.optimiser.name, found.optimiser.lr, found.optimiser.weight_decay, found.optimiser.groups) == ("adamw", 1e-4, 1e-4, ())
    assert [found.schedule.factor(epoch, 30) for epoch in (0, 19.99, 20, 29.99)] == [1, 1, pytest.approx(0.1), pytest.approx(0.1)]
    assert (found.budget.epochs, found.batch_size, found.clip, found.precision, found.ema) == (30, 4, None, "32-true", 0)
    assert (found.data.augment.jitter, found.data.augment.mirror) == (0.4, 0.5)
    config = found.system.config()
    assert config == type(config).preset("exact", "full")  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_written_and_read_back_the_same(name: str, tmp_path: Path) -> None:
    found = load(name)
    assert found.name == name
    assert found.source
    (tmp_path / "again.yaml").write_text(recipes.dump(found))
    assert load(tmp_path / "again.yaml") == found


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"optimiser.lrr": 1}, "the nearest is 'lr'"),
        ({"optimiser.lr": "1e-4"}, "expected a number"),
        ({"system.fields.feature": 3}, "the nearest is 'features'"),
        ({"system.fields.grid.shap": [1, 2, 3]}, "the nearest is 'shape'"),
        ({"system.name": "monoscen"}, "the nearest (is|are) 'monoscene'"),
        ({"system.conventions": "exakt"}, "the nearest is 'exact'"),
        ({"data.augment.miror": 0}, "the nearest are 'mirror'"),
        ({"trainer.max_epochs": 3}, "set by the recipe itself"),
        ({"budget.epochs": 3.0}, "epochs or steps"),
        ({"budget": {}}, "without a limit"),
        ({"batch_size": 3, "accumulation": 2}, "no multiple"),
        ({"ema": 1.0}, r"not in \[0, 1\)"),
        ({"clip": 0.0}, "not a positive number"),
        ({"optimiser.lr": -1.0}, "positive"),
        ({"optimiser.betas": [0.9, 1.0]}, r"not in \[0, 1\)"),
        ({"schedule": {"kind": "step"}}, "give `at`"),
        ({"schedule": {"kind": "cosine", "floor": 2.0}}, "floor"),
        ({"validation.every": 0.0}, "positive"),
        ({"precision": "fp8"}, "fp8"),
        ({"batch_size": 10**9}, "batch_size 1,000,000,000 is too large"),
        ({"workers": 10**6}, "workers 1,000,000 is too large"),
        ({"seed": 10**23}, "too large"),
        ({"budget.steps": 10**30}, "at most"),
        ({"budget": {"epochs": 1e300}}, "at most"),
        ({"system.fields.grid.shape": [10**6] * 3}, "too large"),
        ({"name": "../elsewhere"}, "becomes a folder"),
        ({"name": "/elsewhere"}, "becomes a folder"),
        ({"name": ""}, "becomes a folder"),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused_with_what_it_could(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load("monoscene-street-tiny", overrides)


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"the nearest .*'monoscene-semantic-kitti'"):
        load("monoscene-kitti")


def test_overrides_reach_nested_fields() -> None:
    found = load("monoscene-street-tiny", {"system.fields.features": 16, "trainer.devices": 2, "data.train": "0..1"})
    assert found.system.config().features == 16  # type: ignore[attr-defined]
    assert (found.trainer["devices"], found.data.train) == (2, "0..1")


def test_stages_are_recipes_of_their_own() -> None:
    stages = [{"name": "a", "frozen": ["half_2d.*"]}, {"name": "b", "changes": {"optimiser.lr": 0.5}, "init_from": [{"source": "x.safetensors"}]}]
    first, second = recipes.stages_of(load("monoscene-street-tiny", {"stages": stages}))
    assert (first.name, first.frozen, first.optimiser.lr) == ("monoscene-street-tiny/a", ("half_2d.*",), 2e-3)
    assert (second.frozen, second.optimiser.lr, second.init_from[0].source) == ((), 0.5, "x.safetensors")
    with pytest.raises(InputError, match="same name"):
        recipes.stages_of(load("monoscene-street-tiny", {"stages": [stages[0], stages[0]]}))


def test_listing_recipes_needs_no_torch() -> None:
    code = "import sys; from wholescene import recipes; [recipes.load(n) for n in recipes.names()]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode == 0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), [1, 1, 1, 1]),
        (Schedule("step", at=(2.0, 4.0), drop=0.5), [1, 0.5, 0.25, 0.25]),
        (Schedule("cosine"), [1, 0.75, 0.25, 0]),
        (Schedule("cosine", floor=0.5), [1, 0.875, 0.625, 0.5]),
        (Schedule("poly", power=2.0), [1, 4 / 9, 1 / 9, 0]),
        (Schedule("poly", power=1.0, warm_up=3.0, warm_up_from=0.0), [0, 2 / 3, 2 / 3, 0]),
        (Schedule("cosine", warm_up=4.0, warm_up_from=0.2, warm_up_shape="cosine"), [0.2, 0.6, 1, 0]),
    ],
)
def test_schedules_at_the_start_a_third_two_thirds_and_the_end(schedule: Schedule, expected: list[float]) -> None:
    assert [schedule.factor(p, 6.0) for p in (0.0, 2.0, 4.0, 6.0)] == pytest.approx(expected)


def test_lmscnet_and_voxformer_have_the_published_settings() -> None:
    lmscnet = load("lmscnet-semantic-kitti")
    assert (lmscnet.optimiser.name, lmscnet.optimiser.lr, lmscnet.optimiser.weight_decay, lmscnet.data.augment.flip) == ("adam", 1e-3, 0, 0.5)
    assert [lmscnet.schedule.factor(epoch, 80) for epoch in (0, 0.9, 1, 10.5)] == [1, 1, 0.98, pytest.approx(0.98**10)]
    first, second = recipes.stages_of(load("voxformer-semantic-kitti"))
    assert (first.budget.epochs, second.budget.epochs) == (24, 20)
    assert (first.system.config().stage, second.system.config().stage) == ("proposals", "both")  # type: ignore[attr-defined]
    for stage in (first, second):
        assert (stage.optimiser.lr, stage.optimiser.weight_decay, stage.clip, stage.batch_size) == (2e-4, 0.01, 35, 4)
        assert stage.schedule.factor(0, 20) == pytest.approx(1 / 3, abs=1e-3)
        assert stage.schedule.factor(20, 20) == pytest.approx(1e-3)


def test_cgformer_has_the_published_settings() -> None:
    depth, completion = recipes.stages_of(load("cgformer-semantic-kitti"))
    assert (depth.system.config().stage, completion.system.config().stage) == ("depth", "completion")  # type: ignore[attr-defined]
    assert (depth.budget.steps, depth.batch_size, completion.budget.steps, completion.batch_size) == (50_000, 16, 25_000, 4)
    assert depth.system.config() == load("cgformer-depth-semantic-kitti").system.config()
    for stage in (depth, completion, load("cgformer-kitti-360"), load("cgformer-depth-semantic-kitti")):
        assert (stage.optimiser.lr, stage.optimiser.weight_decay, stage.clip, stage.data.augment.mirror) == (3e-4, 0.01, None, 0)
        steps = stage.budget.length
        assert stage.schedule.warm_up == 0.05 * steps
        assert [stage.schedule.factor(p, steps) for p in (0, 0.05 * steps, steps)] == pytest.approx([1 / 25, 1, 1 / 25 * 1e-4])
