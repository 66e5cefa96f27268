"""NDC-Scene (Yao et al., ICCV 2023): the whole scene from one picture, lifted in normalised device coordinates.

With conventions `exact`, released weights give the released logits. Compared with them are the whole system of the outdoor setting (SemanticKITTI),
and the losses, relations and frustums of both settings; the indoor network (NYUv2) is built by the same names and shapes.
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
