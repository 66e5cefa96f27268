"""Symphonies' configuration: every field with its unit and source. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from wholescene.errors import InputError, unknown_name
from wholescene.grid import GridPlacement
from wholescene.preparation import Preparation
from wholescene.systems.config import SystemConfig, check_preset

ATTENTIONS = ("instance-image", "scene-instance", "scene-self", "instance-scene", "instance-self")  # in the order of the data (section 3.3)
SETTINGS = ("semantic-kitti", "kitti-360", "nyuv2")


@dataclass(frozen=True)
class SymphoniesConfig(SystemConfig):
    """Symphonies, section 3 of the paper; the defaults are size `full`, conventions `clean`.

    A quirk without a field: the finest map is the backbone's own at stride 4, which the picture's transformer never sees, in all conventions.

    Attributes:
        encoder: ResNet variant (released: resnet50).
        frozen_norms: batch norms of the backbone are constants (released); right only where weights are loaded into it.
        pixel_width, pixel_layers, pixel_heads, pixel_points, pixel_feedforward, pixel_groups: channels, layers, heads, points a level, channels
            inside the feed-forwards and groups of the group norms of the Instance-Aware Image Encoder (MaskDINO's).
        features: channels of queries, maps and volume.
        queries: instance queries.
        lifting: how the scene begins: "proposals" (the Depth-Rectified Voxel Proposal Layer), or "line-of-sight" (FLoSP; Table 5, and the baseline of
            Table 3 together with `layers` 0). Which depth the proposals see (mono, stereo, true) is the depth source's affair, not the model's.
        lift_factor: the scene's grid is the output grid this many times coarser on every axis, 1, 2 or 4.
        height_factor: and this many times more along the vertical, 1 or 2 (released: 2, in no configuration file).
        layers: Symphonies decoder layers; 0 leaves the decoder out.
        attentions: which of the five are built (Table 4). Without "scene-instance" nothing flows from instances to the scene, so there are none.
        heads: of every attention.
        points: places a head reads on each map of the picture.
        scene_points: places a head reads in the scene.
        feedforward: channels inside the feed-forwards.
        dropout: on the result of deformable attentions, in training.
        aspp_dilations: of the ASPP before the head.
        auxiliary_weight: of the losses after each layer but the last (section 3.4).
        frustum: whether the frustum proportion loss is added (the released configuration does, section 3.4 does not).
        frustum_divisions: tiles along each edge of the picture for it.
        voxel_rounding: in which voxel a pixel's point lies: "floor"; "released" takes half a fine voxel off first and cuts towards zero, so that
            points are assigned half a voxel too low, and what lies just outside the lower borders is drawn in.
        unknown_pixels: an instance whose pixel has no depth stands nowhere in the scene and hears nothing of it ("skipped"); released: it stands in
            the voxel of the "camera".
        voxel_seats: where a voxel stands for attention: at its centre ("centres", (i + 0.5) / n); "released" is i / (n - 1), up to half a voxel off.
        projection: where a voxel falls in the picture: "centre" is its own centre, not rounded; "released" is the mean of the rounded pixels of
            the `height_factor` voxels that it holds, rounded again, and it is in view if any of them is.
        pixel_alignment: "pixel": what falls on a pixel looks where that pixel lies on a map. "released": at the same share of the map's width as
            of the picture's, which is up to half a cell beside it.
        scene_sampling: how attention reads the scene: as the "volume" it is; "squeezed" into a map with a column for each y and a row for each
            (x, z), so that a place between two rows mixes heights; "released": squeezed, and the shift of the row by z is divided by the wrong
            size, so that it reaches over X / Z slabs instead of one.
        doubled_residual: deformable layers add the normalised query besides the query itself (released).
        normalised_keys: keys and values of dense attention are normalised as queries are (released: False).
        fresh_values: scene self-attention reads the scene after the instances spoke to it; released: before.
        aspp_after: the layer (from 0) after which the ASPP stands; None: the last. Released: 2, whatever the number of layers.
        positions: learned positions of voxels: one table an "axes"; "released": of a grid with twice x and y and a quarter of z, regrouped so
            that the low bits of z come from the tables of x and y.
        mirrored_scene: training on a mirrored picture mirrors the scene instead of the camera, which is right only if the principal point lies in
            the middle and the camera looks straight ahead (released: up to 43 px off).
        use_offset: whether the fourth column of P counts; released False, 6 cm off on KITTI.
    """

    encoder: str = "resnet50"
    frozen_norms: bool = False
    pixel_width: int = 256
    pixel_layers: int = 6
    pixel_heads: int = 8
    pixel_points: int = 4
    pixel_feedforward: int = 2048
    pixel_groups: int = 32
    features: int = 128
    queries: int = 100
    lifting: Literal["proposals", "line-of-sight"] = "proposals"
    lift_factor: int = 2
    height_factor: int = 2
    layers: int = 3
    attentions: tuple[str, ...] = ATTENTIONS
    heads: int = 8
    points: int = 4
    scene_points: int = 8
    feedforward: int = 512
    dropout: float = 0.1
    aspp_dilations: tuple[int, ...] = (1, 3)
    auxiliary_weight: float = 0.5
    frustum: bool = True
    frustum_divisions: int = 8
    voxel_rounding: Literal["floor", "released"] = "floor"
    unknown_pixels: Literal["skipped", "camera"] = "skipped"
    voxel_seats: Literal["centres", "released"] = "centres"
    projection: Literal["centre", "released"] = "centre"
    pixel_alignment: Literal["pixel", "released"] = "pixel"
    scene_sampling: Literal["volume", "squeezed", "released"] = "volume"
    doubled_residual: bool = False
    normalised_keys: bool = True
    fresh_values: bool = True
    aspp_after: int | None = None
    positions: Literal["axes", "released"] = "axes"
    mirrored_scene: bool = False
    use_offset: bool = True

    def check(self) -> None:
        """Refuse what cannot be built.

        Raises:
            InputError: an unknown attention, or sizes that do not fit together.
        """
        for attention in self.attentions:
            if attention not in ATTENTIONS:
                raise unknown_name("attention of Symphonies", attention, ATTENTIONS)
        divided = not any(n % f for n, f in zip(self.grid.shape, self.factors, strict=True))
        if self.lift_factor not in (1, 2, 4) or self.height_factor not in (1, 2) or not divided:
            raise InputError(
                f"Symphonies' grid has {self.grid.shape} voxels, lift_factor is {self.lift_factor} and height_factor {self.height_factor}; "
                "expected 1, 2 or 4, and 1 or 2, and counts that are multiples of them"
            )
        if min(self.layers, self.aspp_after or 0) < 0 or self.queries < 1:
            raise InputError(
                f"layers {self.layers} and aspp_after {self.aspp_after} count from 0, and queries {self.queries} from 1; "
                "leave `scene-instance` out of attentions for none"
            )
        if self.features % self.heads or any(self.pixel_width % n for n in (4, self.pixel_heads, self.pixel_groups)):
            raise InputError(
                f"features {self.features} must be a multiple of heads {self.heads}, and pixel_width {self.pixel_width} one of 4, of pixel_heads "
                f"{self.pixel_heads} and of pixel_groups {self.pixel_groups}"
            )
        if self.positions == "released" and self.scene_shape[self.up] % 4:
            raise InputError(f"the released positions want a scene whose height is a multiple of 4 voxels; found {self.scene_shape}; take `axes`")

    @property
    def up(self) -> int:
        """The array axis along the vertical."""
        return self.grid.axes.index("z")

    @property
    def factors(self) -> tuple[int, int, int]:
        """Output voxels in a voxel of the scene along each array axis."""
        x, y, z = (self.lift_factor * (self.height_factor if axis == self.up else 1) for axis in range(3))
        return x, y, z

    @property
    def scene_shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) voxels of the scene's grid."""
        x, y, z = (n // f for n, f in zip(self.grid.shape, self.factors, strict=True))
        return x, y, z

    @property
    def has_instances(self) -> bool:
        """Whether instance queries reach the scene."""
        return self.layers > 0 and "scene-instance" in self.attentions

    @property
    def has_positions(self) -> bool:
        """Whether anything asks where a voxel is."""
        return self.lifting == "proposals" or (self.layers > 0 and bool({"scene-self", "scene-instance"} & set(self.attentions)))

    def builds(self, attention: str, layer: int) -> bool:
        """Whether a layer (from 0) has that attention: what instances hear after the last layer reaches nothing."""
        if attention != "scene-self" and not self.has_instances:
            return False
        return attention in self.attentions and (attention not in ("instance-scene", "instance-self") or layer < self.layers - 1)

    @property
    def needs_depth(self) -> bool:
        """Whether depth changes the answer."""
        return self.lifting == "proposals" or self.builds("instance-scene", 0)

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", setting: str = "semantic-kitti", **fields: Any) -> SymphoniesConfig:
        """A named configuration.

        Args:
            conventions: "exact" (loads released weights), "paper" (exact with the three losses of section 3.4) or "clean".
            size: "full", "small" or "tiny".
            setting: "semantic-kitti", "kitti-360", or "nyuv2" (rooms of 60 x 36 x 60 voxels; nothing was released for it).
            fields: further fields by name.

        Raises:
            InputError: an unknown name, with the nearest; or sizes that do not fit together.
        """
        check_preset(conventions, size)
        if setting not in SETTINGS:
            raise unknown_name("setting of Symphonies", setting, SETTINGS)
        chosen: dict[str, Any] = dict(_SETTINGS[setting])
        if conventions != "clean":
            chosen |= _RELEASED | {"frustum": conventions == "exact"}
        if size != "full":
            chosen |= _SIZES[size]
        return replace(cls(), **{**chosen, **fields})


_SETTINGS: dict[str, dict[str, Any]] = {
    "semantic-kitti": {"preparation": Preparation(fit="top-left")},
    "kitti-360": {"labels": "kitti-360", "preparation": Preparation(fit="top-left", size=(1408, 376))},
    "nyuv2": {
        "labels": "nyuv2", "grid": GridPlacement((60, 36, 60), (0.08, 0.08, 0.08), "xzy", (0.0, 0.0, -0.05), None, "nyuv2"),
        "camera_height_m": 1.2, "camera_pitch_deg": 10.0,
    },
}  # fmt: skip

_RELEASED: dict[str, Any] = {
    "frozen_norms": True, "voxel_rounding": "released", "unknown_pixels": "camera", "voxel_seats": "released", "projection": "released",
    "pixel_alignment": "released", "scene_sampling": "released", "doubled_residual": True, "normalised_keys": False, "fresh_values": False,
    "aspp_after": 2, "positions": "released", "mirrored_scene": True, "use_offset": False,
}  # fmt: skip

# One query a voxel and ASPP and head at 128 channels are what Symphonies weighs; `tiny` keeps every mechanism.
_SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "encoder": "small", "frozen_norms": False, "pixel_width": 128, "pixel_layers": 3, "pixel_feedforward": 256, "pixel_groups": 16,
        "features": 48, "queries": 50, "feedforward": 96,
    },
    "tiny": {
        "encoder": "tiny", "frozen_norms": False, "pixel_width": 32, "pixel_layers": 1, "pixel_heads": 2, "pixel_points": 2, "pixel_feedforward": 32,
        "pixel_groups": 8, "features": 16, "queries": 12, "layers": 2, "heads": 2, "points": 2, "scene_points": 2,
        "feedforward": 32, "aspp_after": None,
    },
}  # fmt: skip
