"""ScanSSC (Bae, Ha and Kim, CVPR 2025): near voxels, which are seen well, are what distant ones look back at, along each axis.

With conventions `exact`, released weights give the released logits; compared in the setting of SemanticKITTI, from which KITTI-360's differs by
pictures and classes alone.
"""

from __future__ import annotations

from wholescene.errors import InputError
from wholescene.systems.base import System
from wholescene.systems.cgformer.lift import GeometryLift
from wholescene.systems.scanssc.completion import ScanCompletion
from wholescene.systems.scanssc.config import ScanSSCConfig


class ScanSSC(System):
    """CGFormer's lift, Scan Module, head (figure 3)."""

    Config = ScanSSCConfig
    name = "scanssc"
    config: ScanSSCConfig
    Lift = GeometryLift
    Completion = ScanCompletion

    def __init__(self, config: ScanSSCConfig) -> None:
        """
        Raises:
            InputError: the pre-training stage, or what the halves refuse.
        """
        if config.stage != "completion":
            raise InputError(f"ScanSSC has no stage {config.stage!r} of its own; pre-train CGFormer's and start half_2d from its weights")
        super().__init__(config)
