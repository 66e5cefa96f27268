"""A recipe: everything that a training run depends on, as plain data. No torch, so that the command line can list and check it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from wholescene.data.config import DataConfig
from wholescene.errors import InputError
from wholescene.recipes.schedule import Schedule
from wholescene.systems import preset, with_fields
from wholescene.systems.config import SystemConfig


@dataclass(frozen=True)
class SystemChoice:
    """Which system a recipe trains.

    Attributes:
        name: in the table of systems.
        conventions: "clean", "exact" or "paper".
        size: "full", "small" or "tiny".
        setting: what the preset is for, where a system has several ("semantic-kitti", "nyuv2"); empty: its first.
        fields: further fields of its config; nested ones as nested mappings.
    """

    name: str
    conventions: str = "clean"
    size: str = "full"
    setting: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def config(self) -> SystemConfig:
        """The system's config.

        Raises:
            InputError: an unknown system, preset or field, with the nearest known one.
        """
        return with_fields(preset(self.name, self.conventions, self.size, self.setting), self.fields, self.name)


@dataclass(frozen=True)
class Group:
    """What holds for the parameters whose names match a pattern; several groups may match one parameter, and then all hold.

    Attributes:
        pattern: of the parameter's name, with * and ?: "encoder.*", "*.bias".
        lr_factor: times the learning rate.
        decay: False takes weight decay away.
        optional: pass over a pattern that matches nothing: for a part that a field of the config leaves out or exchanges.
    """

    pattern: str
    lr_factor: float = 1.0
    decay: bool = True
    optional: bool = False

    def __post_init__(self) -> None:
        if not (self.lr_factor > 0 and math.isfinite(self.lr_factor)):
            raise InputError(
                f"group {self.pattern!r}: lr_factor {self.lr_factor:g} is not positive; to keep parameters as they are, name them in `frozen`"
            )


@dataclass(frozen=True)
class Optimiser:
    """How gradients become steps.

    Attributes:
        name: "adamw", "adam" or "sgd".
        lr: learning rate, for a batch of the recipe's size.
        weight_decay: decoupled for adamw.
        betas: of adam and adamw; the first is sgd's momentum.
        eps: of adam and adamw.
        groups: exceptions by parameter name.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-4
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        if not (self.lr > 0 and math.isfinite(self.lr)) or not (0 <= self.weight_decay < math.inf) or not self.eps > 0:
            raise InputError(f"optimiser: lr {self.lr:g}, weight_decay {self.weight_decay:g}, eps {self.eps:g}; expected finite positive numbers")
        if not all(0 <= b < 1 for b in self.betas):
            raise InputError(f"optimiser: betas {list(self.betas)} are not in [0, 1)")


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: epochs or steps, and a clock that may end it before; or the clock alone.

    Attributes:
        epochs: passes over the training frames; may be a fraction.
        steps: optimiser steps.
        minutes: wall-clock minutes of training (without validation), over all sessions of a resumed run.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = {n: v for n in ("epochs", "steps", "minutes") if (v := getattr(self, n)) is not None}
        if not given or ("epochs" in given and "steps" in given):
            raise InputError(f"budget {given or 'without a limit'}: give epochs or steps (not both), minutes, or one of the two and minutes")
        if any(not (0 < v <= _LONGEST) for v in given.values()):
            raise InputError(f"budget {given}: expected positive numbers of at most {_LONGEST:,}")

    @property
    def unit(self) -> str:
        """What schedules count in: "epochs", "steps" or "minutes"."""
        return "epochs" if self.epochs is not None else "steps" if self.steps is not None else "minutes"

    @property
    def length(self) -> float:
        """How many of `unit` there are."""
        return float(getattr(self, self.unit))


@dataclass(frozen=True)
class Validation:
    """When the model is scored during training; it always is at the end.

    Attributes:
        every: in the unit of the budget (epochs, steps or minutes); None: at the end only.
        frames: at most this many, spread evenly over the validation frames; None: all.
    """

    every: float | None = 1.0
    frames: int | None = None

    def __post_init__(self) -> None:
        if (self.every is not None and not self.every > 0) or (self.frames is not None and self.frames < 1):
            raise InputError(f"validation every {self.every}, frames {self.frames}: expected positive numbers, or null")


