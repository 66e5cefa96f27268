"""One training with one folder, from its start or from a checkpoint to its end."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning.pytorch as pl
import torch

from wholescene import recipes
from wholescene.checkpoints import native
from wholescene.configuring import to_plain
from wholescene.errors import InputError
from wholescene.files import check_place, write_bytes, write_text
from wholescene.metrics import SplitCounts
from wholescene.recipes import Recipe
from wholescene.systems import create
from wholescene.systems.base import System
from wholescene.training.callbacks import Checkpointing, Counting, QuietBar, Validating
from wholescene.training.checkpoint_files import FOLDER, SYSTEM, Standing, list_checkpoints, newest
from wholescene.training.datamodule import TrainingData
from wholescene.training.evaluate import Evaluation, summed_up
from wholescene.training.initial import initialise
from wholescene.training.module import TrainingModule
from wholescene.training.progress import Progress
from wholescene.training.provenance import hardware, software, today
from wholescene.training.run import FINAL, RECIPE, Datasets, Say, Trained, is_first_process, open_datasets
from wholescene.training.trainer import make_trainer, quiet, shows_bar

BEST, SCORES = "best.safetensors", "evaluation.json"


class Session:
    """What one call of `train` does for a recipe without stages.

    Args:
        recipe: of the run.
        folder: of the run.
        datasets: instead of the recipe's.
        say: takes lines to print.
    """

    def __init__(self, recipe: Recipe, folder: Path, datasets: Datasets | None, say: Say) -> None:
        self.recipe, self.folder, self.datasets, self.say = recipe, folder, datasets, say
        self.config = recipe.system.config()

    def go(self, source: Path | None) -> Trained:
        """Train from the start, or from the newest checkpoint of `source`, to the end of the budget.

        Raises:
            InputError: see `train`.
        """
        standing = self._standing(source)
        if standing is not None and self._is_complete(standing):
            return self._trained(standing.progress)
        system = self._system(fresh=standing is None)
        if standing is not None:
            self._check_fit(standing, system)
        check_place(self.folder / RECIPE)
        datasets = self.datasets or open_datasets(self.recipe, [system], self.say)
        module = TrainingModule(system, self.recipe, len(datasets["train"]))
        total = self._total(len(datasets["train"]))
        if standing is not None and standing.progress.over(self.recipe.budget, total):
            raise InputError(f"{standing.path} stands at the end of the recipe's budget ({standing.progress.steps} steps); raise it to go on")
        if is_first_process():
            write_text(self.folder / RECIPE, recipes.dump(self.recipe))
            if standing is not None:
                self._bring_best(standing)
        with quiet():
            validating = Validating(datasets["val"], self.config.classes, self.folder / BEST, self.say)
            callbacks = [Counting(total), validating, Checkpointing(self.folder, self.recipe.checkpoint_every)]
            trainer = make_trainer(self.recipe, self.folder, callbacks, QuietBar() if shows_bar(self.recipe, sys.stderr.isatty()) else None)
            validating.keep = lambda name: self._export(trainer, module, self.folder / f"{name}.safetensors")
            validating.finish = lambda counts: self._score(trainer, module, datasets, counts)
            data = TrainingData(datasets["train"], self.recipe, self.config.preparation, total, module.progress)
            try:
                trainer.fit(module, datamodule=data, ckpt_path=standing.path if standing else None)
            except SystemExit as ended:  # some versions of Lightning make one of an interrupt, others return
                if ended.code != 1:
                    raise
        if not module.finished:
            self.say(f"stopped after step {module.progress.steps}; resume to go on from {self._latest()}")
            raise KeyboardInterrupt
        return self._trained(module.progress)

    def _latest(self) -> str:
        own = list_checkpoints(self.folder)
        return own[0].name if own else "the start (there is no checkpoint yet)"

    def _system(self, fresh: bool) -> System:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            system = create(self.recipe.system.name, self.config)
        if fresh:
            for sentence in initialise(system, self.recipe.init_from):
                self.say(sentence)
        return system

    def _total(self, frames: int) -> int | None:
        """Frames of the whole run; None where a clock alone ends it."""
        budget = self.recipe.budget
        if budget.steps is not None:
            return budget.steps * self.recipe.batch_size
        return None if budget.epochs is None else max(1, round(budget.epochs * frames))

    # ---- what a run leaves ------------------------------------------------------------------------------------------------------

    def _export(self, trainer: pl.Trainer, module: TrainingModule, path: Path) -> None:
        """The weights that are in place, as a file that `wholescene.load` reads; every process takes part, the first one writes."""
        state = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            data = self.recipe.data
            whole = create(self.recipe.system.name, self.config)
            whole.load_state_dict({name.removeprefix(SYSTEM): value for name, value in state.items()})
            card = {
                "name": self._name, "recipe": self.recipe.name, "steps": module.progress.steps, "date": today(), "software": software(),
                "trained_on": f"{data.dataset} ({data.setting or data.revision}), training part {data.train}", "hardware": hardware(module.device),
                "depth_source": data.depth if "depth" in whole.needs else "",
            }  # fmt: skip
            native.save(path, whole, card=card)

    @property
    def _name(self) -> str:
        return self.folder.resolve().name

    def _score(self, trainer: pl.Trainer, module: TrainingModule, datasets: Datasets, counts: SplitCounts) -> None:
        recipe = self.recipe
        about = {"recipe": recipe.name, "part": f"val ({recipe.data.val})", "precision": recipe.precision, "weights": self._name}
        if trainer.is_global_zero:
            summed_up(counts, module.system, datasets["val"], "semantic-kitti", about).save(self.folder / SCORES)

    def _trained(self, progress: Progress) -> Trained:
        path = self.folder / SCORES
        scores = Evaluation.load(path) if path.exists() else None
        return Trained(self.folder, self.folder / FINAL, self.folder / BEST, scores, progress.steps, progress.seconds / 60)

    # ---- going on ---------------------------------------------------------------------------------------------------------------

    def _standing(self, source: Path | None) -> Standing | None:
        """What to go on from; refuses to overwrite a run."""
        own = list_checkpoints(self.folder)
        here = source is not None and source.resolve() == self.folder.resolve()
        if own and not here and is_first_process():
            raise InputError(
                f"{self.folder} already holds a run ({own[0].name}); go on with it by --resume {self.folder}, or give another folder by --out"
            )
        found = newest(source) if source is not None else None
        if found is None:
            if source is None or here:
                return None
            raise InputError(f"{source} holds no checkpoint (looked for {FOLDER}/step-*.ckpt); give the folder of a run or a checkpoint")
        now = to_plain(self.recipe)
        differing = sorted(name for name in now if now[name] != found.recipe.get(name))
        self.say(f"going on from {found.path}" + (f"; the recipe differs in {', '.join(differing)}" if differing else ""))
        return found

    def _check_fit(self, standing: Standing, system: System) -> None:
        """Refuse a checkpoint of another system or another optimiser, before anything of a run is touched."""
        now, then = to_plain(self.recipe), standing.recipe
        same = standing.shapes == {name: tuple(value.shape) for name, value in system.state_dict().items()}
        other = [] if same and now["system"]["name"] == then.get("system", {}).get("name") else ["system"]
        of_optimiser = then.get("optimiser", {})
        other += [f"optimiser.{name}" for name in ("name", "groups") if now["optimiser"][name] != of_optimiser.get(name)]
        other += ["frozen"] if now["frozen"] != then.get("frozen", now["frozen"]) else []
        if other:
            raise InputError(
                f"{standing.path} is of recipe {then.get('name')}, which differs in {' and '.join(other)}, so its training cannot go on by recipe "
                f"{self.recipe.name}; leave that as it was, or begin a new run from its weights with init_from"
            )

    def _is_complete(self, standing: Standing) -> bool:
        """Whether this folder holds the finished run of this recipe, whatever the machine that it was to run on."""
        ours = {**to_plain(self.recipe), "trainer": {}, "workers": 0}
        same = {**standing.recipe, "trainer": {}, "workers": 0} == ours
        return same and standing.finished and standing.folder.resolve() == self.folder.resolve()

    def _bring_best(self, standing: Standing) -> None:
        """The best weights up to a checkpoint of another run, if they are still there, as this run's best so far."""
        there, here = standing.folder / BEST, self.folder / BEST
        if there.is_file() and not here.exists() and native.read(there).card.get("steps") == standing.progress.best_step:
            write_bytes(here, there.read_bytes())
