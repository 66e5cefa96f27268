"""Scores by the number of steps and under disturbances: the same counts as `evaluate` gives one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dial import Forged, recipe
from PIL import Image

from small_frames import GRID, frame
from wholescene.data.disturb import DisturbedFrames, suite
from wholescene.errors import InputError
from wholescene.labels import SEMANTIC_KITTI
from wholescene.structures import Frame
from wholescene.systems import config_class, create
from wholescene.systems.base import System
from wholescene.systems.refine.config import Refine
from wholescene.training import anytime
from wholescene.training.evaluate import evaluate
from wholescene.training.robustness import Robustness, robustness


class Small:
    """Two frames of noise for a system."""

    labels = SEMANTIC_KITTI
    names = ("forged/0", "forged/1")

    def __init__(self, system: System) -> None:
        self.system = system

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Frame:
        return frame(self.system, index)


@pytest.fixture(scope="module")
def refined() -> Any:
    torch.manual_seed(0)
    config = config_class("monoscene").preset("clean", "tiny", grid=GRID, refine=Refine(mask="all", profile="none"))  # type: ignore[attr-defined]
    system: Any = create("monoscene", config)
    torch.nn.init.normal_(system.refine.head.weight)
    return system.eval()


def test_scores_by_steps_are_those_of_the_answers_after_them(refined: Any) -> None:
    results = anytime.by_steps(refined, Small(refined), (0, 2))  # type: ignore[arg-type]
    for result in results:
        with refined.taking(result.steps):
            assert result.evaluation.scores == evaluate(refined, Small(refined)).scores  # type: ignore[arg-type]
        assert len(result.active) == result.steps
        assert result.seconds > 0
    assert results[1].active == (1.0, 1.0)
    assert "refinement steps: 2" in results[1].evaluation.provenance["system"]
    assert anytime.doubts(results) == []
    idle = [replace(result, active=(0.0,) * result.steps) for result in results]
    assert "no voxel was active" in anytime.doubts(idle)[0]
    assert results[0].evaluation.scores != results[1].evaluation.scores
    header, *rows = anytime.table(results)
    assert header[1:] == ("T=0", "T=2")
    said = {name: cells for name, *cells in rows}
    assert said["active % in step 2"] == ["-", "100.0"]
    for split in ("visible", "hidden", "near", "far"):
        assert said[f"IoU {split}"] == [f"{100 * r.evaluation.scores[split].iou:.2f}" for r in results]
        assert said[f"mIoU {split}"] == [f"{100 * r.evaluation.scores[split].miou:.2f}" for r in results]
    again = anytime.of_dict(json.loads(json.dumps(anytime.as_dict(results))), "here")
    assert anytime.table(again) == [header, *rows]
    with pytest.raises(InputError, match="here holds no scores by steps"):
        anytime.of_dict({}, "here")


def test_a_system_that_does_not_refine_has_no_steps() -> None:
    system = create("dial", recipe().system.config())
    with pytest.raises(InputError, match="does not refine"):
        anytime.by_steps(system, Forged(1), (0, 1))
    with pytest.raises(InputError, match="whole numbers"):
        anytime.parse_steps("0,x")
    for far in ("0,-1", "99999999999"):
        with pytest.raises(InputError, match="from 0"):
            anytime.parse_steps(far)


def test_a_suite_scores_every_severity_beside_the_clean_input(tmp_path: Path) -> None:
    torch.manual_seed(0)
    system, said = create("dial", recipe().system.config()), list[str]()
    found = robustness(system, Forged(2), suite("contrast,depth-scale"), say=said.append)
    assert [(row.name, row.severity) for row in found.rows] == [("contrast", s) for s in (0.75, 0.5, 0.4)]
    assert any("depth-scale: left out" in line for line in said)
    worst = DisturbedFrames(Forged(2), suite("contrast")[0], 0.4)
    assert found.rows[-1].miou == (evaluate(system, worst, splits=False).miou,)
    assert found.clean.miou == (evaluate(system, Forged(2), splits=False).miou,)
    left = found.left(found.rows[-1])[0]
    assert left[1] == pytest.approx(found.rows[-1].miou[0] / found.clean.miou[0], nan_ok=True)
    header, clean, *_, mean, overall = found.table()
    assert (header[:2], clean[:2], mean[:2], overall[0]) == (("disturbance", "severity"), ("clean", "-"), ("mean of contrast", "left"), "mean of all")
    found.save(tmp_path / "robust.json")
    assert Robustness.load(tmp_path / "robust.json") == found
    (tmp_path / "robust.json").write_text("{}")
    with pytest.raises(InputError, match="holds no scores under disturbances"):
        Robustness.load(tmp_path / "robust.json")
    assert "seed of the disturbances" in found.provenance
    assert "shares of so little say nothing" in replace(found, clean=replace(found.clean, miou=(0.001,))).doubts()[0]
    assert replace(found, clean=replace(found.clean, miou=(0.1,))).doubts() == []


def test_every_number_of_steps_is_scored_under_every_disturbance(refined: Any) -> None:
    found = robustness(refined, Small(refined), suite("occlusion"), steps=(0, 1), frames=1)  # type: ignore[arg-type]
    assert all(len(row.miou) == 2 for row in found.rows)
    assert "mIoU T=1" in found.table()[0]
    assert (found.provenance["system"], found.provenance["steps"]) == ("monoscene", "0, 1")
    picture = found.figure("a title")
    assert isinstance(picture, Image.Image)
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10
    assert refined.refine.steps == 3


def test_nothing_left_to_disturb_is_refused() -> None:
    system = create("dial", recipe().system.config())
    with pytest.raises(InputError, match="none of the disturbances"):
        robustness(system, Forged(1), suite("depth"))


def test_a_system_that_never_looks_at_the_picture_is_not_called_robust_to_its_noise() -> None:
    system, said = create("dial", recipe().system.config()), list[str]()
    system.looks_at_picture = False  # type: ignore[misc]  # an attribute of the class
    with pytest.raises(InputError, match="none of the disturbances"):
        robustness(system, Forged(1), suite("noise,pitch"), say=said.append)
    assert said == ["noise: left out, dial eats no picture", "pitch: left out, dial eats no camera"]
