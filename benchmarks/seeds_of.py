"""The finished runs of a study, and what was scored on them, kept beside their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wholescene.data import open_dataset
from wholescene.systems.base import System
from wholescene.training.data import Remembered
from wholescene.training.study import Study
from wholescene.weights import load

Score = Callable[[System, Remembered, Path, str], Any]


def scored(study: Study, folder: Path, variant: str, kept: str, score: Score, read: Callable[[Path], Any]) -> Iterator[Any]:
    """What was found on each seed's run, the seeds that are not done left out.

    Args:
        study: of which the folder holds runs.
        folder: of the study.
        variant: its name.
        kept: name of the file beside the weights that holds it.
        score: makes that file of the system, the validation frames, the file's path and the recipe's name.
        read: reads that file.
    """
    for seed in study.seeds:
        run = folder / variant / f"seed-{seed}"
        if not (run / "final.safetensors").exists():
            continue
        if not (run / kept).exists():
            recipe, system = study.recipe_of(variant, seed), load(run / "final.safetensors")
            score(system, Remembered(open_dataset(recipe.data, "val", system.needs)), run / kept, recipe.name)
        yield read(run / kept)
