"""One Lightning module for every system."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from wholescene.configuring import to_plain
from wholescene.errors import InputError
from wholescene.recipes.recipe import Recipe
from wholescene.structures import Batch, Prediction
from wholescene.systems.base import System
from wholescene.training.data import Portion
from wholescene.training.guard import check_gradients, check_terms
from wholescene.training.optimising import MovingAverage, freeze, freeze_statistics, make_optimiser
from wholescene.training.progress import Progress

_KEY = "wholescene"


class TrainingModule(pl.LightningModule):
    """Sums the loss terms of any system, moves its weights by the recipe, and keeps what a checkpoint needs.

    Everything random in a step depends on (seed, part, process) alone, and the learning rate on the position alone, so a checkpoint holds no
    state of generators or schedules. Lightning's own loop counters are left out of it: a resumed run is a run with fewer steps left.

    Args:
        system: on the CPU; Lightning moves it.
        recipe: of the run.
        frames: of the training part of the dataset.

    Attributes:
        progress: where the run stands.
        average: the moving average of the weights, or None.
        finished: whether the budget is used up, the same in all processes.
        terms: name -> weighted sum of a loss term since they were last taken.
        term_weight: of those sums.
    """

    def __init__(self, system: System, recipe: Recipe, frames: int) -> None:
        super().__init__()
        freeze(system, recipe.frozen)
        self.system, self.recipe, self.frames = system, recipe, frames
        self.progress = Progress()
        self.average = MovingAverage(system, recipe.ema) if recipe.ema else None
        self.terms: dict[str, Tensor] = {}
        self.term_weight = 0.0
        self.finished = False
        self._rates: list[float] = []
        self._told_blank: set[str] = set()
        self._last: Batch | None = None

    # ---- one step ---------------------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Training mode, also where a checkpoint or a validation left another; frozen norms keep their statistics."""
        self.system.train()
        if self.device.type == "cuda":  # 3D convolutions and norms run there twice as fast with channels last
            for parameter in self.system.parameters():
                if parameter.dim() == 5:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        freeze_statistics(self.system)
        self.progress.start_clock()

    def on_train_batch_start(self, batch: Portion, batch_idx: int) -> None:
        """Seed what is random inside the system, and set the learning rates."""
        torch.manual_seed(int(np.random.SeedSequence((self.recipe.seed, self.progress.parts, self.global_rank)).generate_state(1)[0]))
        for group, rate in zip(self.optimizers().param_groups, self._rates, strict=True):  # type: ignore[union-attr]  # there is one
            group["lr"] = rate * self.rate_factor

    @property
    def rate_factor(self) -> float:
        """Share of the learning rates in force."""
        return self.recipe.schedule.factor(self.progress.position(self.recipe.budget, self.frames), self.recipe.budget.length)

    def training_step(self, portion: Portion, batch_idx: int) -> Tensor:
        """The sum of the system's loss terms over a portion.

        Raises:
            InputError: a term is not finite.
        """
        self._tell_blank(portion)
        self._last = portion.batch
        terms = self.system.losses(self.system(portion.batch), portion.batch)
        check_terms(self.system, terms, portion.batch)
        loss = torch.stack([t.float() for t in terms.values()]).sum() * portion.weight
        self.term_weight += portion.weight
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, torch.zeros((), device=term.device)) + term.detach().float() * portion.weight
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=max(1, portion.counted))
        return loss

    def on_after_backward(self) -> None:
        """Stop before a gradient that is not finite reaches the weights; float16 has its own remedy, the scaler."""
        if self.recipe.precision != "16-mixed" and self._last is not None:
            check_gradients(self.system, self._last)

    def validation_step(self, batch: Batch) -> Prediction:  # type: ignore[override]  # called by us, not by Lightning's loop
        """Called by the validation callback through the strategy, so that whatever wraps the system is respected."""
        prediction: Prediction = self.system(batch)
        return prediction

    def _tell_blank(self, portion: Portion) -> None:
        for name in set(portion.blank) - self._told_blank:
            self._told_blank.add(name)
            # by whichever process met it: not by self.print, which is silent in all but the first
            print(f"frame {name}: no voxel is known, so it adds nothing to the loss; leave it out with data.exclude", flush=True)

    def taken_terms(self) -> dict[str, float]:
        """Mean of each loss term, and of their sum, since this was last asked, over all processes; a collective call."""
        names = list(self.terms)
        sums = torch.stack([*(self.terms[n] for n in names), torch.tensor(self.term_weight, device=self.device)])
        total = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        self.terms, self.term_weight = {}, 0.0
        means = {f"train/{n}": value / max(total[-1], 1e-9) for n, value in zip(names, total[:-1], strict=True)}
        return {"train/loss": sum(means.values()), **means}

    def averaged(self) -> AbstractContextManager[None]:
        """The system with the moving average of its weights, inside the block; with its own where there is none."""
        return self.average.in_place(self.system) if self.average else nullcontext()

    # ---- optimiser and checkpoint -----------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """By the recipe's parameter groups."""
        optimiser, self._rates = make_optimiser(self.system, self.recipe.optimiser)
        return optimiser

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain types and tensors only, so that it can be read without running code."""
        checkpoint.pop("loops", None)
        checkpoint[_KEY] = {
            "progress": self.progress.state_dict(),
            "finished": self.finished,
            "recipe": to_plain(self.recipe),
            "average": self.average.state_dict() if self.average else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Where the run stands."""
        own = own_part(checkpoint)
        self.progress.load_state_dict(own["progress"])
        if self.average:
            if own["average"] is None:
                raise InputError("the checkpoint holds no moving average, and the recipe asks for one; resume with ema: 0, or start anew")
            self.average.load_state_dict(own["average"])


def own_part(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What `TrainingModule` put into a checkpoint.

    Raises:
        InputError: it is none of a training run of this package.
    """
    if not isinstance(checkpoint, dict) or _KEY not in checkpoint:
        raise InputError(
            "the checkpoint was not written by `wholescene train`, so a run cannot go on from it; to start from weights, name them in init_from"
        )
    own: dict[str, Any] = checkpoint[_KEY]
    return own
