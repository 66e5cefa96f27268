"""The finished runs of a study, and what was scored on them, kept beside their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wholescene.data import open_dataset
from wholescene.recipes import Recipe
from wholescene.systems.base import System
from wholescene.training.data import Remembered
from wholescene.training.study import Study, key_of
from wholescene.weights import load

_made: dict[str, Remembered] = {}

Score = Callable[[System, Remembered, Path, str], Any]


def scored(study: Study, folder: Path, variant: str, kept: str, score: Score, read: Callable[[Path], Any]) -> Iterator[Any]:
    """What was found on each seed's run, the seeds that are not done left out. Where it is kept already the weights need not be there.

    The file that keeps it bears the key of the run's recipe, so that what an older form of the study scored is never taken for this one's.

    Args:
        study: of which the folder holds runs.
        folder: of the study.
        variant: its name.
        kept: name of the file beside the weights that holds it, without the key: steps.json is kept as steps-KEY.json.
        score: makes that file of the system, the validation frames, the file's path and the recipe's name.
        read: reads that file.
    """
    for seed in study.seeds:
        weights = study.final_of(folder, variant, seed)
        recipe = study.recipe_of(variant, seed)
        file = weights.parent / f"{Path(kept).stem}-{key_of(recipe)}{Path(kept).suffix}"
        if weights.exists() and (not file.exists() or file.stat().st_mtime < weights.stat().st_mtime):
            system = load(weights)
            score(system, _frames(recipe, system), file, recipe.name)
        if file.exists():
            yield read(file)


def _frames(recipe: Recipe, system: System) -> Remembered:
    """The validation frames, made once for all runs that want the same."""
    key = repr((recipe.data, sorted(system.needs)))
    if key not in _made:
        _made[key] = Remembered(open_dataset(recipe.data, "val", system.needs))
    return _made[key]
