"""What variants cost: counted and measured without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dial import MONOSCENE, ForMonoScene, recipe

from wholescene import recipes
from wholescene.checkpoints import native
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.ops.counting import MultiplyAdds
from wholescene.systems import create
from wholescene.training import costs as module
from wholescene.training.costs import costs
from wholescene.training.study import Study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(module, "open_dataset", lambda *_: ForMonoScene(3))
    (tmp_path / "base.yaml").write_text(recipes.dump(recipe(**MONOSCENE)))
    variants: dict[str, dict[str, Any]] = {"whole": {}, "wider": {"system.fields.features": 16}}
    return Study("widths", str(tmp_path / "base.yaml"), variants, seeds=(0,))


def test_every_variant_has_its_own_numbers(study: Study, tmp_path: Path) -> None:
    found = costs(study, repeats=1)
    whole, wider = found.rows
    for row, fields in ((whole, {}), (wider, {"system.fields.features": 16})):
        config = recipes.changed(recipe(**MONOSCENE), fields).system.config()
        system = create("monoscene", config).eval()
        with MultiplyAdds() as counted:
            system(collate([ForMonoScene(1)[0]]))
        assert row.parameters == sum(p.numel() for p in system.parameters())
        assert row.multiply_adds == counted.total > 0
        assert 0 < row.seconds < row.step_seconds
        assert not row.trained
    assert whole.parameters != wider.parameters
    header, first, _ = found.table()
    assert (header[0], first[0], len(header)) == ("variant", "whole", len(first))
    assert found.provenance["weights"] == "fresh"
    assert {"hardware", "date", "a frame", "a step"} <= set(found.provenance)
    found.save(tmp_path / "costs.json")
    assert json.loads((tmp_path / "costs.json").read_text())["costs"][1]["parameters"] == wider.parameters


def test_weights_of_finished_runs_are_taken(study: Study, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "wider" / "seed-0"
    run.mkdir(parents=True)
    native.save(run / "final.safetensors", create("monoscene", study.recipe_of("wider", 0).system.config()))
    assert [row.trained for row in costs(study, tmp_path / "runs", repeats=1).rows] == [False, True]


def test_what_cannot_be_measured_is_said_and_left_out(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(data: Any, *_: Any) -> ForMonoScene:
        if data.setting == "full":
            raise InputError("no stereo here")
        return ForMonoScene(1)

    monkeypatch.setattr(module, "open_dataset", opened)
    study.variants["wider"]["data.setting"] = "full"
    said: list[str] = []
    assert [row.variant for row in costs(study, repeats=1, say=said.append).rows] == ["whole"]
    assert said == ["wider: left out, no stereo here"]
    study.variants.pop("whole")
    with pytest.raises(InputError, match="no variant of study widths"):
        costs(study, repeats=1)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells no peak")
def test_memory_is_what_is_held_at_once() -> None:
    size = 2**26
    taken = module._peak_beyond(lambda: torch.ones(size // 4), torch.device("cpu"))
    assert 0.98 * size < taken < 1.5 * size
