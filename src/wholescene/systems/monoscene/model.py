"""MonoScene (Cao and de Charette, CVPR 2022): the whole scene from one picture.

With conventions `exact`, released weights give the released logits, in both published settings (SemanticKITTI and NYUv2).
"""

from __future__ import annotations

from wholescene.systems.base import System
from wholescene.systems.monoscene.completion import ContextCompletion
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.lift import LineOfSightLift


class MonoScene(System):
    """2D UNet and FLoSP (`half_2d`), 3D UNet with context relation prior and head (`half_3d`; figure 2)."""

    Config = MonoSceneConfig
    name = "monoscene"
    Lift = LineOfSightLift
    Completion = ContextCompletion
    config: MonoSceneConfig
