"""VoxFormer's configuration: every field with its unit and source. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import unknown_name
from wholescene.preparation import Preparation
from wholescene.systems.config import SystemConfig, check_preset

Stage = Literal["both", "proposals", "completion"]
SETTINGS: dict[str, Stage] = {
    "semantic-kitti": "both",
    "proposals-semantic-kitti": "proposals",
    "completion-semantic-kitti": "completion",
}


@dataclass(frozen=True)
class VoxFormerConfig(SystemConfig):
    """VoxFormer with one picture (VoxFormer-S), section 3 of the paper; the defaults are size `full`, conventions `clean`.

    Two defects of the released code change no number of a loaded model and have no field: cross-attention gets a position encoding under a name
    that it never reads (every voxel has an embedding of its own), and the feed-forward's width is 256 where its configuration says 1024.

    Attributes:
        stage: what is built: stage 1, which proposes voxels ("proposals"), stage 2, which completes the scene ("completion"; its proposals then are
            the frame's own, or the voxels of the source), or "both". They train one after the other, or side by side: no gradient passes between.
        source: what stage 1 corrects: the voxels of the "depth" map (released, with up to nine past frames added), of "points", or an "occupancy".
        encoder: ResNet variant, up to stride 16 (released: resnet50).
        frozen_norms: batch norms of the encoder are constants (released); right only where weights are loaded into it.
        features: channels of queries, map and volume.
        lift_factor: the volume's grid is the output grid this many times coarser.
        heads, points: of every deformable attention; points a map.
        cross_layers, self_layers: of the two transformers.
        feedforward: channels inside the feed-forwards.
        dropout: in both transformers, in training.
        proposal_width: channels of stage 1's 3D head.
        proposal_weights: cross-entropy weights of empty and occupied in stage 1 (released: 1 - alpha and alpha = 0.54, not log frequencies).
        cross_entropy_over: what the class-weighted cross-entropy of stage 2 is divided by: "weights", or as released the number of "voxels".
        pixel_alignment: "pixel": a voxel looks where its pixel lies on the map. "released": at the same share of the map's width as of the picture's,
            which is up to half a cell beside it, and only pixels strictly between 0 and the width are in view.
        neighbours: who a voxel sees in self-attention: its neighbours in the "volume", or "folded" as released: the voxels in flat order as rows of
            an image (512 x 512 at full size), in which only neighbours in height lie side by side.
        queues: 1, or 2 as released: two groups of points on the same values, averaged; what BEVFormer had for the present and the past.
        level_rows: rows of the level embedding, of which the first is used (released: 4).
        align_corners: corners and not voxel boxes are matched where logits are enlarged (released: True), half a voxel off at the borders.
    """

    stage: Stage = "both"
    source: Literal["depth", "points", "occupancy"] = "depth"
    encoder: str = "resnet50"
    frozen_norms: bool = False
    features: int = 128
    lift_factor: int = 2
    heads: int = 8
    points: int = 8
    cross_layers: int = 3
    self_layers: int = 2
    feedforward: int = 256
    dropout: float = 0.1
    proposal_width: int = 8
    proposal_weights: tuple[float, float] = (0.46, 0.54)
    cross_entropy_over: Literal["weights", "voxels"] = "weights"
    pixel_alignment: Literal["pixel", "released"] = "pixel"
    neighbours: Literal["volume", "folded"] = "volume"
    queues: Literal[1, 2] = 1
    level_rows: int = 1
    align_corners: bool = False

    @property
    def completes(self) -> bool:
        """Not stage "proposals"."""
        return self.stage != "proposals"

    @property
    def lifted_shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) voxels of the volume's grid."""
        x, y, z = (n // self.lift_factor for n in self.grid.shape)
        return x, y, z

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> VoxFormerConfig:
        """A named configuration.

        Args:
            conventions: "exact" (loads released weights), "paper" (as exact: code was released) or "clean".
            size: "full", "small" or "tiny".
            setting: "semantic-kitti" (both stages); "proposals-semantic-kitti" or "completion-semantic-kitti" for what each released file holds.
            fields: further fields by name.

        Raises:
            InputError: an unknown name, with the nearest.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of VoxFormer", setting, SETTINGS)
        config = cls(preparation=Preparation(fit="top-left"), stage=SETTINGS[setting])
        if conventions != "clean":
            config = replace(config, **_RELEASED)
        if size != "full":
            config = replace(config, **_SIZES[size])
        return replace(config, **fields)


_RELEASED: dict[str, Any] = {
    "class_weights": (
        0.446, 0.603, 0.852, 0.856, 0.747, 0.734, 0.801, 0.796, 0.818, 0.557, 0.653, 0.568, 0.683, 0.560, 0.603, 0.530, 0.688, 0.574, 0.716, 0.786,
    ),
    "cross_entropy_over": "voxels", "frozen_norms": True, "pixel_alignment": "released", "neighbours": "folded", "queues": 2, "level_rows": 4,
    "align_corners": True,
}  # fmt: skip

# One query a voxel is what VoxFormer weighs: `small` has an eighth of them, at a grid twice as coarse; `tiny` keeps every mechanism.
_SIZES: dict[str, dict[str, Any]] = {
    "small": {"encoder": "small", "features": 64, "lift_factor": 4, "feedforward": 128},
    "tiny": {
        "encoder": "tiny", "features": 16, "heads": 2, "points": 2, "cross_layers": 2, "feedforward": 32, "proposal_width": 4, "frozen_norms": False,
    },
}  # fmt: skip
