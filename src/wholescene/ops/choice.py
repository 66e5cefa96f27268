"""What every operator asks before it takes a fast path."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def reference_forced() -> bool:
    """Whether the user wants the references everywhere: `WHOLESCENE_OPS=reference` in the environment, read at every call."""
    return os.environ.get("WHOLESCENE_OPS", "") == "reference"


def triton_path(name: str, like: Tensor) -> Any:
    """The module `wholescene.ops.NAME_triton` where `like` lies on a CUDA device and Triton is installed; None elsewhere."""
    if not like.is_cuda or importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module(f"wholescene.ops.{name}_triton")


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off inside the block: an operator says itself at which precision it computes."""
    if device.type == "meta":  # where memory is counted without content; autocast does not know that device
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
