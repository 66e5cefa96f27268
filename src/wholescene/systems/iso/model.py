"""ISO (Yu et al., ECCV 2024): the whole room from one picture and its depth.

With conventions `exact`, released weights give the released logits, in both settings (NYUv2, and Occ-ScanNet whose weights have the same form).
"""

from __future__ import annotations

from torch import Tensor

from wholescene.structures import Batch, Prediction
from wholescene.systems.base import System
from wholescene.systems.iso.config import ISOConfig
from wholescene.systems.iso.lift import DualLineOfSightLift
from wholescene.systems.iso.losses import zero_what_is_not_finite
from wholescene.systems.monoscene.completion import ContextCompletion


class ISO(System):
    """2D UNet, depth branch and D-FLoSP (`half_2d`), MonoScene's 3D UNet with context relation prior and head (`half_3d`)."""

    Config = ISOConfig
    name = "iso"
    Lift = DualLineOfSightLift
    Completion = ContextCompletion
    config: ISOConfig

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """MonoScene's five terms and the depth loss, all of weight 1."""
        return super().losses(zero_what_is_not_finite(prediction) if self.config.zero_what_is_not_finite else prediction, batch)
