"""Running a system on tensors without content: what shapes and how much memory it takes, before any number is computed."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from wholescene.camera import Camera
from wholescene.structures import Frame, View

if TYPE_CHECKING:
    from wholescene.systems.base import System
    from wholescene.systems.config import SystemConfig

_SMALL = 2**20  # numbers


def example_frame(model: System) -> Frame:
    """A frame of the size that the system was made for, with whatever it needs; its content does not matter."""
    config: SystemConfig = model.config
    width, height = (640, 480) if config.labels == "nyuv2" else config.preparation.size
    camera = Camera.from_fov(80.0, (width, height)).on_ground(config.camera_height_m, config.camera_pitch_deg)
    grid = config.grid.place(camera, config.camera_height_m)
    held: dict[str, Any] = {
        "depth": np.full((height, width), 10.0, np.float32),
        "occupancy": np.zeros(grid.shape, bool),
        "points": np.ones((1000, 4), np.float32),
    }
    views = dict.fromkeys(["main", *(v for v in ("right", "past") if v in model.needs)], View(np.zeros((height, width, 3), np.uint8), camera))
    return Frame("example", views, grid, **{k: v for k, v in held.items() if k in model.needs})


class Shapes(TorchDispatchMode):
    """Runs a network whose weights lie on the meta device: whatever meets a tensor without content has none either, whatever does not (geometry:
    which pixel a voxel falls on, small tables) is computed. Counts the bytes that tensors without content would take at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        if any(map(_is_empty, tensors)):
            args, kwargs = tree_map(_emptied, (args, kwargs))
            if "device" in kwargs:
                kwargs["device"] = torch.device("meta")
        result = func(*args, **kwargs)
        if not tensors and _is_empty(result) and result.numel() <= _SMALL:
            result = func(*args, **{**kwargs, "device": torch.device("cpu")})  # a table made from nothing, such as weights of a resize
        for tensor in tree_flatten(result)[0]:
            if _is_empty(tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._held and self._held[key]() is not None:
            return
        size = storage.nbytes()

        def release(_: Any) -> None:
            self.now -= size

        self._held[key] = weakref.ref(storage, release)
        self.now += size
        self.peak = max(self.peak, self.now)


def _is_empty(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "meta"


def _emptied(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) and not _is_empty(value) else value
