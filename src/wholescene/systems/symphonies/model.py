"""Symphonies (Jiang et al., CVPR 2024): one picture and its depth to the whole scene, through instance queries.

With conventions `exact`, the released weights (SemanticKITTI and SSCBench-KITTI-360) give the released logits.
"""

from __future__ import annotations

from wholescene.systems.base import System
from wholescene.systems.symphonies.completion import InstanceCompletion
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.lift import InstanceLift


class Symphonies(System):
    """Instance-aware encoder, depth-rectified voxel proposals, serial instance-propagated attentions, head (figure 2)."""

    Config = SymphoniesConfig
    name = "symphonies"
    config: SymphoniesConfig
    Lift = InstanceLift
    Completion = InstanceCompletion
