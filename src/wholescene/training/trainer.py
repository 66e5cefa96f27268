"""Lightning's Trainer as a recipe wants it."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from wholescene.errors import InputError, unknown_name
from wholescene.recipes import Recipe
from wholescene.training.checkpoint_files import AtomicCheckpointIO
from wholescene.training.run import is_first_process

_PROCESSES = 16  # without accelerators, each a whole copy of the training


def make_trainer(recipe: Recipe, folder: Path, callbacks: Sequence[Callback], bar: Callback | None) -> pl.Trainer:
    """A trainer for one pass over what is left of a run.

    Args:
        recipe: its `trainer` options are passed on as they are.
        folder: of the run.
        callbacks: in their order.
        bar: a progress bar, or None.

    Raises:
        InputError: an option that Lightning does not know (with the nearest), a machine that lacks what is asked for, or a strategy that cannot
            keep a moving average.
    """
    session = 1 + sum(1 for _ in (folder / "log").glob("session-*"))
    ours: dict[str, Any] = {
        "max_epochs": 1, "accumulate_grad_batches": recipe.accumulation, "gradient_clip_val": recipe.clip, "precision": recipe.precision,
        "callbacks": [*callbacks, *([bar] if bar else [])], "enable_progress_bar": bar is not None, "plugins": [AtomicCheckpointIO()],
        "logger": [kind(folder, name="log", version=f"session-{session}") for kind in (CSVLogger, TensorBoardLogger)],
        "default_root_dir": folder, "use_distributed_sampler": False, "enable_checkpointing": False, "enable_model_summary": False,
        "num_sanity_val_steps": 0, "limit_val_batches": 0,
    }  # fmt: skip
    options = {"accelerator": "auto", "devices": 1, **recipe.trainer}
    known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"} - ours.keys()
    for name in options:
        if name not in known:
            raise unknown_name("option of Lightning's Trainer in the recipe's trainer", name, known)
    try:
        trainer = pl.Trainer(**options, **ours)
    except (MisconfigurationException, ValueError, TypeError) as error:
        asked = ", ".join(f"{k}={v!r}" for k, v in options.items())
        raise InputError(f"the trainer options {asked} cannot be had here: {str(error).splitlines()[0]}") from error
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > max(_PROCESSES, os.cpu_count() or 1):
        raise InputError(f"trainer.devices is {trainer.num_devices}: so many processes would start on the {os.cpu_count()} cores here; ask for fewer")
    if recipe.ema and not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise InputError(f"recipe {recipe.name}: ema needs whole weights in every process; set ema: 0, or strategy: ddp")
    return trainer


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


def shows_bar(recipe: Recipe, terminal: bool) -> bool:
    """Whether a progress bar is of use: in a terminal, in the first process, unless the recipe says otherwise."""
    return terminal and is_first_process() and bool(recipe.trainer.get("enable_progress_bar", True))
