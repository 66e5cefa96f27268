"""What every system's config holds: classes, grid, pictures. No torch here, so that the command line can list and explain without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from wholescene.errors import InputError, unknown_name
from wholescene.grid import GridPlacement
from wholescene.labels import LabelSet, inverse_log_weights, label_set
from wholescene.preparation import Preparation
from wholescene.systems.refine.config import Refine, usual

Conventions = Literal["clean", "exact", "paper"]
Size = Literal["full", "small", "tiny"]
CONVENTIONS = ("clean", "exact", "paper")
SIZES = ("full", "small", "tiny")

S = TypeVar("S", bound="SystemConfig")

# Rooms as MonoScene meets them (its section 4, and its released code), and all that follow it: the fields of any system's config.
NYUV2: dict[str, Any] = {
    "labels": "nyuv2",
    "grid": GridPlacement((60, 36, 60), (0.08, 0.08, 0.08), "xzy", (0.0, 0.0, -0.05), None, "nyuv2"),
    "preparation": Preparation(fit="none"),
    "camera_height_m": 1.2,
    "camera_pitch_deg": 10.0,
    "class_weights": (0.05,) + (1.0,) * 11,
}
# The same box, height last: Occ-ScanNet's.
OCCSCANNET_GRID = GridPlacement((60, 60, 36), (0.08, 0.08, 0.08), "xyz", (0.0, 0.0, -0.05), None, "nyuv2")


@dataclass(frozen=True)
class HalfChoice:
    """Another system whose half takes the place of the own one; see `systems.halves`.

    Attributes:
        system: in the table of systems.
        conventions, size, setting: its preset; an empty setting is its first.
        fields: further fields of its config, nested ones as nested mappings.
    """

    system: str
    conventions: str = "clean"
    size: str = "full"
    setting: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SystemConfig:
    """Fields that all systems share.

    Attributes:
        labels: name of the label set; its classes are the logits'.
        grid: the voxels, and where they lie for a new camera.
        preparation: how pictures are fitted and normalised.
        camera_height_m: metres above the ground that a camera without a known height is taken to have.
        camera_pitch_deg: likewise its pitch, positive down.
        class_weights: K weights of the cross-entropy; empty: 1 / ln(n + 0.001) of the label set's published voxel counts (MonoScene, section 4).
        activation_checkpointing: recompute activations in the backward pass instead of keeping them.
        lift: the system whose 2D half takes the place of the own one.
        completion: the system whose 3D half does.
        refine: masked recurrent refinement of what the system completes: its settings, "mrn" for the usual ones (indoors or outdoors, by the size of
            the grid), None for none. A stage of training that ends before completion has no use for it.
        joint_fields: which fields hold the width of the lifted volume and how many times coarser its grid is, for the exchange of halves.
    """

    joint_fields: ClassVar[tuple[str, str]] = ("features", "lift_factor")

    labels: str = "semantic-kitti"
    grid: GridPlacement = field(default_factory=GridPlacement)
    preparation: Preparation = field(default_factory=Preparation)
    camera_height_m: float = 1.65
    camera_pitch_deg: float = 0.0
    class_weights: tuple[float, ...] = ()
    activation_checkpointing: bool = False
    lift: HalfChoice | None = None
    completion: HalfChoice | None = None
    refine: Literal["mrn"] | Refine | None = None

    @property
    def completes(self) -> bool:
        """Whether a system of this configuration makes a volume; False for a stage of training that ends before it."""
        return True

    @property
    def refinement(self) -> Refine | None:
        """The settings of refinement; None without, and in a stage of training that makes nothing to refine."""
        if not self.completes or self.refine is None:
            return None
        if self.refine != "mrn":
            return self.refine
        return usual(max(n * size for n, size in zip(self.grid.shape, self.grid.voxel_size, strict=True)))

    @property
    def label_set(self) -> LabelSet:
        """The label set by its name."""
        return label_set(self.labels)

    @property
    def classes(self) -> int:
        """K, with empty."""
        return self.label_set.classes

    def weights_of_classes(self) -> tuple[float, ...]:
        """K cross-entropy weights.

        Raises:
            InputError: the given ones are not K numbers.
        """
        if self.class_weights:
            if len(self.class_weights) != self.classes:
                raise InputError(f"class_weights has {len(self.class_weights)} numbers; the label set {self.labels} has {self.classes} classes")
            return self.class_weights
        counts = self.label_set.voxels
        return inverse_log_weights(counts) if counts else (1.0,) * self.classes


def check_preset(conventions: str, size: str) -> None:
    """Refuse a preset that no system has.

    Raises:
        InputError: naming the nearest.
    """
    if conventions not in CONVENTIONS:
        raise unknown_name("conventions", conventions, CONVENTIONS)
    if size not in SIZES:
        raise unknown_name("size", size, SIZES)
