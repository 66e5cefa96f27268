"""The table of systems: name -> where its config and its model live. Listing and explaining need no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from wholescene.configuring import from_plain, to_plain, with_field
from wholescene.errors import InputError, unknown_name

if TYPE_CHECKING:
    from wholescene.systems.base import System
    from wholescene.systems.config import SystemConfig

C = TypeVar("C")


@dataclass(frozen=True)
class SystemEntry:
    """One row of the table.

    Attributes:
        name: with dashes.
        package: module that holds `config.py` and `model.py`.
        config, model: class names in them.
        needs: what it eats at test time beside the picture, in words.
        paper: authors, title, venue.
    """

    name: str
    package: str
    config: str
    model: str
    needs: str
    paper: str


SYSTEMS = {
    entry.name: entry
    for entry in (
        SystemEntry(
            "cgformer", "wholescene.systems.cgformer", "CGFormerConfig", "CGFormer", "one picture and its depth",
            "Yu et al., Context and Geometry Aware Voxel Transformer for Semantic Scene Completion, NeurIPS 2024",
        ),
        SystemEntry(
            "ga-monossc", "wholescene.systems.gamonossc", "GAMonoSSCConfig", "GAMonoSSC", "one picture",
            "Li et al., Global-Aware Monocular Semantic Scene Completion with State Space Models, ICCV 2025",
        ),
        SystemEntry(
            "iso", "wholescene.systems.iso", "ISOConfig", "ISO", "one picture and its depth (from a network inside, where that is loaded)",
            "Yu et al., Monocular Occupancy Prediction for Scalable Indoor Scenes, ECCV 2024",
        ),
        SystemEntry(
            "lmscnet", "wholescene.systems.lmscnet", "LMSCNetConfig", "LMSCNet", "occupied voxels (a LiDAR sweep's, or from depth); no picture",
            "Roldao, de Charette and Verroust-Blondet, LMSCNet: Lightweight Multiscale 3D Semantic Completion, 3DV 2020",
        ),
        SystemEntry(
            "monomrn", "wholescene.systems.monomrn", "MonoMRNConfig", "MonoMRN", "one picture and its depth",
            "Wang et al., Monocular Semantic Scene Completion via Masked Recurrent Networks, ICCV 2025",
        ),
        SystemEntry(
            "monoscene", "wholescene.systems.monoscene", "MonoSceneConfig", "MonoScene", "one picture",
            "Cao and de Charette, MonoScene: Monocular 3D Semantic Scene Completion, CVPR 2022",
        ),
        SystemEntry(
            "ndc-scene", "wholescene.systems.ndcscene", "NDCSceneConfig", "NDCScene", "one picture",
            "Yao et al., NDC-Scene: Boost Monocular 3D Semantic Scene Completion in Normalized Device Coordinates Space, ICCV 2023",
        ),
        SystemEntry(
            "scanssc", "wholescene.systems.scanssc", "ScanSSCConfig", "ScanSSC", "one picture and its depth",
            "Bae, Ha and Kim, Three Cars Approaching within 100m! Enhancing Distant Geometry by Tri-Axis Voxel Scanning for Camera-based "
            "Semantic Scene Completion, CVPR 2025",
        ),
        SystemEntry(
            "symphonies", "wholescene.systems.symphonies", "SymphoniesConfig", "Symphonies", "one picture and its depth",
            "Jiang et al., Symphonize 3D Semantic Scene Completion with Contextual Instance Queries, CVPR 2024",
        ),
        SystemEntry(
            "voxformer", "wholescene.systems.voxformer", "VoxFormerConfig", "VoxFormer", "one picture and its depth",
            "Li et al., VoxFormer: Sparse Voxel Transformer for Camera-based 3D Semantic Scene Completion, CVPR 2023",
        ),
    )
}  # fmt: skip


def list_systems() -> list[str]:
    """Names of all systems."""
    return sorted(SYSTEMS)


def entry(name: str) -> SystemEntry:
    """The row of a system.

    Raises:
        InputError: naming the nearest systems.
    """
    if name not in SYSTEMS:
        raise unknown_name("system", name, SYSTEMS, "wholescene systems")
    return SYSTEMS[name]


def config_class(name: str) -> type[SystemConfig]:
    """The config class of a system; imports no torch."""
    row = entry(name)
    found: type[SystemConfig] = getattr(importlib.import_module(f"{row.package}.config"), row.config)
    return found


def system_class(name: str) -> type[System]:
    """The model class of a system."""
    row = entry(name)
    found: type[System] = getattr(importlib.import_module(f"{row.package}.model"), row.model)
    return found


def preset(name: str, conventions: str = "clean", size: str = "full", setting: str = "") -> SystemConfig:
    """A system's named configuration; imports no torch.

    Args:
        name: in the table of systems.
        conventions, size, setting: as its config's `preset` has them; an empty setting is the system's first.

    Raises:
        InputError: an unknown system or preset, with the nearest known one.
    """
    made: SystemConfig = config_class(name).preset(conventions, size, **({"setting": setting} if setting else {}))  # type: ignore[attr-defined]
    return made


def with_fields(config: C, changed: dict[str, Any], name: str) -> C:
    """A system's config with fields changed, from plain types; nested ones as nested mappings.

    Raises:
        InputError: an unknown field or a value of the wrong kind.
    """
    plain = to_plain(config)
    for path, value in _leaves(changed):
        plain = with_field(plain, path, value)
    return from_plain(type(config), plain, f"{name}'s config")


def _leaves(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names and values of nested mappings."""
    found = []
    for name, value in nested.items():
        path = f"{prefix}{name}"
        found += _leaves(value, f"{path}.") if isinstance(value, dict) and value else [(path, value)]
    return found


def create(name: str, config: Any) -> System:
    """A system with fresh weights from its config, with refinement behind it where the config says `refine`.

    Raises:
        InputError: a config that no system can have.
    """
    for field in fields(config):
        value, least = getattr(config, field.name), 1 if field.name in config.joint_fields else 0
        if any(isinstance(n, int) and n < least for n in (value if isinstance(value, tuple) else (value,))):
            raise InputError(
                f"{name}'s config: {field.name} is {value}; expected {'numbers' if isinstance(value, tuple) else 'a number'} of at least {least}"
            )
    kind = system_class(name)
    if config.refinement is not None:
        from wholescene.systems.refine.system import refining

        kind = refining(kind)  # type: ignore[arg-type]  # classes can be hashed
    made: System = kind(config)
    nothing = next((part for part, parameter in made.named_parameters() if not parameter.numel()), None)
    if nothing is not None:
        raise InputError(f"{name}'s config: a width is 0, so {nothing} holds no number; expected widths of at least 1")
    return made
