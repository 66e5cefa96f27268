"""MonoScene's configuration: every field with its unit and source. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import unknown_name
from wholescene.preparation import Preparation
from wholescene.systems.config import NYUV2, SystemConfig, check_preset

SETTINGS = ("semantic-kitti", "nyuv2")


@dataclass(frozen=True)
class ContextConfig(SystemConfig):
    """What the 3D half with the context relation prior and its losses read; other systems of the family have it too.

    Attributes:
        features: channels of the lifted volume (released: 64 outdoors, 200 indoors).
        lift_factor: the lifted grid is the output grid this many times coarser (released: 2 outdoors, 1 indoors).
        relations: voxel relations of the context prior, 4 or 2 (section 3.3).
        context_prior: False leaves the 3D context relation prior out (Table 4).
        head_width: channels of the full-resolution head (released: 32 outdoors, 200 indoors).
        relation_epsilon: added to the number of a relation's examples where its weight is made (released 0; ISO 1e-5).
        frustum_divisions: local frustums along each picture axis (released 8, so 64 of them; section 3.4).
        rounding: precision at which voxels are rounded to pixels; see geometry.projection.
        use_offset: whether the fourth column of P counts; released False, 6 cm off on KITTI.
    """

    features: int = 64
    lift_factor: int = 2
    relations: int = 4
    context_prior: bool = True
    head_width: int = 32
    relation_epsilon: float = 0.0
    frustum_divisions: int = 8
    rounding: Literal["float64", "released-kitti", "released-nyuv2"] = "float64"
    use_offset: bool = True


@dataclass(frozen=True)
class MonoSceneConfig(ContextConfig):
    """MonoScene, section 3 of the paper; the defaults are size `full`, outdoors, conventions `clean`.

    Attributes:
        encoder: backbone variant (released: tf_efficientnet_b7).
        decoder_width: channels of the 2D decoder's coarsest level; halved at each finer one (released: 2560).
        line_of_sight_scales: 2D scales that FLoSP sums (released: 1, 2, 4, 8).
        decoder_padding: padding of the 1x1 convolution before the 2D decoder; released 1, which stretches the map by two pixels (an AdaBins quirk).
    """

    encoder: str = "tf_efficientnet_b7"
    decoder_width: int = 2560
    line_of_sight_scales: tuple[int, ...] = (1, 2, 4, 8)
    decoder_padding: int = 0

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> MonoSceneConfig:
        """A named configuration.

        Args:
            conventions: "exact" (loads released weights), "paper" (as exact: code was released) or "clean".
            size: "full", "small" (the bundled one) or "tiny".
            setting: "semantic-kitti" (outdoors, x-y-z, 0.2 m) or "nyuv2" (indoors, x-height-y, 0.08 m).
            fields: further fields by name.

        Raises:
            InputError: a preset that does not exist, naming the nearest.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of MonoScene", setting, SETTINGS)
        config = cls(**INDOORS) if setting == "nyuv2" else cls(preparation=Preparation(fit="top-left"))
        if size != "full":
            config = replace(config, **_SIZES[size])
        if size == "full" and conventions != "clean":
            rounding: Literal["released-kitti", "released-nyuv2"] = "released-nyuv2" if setting == "nyuv2" else "released-kitti"
            config = replace(config, rounding=rounding, use_offset=False, decoder_padding=1)
        return replace(config, **fields)


# NYUv2, and the widths there, which ISO and GA-MonoSSC share.
INDOORS: dict[str, Any] = {**NYUV2, "features": 200, "lift_factor": 1, "head_width": 200}

# `small` is what the package carries (at most 15 MB as float16); `tiny` keeps every mechanism and runs in seconds.
_SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "encoder": "tf_efficientnet_lite0", "decoder_width": 224, "features": 24, "head_width": 16,
        "preparation": Preparation(fit="focal", focal=350.0, mean=(0.5,) * 3, std=(0.5,) * 3),
    },
    "tiny": {"encoder": "tiny", "decoder_width": 64, "features": 8, "head_width": 8},
}  # fmt: skip
