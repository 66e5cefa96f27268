"""A system of the table with fresh weights, and a frame of noise: what is timed where no recorded case is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wholescene.data.collate import collate
from wholescene.preparation import prepare
from wholescene.systems import config_class, create
from wholescene.systems.shapes import example_frame


def fresh(name: str, conventions: str = "clean", size: str = "full", setting: str = "", **fields: Any) -> tuple[torch.nn.Module, Any]:
    """The system in eval, and a batch of one picture of the size it was made for."""
    torch.manual_seed(0)
    chosen = {"setting": setting} if setting else {}
    system = create(name, config_class(name).preset(conventions, size, **chosen, **fields)).eval()  # type: ignore[attr-defined]
    frame = example_frame(system)
    noise = np.random.default_rng(0).integers(0, 256, frame.main.picture.shape, dtype=np.uint8)
    return system, collate([prepare(frame.with_main(noise, frame.main.camera), system.config.preparation)])
