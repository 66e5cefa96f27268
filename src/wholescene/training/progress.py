"""Where a run stands: what a checkpoint must remember beside weights and the optimiser's state."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from wholescene.recipes.recipe import Budget


@dataclass
class Progress:
    """Counted over all sessions of a run.

    Attributes:
        steps: of the optimiser.
        frames: of the stream that are done: epoch and place in it follow.
        parts: of steps worked through by each process; seeds what is random inside the system.
        seconds: of training, without validation and checkpoints.
        best: the highest mIoU of a validation so far, 0..1; minus the lowest loss of a system that makes no volume.
        best_step: when.
    """

    steps: int = 0
    frames: int = 0
    parts: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    _since: float = field(default_factory=time.monotonic, repr=False)

    def position(self, budget: Budget, dataset_frames: int) -> float:
        """In the budget's unit."""
        return {"epochs": self.frames / dataset_frames, "steps": float(self.steps), "minutes": self.seconds / 60}[budget.unit]

    def over(self, budget: Budget, total: int | None) -> bool:
        """Whether the budget is used up.

        Args:
            budget: of the recipe.
            total: frames that epochs or steps amount to; None where a clock alone ends the run.
        """
        return (total is not None and self.frames >= total) or (budget.minutes is not None and self.seconds >= 60 * budget.minutes)

    def start_clock(self) -> None:
        """Seconds count from now."""
        self._since = time.monotonic()

    def read_clock(self) -> None:
        """Add the seconds since the clock was started or read."""
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside takes no time."""
        self.read_clock()
        try:
            yield
        finally:
            self.start_clock()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: plain numbers."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        for name in self.state_dict():
            setattr(self, name, state[name])
