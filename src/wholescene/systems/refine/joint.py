"""What refinement is given: the widths of a system's joints, found by running it once on tensors without content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.preparation import prepare
from wholescene.structures import Completed, Lifted
from wholescene.systems.shapes import Shapes, example_frame

if TYPE_CHECKING:
    from wholescene.systems.base import System
    from wholescene.systems.config import SystemConfig


@dataclass(frozen=True)
class Joint:
    """Of a system's `Lifted` and `Completed`.

    Attributes:
        width: channels of the completed volume.
        factor: its grid is the batch's this many times coarser, along each array axis.
        source: where voxels see from: "pyramid" (the first one's finest map), "volume" (the lifted one: what the system itself projected), or
            "nothing".
        seen: channels of that.
        depth: whether the 2D half says which depth it used.
    """

    width: int
    factor: tuple[int, int, int]
    source: str
    seen: int
    depth: bool

    @classmethod
    def of(cls, lifted: Lifted, completed: Completed) -> Joint:
        """Of what the halves made.

        Raises:
            InputError: a completed volume on another grid than the batch's made coarser.
        """
        fine, coarse = tuple(completed.logits.shape[2:]), tuple(completed.volume.shape[2:])
        if any(n % m for n, m in zip(fine, coarse, strict=True)):
            raise InputError(f"refinement wants a completed volume on the output's grid or one some times coarser; found {coarse} for {fine}")
        x, y, z = (n // m for n, m in zip(fine, coarse, strict=True))
        if lifted.pyramids:
            source, seen = "pyramid", next(iter(lifted.pyramids.values()))[0].shape[1]
        elif lifted.volume is not None:
            source, seen = "volume", lifted.volume.shape[1]
        else:
            source, seen = "nothing", 0
        return cls(completed.volume.shape[1], (x, y, z), source, seen, lifted.depth is not None)


_FOUND: dict[tuple[type, str], Joint] = {}  # a second of work that a study would do for each of its runs


def joint_of(kind: type[System], config: SystemConfig) -> Joint:
    """The joint of a system without refinement; nothing is computed and no random number is drawn.

    Raises:
        InputError: as `Joint.of`, or a system without joints.
    """
    config = replace(config, refine=None, activation_checkpointing=False)
    key = kind, repr(config)
    if key not in _FOUND:
        with torch.device("meta"):
            system = kind(config).eval()
        frame = prepare(example_frame(system), config.preparation)
        with torch.device("cpu"), torch.no_grad(), Shapes():
            _FOUND[key] = Joint.of(*system.joints(collate([frame])))
    return _FOUND[key]
