"""Train a recipe: one call from a recipe to exported, scored weights; killed at any moment, it goes on where its newest checkpoint stands.

A run's folder holds `recipe.yaml` (every field written out), `checkpoints/` (to go on from), `log/` (CSV and TensorBoard), `best.safetensors` and
`final.safetensors` (to predict with) and `evaluation.json` (the final weights' scores with all that they depend on). A recipe with stages has such a
folder for each of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from wholescene import recipes
from wholescene.data import Dataset, open_dataset
from wholescene.errors import InputError, require
from wholescene.files import write_text
from wholescene.recipes import Initial, Recipe
from wholescene.systems.base import System
from wholescene.training.data import Remembered
from wholescene.training.evaluate import Evaluation

Say = Callable[[str], None]
FINAL, RECIPE = "final.safetensors", "recipe.yaml"


_PATIENCE = 20.0  # seconds without a word


class Datasets(TypedDict):
    """What a run trains on and is scored on."""

    train: Dataset
    val: Dataset


@dataclass(frozen=True)
class Trained:
    """What a run left.

    Attributes:
        folder: of the run, or of its last stage.
        final, best: weights files.
        evaluation: of the final weights on all validation frames; None of a stage that makes no volume.
        steps: of the optimiser.
        minutes: of training.
    """

    folder: Path
    final: Path
    best: Path
    evaluation: Evaluation | None
    steps: int
    minutes: float


def train(
    recipe: Recipe | str,
    out: str | Path,
    resume: bool | str | Path | None = None,
    *,
    datasets: Datasets | None = None,
    finished: Sequence[Path] = (),
    say: Say | None = None,
) -> Trained:
    """Train a recipe, or go on with a run.

    Args:
        recipe: a recipe, or the name or file of one.
        out: folder of the run; made if it is not there.
        resume: True: from the newest whole checkpoint in `out`, or from the start if there is none yet; a path: from that run's folder or that
            checkpoint, which are only read; None: a new run.
        datasets: train and val, instead of the recipe's.
        finished: folders of stages that other runs have finished; a stage that equals one of them in all but its name is not trained again, unless
            it is the last.
        say: called with lines to print, in the first process only.

    Raises:
        InputError: `out` holds a run already and `resume` is not given, the recipe does not fit its data or this machine, a checkpoint cannot be
            read, or a loss is not finite.
        MissingExtraError: Lightning is not installed; install the extra `train`.
    """
    require("lightning.pytorch", "train")
    from wholescene.training.session import Session

    recipe = recipe if isinstance(recipe, Recipe) else recipes.load(recipe)
    speak: Say = say if say is not None and is_first_process() else lambda line: None
    out, source = Path(out), _source(recipe, Path(out), resume)
    if not recipe.stages:
        return Session(recipe, out, datasets, speak).go(source)
    *first, last = recipes.stages_of(recipe)
    if is_first_process() and not (out / RECIPE).exists():  # that of a run which is here already stays until this one has been let in
        write_text(out / RECIPE, recipes.dump(recipe))
    before: tuple[Initial, ...] = ()
    for stage in first:
        speak(f"stage {stage.name}")
        stage, folder = replace(stage, init_from=(*before, *stage.init_from)), out / stage.name.rpartition("/")[2]
        own = (folder,) if source else ()  # first: what the next stage went on from must not change when a run is resumed
        there = next((other for other in (*own, *finished) if _is_trained(stage, other)), None)
        if there is not None:
            speak(f"as trained in {there}")
        weights = there / FINAL if there is not None else Session(stage, folder, datasets, speak).go(folder if source else None).final
        before = (Initial(str(weights), shared=True),)
    speak(f"stage {last.name}")
    folder = out / last.name.rpartition("/")[2]
    trained = Session(replace(last, init_from=(*before, *last.init_from)), folder, datasets, speak).go(folder if source else None)
    if is_first_process():
        write_text(out / RECIPE, recipes.dump(recipe))
    return trained


def _is_trained(stage: Recipe, folder: Path) -> bool:
    """Whether that folder holds the whole training of a stage, under whatever name."""
    written = folder / RECIPE
    return (folder / FINAL).exists() and written.exists() and replace(recipes.load(written), name=stage.name) == stage


def _source(recipe: Recipe, out: Path, resume: bool | str | Path | None) -> Path | None:
    """The folder or checkpoint to go on from."""
    if resume is None or resume is False:
        return None
    path = out if resume is True else Path(resume)
    if resume is not True and not path.exists():
        raise InputError(f"{path} does not exist; give the folder of a run or one of its checkpoints to go on from")
    if recipe.stages and path.resolve() != out.resolve():
        raise InputError(f"recipe {recipe.name} has stages, so a run goes on in its own folder only; copy {path} to {out} and resume there")
    return path


def open_datasets(recipe: Recipe, systems: Sequence[System], say: Say) -> Datasets:
    """Both parts that a recipe trains with, in memory if it wants that, with what all of its systems eat.

    Raises:
        InputError: as `open_dataset`.
    """
    needs, wishes = (frozenset[str]().union(*sets) for sets in ([s.needs for s in systems], [s.supervision for s in systems]))
    opened = [open_dataset(recipe.data, role, needs, wishes) for role in ("train", "val")]
    if not recipe.remember:
        return {"train": opened[0], "val": opened[1]}
    kept = [Remembered(frames) for frames in opened]
    told = _told_now_and_then(sum(map(len, kept)), say)
    for frames in kept:
        frames.fill(min(8, os.cpu_count() or 1), told)
    return {"train": kept[0], "val": kept[1]}


def _told_now_and_then(whole: int, say: Say) -> Callable[[], None]:
    """What to call after each frame, so that nobody takes minutes of rendering for a hang."""
    say(f"making {whole} frames")
    made, spoken = 0, time.monotonic()

    def told() -> None:
        nonlocal made, spoken
        made += 1
        if made < whole and time.monotonic() - spoken > _PATIENCE:
            spoken = time.monotonic()
            say(f"made {made} of {whole} frames")

    return told


def is_first_process() -> bool:
    """Of all that train together; known before they have met, from what launchers set in the environment of a process."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
