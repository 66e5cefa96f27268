"""How the learning rate moves over a run: a pure function of the position, so that a resumed run needs no state for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from wholescene.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the run. Positions are in the unit of the budget: epochs, else steps, else minutes.

    Attributes:
        kind: "constant"; "step" (times `drop` at each of `at`); "exponential" (times `drop` for every unit passed);
            "cosine" or "poly" (from 1 down to `floor` at the end of the budget).
        at: positions of the drops, for step.
        drop: factor at each, for step; for each whole unit, for exponential.
        floor: share of the learning rate that is left at the end, for cosine and poly.
        power: of the remaining share of the budget, for poly.
        warm_up: length of the rise at the start; 0 for none.
        warm_up_from: share of the learning rate at which the rise begins.
        warm_up_shape: of the rise: a straight "line", or half a wave of a "cosine", as one-cycle schedules have it.
    """

    kind: Literal["constant", "step", "exponential", "cosine", "poly"] = "constant"
    at: tuple[float, ...] = ()
    drop: float = 0.1
    floor: float = 0.0
    power: float = 0.9
    warm_up: float = 0.0
    warm_up_from: float = 0.01
    warm_up_shape: Literal["line", "cosine"] = "line"

    def __post_init__(self) -> None:
        if (self.kind == "step") != bool(self.at):
            raise InputError(f"schedule {self.kind} with drops at {list(self.at)}; give `at` for the kind step, and only for it")
        if list(self.at) != sorted(self.at) or min((*self.at, self.warm_up), default=0) < 0:
            raise InputError(f"schedule positions at {list(self.at)}, warm_up {self.warm_up:g}; expected rising numbers of at least 0")
        if not (0 <= self.floor <= 1 and 0 < self.drop <= 1 and 0 <= self.warm_up_from <= 1 and self.power > 0):
            raise InputError("schedule: floor and warm_up_from must lie in 0..1, drop in (0, 1], and power must be positive")

    def factor(self, position: float, length: float) -> float:
        """Share of the recipe's learning rate in force.

        Args:
            position: where the run is, 0 at its start.
            length: the whole budget in the same unit.

        >>> step = Schedule("step", at=(20.0,), warm_up=1.0)
        >>> [round(step.factor(p, 30.0), 3) for p in (0.0, 0.5, 1.0, 19.99, 20.0)]
        [0.01, 0.505, 1.0, 1.0, 0.1]
        """
        if position < self.warm_up:
            risen = position / self.warm_up
            risen = (1 - math.cos(math.pi * risen)) / 2 if self.warm_up_shape == "cosine" else risen
            return self.warm_up_from + (1 - self.warm_up_from) * risen
        if self.kind == "step":
            return self.drop ** sum(position >= drop_at for drop_at in self.at)
        if self.kind == "exponential":
            return self.drop ** math.floor(position)
        left = 1 - min(1.0, (position - self.warm_up) / max(length - self.warm_up, 1e-9))
        if self.kind == "cosine":
            return self.floor + (1 - self.floor) * (1 - math.cos(math.pi * left)) / 2
        if self.kind == "poly":
            return self.floor + (1 - self.floor) * left**self.power
        return 1.0
