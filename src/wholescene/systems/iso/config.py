"""ISO's configuration: MonoScene's, and what its depth branch has beside it. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import InputError, unknown_name
from wholescene.systems.config import OCCSCANNET_GRID, check_preset
from wholescene.systems.monoscene.config import INDOORS, MonoSceneConfig

SETTINGS = ("nyuv2", "occscannet")
_DEPTH_NETWORK = "vit_large_patch14_dinov2"


@dataclass(frozen=True)
class ISOConfig(MonoSceneConfig):
    """ISO, section 3 of the paper; the presets begin at size `full`, indoors, conventions `clean`.

    Encoder, 2D decoder, 3D UNet, context prior and head are MonoScene's, and so are their fields.

    Attributes:
        depth_network: ViT variant of the metric depth network that is part of the model; empty: none, depth is an input. A released file holds
            one (vit_large_patch14_dinov2). Where it is built it makes the depth, whatever the frame brings.
        depth_width: channels of the depth distribution network (released: 256).
        depth_bins: bins of the distribution, linearly growing with depth (released: 64).
        depth_range_m: metres, where the last bin ends (released: 10); a voxel beyond gets no weight.
        weighted_scales: which scales of the lines of sight a voxel's depth probability weighs: "all", or as released the "last" (1/8) alone,
            because the sum over scales was written as an assignment.
        depth_gain: times the depth-weighted features (released: 100).
        frozen_norms: the encoder's batch norms keep their statistics in training (released, under the name of a frozen encoder, whose weights
            do train); right only where weights are loaded into it.
        zero_what_is_not_finite: losses take logits and probabilities that are infinite or not a number for 0 (released), so that a broken
            step goes unseen; False: training stops and names the frame.
    """

    depth_network: str = ""
    depth_width: int = 256
    depth_bins: int = 64
    depth_range_m: float = 10.0
    weighted_scales: Literal["all", "last"] = "all"
    depth_gain: float = 100.0
    frozen_norms: bool = False
    zero_what_is_not_finite: bool = False

    def __post_init__(self) -> None:
        if not self.depth_range_m > 0:
            raise InputError(f"ISO with depth_range_m {self.depth_range_m:g}; expected a positive number of metres")

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "nyuv2", **fields: Any) -> ISOConfig:
        """A named configuration.

        Args:
            conventions: "exact" (loads released weights), "paper" (as exact: code was released) or "clean".
            size: "full", "small" or "tiny".
            setting: "nyuv2" (x-height-y) or "occscannet" (x-y-height); both 4.8 x 4.8 x 2.88 m in voxels of 0.08 m.
            fields: further fields by name.

        Raises:
            InputError: a preset that does not exist, naming the nearest.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of ISO", setting, SETTINGS)
        config = cls(**INDOORS, relation_epsilon=1e-5)
        if setting == "occscannet":
            config = replace(config, grid=OCCSCANNET_GRID)
        if conventions != "clean":
            config = replace(config, **_RELEASED, rounding="released-nyuv2" if setting == "nyuv2" else "released-kitti")
        if size != "full":
            config = replace(config, **_SIZES[size])
        return replace(config, **fields)


_RELEASED: dict[str, Any] = {
    "use_offset": False, "depth_network": _DEPTH_NETWORK, "weighted_scales": "last", "frozen_norms": True, "zero_what_is_not_finite": True,
}  # fmt: skip
_SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "encoder": "tf_efficientnet_lite0", "decoder_width": 224, "features": 24, "head_width": 24, "depth_width": 48,
        "depth_network": "", "frozen_norms": False,
    },
    "tiny": {
        "encoder": "tiny", "decoder_width": 64, "features": 8, "head_width": 8, "depth_width": 8, "depth_bins": 16,
        "depth_network": "", "frozen_norms": False,
    },
}  # fmt: skip
