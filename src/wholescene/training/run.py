"""Train a recipe: one call from a recipe to exported, scored weights; killed at any moment, it goes on where its newest checkpoint stands.

A run's folder holds `recipe.yaml` (every field written out), `checkpoints/` (to go on from), `log/` (CSV and TensorBoard), `best.safetensors` and
`final.safetensors` (to predict with) and `evaluation.json` (the final weights' scores with all that they depend on). A recipe with stages has such a
folder for each of them.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from wholescene import recipes
from wholescene.checkpoints import native
from wholescene.configuring import to_plain
from wholescene.data import open_dataset
from wholescene.errors import InputError, unknown_name
from wholescene.files import write_bytes, write_text
from wholescene.metrics import SplitCounts
from wholescene.recipes import Initial, Recipe
from wholescene.systems import create
from wholescene.systems.base import System
from wholescene.training.callbacks import Checkpointing, Counting, QuietBar, Say, Validating
from wholescene.training.checkpoint_files import FOLDER, AtomicCheckpointIO, list_checkpoints, newest, read_checkpoint
from wholescene.training.data import Frames, Remembered, TrainingData, TrainingFrames
from wholescene.training.evaluate import Evaluation, summed_up
from wholescene.training.initial import initialise
from wholescene.training.module import TrainingModule, own_part
from wholescene.training.progress import Progress
from wholescene.training.provenance import hardware, software, today
from wholescene.training.sampler import FrameStream, StreamSampler

FINAL, BEST, SCORES = "final.safetensors", "best.safetensors", "evaluation.json"


class Datasets(TypedDict):
    """Where frames come from, if not from the recipe's own description."""

    train: Frames
    val: Frames


@dataclass(frozen=True)
class Trained:
    """What a run left.

    Attributes:
        folder: of the run, or of its last stage.
        final, best: weights files.
        evaluation: of the final weights on all validation frames.
        steps: of the optimiser.
        minutes: of training.
    """

    folder: Path
    final: Path
    best: Path
    evaluation: Evaluation
    steps: int
    minutes: float


def train(
    recipe: Recipe | str,
    out: str | Path,
    resume: bool | str | Path | None = None,
    *,
    datasets: Datasets | None = None,
    say: Say | None = None,
) -> Trained:
    """Train a recipe, or go on with a run.

    Args:
        recipe: a recipe, or the name or file of one.
        out: folder of the run; made if it is not there.
        resume: True: from the newest whole checkpoint in `out`, or from the start if there is none yet; a path: from that run's folder or that
            checkpoint, which are only read; None: a new run.
        datasets: train and val, instead of the recipe's.
        say: called with lines to print, in the first process only.

    Raises:
        InputError: `out` holds a run already and `resume` is not given, the recipe does not fit its data or this machine, a checkpoint cannot be
            read, or a loss is not finite.
    """
    recipe = recipe if isinstance(recipe, Recipe) else recipes.load(recipe)
    speak: Say = say if say is not None and is_first_process() else lambda line: None
    parts = recipes.stages_of(recipe)
    trained: Trained | None = None
    for part in parts:
        folder = Path(out) / part.name.rpartition("/")[2] if recipe.stages else Path(out)
        before = (Initial(str(trained.final)),) if trained else ()
        if len(parts) > 1:
            speak(f"stage {part.name}")
        trained = _Run(replace(part, init_from=(*before, *part.init_from)), folder, datasets, speak).go(_source(resume, Path(out), folder))
    assert trained is not None
    return trained


def _source(resume: bool | str | Path | None, out: Path, folder: Path) -> Path | None:
    """What a stage goes on from: its own folder, or the same stage of another run."""
    if resume is None or resume is False:
        return None
    if resume is True:
        return folder
    path = Path(resume)
    if not path.exists():
        raise InputError(f"{path} does not exist; give the folder of a run or one of its checkpoints to go on from")
    if folder == out or path.is_file():
        return path
    return folder if list_checkpoints(folder) else path / folder.name


