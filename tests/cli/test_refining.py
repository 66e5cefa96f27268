"""Refinement on the command line: steps, disturbances, and the picture of how the mask grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wholescene import data
from wholescene.camera import Camera
from wholescene.checkpoints import native
from wholescene.data import Row
from wholescene.labels import SEMANTIC_KITTI
from wholescene.structures import Frame, View
from wholescene.systems import config_class, create

from .commanding import GRID, Run


@pytest.fixture(scope="module")
def refined_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a tiny MonoScene with a refinement that changes something."""
    torch.manual_seed(0)
    system: Any = create("monoscene", config_class("monoscene").preset("clean", "tiny", grid=GRID, refine="mrn"))  # type: ignore[attr-defined]
    torch.nn.init.normal_(system.refine.head.weight)
    path = tmp_path_factory.mktemp("weights") / "refined.safetensors"
    native.save(path, system, card={"name": "refined-test", "note": "Never trained: its answers mean nothing."})
    return path


@pytest.fixture
def depth(tmp_path: Path, picture: Path) -> Path:
    width, height = Image.open(picture).size
    np.save(tmp_path / "depth.npy", np.full((height, width), 8.0, np.float32))
    return tmp_path / "depth.npy"


class _Forged:
    names, labels = ("forged/0",), SEMANTIC_KITTI

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Frame:
        rng = np.random.default_rng(0)
        camera = Camera.from_fov(70, (96, 64)).on_ground(1.65)
        grid = GRID.place(camera)
        picture, labels = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), rng.choice([0, 0, 1, 9, 255], grid.shape).astype(np.uint8)
        return Frame("forged/0", {"main": View(picture, camera)}, grid, depth=np.full((64, 96), 9.0, np.float32), targets={1: labels})


@pytest.fixture
def forged_streets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.DATASETS, "street", Row("forged", frozenset({"depth"}), lambda config, part, needs: _Forged()))  # type: ignore[arg-type,return-value]


def test_predict_takes_any_number_of_steps(run: Run, picture: Path, depth: Path, refined_weights: Path, undrawn: None) -> None:
    labels = []
    for steps in (0, 2):
        ran = run("predict", picture, "--weights", refined_weights, "--depth", depth, "--depth-unit", "m", "--steps", steps, "--out", f"s{steps}")
        assert ran.code == 0, ran.err
        with np.load(next(Path(f"s{steps}").glob("*/scene.npz")), allow_pickle=False) as held:
            labels.append(held["labels"])
    assert (labels[0] != labels[1]).any()


def test_growth_draws_a_column_a_step(run: Run, picture: Path, depth: Path, refined_weights: Path, undrawn: None) -> None:
    ran = run("growth", picture, "--weights", refined_weights, "--depth", depth, "--depth-unit", "m", "--steps", 2, "--out", "g.png")
    assert ran.code == 0, ran.err
    assert Image.open("g.png").width == 3 * 460
    assert len(ran.out.splitlines()) >= 4


