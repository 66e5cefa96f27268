"""MonoMRN's configuration: every field with its unit and source. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import InputError, unknown_name
from wholescene.preparation import Preparation
from wholescene.systems.config import NYUV2, SystemConfig, check_preset
from wholescene.systems.refine.config import INDOORS, OUTDOORS, Refine

_REFINE = {"semantic-kitti": OUTDOORS, "nyuv2": INDOORS}
SETTINGS = tuple(_REFINE)


@dataclass(frozen=True)
class MonoMRNConfig(SystemConfig):
    """MonoMRN; the defaults are size `full`, outdoors. No code and no weights were released, so `exact` and `paper` are `clean`: one reading.

    The second stage is the field `refine` that every system has; `refine: null` leaves the coarse stage alone.

    Attributes:
        encoder: backbone variant (the authors' next system: tf_efficientnet_b7, frozen).
        decoder_width: channels of the 2D decoder's coarsest level; halved at each finer one.
        map_scale: pixels a cell of the map that is projected.
        features: channels of map, volume and state.
        lift_factor: the volume's grid is the output grid this many times coarser.
        mapping: how the map comes into the volume. "surface": a voxel takes the mean of the pixels whose points lie in it; "index": the last of them,
            row by row (what an index map gives); "sight": every voxel on a pixel's line of sight takes it.
        depth: "given" with each frame, or of a "head" on the map.
        depth_range: metres, of the head's bins.
        blocks: dimensional-decomposition blocks a level of the 3D network.
        dropout: before the head, of whole channels, in training.
        affinities: whether the coarse stage has MonoScene's scene-class affinities beside cross-entropy and Lovász-softmax.
        cross_entropy_over: what the class-weighted cross-entropy is divided by, in both stages: "voxels" (the authors' next system) or "weights".
    """

    encoder: str = "tf_efficientnet_b7"
    decoder_width: int = 2560
    map_scale: int = 4
    features: int = 64
    lift_factor: int = 2
    mapping: Literal["surface", "index", "sight"] = "surface"
    depth: Literal["given", "head"] = "given"
    depth_range: tuple[float, float] = (2.0, 54.4)
    blocks: int = 2
    dropout: float = 0.1
    affinities: bool = False
    cross_entropy_over: Literal["weights", "voxels"] = "weights"
    refine: Literal["mrn"] | Refine | None = _REFINE["semantic-kitti"]

    def __post_init__(self) -> None:
        near, far = self.depth_range
        if not 0 <= near < far or not 0 <= self.dropout < 1 or self.blocks < 0:
            raise InputError(
                f"MonoMRN with depth_range {[near, far]}, dropout {self.dropout:g} and {self.blocks} blocks a level; expected two rising numbers of "
                "metres, a dropout in 0..1 (below 1), and no negative number of blocks"
            )

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> MonoMRNConfig:
        """A named configuration.

        Args:
            conventions: "exact" and "paper" are "clean": nothing was released.
            size: "full", "small" or "tiny".
            setting: "semantic-kitti" (outdoors, x-y-z, 0.2 m) or "nyuv2" (indoors, x-height-y, 0.08 m).
            fields: further fields by name.

        Raises:
            InputError: a preset that does not exist, naming the nearest.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of MonoMRN", setting, SETTINGS)
        config = _indoors() if setting == "nyuv2" else cls(preparation=Preparation(fit="top-left"))
        if size != "full":
            config = replace(config, **_SIZES[size])
        if size == "tiny":
            config = replace(config, refine=replace(_REFINE[setting], width=16, dropout=0.0))
        return replace(config, **fields)


def _indoors() -> MonoMRNConfig:
    return MonoMRNConfig(
        **NYUV2,
        features=128,
        lift_factor=1,
        depth_range=(0.0, 10.0),
        refine=_REFINE["nyuv2"],
    )


_SIZES: dict[str, dict[str, Any]] = {
    "small": {"encoder": "tf_efficientnet_lite0", "decoder_width": 224, "features": 32},
    # one of few channels is too much to drop, and blocks work in a quarter of the features: with 8 nothing but the ground was learned
    "tiny": {"encoder": "tiny", "decoder_width": 64, "features": 32, "blocks": 1, "dropout": 0.0},
}
