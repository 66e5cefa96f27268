"""A study trains every variant with every seed once, goes on where it was stopped, and does not claim what the spread swallows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dial import Forged, recipe

from wholescene import recipes
from wholescene.errors import InputError
from wholescene.recipes import Budget, Recipe
from wholescene.structures import Frame
from wholescene.training import study as studies
from wholescene.training.run import Trained, train
from wholescene.training.study import Study, compare, study


@pytest.fixture
def base(tmp_path: Path) -> Study:
    (tmp_path / "base.yaml").write_text(recipes.dump(recipe()))
    variants: dict[str, dict[str, Any]] = {"as it is": {}, "fast": {"optimiser.lr": 0.1}}
    return Study("rates", str(tmp_path / "base.yaml"), variants, seeds=(3, 4), budget=Budget(steps=3))


def _datasets() -> Any:
    return {"train": Forged(4), "val": Forged(3, 100)}


def test_every_variant_is_trained_with_every_seed_at_the_budget(tmp_path: Path, base: Study) -> None:
    lines: list[str] = []
    outcome = study(base, tmp_path / "out", datasets=_datasets(), say=lines.append)
    header, first, second = outcome.table()
    assert header[:4] == ("variant", "seeds", "steps", "mIoU")
    assert first[:3] == ("as it is", "2", "3")
    assert second[:3] == ("fast", "2", "3")
    assert [line for line in lines if "seed" in line] == ["as it is, seed 3", "fast, seed 3", "as it is, seed 4", "fast, seed 4"]
    alone = train(base.recipe_of("fast", 4), tmp_path / "alone", datasets=_datasets())
    assert outcome.runs[1].evaluations[1].scores == alone.evaluation.scores


def test_a_stopped_study_goes_on_and_trains_nothing_twice(tmp_path: Path, base: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study(base, tmp_path / "whole", datasets=_datasets()).table()
    begun: list[str] = []

    def stopping(made: Any, out: Path, *args: Any, **more: Any) -> Trained:
        begun.append(f"{made.name}, {made.seed}")
        if len(begun) == 3:
            raise KeyboardInterrupt
        return train(made, out, *args, **more)

    monkeypatch.setattr(studies, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        study(base, tmp_path / "out", datasets=_datasets())
    monkeypatch.setattr(studies, "train", train)

    class Refusing(Forged):
        """Only the runs that are not done may ask for frames."""

        asked = 0

        def __getitem__(self, index: int) -> Frame:
            Refusing.asked += 1
            return super().__getitem__(index)

    again = study(base, tmp_path / "out", datasets={"train": Refusing(4), "val": Forged(3, 100)})
    assert again.table() == whole
    assert Refusing.asked == 2 * 3 * 2  # two runs of three steps of two frames


def test_runs_side_by_side_are_the_same_as_one_after_another(tmp_path: Path, base: Study) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as side by side: sums of two threads are rounded otherwise
    try:
        serial = study(base, tmp_path / "serial", datasets=_datasets()).table()
    finally:
        torch.set_num_threads(threads)
    lines: list[str] = []
    assert study(base, tmp_path / "parallel", datasets=_datasets(), jobs=3, say=lines.append).table() == serial
    assert sum(line.endswith("to go") for line in lines) == 4
    assert (tmp_path / "parallel" / "fast" / "seed-4" / "final.safetensors").exists()


def test_what_variants_have_in_common_before_their_last_stage_is_trained_once_a_seed(tmp_path: Path, base: Study) -> None:
    last = {"slow": 0.01, "fast": 0.1}
    variants = {name: {"stages": [{"name": "start"}, {"name": name, "changes": {"optimiser.lr": lr}}]} for name, lr in last.items()}
    lines: list[str] = []
    staged = Study("stages", base.recipe, variants, seeds=(3, 4), changes={"budget": {"steps": 3}})
    shared = study(staged, tmp_path / "out", datasets=_datasets(), say=lines.append)
    begun = sorted(str(path.parent.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*/*/recipe.yaml"))
    assert begun == ["fast/seed-3/fast", "fast/seed-4/fast", *(f"slow/seed-{seed}/{stage}" for seed in (3, 4) for stage in ("slow", "start"))]
    assert sum("as trained in" in line for line in lines) == 2
    (tmp_path / "out" / studies.RESULTS).unlink()  # as if killed before the last run was kept: each goes on from the stage that it began with
    assert study(staged, tmp_path / "out", datasets=_datasets()).table() == shared.table()
    alone = train(staged.recipe_of("fast", 4), tmp_path / "alone", datasets=_datasets())
    assert alone.evaluation is not None
    assert shared.runs[1].evaluations[1].scores == alone.evaluation.scores


def test_the_finished_runs_alone_make_a_report(tmp_path: Path, base: Study) -> None:
    with pytest.raises(InputError, match="no finished run"):
        studies.finished(base, tmp_path / "out")
    whole = study(base, tmp_path / "out", datasets=_datasets()).table()
    assert studies.finished(base, tmp_path / "out").table() == whole


def _failing(made: Recipe, out: Path, *args: Any, **more: Any) -> Trained:
    if made.name.endswith("fast") and made.seed == 3:
        raise InputError("the loss is not finite")
    return train(made, out, *args, **more)


def test_a_run_that_fails_ends_no_other_one(tmp_path: Path, base: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "train", _failing)
    with pytest.raises(InputError, match="not finite"):
        study(base, tmp_path / "out", datasets=_datasets(), jobs=2)
    kept = studies.Results(tmp_path / "out" / studies.RESULTS)
    assert len(kept.kept) == 3
    with pytest.raises(InputError, match="positive"):
        study(base, tmp_path / "out", datasets=_datasets(), jobs=0)


def test_a_folder_of_another_study_is_refused(tmp_path: Path, base: Study) -> None:
    study(base, tmp_path / "out", datasets=_datasets())
    other = Study("rates", base.recipe, {"as it is": {"optimiser.lr": 0.5}}, seeds=(3,), budget=base.budget)
    with pytest.raises(InputError, match="run of another recipe"):
        study(other, tmp_path / "out", datasets=_datasets())


@pytest.mark.parametrize(
    ("base_values", "other", "said"),
    [
        ([0.30, 0.31, 0.32], [0.40, 0.41, 0.42], "+10.00"),
        ([0.30, 0.31, 0.32], [0.20, 0.21, 0.22], "-10.00"),
        ([0.30, 0.36, 0.33], [0.34, 0.38, 0.36], "undecided (+3.00)"),
        ([0.30], [0.90], "undecided (+60.00)"),
    ],
)
def test_a_difference_within_the_spread_is_undecided(base_values: list[float], other: list[float], said: str) -> None:
    assert compare(base_values, other) == said


def test_a_variant_that_changes_what_does_not_exist_is_refused_before_anything_is_trained(tmp_path: Path, base: Study) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: a\nrecipe: {base.recipe}\nvariants: {{one: {{}}, two: {{optimiser.lrr: 1}}}}\n")
    with pytest.raises(InputError, match="the nearest is 'lr'"):
        studies.load(path)


def test_the_studies_of_the_package_are_whole() -> None:
    assert studies.names()
    for name in studies.names():
        assert studies.load(name).name == name


def test_the_file_of_results_alone_is_enough_to_go_on_elsewhere(tmp_path: Path, base: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study(base, tmp_path / "here", datasets=_datasets())
    (tmp_path / "there").mkdir()
    (tmp_path / "there/results.json").write_bytes((tmp_path / "here/results.json").read_bytes())
    monkeypatch.setattr(studies, "train", lambda *_, **__: pytest.fail("a finished run was trained again"))
    assert study(base, tmp_path / "there").table() == whole.table()


@pytest.mark.parametrize(
    "content", ["", "[1]", "[" * 100_000, "1" * 5000, '{"a": 3}', '{"a": {"steps": 3}}', '{"a": {"steps": 3, "evalu', "\0", "{} {}"]
)
def test_results_that_are_none_are_named(tmp_path: Path, base: Study, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"results\.json holds no results of a study"):
        studies.finished(base, tmp_path)


def test_a_study_that_would_leave_its_folder_is_refused(tmp_path: Path, base: Study) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: ../a\nrecipe: {base.recipe}\nvariants: {{one: {{}}}}\n")
    with pytest.raises(InputError, match="becomes a folder"):
        studies.load(path)


def test_no_more_processes_start_than_there_are_runs(tmp_path: Path, base: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(studies, "side_by_side", lambda todo, of, at_once, *_: asked.append(at_once) or ())
    study(base, tmp_path / "out", datasets=_datasets(), jobs=999)
    assert asked == [4]


@pytest.mark.parametrize(
    ("variants", "said"),
    [("{1: {}}", "'1'"), ("{one: {seed: 4}}", "seed is the same in all runs"), ("{one: {budget.steps: 9}}", "budget.steps is the same in all runs")],
)
def test_what_a_variant_cannot_change_is_refused(tmp_path: Path, base: Study, variants: str, said: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: a\nrecipe: {base.recipe}\nbudget: {{steps: 1}}\nvariants: {variants}\n")
    with pytest.raises(InputError, match=said):
        studies.load(path)
