"""`evaluate --by axis`: tables, JSON and pictures of the scores along depth, width and height."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wholescene.checkpoints import native
from wholescene.grid import GridPlacement
from wholescene.preparation import Preparation
from wholescene.systems import config_class, create

from .commanding import Run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    grid = GridPlacement((64, 64, 16), (0.8, 0.8, 0.4))
    system = create("monoscene", config_class("monoscene").preset("clean", "tiny", grid=grid, preparation=Preparation()))  # type: ignore[attr-defined]
    native.save(tmp_path / "w.safetensors", system, card={"name": "tiny"})
    return tmp_path / "w.safetensors"


def test_scores_along_the_axes_are_printed_written_and_drawn(run: Run, weights: Path) -> None:
    first = run(
        "evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, "--by", "axis", "--out", "axes.json", "--figure", "one.png"
    )  # fmt: skip
    assert first.code == 0, first.err
    for word in ("depth (1)", "width (4)", "height (2)", "share of occupied", "ground", "large", "IoU, mIoU of the whole", "hardware", "1 of 4"):
        assert word in first.out
    plain = json.loads(Path("axes.json").read_text())
    assert {axis: len(scores) for axis, scores in plain["bins"].items()} == {"depth": 64, "width": 64, "height": 16}
    assert np.allclose(plain["positions"]["width"][0], -25.2)
    second = run(
        "evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, "--by", "axis", "--beside", "axes.json", "--figure", "two.png"
    )  # fmt: skip
    assert second.code == 0, second.err
    assert Image.open("one.png").size == Image.open("two.png").size


def test_what_belongs_to_axes_is_refused_without_them(run: Run, weights: Path) -> None:
    for more in (["--figure", "x.png"], ["--beside", "x.json"]):
        ran = run("evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, *more)
        assert ran.code == 2
        assert "--by axis" in ran.err
    ran = run("evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, "--by", "axis", "--figure", "x.txt")
    assert ran.code == 2
    assert ".png" in ran.err
    ran = run("evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, "--by", "axis", "--beside", "x.json")
    assert ran.code == 2
    assert "--figure" in ran.err
    for more in (["--disturb", "picture"], ["--steps", "0,1"]):
        ran = run("evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, "--by", "axis", *more)
        assert ran.code == 2
        assert more[0] in ran.err


def test_scores_are_written_even_where_what_stands_beside_them_is_of_another_grid(run: Run, weights: Path) -> None:
    given = ("evaluate", "monoscene-street-tiny", "--weights", weights, "--limit", 1, "--by", "axis")
    assert run(*given, "--out", "axes.json").code == 0
    plain = json.loads(Path("axes.json").read_text())
    plain["positions"]["depth"] = [2 * x for x in plain["positions"]["depth"]]
    Path("other.json").write_text(json.dumps(plain))
    Path("axes.json").unlink()
    ran = run(*given, "--beside", "other.json", "--figure", "two.png", "--out", "axes.json")
    assert ran.code == 2
    assert "one grid" in ran.err
    assert Path("axes.json").exists()