class _Run:
    """One training with one folder."""

    def __init__(self, recipe: Recipe, folder: Path, datasets: Datasets | None, say: Say) -> None:
        self.recipe, self.folder, self.say = recipe, folder, say
        self.config = recipe.system.config()
        self.datasets = datasets
        self.card = {
            "name": folder.resolve().name,
            "trained_on": f"{recipe.data.dataset} ({recipe.data.setting or recipe.data.revision}), train part {recipe.data.train}",
            "recipe": recipe.name,
        }

    def go(self, source: Path | None) -> Trained:
        """From the start, or from `source`."""
        checkpoint = self._checkpoint(source)
        if checkpoint is not None and self._is_over(checkpoint):
            return self._trained(Progress(**own_part(read_checkpoint(checkpoint))["progress"]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            system = create(self.recipe.system.name, self.config)
        if checkpoint is None:
            for sentence in initialise(system, self.recipe.init_from):
                self.say(sentence)
        datasets = self.datasets or open_datasets(self.recipe, system, self.say)
        module = TrainingModule(system, self.recipe, len(datasets["train"]))
        total = self._total(len(datasets["train"]))
        if is_first_process():
            write_text(self.folder / "recipe.yaml", recipes.dump(self.recipe))
            if checkpoint is not None:
                self._bring_best(checkpoint)
        with quiet():
            trainer = self._trainer(module, datasets["val"], total)
            trainer.fit(module, datamodule=self._data(trainer, module, datasets["train"], total), ckpt_path=checkpoint)
        if not module.finished:
            raise KeyboardInterrupt(f"the run was stopped after step {module.progress.steps}; go on with resume")
        return self._trained(module.progress)

    # ---- what a run is made of --------------------------------------------------------------------------------------------------

    def _total(self, frames: int) -> int | None:
        budget = self.recipe.budget
        if budget.steps is not None:
            return budget.steps * self.recipe.batch_size
        return None if budget.epochs is None else max(1, round(budget.epochs * frames))

    def _data(self, trainer: pl.Trainer, module: TrainingModule, frames: Frames, total: int | None) -> TrainingData:
        recipe = self.recipe
        stream = FrameStream(len(frames), recipe.seed, total)

        def sampler() -> StreamSampler:
            return StreamSampler(stream, recipe.batch_size, recipe.accumulation, trainer.global_rank, trainer.world_size, module.progress.frames)

        prepared = TrainingFrames(frames, self.config.preparation, recipe.data.augment, recipe.seed)
        return TrainingData(prepared, sampler, recipe.workers)

    def _trainer(self, module: TrainingModule, val: Frames, total: int | None) -> pl.Trainer:
        recipe, options = self.recipe, {"accelerator": "auto", "devices": 1, **self.recipe.trainer}
        log_every = int(options.setdefault("log_every_n_steps", 50))
        shown = bool(options.pop("enable_progress_bar", True)) and sys.stderr.isatty() and is_first_process()
        holder: list[pl.Trainer] = []
        known = getattr(val, "labels", None) or self.config.label_set

        def keep(name: str) -> None:
            self._export(holder[0], module, self.folder / f"{name}.safetensors")

        def finish(counts: SplitCounts) -> None:
            about = {"recipe": recipe.name, "part": f"val ({recipe.data.val})", "precision": recipe.precision, "weights": self.card["name"]}
            found = summed_up(counts, module.system, val, known, "semantic-kitti", about)
            if holder[0].is_global_zero:
                found.save(self.folder / SCORES)

        callbacks: list[Callback] = [
            Counting(total, log_every),
            Validating(val, known.classes, keep, self.folder / BEST, finish, self.say),
            Checkpointing(self.folder, recipe.checkpoint_every),
            *([QuietBar()] if shown else []),
        ]
        ours: dict[str, Any] = {
            "max_epochs": 1, "accumulate_grad_batches": recipe.accumulation, "gradient_clip_val": recipe.clip, "precision": recipe.precision,
            "callbacks": callbacks, "logger": self._loggers(), "plugins": [AtomicCheckpointIO()], "default_root_dir": self.folder,
            "use_distributed_sampler": False, "enable_checkpointing": False, "enable_progress_bar": shown, "enable_model_summary": False,
            "num_sanity_val_steps": 0, "limit_val_batches": 0,
        }  # fmt: skip
        holder.append(make_trainer(options, ours))
        if recipe.ema and not isinstance(holder[0].strategy, SingleDeviceStrategy | DDPStrategy):
            raise InputError(f"recipe {recipe.name}: ema needs whole weights in every process; set ema: 0, or strategy: ddp")
        return holder[0]

    def _loggers(self) -> list[Any]:
        session = 1 + sum(1 for _ in (self.folder / "log").glob("session-*"))
        return [kind(self.folder, name="log", version=f"session-{session}") for kind in (CSVLogger, TensorBoardLogger)]

    def _export(self, trainer: pl.Trainer, module: TrainingModule, path: Path) -> None:
        """The weights that are in place, as a file that `wholescene.load` reads; every process takes part, the first one writes."""
        state = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            whole = create(self.recipe.system.name, self.config)
            whole.load_state_dict({name.removeprefix("system."): value for name, value in state.items()})
            made = {"steps": module.progress.steps, "date": today(), "hardware": hardware(module.device), "software": software()}
            native.save(path, whole, card={**self.card, **made})

    # ---- going on ---------------------------------------------------------------------------------------------------------------

    def _checkpoint(self, source: Path | None) -> Path | None:
        """The checkpoint to go on from; refuses to overwrite a run."""
        own = list_checkpoints(self.folder)
        if source is None or source.resolve() != self.folder.resolve():
            if own and is_first_process():
                raise InputError(f"{self.folder} already holds a run ({own[0].name}); resume it, or choose another folder")
            if source is None:
                return None
        found = newest(source)
        if found is None:
            if source.resolve() == self.folder.resolve():
                return None
            raise InputError(f"{source} holds no checkpoint (looked for {FOLDER}/step-*.ckpt); give the folder of a run or a checkpoint")
        if not found.is_dir():
            self._tell_changes(own_part(read_checkpoint(found))["recipe"])
        self.say(f"going on from {found}")
        return found

    def _bring_best(self, checkpoint: Path) -> None:
        """The best weights up to a checkpoint of another run, if they are still there, as this run's best so far."""
        there, here = checkpoint.parent.parent / BEST, self.folder / BEST
        if checkpoint.is_dir() or here.exists() or not there.is_file():
            return
        if native.read(there).card.get("steps") == own_part(read_checkpoint(checkpoint))["progress"]["best_step"]:
            write_bytes(here, there.read_bytes())

    def _tell_changes(self, before: dict[str, Any]) -> None:
        now = to_plain(self.recipe)
        differing = sorted(name for name in now if now[name] != before.get(name))
        if differing:
            self.say(f"the recipe differs from that of the checkpoint in: {', '.join(differing)}")

    def _is_over(self, checkpoint: Path) -> bool:
        """Whether nothing is left to do.

        Raises:
            InputError: nothing is left, and the scores lie in another folder.
        """
        if checkpoint.is_dir():
            return False
        frames = own_part(read_checkpoint(checkpoint))
        progress, before = Progress(**frames["progress"]), frames["recipe"]
        same = {**before, "name": "", "trainer": {}} == {**to_plain(self.recipe), "name": "", "trainer": {}}
        if not (same and frames["finished"]):
            return False
        if checkpoint.parent.parent.resolve() != self.folder.resolve():
            raise InputError(f"the run of {checkpoint} ended after {progress.steps} steps; raise its budget to go on, or take its {FINAL}")
        return True

    def _trained(self, progress: Progress) -> Trained:
        return Trained(
            self.folder, self.folder / FINAL, self.folder / BEST, Evaluation.load(self.folder / SCORES), progress.steps, progress.seconds / 60
        )


def open_datasets(recipe: Recipe, system: System, say: Say) -> Datasets:
    """Both parts that a recipe trains with, in memory if it wants that.

    Raises:
        InputError: as `open_dataset`.
    """
    opened = [open_dataset(recipe.data, role, system.needs) for role in ("train", "val")]
    if not recipe.remember:
        return {"train": opened[0], "val": opened[1]}
    kept = [Remembered(frames) for frames in opened]
    say(f"making {sum(map(len, kept))} frames")
    for frames in kept:
        frames.fill(os.cpu_count() or 1)
    return {"train": kept[0], "val": kept[1]}


def make_trainer(options: dict[str, Any], ours: dict[str, Any]) -> pl.Trainer:
    """Lightning's trainer from a recipe's options and our own.

    Raises:
        InputError: an option that it does not know (with the nearest), or a machine that lacks what is asked for.
    """
    known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    for name in options:
        if name not in known:
            raise unknown_name("option of Lightning's Trainer in the recipe's trainer", name, known - ours.keys())
    try:
        return pl.Trainer(**options, **ours)
    except (MisconfigurationException, ValueError, TypeError) as error:
        asked = ", ".join(f"{k}={v!r}" for k, v in options.items())
        raise InputError(f"the trainer options {asked} cannot be had here: {str(error).splitlines()[0]}") from error


def is_first_process() -> bool:
    """Of all that train together; known before they have met."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's tips, greetings, and warnings about what is done here on purpose; its errors pass."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for sentence in ("does not have many workers", "validation_step", "smaller than the logging interval", "exists and is not empty"):
            warnings.filterwarnings("ignore", message=f".*{sentence}.*")
        warnings.filterwarnings("ignore", category=FutureWarning, module="lightning.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
