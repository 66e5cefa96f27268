"""wholescene: one picture in, the whole 3D scene out, seen and hidden, every voxel labelled.

The names below are all that most users need; torch comes with the first use of one that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wholescene.camera import Camera
    from wholescene.grid import VoxelGrid
    from wholescene.labels import LabelSet
    from wholescene.scene import Scene
    from wholescene.structures import Batch, Frame, Prediction
    from wholescene.systems import list_systems
    from wholescene.weights import load

__version__ = "0.1.0"

_HOME = {
    "load": "wholescene.weights",
    "list_systems": "wholescene.systems",
    "Scene": "wholescene.scene",
    "Camera": "wholescene.camera",
    "VoxelGrid": "wholescene.grid",
    "LabelSet": "wholescene.labels",
    "Frame": "wholescene.structures",
    "Batch": "wholescene.structures",
    "Prediction": "wholescene.structures",
}

__all__ = ["Batch", "Camera", "Frame", "LabelSet", "Prediction", "Scene", "VoxelGrid", "__version__", "list_systems", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wholescene' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
