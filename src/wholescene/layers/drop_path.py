"""Stochastic depth (Huang et al., ECCV 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Leaves a residual branch out of a share of the samples in training, and makes up for it in the others (Huang et al., ECCV 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) to the same."""
        if not self.training or self.share == 0:
            return branch
        kept = torch.rand(len(branch), *(1,) * (branch.dim() - 1), device=branch.device) >= self.share
        return branch * kept.to(branch.dtype) / (1 - self.share)
