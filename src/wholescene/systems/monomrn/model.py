"""MonoMRN (Wang et al., Monocular Semantic Scene Completion via Masked Recurrent Networks, ICCV 2025).

Indoors and outdoors from one file: a coarse completion here, and the masked recurrent network (`systems.refine`) behind it, which `systems.create`
adds as it does for any system whose config says `refine`. Neither code nor weights were released; what the paper leaves open is a field.
"""

from __future__ import annotations

from wholescene.systems.base import System
from wholescene.systems.monomrn.completion import DecompositionCompletion
from wholescene.systems.monomrn.config import MonoMRNConfig
from wholescene.systems.monomrn.lift import SurfaceLift


class MonoMRN(System):
    """2D UNet, depth, surface projection, 3D network, head; then MS-GRU steps with mask updating and distance attention (figure 2)."""

    Config = MonoMRNConfig
    name = "monomrn"
    config: MonoMRNConfig
    Lift = SurfaceLift
    Completion = DecompositionCompletion
