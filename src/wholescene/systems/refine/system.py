"""Any system with refinement behind its joints: the class that `systems.create` builds where a config says `refine`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.base import System
from wholescene.systems.config import SystemConfig
from wholescene.systems.halves import merge_losses
from wholescene.systems.refine.config import check_steps
from wholescene.systems.refine.joint import joint_of
from wholescene.systems.refine.losses import refinement_losses
from wholescene.systems.refine.network import MaskedRecurrentNetwork, Trace

TRACE = "refinement"  # where a prediction's extras hold what refinement did


class Refining(System):
    """What refinement adds to a system; comes before the system's own class.

    Attributes:
        coarse: the system's own class.
    """

    coarse: ClassVar[type[System]]
    progress = frozenset({"refine.taught"})

    def __init__(self, config: SystemConfig) -> None:
        """
        Raises:
            InputError: what the system itself refuses, or joints that cannot be refined.
        """
        choice = config.refinement
        assert choice is not None
        super().__init__(config)
        self.frozen = choice.coarse == "frozen"
        if self.frozen:
            self.requires_grad_(False)
        recompute = config.activation_checkpointing
        self.refine = MaskedRecurrentNetwork(choice, joint_of(self.coarse, config), config.classes, activation_checkpointing=recompute)

    @property
    def needs(self) -> frozenset[str]:
        """Those of the system, and depth where distance attention measures from it; for no step nothing has to be measured."""
        return super().needs | ({"depth"} if self.refine.steps and self.refine.sight.needs_depth else set())

    def way_without(self, need: str) -> str:
        """The coarse answer, where refinement alone wants it."""
        return "" if need in super().needs else "; or take its coarse answer, which needs none (steps=0, or --steps 0)"

    @property
    def supervision(self) -> frozenset[str]:
        """Those of the system, and the true depth where refinement has a depth head."""
        return super().supervision | ({"depth"} if self.refine.sight.has_depth_head else set())

    @property
    def said(self) -> str:
        """The system's, and how often its answer is refined."""
        return f"{super().said} (refinement steps: {self.refine.steps})"

    def joints(self, batch: Batch) -> tuple[Lifted, Completed]:
        """What the 2D half made; what was completed, refined by `refine.steps` steps."""
        with torch.no_grad() if self.frozen else contextlib.nullcontext():
            lifted, completed = super().joints(batch)
        return lifted, self.refine(lifted, completed, batch)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The system's own terms for its coarse answer, none where it is frozen, and those of every step."""
        trace: Trace | None = prediction.extras.get(TRACE)
        if trace is None or not trace.logits:
            return super().losses(prediction, batch)
        extras = {name: value for name, value in prediction.extras.items() if name != TRACE}
        own = {} if self.frozen else super().losses(replace(prediction, logits=trace.coarse, extras=extras), batch)
        return merge_losses(own, refinement_losses(self.refine, trace, batch, self.config))

    def train(self, mode: bool = True) -> Refining:
        """Training mode; a frozen coarse system stays in eval mode."""
        super().train(mode)
        if self.frozen and mode:
            for name, child in self.named_children():
                child.train(name == "refine")
        return self

    def predict(self, picture_or_frame: Any, camera: Any = None, *, steps: int | None = None, **more: Any) -> Any:
        """As every system's; `steps` is how often it refines: 0 is the coarse answer, None what it was trained with."""
        with self.taking(steps):
            return super().predict(picture_or_frame, camera, **more)

    @contextlib.contextmanager
    def taking(self, steps: int | None, keep: bool = False) -> Iterator[None]:
        """So many steps inside the block.

        Args:
            steps: None for as many as before.
            keep: keep the logits of every step, in eval too.

        Raises:
            InputError: a negative number, far too many, or more than there are sets of reaches.
        """
        if steps is not None:
            check_steps(steps, "steps")
            self.refine.check_steps(steps)
        before = self.refine.steps, self.refine.keeps_steps
        self.refine.steps, self.refine.keeps_steps = before[0] if steps is None else steps, keep
        try:
            yield
        finally:
            self.refine.steps, self.refine.keeps_steps = before


@cache
def refining(kind: type[System]) -> type[System]:
    """The class of a system with refinement; it is that system in everything else."""
    return type(f"Refined{kind.__name__}", (Refining, kind), {"coarse": kind, "__doc__": kind.__doc__})
