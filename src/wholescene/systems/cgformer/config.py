"""CGFormer's configuration, and what ScanSSC shares of it: every field with its unit and source. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from wholescene.errors import unknown_name
from wholescene.preparation import Preparation
from wholescene.systems.config import SystemConfig, check_preset

Stage = Literal["completion", "depth"]

C = TypeVar("C", bound="GeometryConfig")


@dataclass(frozen=True)
class GeometryConfig(SystemConfig):
    """What CGFormer and ScanSSC share: the whole 2D half, self-attention, head and losses; the defaults are size `full`, conventions `clean`.

    Depth bin j is the depths nearest to depth_near + j * depth_step, in the lift, in the stereo map's bins, in cross-attention and in the target.
    Two defects of the released code change no number of a loaded model and have no field: cross-attention gets a position encoding under a name
    that it never reads, and the feed-forward's width is 256 where its configuration says 1024.

    Attributes:
        stage: "completion", the whole system, or "depth", the pre-training stage: the picture's half up to its depth and context, with a
            segmentation head for the LiDAR points' classes.
        segmentation: False: the stage "depth" without that head, which is what of a released pre-training file the system goes on with.
        encoder: EfficientNet variant, all five maps from stride 4 on (released: tf_efficientnet_b7).
        encoder_drop_path: share of the encoder's residual branches left out in training, for the last block; it grows linearly (released: 0.2).
        neck_width: channels that the neck makes of each of the five maps, all at stride 8 (released: 128).
        neck_momentum: of the neck's batch norms (released: 0.01): their statistics follow over a hundred steps, those of all other norms over ten.
        features: channels of context, queries and volume.
        depth_bins, depth_near, depth_step: of the depth distribution; number (a multiple of 4), middle of the first in metres, metres a bin.
        aggregation_width: channels of the 3D network that joins both depth distributions.
        neighbourhood: pixels along each edge of the window of the neighbourhood attention.
        lift_factor: the volume's grid is the output grid this many times coarser.
        heads, points: of every deformable attention; points a map.
        cross_layers, self_layers: of the two voxel transformers.
        feedforward: channels inside their feed-forwards.
        prior_width: channels inside the network that fills the voxels that are not proposed.
        dropout: in the voxel transformers, in training.
        depth_loss_weight: of the depth loss (released: 0 for CGFormer, whose configuration says 1e-4 and never reads it; 1e-4 for ScanSSC, whose
            paper says 0.001; 1 in the stage "depth").
        neighbours: who a voxel sees in self-attention: its neighbours in the "volume", or "folded" as released: the voxels in flat order as rows of
            an image (512 x 512 at full size), in which only neighbours in height lie side by side.
        queues: 1, or 2 as released: two groups of points on the same values, averaged; what BEVFormer had for the present and the past.
        level_rows: rows of the level embedding, of which the first is used (released: 4).
        head_width: channels before the classes.
        affinity_epsilon: added to the denominators of the geometric affinity (released: 1e-5).
        stereo_bins: the stereo map's one-hot bins: "centred", or "short" as released: one bin nearer than the depth says.
        depth_target: "centred" on the true bin with a deviation of one bin, or "doubled" as released: at twice the depth (edges in metres, mean and
            deviation in bins).
        cross_bins: cross-attention takes bin j at depth_near + j * depth_step ("centred"), or as released half a bin farther ("shifted").
        pixel_alignment: "cell": a cell of the map stands for the middle of its pixels, in the lift and in cross-attention. "released": in the lift
            the map's corners are the picture's, in cross-attention its edges; and only pixels strictly inside are in view.
        lower_faces: points below the volume's lower faces are dropped ("floor"), or as released those within a voxel count as inside ("truncated").
        unknown_pixels: pixels without depth propose nothing ("skipped"), or as released the voxel of the camera ("camera").
        few_points: where fewer than ten points lie in the volume: "all" voxels are proposed, or as released ten "random" places of the cubic metre
            before the origin (and all voxels where these fill less than two).
        arithmetic: of the lift's geometry: "float64", or the steps in float32 of the released code ("released"): which of two voxels a point falls
            in where it lies on the face between them.
        frame_norms: what a frame has one value of, the camera's numbers and the map pooled to one cell, is normalised by "fixed" scales and over its
            channels, or as released over the "batch", which of one frame has no variance, and of equal cameras next to none.
        unlabelled_points: in the stage "depth", points without a class are "skipped", or as released trained as the class empty ("empty").
    """

    stage: Stage = "completion"
    segmentation: bool = True
    encoder: str = "tf_efficientnet_b7"
    encoder_drop_path: float = 0.2
    neck_width: int = 128
    neck_momentum: float = 0.01
    features: int = 128
    depth_bins: int = 112
    depth_near: float = 2.0
    depth_step: float = 0.5
    aggregation_width: int = 32
    neighbourhood: int = 5
    lift_factor: int = 2
    heads: int = 8
    points: int = 8
    cross_layers: int = 3
    self_layers: int = 2
    feedforward: int = 256
    prior_width: int = 64
    dropout: float = 0.1
    depth_loss_weight: float = 0.0
    neighbours: Literal["volume", "folded"] = "volume"
    queues: Literal[1, 2] = 1
    level_rows: int = 1
    head_width: int = 64
    affinity_epsilon: float = 0.0
    stereo_bins: Literal["centred", "short"] = "centred"
    depth_target: Literal["centred", "doubled"] = "centred"
    cross_bins: Literal["centred", "shifted"] = "centred"
    pixel_alignment: Literal["cell", "released"] = "cell"
    lower_faces: Literal["floor", "truncated"] = "floor"
    unknown_pixels: Literal["skipped", "camera"] = "skipped"
    few_points: Literal["all", "random"] = "all"
    arithmetic: Literal["float64", "released"] = "float64"
    frame_norms: Literal["fixed", "batch"] = "fixed"
    unlabelled_points: Literal["skipped", "empty"] = "skipped"

    @property
    def completes(self) -> bool:
        """Not stage "depth"."""
        return self.stage == "completion"

    @property
    def lifted_shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) voxels of the volume's grid."""
        x, y, z = (n // self.lift_factor for n in self.grid.shape)
        return x, y, z

    @property
    def depth_range(self) -> tuple[float, float]:
        """Outer edges of the first and the last bin, metres."""
        lower = self.depth_near - self.depth_step / 2
        return lower, lower + self.depth_bins * self.depth_step


@dataclass(frozen=True)
class CGFormerConfig(GeometryConfig):
    """CGFormer: the shared fields, and its own 3D half, a local branch and three planes (section 3.4).

    Attributes:
        local_blocks: residual blocks of each stage of the local branch; every stage after the first halves the volume.
        plane_slots: parts that the axis across a plane is pooled to.
        plane_width: channels of the planes' first Swin stage; they double with each.
        plane_blocks, plane_heads: blocks and heads of the planes' Swin stages.
        window: cells along each edge of a Swin window.
        plane_drop_path: share of the planes' residual branches left out in training, for the last block (released: 0.2).
        plane_norms: the planes' shared neck normalises by "running" statistics of each of the three planes, or as released by those of the "plane" in
            hand, in evaluation too (there over the batch; here every frame stands alone).
        small_shift: windows of maps that are no larger than one window are shifted too (released: True; the original Swin does not).
    """

    local_blocks: tuple[int, ...] = (2, 2, 2)
    plane_slots: int = 8
    plane_width: int = 96
    plane_blocks: tuple[int, ...] = (2, 2, 6, 2)
    plane_heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    plane_drop_path: float = 0.2
    plane_norms: Literal["running", "plane"] = "running"
    small_shift: bool = False

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> CGFormerConfig:
        """A named configuration.

        Args:
            conventions: "exact" (loads released weights), "paper" (as exact: code was released) or "clean".
            size: "full", "small" or "tiny".
            setting: "semantic-kitti", "kitti-360"; the pre-training stage of either: "depth-semantic-kitti", "depth-kitti-360"; or what is taken
                over from a released file of that stage: "pretrained-semantic-kitti", "pretrained-kitti-360".
            fields: further fields by name.

        Raises:
            InputError: an unknown name, with the nearest.
        """
        own = {**geometry_fields(conventions, size, setting), **_SIZES.get(size, {})}
        if conventions != "clean":
            own |= {"plane_norms": "plane", "small_shift": True}
        return cls(**{**own, **fields})


def geometry_fields(conventions: str, size: str, setting: str) -> dict[str, Any]:
    """The shared fields of a preset, by name.

    Args:
        conventions, size, setting: as of `CGFormerConfig.preset`.

    Raises:
        InputError: an unknown name, with the nearest.
    """
    check_preset(conventions, size)
    if setting not in SETTINGS:
        raise unknown_name("setting of CGFormer and ScanSSC", setting, SETTINGS)
    fields = dict(SETTINGS[setting])
    if size in _PICTURES:
        fields["preparation"] = replace(fields["preparation"], size=_PICTURES[size])
    if conventions != "clean":
        fields |= {**_RELEASED, "preparation": replace(fields["preparation"], corner_pixels=True, mixed_depth=True)}
    return fields | _SHARED_SIZES.get(size, {})


_KITTI = {"preparation": Preparation(fit="bottom", size=(1280, 384))}
_KITTI_360 = {"preparation": Preparation(fit="bottom", size=(1408, 384)), "labels": "kitti-360"}
_DEPTH = {"stage": "depth", "depth_loss_weight": 1.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "semantic-kitti": _KITTI,
    "kitti-360": _KITTI_360,
    "depth-semantic-kitti": {**_KITTI, **_DEPTH},
    "depth-kitti-360": {**_KITTI_360, **_DEPTH},
    "pretrained-semantic-kitti": {**_KITTI, **_DEPTH, "segmentation": False},
    "pretrained-kitti-360": {**_KITTI_360, **_DEPTH, "segmentation": False},
}

_RELEASED: dict[str, Any] = {
    "neighbours": "folded", "queues": 2, "level_rows": 4, "affinity_epsilon": 1e-5, "stereo_bins": "short", "depth_target": "doubled",
    "cross_bins": "shifted", "pixel_alignment": "released", "lower_faces": "truncated", "unknown_pixels": "camera", "few_points": "random",
    "arithmetic": "released", "frame_norms": "batch", "unlabelled_points": "empty",
}  # fmt: skip

# One query a voxel is what the system weighs: `small` has an eighth of them, at a grid twice as coarse; `tiny` keeps every mechanism.
_SHARED_SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "encoder": "tf_efficientnet_lite0", "neck_width": 48, "features": 64, "depth_bins": 56, "depth_step": 1.0, "aggregation_width": 16,
        "lift_factor": 4, "feedforward": 128, "prior_width": 32, "head_width": 32,
    },
    "tiny": {
        "encoder": "tiny", "encoder_drop_path": 0.0, "neck_width": 8, "features": 16, "depth_bins": 24, "depth_step": 2.0, "aggregation_width": 4,
        "neighbourhood": 3, "heads": 2, "points": 2, "cross_layers": 2, "self_layers": 1, "feedforward": 32, "prior_width": 8, "head_width": 16,
    },
}  # fmt: skip
_PICTURES = {"small": (640, 192), "tiny": (320, 96)}
_SIZES: dict[str, dict[str, Any]] = {
    "small": {"local_blocks": (1, 1, 1), "plane_width": 48, "plane_blocks": (2, 2, 2, 2)},
    "tiny": {
        "local_blocks": (1, 1, 1), "plane_slots": 4, "plane_width": 8, "plane_blocks": (2, 2, 2, 2), "plane_heads": (1, 2, 2, 2), "window": 4,
        "plane_drop_path": 0.0,
    },
}  # fmt: skip
