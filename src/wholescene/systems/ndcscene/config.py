"""NDC-Scene's configuration: every field with its unit and source. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import unknown_name
from wholescene.preparation import Preparation
from wholescene.systems.config import NYUV2, SystemConfig, check_preset

SETTINGS = ("semantic-kitti", "nyuv2")


@dataclass(frozen=True)
class NDCSceneConfig(SystemConfig):
    """NDC-Scene, section 3 of the paper; the defaults are size `full`, outdoors, conventions `clean`.

    Two things that the released code does and that change no number of one forward have no field: it scales the depth coordinate of a batch in
    place (a second forward on the same batch would scale it twice), and its affinity losses are infinite where a class gets no probability.

    Attributes:
        encoder: EfficientNet variant (released: tf_efficientnet_b7).
        frozen_norms: batch norms of the encoder keep their running statistics in training, scale and shift still learn (released); right only where
            weights are loaded into it.
        features: channels C of the lifted volume (released: 64 outdoors, 200 indoors); the frustum volume has 4C, 2C and C.
        lift_factor: the lifted grid is the output grid this many times coarser (released: 2 outdoors, 1 indoors).
        slices: depths of the finest frustum volume, 16 times a power of two (released: 128).
        depth_range: metres along the optical axis that the first and the last slice stand for (released: 0.2 to 50.8 outdoors, 0.5538 to 6.8243
            indoors); voxels outside are out of view.
        volume_net: the 3D network: "keep-height" (plain convolutions that never halve the height; released outdoors) or "ddr" (the dimensional
            decomposition residual blocks of MonoScene, halved before they are processed; released indoors).
        light_head: the head has no first convolution and no norms between its dilated ones (released outdoors).
        head_width: channels of the head.
        relations: between a voxel and its neighbours, 4 or 2 (released: 4).
        window: edge in coarse voxels of the neighbourhood whose relations are told (released: 9, so 729 neighbours).
        relation_labels: what relations are told between: "pooled" coarse labels (released outdoors) or every so manieth voxel of the target,
            "strided" (released indoors).
        frustum_divisions: local frustums along each picture axis (released: 8).
        norm_momentum: of the batch norms outside the encoder, head and ASPP; released 0.001, with which running statistics follow over a thousand
            steps (indoors of all outside the encoder).
        use_offset: whether the fourth column of P counts; released False, 6 cm off on KITTI.
    """

    encoder: str = "tf_efficientnet_b7"
    frozen_norms: bool = False
    features: int = 64
    lift_factor: int = 2
    slices: int = 128
    depth_range: tuple[float, float] = (0.2, 50.8)
    volume_net: Literal["keep-height", "ddr"] = "keep-height"
    light_head: bool = True
    head_width: int = 64
    relations: Literal[2, 4] = 4
    window: int = 9
    relation_labels: Literal["pooled", "strided"] = "pooled"
    frustum_divisions: int = 8
    norm_momentum: float = 0.1
    use_offset: bool = True

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> NDCSceneConfig:
        """A named configuration.

        Args:
            conventions: "exact" (loads released weights), "paper" (as exact: code was released) or "clean".
            size: "full", "small" or "tiny".
            setting: "semantic-kitti" (outdoors, x-y-z, 0.2 m) or "nyuv2" (indoors, x-height-y, 0.08 m).
            fields: further fields by name.

        Raises:
            InputError: a preset that does not exist, naming the nearest.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of NDC-Scene", setting, SETTINGS)
        config = _indoors() if setting == "nyuv2" else cls(preparation=Preparation(fit="top-left"))
        if conventions != "clean":
            config = replace(config, frozen_norms=size == "full", norm_momentum=0.001, use_offset=False)
        if size != "full":
            config = replace(config, **_SIZES[size])
        return replace(config, **fields)


def _indoors() -> NDCSceneConfig:
    return NDCSceneConfig(
        **NYUV2,
        features=200,
        lift_factor=1,
        depth_range=(0.5538, 6.8243),
        volume_net="ddr",
        light_head=False,
        head_width=200,
        relation_labels="strided",
    )


# `tiny` keeps every mechanism and runs in seconds.
_SIZES: dict[str, dict[str, Any]] = {
    "small": {"encoder": "tf_efficientnet_lite0", "features": 24, "head_width": 24, "slices": 64},
    "tiny": {"encoder": "tiny", "features": 8, "head_width": 8, "slices": 32},
}
