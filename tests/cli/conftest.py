"""The command line in this process, with weights small enough to run in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wholescene.systems import config_class, create

from .commanding import GRID, Ran, Run, half_written


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("predict", path, ...)` in an empty working folder; whatever a command says passes through the file descriptors, as in a shell."""
    from wholescene.cli import main

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def go(*words: object) -> Ran:
        capfd.readouterr()
        code = main([str(word) for word in words])
        said = capfd.readouterr()
        assert "Traceback" not in said.err + said.out
        assert not half_written(tmp_path), f"half-written: {half_written(tmp_path)}"
        return Ran(code, said.out, said.err)

    return go


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a tiny MonoScene with the weights it starts from."""
    from wholescene.checkpoints import native

    torch.manual_seed(0)
    system = create("monoscene", config_class("monoscene").preset("clean", "tiny", grid=GRID))  # type: ignore[attr-defined]
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    native.save(path, system, card={"name": "tiny-test", "note": "Never trained: its answers mean nothing."})
    return path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes are written without their voxels drawn, which takes most of the time and has tests of its own."""
    from wholescene.view import render

    monkeypatch.setattr(render, "draw", lambda scene, size, *_: Image.new("RGB", size))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small street-like picture without EXIF data."""
    array = np.zeros((96, 320, 3), np.uint8)
    array[:48] = (120, 160, 220)
    array[48:] = (90, 90, 90)
    array[30:70, 200:240] = (200, 40, 40)
    path = tmp_path / "photo.png"
    Image.fromarray(array).save(path)
    return path
