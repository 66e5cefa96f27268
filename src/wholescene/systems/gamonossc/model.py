"""GA-MonoSSC (Li, Cheng, Li, Li, Gall, Xu and Yang, ICCV 2025): the whole scene from one picture, with global context in 2D and in 3D.

No code and no weights were released. What the paper says is built as it says; what it leaves open is a field of the config, with the reason for
its default.
"""

from __future__ import annotations

from wholescene.systems.base import System
from wholescene.systems.gamonossc.completion import FrustumMambaCompletion
from wholescene.systems.gamonossc.config import GAMonoSSCConfig
from wholescene.systems.gamonossc.lift import GlobalAwareLift


class GAMonoSSC(System):
    """Dual-head encoder, line-of-sight projection and fusion (`half_2d`), Frustum Mamba decoder and head (`half_3d`)."""

    Config = GAMonoSSCConfig
    name = "ga-monossc"
    Lift = GlobalAwareLift
    Completion = FrustumMambaCompletion
    config: GAMonoSSCConfig
