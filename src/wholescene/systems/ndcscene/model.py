"""NDC-Scene (Yao et al., ICCV 2023): the whole scene from one picture, lifted in normalised device coordinates.

With conventions `exact`, released weights give the released logits, in both published settings (SemanticKITTI and NYUv2).
"""

from __future__ import annotations

from wholescene.systems.base import System
from wholescene.systems.ndcscene.completion import NeighbourCompletion
from wholescene.systems.ndcscene.config import NDCSceneConfig
from wholescene.systems.ndcscene.lift import FrustumLift


class NDCScene(System):
    """Trunk, dual decoder and sampling (`half_2d`), 3D network with a light context prior and head (`half_3d`; figure 3)."""

    Config = NDCSceneConfig
    name = "ndc-scene"
    Lift = FrustumLift
    Completion = NeighbourCompletion
    config: NDCSceneConfig
