"""LMSCNet's configuration: every field with its unit and source. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import unknown_name
from wholescene.preparation import Preparation
from wholescene.systems.config import SystemConfig, check_preset

SETTINGS = {"semantic-kitti": (1, 2, 4, 8), "ss-semantic-kitti": (1,)}


@dataclass(frozen=True)
class LMSCNetConfig(SystemConfig):
    """LMSCNet, section 3 of the paper. All sizes are one: the widths follow from the heights of the grid, and 0.4 M parameters need no smaller form.

    Attributes:
        scales: grids that get logits, 1 the finest; (1, 2, 4, 8) is LMSCNet, (1,) is LMSCNet-SS. The coarser ones are made for the losses.
        head_width: channels of the 3D heads (released: 8).
        source: where the input voxels come from: "occupancy" as the frame gives it (released: one LiDAR sweep), its "depth" map, or its "points".
        revision: of the voxels that the weights were trained on. v1.0 of SemanticKITTI wrote every volume one voxel late in the flat order, and the
            released weights learnt it: input and answer are moved there and back. Data always are as v1.1 has them.
    """

    scales: tuple[int, ...] = (1, 2, 4, 8)
    head_width: int = 8
    source: Literal["occupancy", "depth", "points"] = "occupancy"
    revision: Literal["v1.1", "v1.0"] = "v1.1"

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> LMSCNetConfig:
        """A named configuration.

        Args:
            conventions: "exact" (as released weights are), "paper" (as exact: code was released) or "clean".
            size: "full", "small" or "tiny"; all the same network.
            setting: "semantic-kitti" (LMSCNet) or "ss-semantic-kitti" (LMSCNet-SS, one scale).
            fields: further fields by name.

        Raises:
            InputError: an unknown name, with the nearest.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of LMSCNet", setting, SETTINGS)
        config = cls(preparation=Preparation(fit="top-left"), scales=SETTINGS[setting])
        if conventions != "clean":
            config = replace(config, revision="v1.0")
        return replace(config, **fields)
