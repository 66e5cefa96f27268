"""How fast batch norms follow."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_momentum(part: nn.Module, momentum: float) -> None:
    """Every batch norm in a part follows its batches with this momentum."""
    for module in part.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
