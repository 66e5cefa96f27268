"""The command line in this process, with weights small enough to run in a moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wholescene.grid import GridPlacement
from wholescene.structures import Batch, Prediction
from wholescene.systems import config_class, create
from wholescene.systems.base import System

# The box of the bundled weights in coarse voxels.
GRID = GridPlacement((32, 32, 16), (1.6, 1.6, 0.4))


class DepthReader(System):
    """A system that believes its depth map: occupied by class 1 is what the map hits."""

    name = "depth-reader"

    def __init__(self) -> None:
        super().__init__(config_class("monoscene").preset("clean", "tiny"))  # type: ignore[attr-defined]
        self.scale = torch.nn.Parameter(torch.ones(()))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"depth"})

    def forward(self, batch: Batch) -> Prediction:
        assert batch.depth is not None
        grid, camera = batch.grids[0], batch.cameras["main"][0]
        logits = torch.zeros(1, self.config.classes, *grid.shape)
        logits[:, 0] = 1
        index, inside = grid.index_of(camera.unproject(batch.depth[0].numpy()))
        logits[(0, 1, *map(torch.from_numpy, index[inside].T))] = 2
        return Prediction(logits)


class Echo(System):
    """A system that answers the occupancy that it was given, as class 1."""

    name = "echo"

    def __init__(self) -> None:
        super().__init__(config_class("monoscene").preset("clean", "tiny", grid=GRID))  # type: ignore[attr-defined]
        self.scale = torch.nn.Parameter(torch.ones(()))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"occupancy"})

    def forward(self, batch: Batch) -> Prediction:
        assert batch.occupancy is not None
        return Prediction(torch.nn.functional.one_hot(batch.occupancy.long(), self.config.classes).movedim(-1, 1).float())


@dataclass(frozen=True)
class Ran:
    """How a command ended: exit code, and what it said on standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line of a refusal; fails the test if it is anything else."""
        assert self.code == 2, f"exit code {self.code}; out: {self.out}; err: {self.err}"
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, f"a refusal is one line; found {self.err!r}"
        assert lines[0].startswith("error: ")
        return lines[0]


Run = Callable[..., Ran]


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


def half_written(folder: Path) -> list[Path]:
    """Temporary files that a command left behind (`wholescene.files` names them with a dot in front)."""
    return [Path(root) / name for root, _, names in os.walk(folder) for name in names if name.startswith(".")]


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