def test_growth_draws_a_picture_above_a_street(
    run: Run, picture: Path, depth: Path, refined_weights: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wholescene.commands.growth._street", lambda seed, setting: _Forged()[0])
    words = ("--weights", refined_weights, "--steps", 1)
    heights = []
    for name, given in (("a.png", (picture, "--depth", depth, "--depth-unit", "m")), ("b.png", ("--street", 7))):
        assert run("growth", *given, *words, "--out", name).code == 0
        heights.append(Image.open(name).height)
    ran = run("growth", picture, "--depth", depth, "--depth-unit", "m", "--street", 7, *words, "--out", "both.png")
    assert ran.code == 0, ran.err
    assert "forged/0" in ran.out
    assert Image.open("both.png").size == (2 * 460, sum(heights))


def test_growth_says_that_no_voxel_was_active(run: Run, picture: Path, depth: Path, refined_weights: Path, undrawn: None, tmp_path: Path) -> None:
    system: Any = native.load(refined_weights)
    torch.nn.init.zeros_(system.refine.occupancy.conv1.weight)
    system.refine.occupancy.conv1.bias.data = torch.tensor([9.0, -9.0])
    native.save(tmp_path / "empty.safetensors", system, card={"name": "refined-test", "note": "Never trained: its answers mean nothing."})
    ran = run("growth", picture, "--weights", tmp_path / "empty.safetensors", "--depth", depth, "--depth-unit", "m", "--steps", 2, "--out", "g.png")
    assert ran.code == 0, ran.err
    assert "no voxel was active" in ran.out


def test_growth_takes_depth_from_a_source(run: Run, picture: Path, depth: Path, refined_weights: Path, undrawn: None) -> None:
    folder = Path("maps")
    folder.mkdir()
    (folder / f"{picture.stem}.npy").write_bytes(depth.read_bytes())
    ran = run("growth", picture, "--weights", refined_weights, "--depth-source", f"files:{folder}@m", "--steps", 1, "--out", "g.png")
    assert ran.code == 0, ran.err
    assert Image.open("g.png").width == 2 * 460


def test_growth_refuses_weights_that_do_not_refine_and_no_picture(run: Run, picture: Path, tiny_weights: Path) -> None:
    ran = run("growth", picture, "--weights", tiny_weights)
    assert (ran.code, "shows no refinement" in ran.err) == (2, True)
    ran = run("growth", "--weights", tiny_weights)
    assert (ran.code, "--street SEED" in ran.err) == (2, True)
    for words, said in ((("--steps", 1000), "from 1 to 20"), (("--steps", 0), "from 1 to 20")):
        ran = run("growth", picture, "--weights", tiny_weights, *words)
        assert (ran.code, said in ran.err) == (2, True), ran.err
    ran = run("growth", "--street", 1, "--depth", picture, "--weights", tiny_weights)
    assert (ran.code, "its own grid and depth" in ran.err) == (2, True), ran.err


def test_evaluate_by_steps_prints_scores_share_time_and_memory(run: Run, refined_weights: Path, forged_streets: None) -> None:
    ran = run("evaluate", "monoscene-street-mini", "--weights", refined_weights, "--steps", "0,1", "--out", "steps.json")
    assert ran.code == 0, ran.err
    assert all(word in ran.out for word in ("steps", "mIoU hidden", "active %", "s a frame", "peak MiB"))
    assert [row["steps"] for row in json.loads(Path("steps.json").read_text())["by_steps"]] == [0, 1]


def test_evaluate_under_disturbances_prints_a_table_and_draws_a_figure(run: Run, refined_weights: Path, forged_streets: None) -> None:
    words = ("--disturb", "contrast,pitch", "--steps", "0,1", "--figure", "f.png", "--out", "d.json")
    ran = run("evaluate", "monoscene-street-mini", "--weights", refined_weights, *words)
    assert ran.code == 0, ran.err
    assert all(word in ran.out for word in ("clean", "contrast", "mean of all", "mIoU T=1"))
    assert Image.open("f.png").width >= 480
    assert len(json.loads(Path("d.json").read_text())["rows"]) == 1 + 3 + 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--disturb", "oclusion"), "nearest"),
        (("--steps", "0,-1"), "expected refinement steps from 0"),
        (("--steps", "1,100000"), "expected refinement steps from 0"),
        (("--figure", "f.png"), "--disturb"),
        (("--disturb", "noise", "--figure", "f.txt"), "a figure is a picture; let its name end in .png"),
    ],
)
def test_what_evaluate_cannot_mean_is_refused(words: tuple[str, ...], said: str, run: Run, refined_weights: Path, forged_streets: None) -> None:
    ran = run("evaluate", "monoscene-street-mini", "--weights", refined_weights, *words)
    assert (ran.code, said in ran.err) == (2, True), ran.err
