"""GA-MonoSSC's configuration: every field with its unit, and whether it is the paper's or our reading of what the paper leaves open. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import InputError, unknown_name
from wholescene.systems.config import OCCSCANNET_GRID, check_preset
from wholescene.systems.monoscene.config import INDOORS, ContextConfig

SETTINGS = ("nyuv2", "occscannet")


@dataclass(frozen=True)
class GAMonoSSCConfig(ContextConfig):
    """GA-MonoSSC, supplement A.2 and A.3; the presets begin at size `full`, indoors, conventions `clean`.

    Neither code nor weights were released, so nothing is `exact` here: the three conventions are the same. "Paper" marks what the supplement
    says, "ours" a reading of what it leaves open, with its reason.

    Attributes:
        encoder: variant of the vision transformer. DINOv2 is the paper's; which size is ours: base is near the EfficientNet-B7 that it replaces.
        geometric_head: a second decoder beside the semantic one (paper); False leaves it and its loss out.
        decoder_widths: channels of a decoder's four reassembled maps, finest first. Ours: the decoders are DPT heads, the common multi-scale
            decoder for plain transformer tokens, with the widths of Depth Anything's base model.
        decoder_features: channels of its fused maps (ours, as above).
        couple: the semantic map of every scale has the geometric one added (a reader's notes on the paper).
        features: channels of the lifted volume. 200 is ISO's, whose halves the paper exchanges with its own.
        depth_slices: slices of depth in which the geometric decoder says whether space is occupied (ours: the paper puts a binary cross-entropy
            on the decoder's output; slices vary along a ray and need no depth labels).
        depth_range_m: metres that the slices fill evenly from the camera on (ours; ISO's range).
        geometric_gate: geometric features count by the occupancy that their decoder says. False is the literal equation 1.
        fusion_reduction: inner width of the scales' attention is its outer one over this (ours).
        scan: what a frustum layer scans with: "s6" (the first Mamba; the paper names no version), "ssd" (the second, three times as fast on a
            CPU), or "none": the residual blocks that MonoScene has in its place.
        directions: "alternate" (ours: every second block reads the sequence from its end, so both directions cost nothing more), "forward" (one
            way, the literal reading), or "both" (each block scans twice, with own parameters; s6 alone).
        scan_blocks: blocks a layer (ours).
        scan_states, scan_kernel, scan_expand: states a channel, taps of a block's causal convolution, and its inner channels over its outer ones
            (ours: what the public package has of the first Mamba).
        scan_head: channels a head of "ssd" (ours).
        order: in which voxels are scanned: "frustum" (paper), or "raster", "z-order", "hilbert" to compare with.
        cell: pixels of the picture, edge of the cells that frustum order takes for rays, at the lifted grid; twice that at the second stage. Ours:
            half of what a voxel measures in the picture at the middle of the grid.
        depth_serpentine: see `geometry.orders.VoxelOrder` (ours: False keeps near before far).
        layer_norm_start: what the gains of the norm behind a layer's scans start from. 1 is the literal reading, which adds a volume of unit
            variance from the first step on; 0.1 is the first remedy if training is unstable.
    """

    encoder: str = "vit_base_patch14_dinov2"
    geometric_head: bool = True
    decoder_widths: tuple[int, int, int, int] = (96, 192, 384, 768)
    decoder_features: int = 128
    couple: bool = True
    depth_slices: int = 64
    depth_range_m: float = 10.0
    geometric_gate: bool = False
    fusion_reduction: int = 16
    scan: Literal["s6", "ssd", "none"] = "s6"
    directions: Literal["alternate", "forward", "both"] = "alternate"
    scan_blocks: int = 2
    scan_states: int = 16
    scan_kernel: int = 4
    scan_expand: int = 2
    scan_head: int = 50
    order: Literal["frustum", "raster", "z-order", "hilbert"] = "frustum"
    cell: float = 8.0
    depth_serpentine: bool = False
    layer_norm_start: float = 1.0

    def __post_init__(self) -> None:
        counts = ("depth_slices", "fusion_reduction", "scan_blocks", "scan_states", "scan_kernel", "scan_expand", "scan_head")
        wrong = [name for name in counts if getattr(self, name) < 1] + [name for name in ("depth_range_m", "cell") if not getattr(self, name) > 0]
        if wrong:
            raise InputError(f"GA-MonoSSC with {', '.join(f'{name} {getattr(self, name):g}' for name in wrong)}; expected positive numbers")

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "nyuv2", **fields: Any) -> GAMonoSSCConfig:
        """A named configuration.

        Args:
            conventions: "clean", "paper" or "exact": all the same, since there is nothing to be exact against.
            size: "full", "small" or "tiny".
            setting: "nyuv2" (x-height-y) or "occscannet" (x-y-height); both 4.8 x 4.8 x 2.88 m in voxels of 0.08 m.
            fields: further fields by name.

        Raises:
            InputError: a preset that does not exist, naming the nearest.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of GA-MonoSSC", setting, SETTINGS)
        config = cls(**INDOORS)
        if setting == "occscannet":
            config = replace(config, grid=OCCSCANNET_GRID)
        if size != "full":
            config = replace(config, **_SIZES[size])
        return replace(config, **fields)


_SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "encoder": "vit_small_patch14_dinov2", "decoder_widths": (48, 96, 192, 384), "decoder_features": 64, "features": 48, "head_width": 32,
        "scan_head": 32,
    },
    "tiny": {
        "encoder": "tiny", "decoder_widths": (16, 16, 16, 16), "decoder_features": 16, "features": 8, "head_width": 8, "depth_slices": 16,
        "scan_states": 8, "scan_head": 8,
    },
}  # fmt: skip
