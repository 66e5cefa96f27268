"""What every operator asks before it takes a fast path."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager

import torch


def reference_forced() -> bool:
    """Whether the user wants the references everywhere: `WHOLESCENE_OPS=reference` in the environment, read at every call."""
    return os.environ.get("WHOLESCENE_OPS", "") == "reference"


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off inside the block: an operator says itself at which precision it computes."""
    if device.type == "meta":  # where memory is counted without content; autocast does not know that device
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
