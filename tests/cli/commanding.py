"""What tests of the command line share: how a command ended, and systems that believe their inputs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from wholescene.grid import GridPlacement
from wholescene.structures import Batch, Prediction
from wholescene.systems import config_class
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


def says(sentence: str, *words: str) -> None:
    """Fail unless every word is in the sentence, whatever its case."""
    lacking = [word for word in words if word.lower() not in sentence.lower()]
    assert not lacking, f"{lacking} not said in: {sentence}"


def half_written(folder: Path) -> list[Path]:
    """Temporary files that a command left behind (`wholescene.files` names them with a dot in front)."""
    return [Path(root) / name for root, _, names in os.walk(folder) for name in names if name.startswith(".")]