@dataclass(frozen=True)
class Initial:
    """Weights that a part of the system starts from.

    Attributes:
        source: a weights file, the name of weights, or "lite0-package" (ImageNet weights in an installed package).
        part: dotted name of the module that takes them; empty for the whole system. Of one of our own files, which hold whole systems, a part
            takes what stands there under its name.
        shared: take the names that both have, and start the rest afresh: for a stage that builds other parts than the one before.
    """

    source: str
    part: str = ""
    shared: bool = False


@dataclass(frozen=True)
class Stage:
    """One of several trainings in a row.

    Attributes:
        name: of its folder.
        init_from: what its parts start from, after the weights of the stage before.
        frozen: patterns of parameters that stay as they are; batch norms that hold only such parameters keep their statistics too.
        changes: what differs from the recipe, by dotted name.
    """

    name: str
    init_from: tuple[Initial, ...] = ()
    frozen: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """One published experiment, or one of your own.

    Attributes:
        name: with dashes.
        source: where its numbers come from.
        system, data, optimiser, schedule, budget, validation: see there.
        batch_size: frames of one optimiser step, over all devices and accumulated parts together.
        accumulation: parts that a step is computed in, one after another.
        precision: Lightning's name: "32-true", "bf16-mixed", "16-mixed".
        clip: largest norm of the gradient; None: as it is.
        ema: decay of the moving average of weights that is scored and exported; 0: none.
        seed: of everything random.
        workers: loader processes a device; 0 loads in the training process.
        remember: make all frames before the first step and keep them in memory; for small frames that are dear to make.
        checkpoint_every: optimiser steps between checkpoints.
        init_from: what parts start from.
        frozen: patterns of parameters that stay as they are.
        stages: trainings in a row; empty: this recipe is the only one.
        trainer: passed to Lightning's Trainer as it is: strategy, devices, num_nodes, accelerator, sync_batchnorm, ...
    """

    name: str
    system: SystemChoice
    budget: Budget
    source: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Schedule)
    validation: Validation = field(default_factory=Validation)
    batch_size: int = 1
    accumulation: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    clip: float | None = None
    ema: float = 0.0
    seed: int = 0
    workers: int = 0
    remember: bool = False
    checkpoint_every: int = 500
    init_from: tuple[Initial, ...] = ()
    frozen: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(self.name.split("/")) or ".." in self.name.split("/") or not self.name.isprintable():
            raise InputError(f"recipe {self.name!r}: its name becomes a folder; write words with dashes, and no leading '/' or '..'")
        if min(self.batch_size, self.accumulation, self.checkpoint_every) < 1 or self.workers < 0 or self.seed < 0:
            raise InputError(f"recipe {self.name}: batch_size, accumulation and checkpoint_every start at 1, workers and seed at 0")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise InputError(f"recipe {self.name}: {name} {getattr(self, name):,} is too large; expected at most {most:,}")
        if self.batch_size % self.accumulation:
            raise InputError(f"recipe {self.name}: batch_size {self.batch_size} is no multiple of accumulation {self.accumulation}")
        if not 0 <= self.ema < 1:
            raise InputError(f"recipe {self.name}: ema {self.ema:g} is not in [0, 1); a usual decay is 0.999")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise InputError(f"recipe {self.name}: clip {self.clip:g} is not a positive number; leave it out for none")
        owned = sorted(_OURS & set(self.trainer))
        if owned:
            raise InputError(f"recipe {self.name}: trainer.{owned[0]} is set by the recipe itself ({_OURS_SAID}); remove it from `trainer`")


# Beyond these a run would fill the memory, or overflow, before its first step.
_MOST = {"batch_size": 2**14, "workers": 256, "seed": 2**63 - 1, "checkpoint_every": 10**12}
_LONGEST = 10**12
_OURS = frozenset({
    "max_epochs", "max_steps", "min_epochs", "min_steps", "max_time", "accumulate_grad_batches", "gradient_clip_val", "precision",
    "logger", "callbacks", "plugins", "default_root_dir", "use_distributed_sampler", "enable_checkpointing", "enable_model_summary",
    "num_sanity_val_steps", "limit_val_batches", "limit_train_batches", "check_val_every_n_epoch", "val_check_interval",
})  # fmt: skip
_OURS_SAID = "budget, accumulation, clip, precision, validation, and the run's folder"
