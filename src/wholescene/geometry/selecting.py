"""Picking what a mask names, also where tensors have no content."""

from __future__ import annotations

import torch
from torch import Tensor


def indices_of(mask: Tensor) -> Tensor:
    """(n,) int64, flat indices in C order of what is true in a bool mask of any shape.

    On the meta device, where memory is counted without content, everything is taken to be true: the most it can be.
    """
    if mask.is_meta:
        return torch.arange(mask.numel(), device=mask.device)
    return mask.reshape(-1).nonzero()[:, 0]
