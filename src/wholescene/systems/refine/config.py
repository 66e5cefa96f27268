"""What refinement is, as plain data. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wholescene.errors import InputError

MOST_STEPS = 100  # the paper tunes 3 to 5; a number far above is a slip of the hand that would run for hours


@dataclass(frozen=True)
class Refine:
    """Masked recurrent refinement: one field of any system's config. No code was released with the paper, so every number is a reading of it.

    Attributes:
        steps: recurrent steps T in training, and where a call does not say (the paper tunes 3 to 5).
        width: channels of the state; 0: those of the completed volume.
        kernel: odd extent of the cell's convolutions.
        sparse: compute on active voxels alone; False: by masked dense convolutions, the same numbers.
        mask: which voxels are active. "dynamic": what an occupancy head says after each step; "static": what it says of the coarse result;
            "all": every voxel, the plain convolutional GRU.
        threshold: probability of being occupied above which a voxel is active.
        profile: of the distance attention: "tent", "ramp", "gauss", "mlp", or "none", the uniform projection.
        reach_behind, reach_before: of the distance attention to begin with, in voxels; learned.
        widening_m: metres of depth from which on reaches grow with it; 0: never.
        reach_per_step: reaches of its own for every step ("tent", "ramp", "gauss"); then no call can take more steps than these.
        depth: where the observed surface comes from: "given" (what the 2D half used, else the frame's depth map) or a "head" of its own on the map.
        depth_range: metres, of that head's bins.
        answer: "own": logits are the head's of the state; "correction": the coarse ones plus the head's of what the state changed, so that where
            nothing was ever active (nor beside it, if the state is coarser than the output) the answer stays, and training begins at the coarse
            one. The paper draws no head; this learns faster.
        dropout: before the head and in the occupancy head, in training.
        decay: step i of T weighs decay^(T - i) in the loss.
        mask_weight: of the occupancy head's cross-entropy.
        lovasz: whether steps have a Lovász-softmax term (section "Loss" of the paper).
        affinities: whether steps have the scene-class affinities of MonoScene too.
        teach_steps: for so many forward passes in training (each accumulated part is one), truly occupied voxels are active too, so that the cell
            sees them from the start. A tenth of the training is usual; with 0 a fresh mask may be empty, and then nothing but the occupancy head
            learns until it has some.
        coarse: "joint": the coarse system trains on; "frozen": it stays as it is and only refinement trains.
    """

    steps: int = 3
    width: int = 0
    kernel: int = 3
    sparse: bool = True
    mask: Literal["dynamic", "static", "all"] = "dynamic"
    threshold: float = 0.5
    profile: Literal["tent", "ramp", "gauss", "mlp", "none"] = "tent"
    reach_behind: float = 3.0
    reach_before: float = 1.0
    widening_m: float = 10.0
    reach_per_step: bool = False
    depth: Literal["given", "head"] = "given"
    depth_range: tuple[float, float] = (2.0, 54.4)
    answer: Literal["own", "correction"] = "correction"
    dropout: float = 0.1
    decay: float = 0.8
    mask_weight: float = 0.5
    lovasz: bool = True
    affinities: bool = False
    teach_steps: int = 0
    coarse: Literal["joint", "frozen"] = "joint"

    def __post_init__(self) -> None:
        check_steps(self.steps, "refine: steps")
        if self.steps < 1 or self.width < 0 or self.kernel < 1 or self.kernel % 2 == 0 or self.teach_steps < 0:
            raise InputError(
                f"refine: steps {self.steps}, width {self.width}, kernel {self.kernel}, teach_steps {self.teach_steps}; expected at least one step, "
                "no negative number, and an odd kernel; to leave refinement out, set refine: null"
            )
        if not 0 <= self.threshold <= 1 or not min(self.reach_behind, self.reach_before) > 0 or self.widening_m < 0:
            raise InputError(
                f"refine: threshold {self.threshold:g}, reaches of {self.reach_behind:g} and {self.reach_before:g} voxels, widening_m "
                f"{self.widening_m:g}; expected a threshold in 0..1, positive reaches, and a widening of at least 0"
            )
        if self.reach_per_step and self.profile in ("mlp", "none"):
            raise InputError(f"refine: profile {self.profile} has no reach, so reach_per_step has no meaning with it; leave it out")
        if not 0 < self.depth_range[0] < self.depth_range[1]:
            raise InputError(f"refine: depth_range {list(self.depth_range)} is not two rising positive numbers of metres")
        if not 0 <= self.dropout < 1 or not 0 < self.decay <= 1 or not self.mask_weight >= 0:
            raise InputError(
                f"refine: dropout {self.dropout:g}, decay {self.decay:g}, mask_weight {self.mask_weight:g}; expected a dropout in 0..1 (below 1), a "
                "decay in 0..1 (above 0), and a weight of at least 0"
            )


def check_steps(steps: int, said: str) -> None:
    """Refuse what is no sensible number of refinement steps; `said` is where it was given.

    Raises:
        InputError: a negative number, or one above `MOST_STEPS`.
    """
    if not 0 <= steps <= MOST_STEPS:
        raise InputError(f"{said} {steps}: expected refinement steps from 0 (the coarse answer) to {MOST_STEPS}; try 3 to 5")


OUTDOORS = Refine()
INDOORS = Refine(widening_m=0.0, depth_range=(0.5, 10.0))  # within 10 m a depth is as good far away as near


def usual(extent_m: float) -> Refine:
    """The usual settings for a grid whose longest side is so many metres.

    >>> usual(4.8).widening_m, usual(51.2).widening_m
    (0.0, 10.0)
    """
    return INDOORS if extent_m < 10 else OUTDOORS
