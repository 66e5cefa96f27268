"""What a recipe says is what happens."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dial import Forged, ForMonoScene, recipe
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from wholescene import recipes
from wholescene.data import open_dataset
from wholescene.errors import InputError
from wholescene.recipes import Group, Optimiser
from wholescene.structures import Frame
from wholescene.systems import create
from wholescene.training.baselines import EverythingEmpty
from wholescene.training.data import Remembered
from wholescene.training.evaluate import evaluate
from wholescene.training.held_out import mean_loss
from wholescene.training.optimising import MovingAverage, freeze, freeze_statistics, make_optimiser
from wholescene.training.run import Trained, train
from wholescene.training.trainer import make_trainer
from wholescene.weights import load

PLAIN = {"system__fields": {"plain": True}, "data__augment__jitter": 0.0, "data__augment__mirror": 0.0}


def _train(out: Path, frames: int = 4, say: Any = None, **overrides: Any) -> Trained:
    return train(recipe(**overrides), out, datasets={"train": Forged(frames), "val": Forged(3, 100)}, say=say)


def _start(made: Any) -> dict[str, Tensor]:
    """The weights that a run starts from."""
    torch.manual_seed(made.seed)
    return {k: v.clone() for k, v in create(made.system.name, made.system.config()).state_dict().items()}


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "log/session-1/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_accumulated_parts_make_the_same_step_as_one_batch(tmp_path: Path) -> None:
    one = load_file(_train(tmp_path / "one", frames=10, batch_size=4, **PLAIN).final)
    parts = load_file(_train(tmp_path / "parts", frames=10, batch_size=4, accumulation=4, **PLAIN).final)
    for name, value in one.items():
        torch.testing.assert_close(parts[name], value, atol=2e-6, rtol=1e-5)


def test_frozen_parameters_and_their_statistics_stay_and_others_move(tmp_path: Path) -> None:
    made = recipe(frozen=["trunk.*"])
    after = load_file(train(made, tmp_path, datasets={"train": Forged(4), "val": Forged(2, 100)}).final)
    moved = {name for name, before in _start(made).items() if not torch.equal(before, after[name])}
    assert moved == {"head.weight", "head.bias"}


def test_the_exported_weights_are_the_moving_average(tmp_path: Path) -> None:
    own = load_file(_train(tmp_path / "own").final)
    averaged = load_file(_train(tmp_path / "ema", ema=0.999).final)
    start = _start(recipe())
    name = "head.weight"
    assert 0 < (averaged[name] - start[name]).abs().max() < (own[name] - start[name]).abs().max()


def test_the_moving_average_follows_its_formula() -> None:
    torch.manual_seed(0)
    system = torch.nn.Linear(2, 1)
    average = MovingAverage(system, 0.9)
    expected = system.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            system.weight.add_(1.0)
        average.update(system)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * system.weight.detach()
    own = system.weight.detach().clone()
    with average.in_place(system):
        torch.testing.assert_close(system.weight.detach(), expected)
    assert torch.equal(system.weight.detach(), own)


def test_exported_weights_load_and_score_as_the_run_says(tmp_path: Path) -> None:
    made = _train(tmp_path)
    system = load(made.final)
    assert evaluate(system, Forged(3, 100)).scores == made.evaluation.scores
    assert system.card["steps"] == made.steps == 4
    assert made.evaluation.provenance["part"] == "val (val)"


def test_the_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    lines: list[str] = []
    made = _train(tmp_path, budget__epochs=6.0, optimiser__lr=0.05, say=lines.append)
    found = [float(row["val/mIoU"]) for row in _rows(tmp_path) if row["val/mIoU"]]
    assert len(found) == len([line for line in lines if "mIoU" in line]) == 6
    assert evaluate(load(made.best), Forged(3, 100)).miou == pytest.approx(max(found))


def test_every_loss_term_is_logged_at_the_runs_own_steps(tmp_path: Path) -> None:
    _train(tmp_path, trainer__log_every_n_steps=2)
    rows = [row for row in _rows(tmp_path) if row["train/loss"]]
    assert [(int(row["step"]), float(row["epoch"])) for row in rows] == [(2, 1.0), (4, 2.0)]
    for row in rows:
        terms = [float(row[f"train/{name}"]) for name in ("cross_entropy", "smoothness", "steepness")]
        assert float(row["train/loss"]) == pytest.approx(sum(terms))


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    _train(tmp_path, trainer__log_every_n_steps=1, schedule={"kind": "step", "at": [1.0], "drop": 0.1}, budget__epochs=2.0)
    assert [float(row["train/learning rate"]) for row in _rows(tmp_path) if row["train/loss"]] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_minutes_end_a_run_and_it_is_scored(tmp_path: Path) -> None:
    made = _train(tmp_path, budget={"minutes": 1e-4})
    assert made.steps >= 1
    assert made.evaluation.scores["all"].frames == 3


def test_mixed_precision_trains_scores_and_exports_whole_numbers(tmp_path: Path) -> None:
    made = _train(tmp_path, precision="bf16-mixed")
    assert made.evaluation.provenance["precision"] == "bf16-mixed"
    whole = load_file(made.final)
    assert {value.dtype for value in whole.values()} == {torch.float32, torch.int64}
    assert all(torch.isfinite(value).all() for value in whole.values())


def test_a_clipped_step_is_no_longer_than_asked(tmp_path: Path) -> None:
    made = recipe(clip=1e-3, optimiser={"name": "sgd", "lr": 1.0, "betas": [0.0, 0.0], "weight_decay": 0.0}, budget={"steps": 1}, **PLAIN)
    after = load_file(train(made, tmp_path, datasets={"train": Forged(4), "val": Forged(2, 100)}).final)
    moved = torch.cat([(after[name] - before).flatten() for name, before in _start(made).items()])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_stages_follow_each_other_from_weights_to_weights(tmp_path: Path) -> None:
    stages = [
        {"name": "head", "frozen": ["trunk.*"]},
        {"name": "all", "changes": {"budget.epochs": 1.0, "optimiser.lr": 1e-9, "optimiser.weight_decay": 0.0}},
    ]
    made = _train(tmp_path, stages=stages)
    first, last = load_file(tmp_path / "head/final.safetensors"), load_file(made.final)
    assert made.folder == tmp_path / "all"
    torch.testing.assert_close(last["head.weight"], first["head.weight"], atol=1e-6, rtol=0)
    assert not torch.equal(last["trunk.1.running_mean"], first["trunk.1.running_mean"])
    whole = recipes.load(tmp_path / "recipe.yaml")
    assert whole == recipe(stages=stages)
    with pytest.raises(InputError, match="already holds a run"):
        _train(tmp_path, stages=stages, seed=5)
    assert recipes.load(tmp_path / "recipe.yaml") == whole


def test_a_part_starts_from_a_file(tmp_path: Path) -> None:
    given = {"weight": torch.full((2880, 4), 0.5), "bias": torch.full((2880,), 0.25)}
    save_file(given, tmp_path / "head.safetensors")
    initial = [{"part": "head", "source": str(tmp_path / "head.safetensors")}]
    after = load_file(_train(tmp_path / "run", init_from=initial, optimiser__lr=1e-9, optimiser__weight_decay=0.0).final)
    torch.testing.assert_close(after["head.weight"], given["weight"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("initial", "said"),
    [
        ({"part": "haed", "source": "x.pth"}, "has no part 'haed'; it has trunk, dropout, head"),
        ({"part": "head", "source": "nowhere.safetensors"}, "does not exist"),
        ({"part": "trunk", "source": "FILE"}, "does not fit trunk"),
    ],
)
def test_weights_to_start_from_that_do_not_fit_are_refused(tmp_path: Path, initial: dict[str, str], said: str) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "one.safetensors")
    source = initial["source"].replace("FILE", str(tmp_path / "one.safetensors"))
    with pytest.raises(InputError, match=said):
        _train(tmp_path / "run", init_from=[{**initial, "source": source}])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"acelerator": "cpu"}, "the nearest is 'accelerator'"),
        ({"accelerator": "cuda", "devices": 64}, "cannot be had here"),
        ({"accelerator": "cpu", "devices": 1, "strategy": "dpp"}, "cannot be had here"),
    ],
)
def test_trainer_options_that_cannot_be_had_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        _train(tmp_path, trainer=options)


def test_parameter_groups_set_rates_and_decay_by_name() -> None:
    system = create("dial", recipe().system.config())
    groups = (Group("trunk.*", lr_factor=0.1), Group("*.bias", decay=False))
    optimiser, rates = make_optimiser(system, Optimiser(lr=1.0, weight_decay=0.5, groups=groups))
    names = {id(p): n for n, p in system.named_parameters()}
    found = {names[id(p)]: (rate, g["weight_decay"]) for g, rate in zip(optimiser.param_groups, rates, strict=True) for p in g["params"]}
    assert found == {
        "trunk.0.weight": (0.1, 0.5), "trunk.0.bias": (0.1, 0.0), "trunk.1.weight": (0.1, 0.5), "trunk.1.bias": (0.1, 0.0),
        "head.weight": (1.0, 0.5), "head.bias": (1.0, 0.0),
    }  # fmt: skip


def test_patterns_that_match_nothing_are_refused() -> None:
    system = create("dial", recipe().system.config())
    with pytest.raises(InputError, match=r"'encoder\.\*' matches no parameter; they begin with head, trunk"):
        make_optimiser(system, Optimiser(groups=(Group("encoder.*"),)))
    with pytest.raises(InputError, match="leaves no parameter to train"):
        freeze(system, ["*"])


def test_frozen_norms_are_the_only_ones_in_eval_mode() -> None:
    system = create("dial", recipe().system.config()).train()
    freeze(system, ["head.*"])
    freeze_statistics(system)
    assert all(m.training for m in system.modules())


def test_remembered_frames_are_made_once_and_in_loader_processes_too() -> None:
    class Counted(Forged):
        made: list[int] = []  # noqa: RUF012  # of this process

        def __getitem__(self, index: int) -> Frame:
            self.made.append(index)
            return super().__getitem__(index)

    alone, spread = Remembered(Counted(5)), Remembered(Forged(5))
    done: list[int] = []
    alone.fill(made=lambda: done.append(len(alone.kept)))
    assert done == [1, 2, 3, 4, 5]
    spread.fill(workers=2)
    assert Counted.made == [0, 1, 2, 3, 4]
    for index in (3, 3, 0):
        assert alone[index] is alone[index]
        assert (spread[index].main.picture == alone[index].main.picture).all()
        assert (spread[index].name, spread[index].grid) == (alone[index].name, alone[index].grid)
    assert Counted.made == [0, 1, 2, 3, 4]


# ---- the recipes that the package carries ----------------------------------------------------------------------------------------


def test_a_stage_takes_over_the_names_that_it_shares_with_the_one_before(tmp_path: Path) -> None:
    first = _train(tmp_path / "first")
    lines: list[str] = []
    source = [{"source": str(first.final), "shared": True}]
    after = _train(tmp_path / "second", say=lines.append, init_from=source, optimiser__lr=1e-9, optimiser__weight_decay=0.0)
    before, now = load_file(first.final), load_file(after.final)
    assert all(torch.allclose(before[name], now[name], atol=1e-6) for name in before if before[name].is_floating_point() and "running" not in name)
    assert any("entries" in line for line in lines)
    save_file({"elsewhere": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="share no name"):
        _train(tmp_path / "third", init_from=[{"source": str(tmp_path / "other.safetensors"), "part": "trunk", "shared": True}])


def test_a_stage_without_a_volume_is_judged_by_its_loss(tmp_path: Path) -> None:
    grid = {"shape": [16, 16, 16], "voxel_size": [3.2, 3.2, 0.4]}
    system = {"name": "voxformer", "size": "tiny", "setting": "proposals-semantic-kitti", "fields": {"grid": grid, "preparation": {"fit": "none"}}}
    lines: list[str] = []
    whole = recipe(system=system, data__augment__jitter=0.0, data__augment__mirror=0.0)
    sets = {role: Supplied(ForMonoScene(2, first)) for role, first in (("train", 0), ("val", 9))}
    made = train(whole, tmp_path / "run", datasets=sets, say=lines.append)  # type: ignore[arg-type]
    assert made.evaluation is None
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if "loss" in line]
    assert len(losses) == 2
    kept = load(made.best)
    again = mean_loss(kept, Supplied(ForMonoScene(2, 9)))  # type: ignore[arg-type]
    assert again == pytest.approx(min(losses), abs=1e-3)


@pytest.mark.parametrize("name", recipes.names())
def test_parts_and_patterns_of_a_recipe_exist_in_its_system(name: str) -> None:
    found = recipes.load(name)
    for part in recipes.stages_of(found):
        with torch.device("meta"):
            system = create(part.system.name, part.system.config())
        for initial in part.init_from:
            system.get_submodule(initial.part)
        freeze(system, part.frozen)
        make_optimiser(system, part.optimiser)


def test_the_smallest_street_recipe_trains_and_loads(tmp_path: Path) -> None:
    """A few seconds: MonoScene at size tiny for one step on a procedural street."""
    pytest.importorskip("embreex")
    few = {"budget.steps": 1, "batch_size": 1, "data.train": "0", "data.val": "9", "remember": True}
    lines: list[str] = []
    made = train(recipes.load("monoscene-street-tiny", few), tmp_path, say=lines.append)
    assert lines[0] == "making 2 frames"
    assert made.evaluation.scores["visible"].voxels > 0
    empty = evaluate(EverythingEmpty(), Forged(1))
    assert empty.label_set == made.evaluation.label_set
    assert load(made.final).config == recipes.load("monoscene-street-tiny").system.config()


class Supplied(Dataset[Frame]):
    """A dataset whose frames also have the depth that another source would give."""

    def __init__(self, frames: Any) -> None:
        self.frames, self.names, self.labels = frames, frames.names, frames.labels

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        frame = self.frames[index]
        height, width = frame.main.picture.shape[:2]
        depth = np.linspace(4, 40, height * width, dtype=np.float32).reshape(height, width)
        return replace(frame, depth=frame.depth if frame.depth is not None else depth)


@pytest.mark.slow  # half a minute each: volumes of 256 x 256 x 32
@pytest.mark.parametrize("name", [name for name in recipes.names() if name.endswith(("-kitti", "street-small"))])
def test_full_size_recipes_take_a_step_at_size_tiny(name: str, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from fake_semantic_kitti import write_fake_semantic_kitti

    data: dict[str, Any] = {"data.root": str(write_fake_semantic_kitti(tmp_path / "data", {"00": 1, "08": 1}, pictures=False))}
    if recipes.load(name).data.dataset == "street":
        data = {"data.train": "0", "data.val": "1", "init_from": []}
    few = {"system.size": "tiny", "budget": {"epochs": 1.0}, "batch_size": 1, "validation": {"every": None}, "workers": 0}
    recipe = recipes.load(name, {**data, **few, "trainer.accelerator": "cpu"})
    recipe = replace(recipe, stages=tuple(replace(s, changes={k: v for k, v in s.changes.items() if "budget" not in k}) for s in recipe.stages))
    systems = [create(part.system.name, part.system.config()) for part in recipes.stages_of(recipe)]
    needs = frozenset().union(*(system.needs | system.supervision for system in systems))
    supplied = frozenset() if recipe.data.dataset == "street" else frozenset({"depth"})
    datasets = {role: open_dataset(recipe.data, role, needs - supplied) for role in ("train", "val")}
    made = train(recipe, tmp_path / "run", datasets={k: Supplied(v) for k, v in datasets.items()} if "depth" in needs else datasets)
    assert made.steps == 1
    if systems[-1].completes:
        assert made.evaluation.scores["all"].voxels > 100_000
    assert all("nan" not in log.read_text() for log in (tmp_path / "run").rglob("log/session-1/metrics.csv"))


def test_more_processes_than_a_machine_without_accelerators_can_hold_are_refused(tmp_path: Path) -> None:
    devices = 4 * max(16, os.cpu_count() or 1)
    with pytest.raises(InputError, match=f"trainer.devices is {devices}"):
        make_trainer(recipe(trainer={"accelerator": "cpu", "devices": devices}), tmp_path, [], None)
