"""The table of systems: name -> where its config and its model live. Listing and explaining need no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wholescene.errors import unknown_name

if TYPE_CHECKING:
    from wholescene.systems.base import System
    from wholescene.systems.config import SystemConfig


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
            "lmscnet", "wholescene.systems.lmscnet", "LMSCNetConfig", "LMSCNet", "occupied voxels (a LiDAR sweep's, or from depth); no picture",
            "Roldao, de Charette and Verroust-Blondet, LMSCNet: Lightweight Multiscale 3D Semantic Completion, 3DV 2020",
        ),
        SystemEntry(
            "monoscene", "wholescene.systems.monoscene", "MonoSceneConfig", "MonoScene", "one picture",
            "Cao and de Charette, MonoScene: Monocular 3D Semantic Scene Completion, CVPR 2022",
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


def create(name: str, config: Any) -> System:
    """A system with fresh weights from its config."""
    return system_class(name)(config)
