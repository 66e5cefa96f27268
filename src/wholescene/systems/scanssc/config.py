"""ScanSSC's configuration: every field with its source, and every reading of its paper. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from wholescene.errors import InputError, unknown_name
from wholescene.systems.cgformer.config import GeometryConfig, geometry_fields

AXES = ("depth", "width", "height")  # the order of the paper; the fusion's weights have the released order depth, height, width
FUSIONS = ("tri-feature", "concat-linear", "average", "weighted-sum")


@dataclass(frozen=True)
class ScanSSCConfig(GeometryConfig):
    """ScanSSC: CGFormer's lift and self-attention, the Scan Module and the Scan Loss (sections 3.3 and 3.4).

    Where paper, pseudocode (algorithms G.1 and G.2) and released code disagree, a field has a value for each reading: `exact` takes the code's,
    `paper` the paper's. Errors of the pseudocode that have only one meaning are read as that: its height mask is a matrix, its attention is
    batch-first, its divisors run along the axis that is scanned.

    Attributes:
        scan_axes: axes of the Scan Module; empty: it is left out whole, with mixing and fusion (the baseline of Table 5). One axis needs no fusion.
        reversed_scans: of these, those that scan from far to near (Table 6): back to front, sides to centre, bottom to top.
        margins: share of the depth, width and height axis, from where the scan begins, that every voxel sees (section 3.3, figure 6).
        scan_dropout: in the Scan Blocks, in training (code 0.1; the paper knows none).
        positions: codes added to queries and keys in the Scan Blocks: of all three coordinates, of y and z only (code), or none (paper).
        position_rows: rows of each table of codes, of which as many are used as the axis has voxels (code: 512); 0: as many as it has.
        mixing: the spatial mixing networks; False leaves them out (Table D.3).
        mixing_blocks: residual blocks of each stage of a mixing network.
        fusion: of the axes' features (Table D.1): "tri-feature", weights of each voxel from all features (equations 5 and 6); "concat-linear";
            "average"; "weighted-sum", weights that each voxel of the grid learns.
        scan_loss_axes: axes of the Scan Loss; empty: none (Table 5).
        reversed_scan_losses: of these, those whose means begin at near voxels (Table 6).
        scan_loss_weight: lambda_scan of equation 10 (figure D.1).
        width_scan: the width's means run over "halves", from each side to the centre (paper, code), or over the "whole" axis from its first voxel
            on, which is what the pseudocode does: it halves the axis of classes.
        unknown_in_scan: unknown voxels are "left-out" of all means, or as released "counted": in the logits' means as they are, in the target's as
            no class at all, and in the mean over voxels. The paper does not speak of them.
        cross_entropy_weight: lambda_ce of Table D.2 (b).
        near_to_far_weights: the cross-entropy of a voxel weighs as much as it is far, from 0 to 1 along each axis, averaged (Table D.2 (a)).
    """

    scan_axes: tuple[str, ...] = AXES
    reversed_scans: tuple[str, ...] = ()
    margins: tuple[float, float, float] = (0.5, 0.5, 0.0)
    scan_dropout: float = 0.1
    positions: Literal["x-y-z", "y-z", "none"] = "x-y-z"
    position_rows: int = 0
    mixing: bool = True
    mixing_blocks: tuple[int, ...] = (2, 2, 2)
    fusion: Literal["tri-feature", "concat-linear", "average", "weighted-sum"] = "tri-feature"
    scan_loss_axes: tuple[str, ...] = AXES
    reversed_scan_losses: tuple[str, ...] = ()
    scan_loss_weight: float = 1.0
    width_scan: Literal["halves", "whole"] = "halves"
    unknown_in_scan: Literal["left-out", "counted"] = "left-out"
    cross_entropy_weight: float = 1.0
    near_to_far_weights: bool = False

    def __post_init__(self) -> None:
        for field in ("scan_axes", "reversed_scans", "scan_loss_axes", "reversed_scan_losses"):
            named = getattr(self, field)
            for axis in named:
                if axis not in AXES:
                    raise unknown_name(f"axis in {field}", axis, AXES)
            if len(set(named)) < len(named):
                raise InputError(f"{field} {list(named)} names an axis twice; name each once")
        if not all(0 <= share <= 1 for share in self.margins):
            raise InputError(f"margins {list(self.margins)} are shares of the depth, width and height axis; expected numbers from 0 to 1")
        coded = {"x-y-z": (0, 1, 2), "y-z": (1, 2)}.get(self.positions, ())
        needed = max((self.lifted_shape[axis] for axis in coded), default=0)
        if self.position_rows < 0 or 0 < self.position_rows < needed:
            raise InputError(f"position_rows {self.position_rows} is less than the {needed} voxels of an axis of the volume; set it to 0")

    def array_axis(self, axis: str) -> int:
        """The array axis of the grid that "depth", "width" or "height" runs along."""
        return self.grid.axes.index("xyz"[AXES.index(axis)])

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> ScanSSCConfig:
        """A named configuration.

        Args:
            conventions: "exact" (loads released weights), "paper" (what the paper says, on the released CGFormer) or "clean".
            size: "full", "small" or "tiny".
            setting: "semantic-kitti" or "kitti-360".
            fields: further fields by name.

        Raises:
            InputError: an unknown name, with the nearest.
        """
        if setting not in SETTINGS:
            raise unknown_name("setting of ScanSSC", setting, SETTINGS)
        own: dict[str, Any] = {"depth_loss_weight": 0.001, **geometry_fields(conventions, size, setting), **_SIZES.get(size, {})}
        return cls(**{**own, **_READINGS[conventions], **fields})


SETTINGS = ("semantic-kitti", "kitti-360")

_READINGS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"scan_dropout": 0.0, "positions": "none", "unknown_in_scan": "counted"},
    "exact": {"positions": "y-z", "position_rows": 512, "unknown_in_scan": "counted", "depth_loss_weight": 1e-4},
}
_SIZES: dict[str, dict[str, Any]] = {"small": {"mixing_blocks": (1, 1, 1)}, "tiny": {"mixing_blocks": (1, 1, 1)}}
