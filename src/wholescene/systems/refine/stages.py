"""The answers of all steps at once, for the eye."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.preparation import prepare
from wholescene.scene import Scene
from wholescene.structures import Frame
from wholescene.systems.base import System, share_in_view
from wholescene.systems.refine.system import TRACE, Refining

NOTHING_ACTIVE = "no voxel was active in any step: the occupancy head finds nothing occupied, so refinement changes nothing; train it longer"


def stages_of(system: System, frame: Frame, steps: int) -> list[tuple[Scene, NDArray[np.bool_] | None]]:
    """The coarse answer, then for each step its answer and the voxels (x, y, z) that it worked on, on the grid of the completed volume.

    Raises:
        InputError: a system that does not refine, a step too few, or what `predict` refuses.
    """
    if not isinstance(system, Refining) or steps < 1:
        raise InputError(f"{system.name} with {steps} steps shows no refinement; take weights of a system with refine: mrn, and at least one step")
    frame = system.supplied(frame)
    share = share_in_view(frame)
    system.eval()
    with torch.inference_mode(), system.taking(steps, keep=True):
        prediction = system(collate([prepare(frame, system.config.preparation)]).to(system.device))
        trace = prediction.extras[TRACE]
        scenes = [system._scene(frame, logits[0], share, False) for logits in (trace.coarse, *trace.logits)]
    masks: list[NDArray[np.bool_] | None] = [None, *(mask[0].cpu().numpy() for mask in trace.masks)]
    return list(zip(scenes, masks, strict=True))
