"""`attention`: one picture of where an instance query looks, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_symphonies import frame, system
from wholescene.checkpoints import native

from .commanding import Run, says


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Weights of a tiny Symphonies, a picture and its depth."""
    one = frame()
    found = {name: tmp_path / name for name in ("tiny.safetensors", "street.png", "street.npy")}
    native.save(found["tiny.safetensors"], system())
    Image.fromarray(one.main.picture).save(found["street.png"])
    np.save(found["street.npy"], one.depth)
    return found


def test_a_query_is_drawn(run: Run, files: dict[str, Path]) -> None:
    given = ("--weights", files["tiny.safetensors"], "--depth", files["street.npy"], "--depth-unit", "m", "--fov", 75, "--height", 1.65)
    ran = run("attention", files["street.png"], *given, "--query", 7)
    assert ran.code == 0, ran.err
    says(ran.out, "instance query 7 in layer 0", "street-query-7.png")
    drawn = np.asarray(Image.open("street-query-7.png"))
    assert drawn.shape[1] == 1200
    assert run("attention", files["street.png"], *given, "--query", 8, "--layer", 1, "--out", "other.png").code == 0
    assert not np.array_equal(drawn[:800], np.asarray(Image.open("other.png"))[:800])


def test_what_cannot_be_drawn_is_refused(run: Run, files: dict[str, Path], tiny_weights: Path) -> None:
    depth = ("--depth", files["street.npy"], "--depth-unit", "m")
    says(run("attention", files["street.png"], "--weights", tiny_weights).sentence, "monoscene", "no instance queries")
    ours = ("--weights", files["tiny.safetensors"])
    says(run("attention", files["street.png"], *ours).sentence, "needs depth")
    says(run("attention", files["street.png"], *ours, *depth, "--query", 12).sentence, "queries 0 to 11")
    says(run("attention", files["street.png"], *ours, *depth, "--grid", "16,16,16@1.6,1.6,0.4:-500,0,0").sentence, "no voxel of the grid is in view")
    says(run("attention", files["street.png"], *ours, *depth, "--out", "look.txt").sentence, "look.txt", ".png")
