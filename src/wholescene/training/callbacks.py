"""What happens between steps, in this order: counting and logging, validating, checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar

from wholescene.data import Dataset
from wholescene.metrics import SplitCounts
from wholescene.training.checkpoint_files import list_checkpoints, path_of
from wholescene.training.evaluate import SPLITS, count
from wholescene.training.held_out import mean_loss
from wholescene.training.module import TrainingModule
from wholescene.training.run import Say


class _AfterStep(Callback):
    """Base of those that act when a whole step of the optimiser is done."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        parts = module.recipe.accumulation
        if (batch_idx + 1) % parts == 0 or batch_idx + 1 == trainer.num_training_batches:
            self.after_step(trainer, module)

    def after_step(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """To be written by a subclass."""


class Counting(_AfterStep):
    """Moves the run's progress on, updates the moving average, and logs.

    Args:
        total: frames of the whole run, None if a clock ends it.
    """

    def __init__(self, total: int | None) -> None:
        self.total = total

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        module.progress.parts += 1
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def after_step(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        progress, factor = module.progress, module.rate_factor
        progress.read_clock()
        progress.steps += 1
        progress.frames += module.recipe.batch_size
        if self.total is not None:
            progress.frames = min(progress.frames, self.total)
        module.finished = _agreed(trainer, module, progress.over(module.recipe.budget, self.total))
        trainer.should_stop = module.finished
        if module.average:
            module.average.update(module.system)
        if progress.steps % int(module.recipe.trainer.get("log_every_n_steps", 50)) == 0 or module.finished:
            log(trainer, module, {**module.taken_terms(), "train/learning rate": module.recipe.optimiser.lr * factor})


class Validating(_AfterStep):
    """Scores the model (its moving average, if there is one) when due and at the end, and hands the best to `keep`.

    The best has the highest mIoU, or the lowest loss where the system makes no volume.

    Args:
        frames: of the validation part.
        classes: K, with empty.
        best: the file that "best" becomes; if it is not there, the next weights are the best so far.
        say: called with a line for each validation, in the first process.

    Attributes:
        keep: called with "best" or "final" while the weights to keep are in place; a collective call.
        finish: called with the counts of all frames, split, at the end of the run.
    """

    keep: Callable[[str], None]
    finish: Callable[[SplitCounts], None]

    def __init__(self, frames: Dataset, classes: int, best: Path, say: Say) -> None:
        self.frames, self.classes, self.best, self.say = frames, classes, best, say
        self._position = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._position = module.progress.position(module.recipe.budget, module.frames)

    def after_step(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        every, before = module.recipe.validation.every, self._position
        self._position = module.progress.position(module.recipe.budget, module.frames)
        due = every is not None and self._position // every > before // every
        if _agreed(trainer, module, due) and not module.finished:
            with module.progress.paused(), module.averaged():
                self._look_for_best(trainer, module, self._judged(trainer, module, module.recipe.validation.frames))

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        if module.finished:
            some = module.recipe.validation.frames  # the best is found on the same frames all along
            with module.progress.paused(), module.averaged():
                counts = self._count(trainer, module, by=tuple(SPLITS)) if module.system.completes else None
                self._look_for_best(trainer, module, self._judged(trainer, module, some, counts if some is None else None))
                self.keep("final")
                if counts is not None:
                    self.finish(counts)

    def _judged(self, trainer: pl.Trainer, module: TrainingModule, frames: int | None, counts: SplitCounts | None = None) -> float:
        """What the best has most of: mIoU, or minus the loss; told and logged."""
        step, some = f"step {module.progress.steps}", frames or len(self.frames)
        if not module.system.completes:
            forward: Any = trainer.strategy.validation_step
            loss = mean_loss(module.system, self.frames, frames=frames, workers=module.recipe.workers, forward=forward)
            log(trainer, module, {"val/loss": loss})
            self.say(f"{step}: loss {loss:.4f} ({some} validation frames)")
            return -loss
        scores = (counts or self._count(trainer, module, frames=frames))["all"].compute()
        log(trainer, module, {"val/mIoU": scores.miou, "val/IoU": scores.iou})
        self.say(f"{step}: mIoU {scores.miou:.2%}, IoU {scores.iou:.2%} ({scores.frames} validation frames)")
        return scores.miou

    def _look_for_best(self, trainer: pl.Trainer, module: TrainingModule, score: float) -> None:
        progress = module.progress
        if trainer.strategy.broadcast(progress.best is None or score >= progress.best or not self.best.exists()):
            progress.best, progress.best_step = score, progress.steps
            self.keep("best")

    def _count(self, trainer: pl.Trainer, module: TrainingModule, **more: Any) -> SplitCounts:
        forward: Any = trainer.strategy.validation_step
        return count(module.system, self.frames, self.classes, workers=module.recipe.workers, forward=forward, **more)


class Checkpointing(_AfterStep):
    """Writes a checkpoint every so many steps and after the end, and keeps the newest few in its own folder.

    Args:
        folder: of the run.
        every: steps.
        most: how many are kept: more than one, in case the newest is cut short.
    """

    def __init__(self, folder: Path, every: int, most: int = 2) -> None:
        self.folder, self.every, self.most = folder, every, most

    def after_step(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if module.progress.steps % self.every == 0 and not module.finished:
            self._write(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        if module.finished:  # only now: a run that has this checkpoint has its scores too
            self._write(trainer, module)

    def _write(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        with module.progress.paused():
            trainer.save_checkpoint(path_of(self.folder, module.progress.steps))
            if trainer.is_global_zero:
                for path in list_checkpoints(self.folder)[self.most :]:
                    path.unlink(missing_ok=True)


class QuietBar(RichProgressBar):
    """Lightning's bar over the whole run, which is one pass for Lightning."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


def _agreed(trainer: pl.Trainer, module: TrainingModule, value: bool) -> bool:
    """What the first process says where a clock has a say, for no two clocks agree; else all processes say the same anyway."""
    return bool(trainer.strategy.broadcast(value)) if module.recipe.budget.minutes is not None else value


def log(trainer: pl.Trainer, module: TrainingModule, values: dict[str, float]) -> None:
    """One row in every logger, at the run's own step, counted over all its sessions."""
    position = {"epoch": module.progress.frames / module.frames, "minutes": module.progress.seconds / 60}
    for logger in trainer.loggers:
        logger.log_metrics({**values, **position}, step=module.progress.steps)
        logger.save()
