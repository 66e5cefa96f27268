"""Batch norms for places where a batch holds one value a channel: camera numbers, and maps pooled to one cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _OfFew(_BatchNorm):
    """As its plain kin, but one value a channel, which has no variance, moves the running statistics and is normalised by them; torch refuses it."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same."""
        if not self.training or x.numel() > x.shape[1]:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        with torch.no_grad():
            away = x.detach().flatten().to(self.running_mean.dtype) - self.running_mean
            share = 0.1 if self.momentum is None else self.momentum
            self.running_mean += share * away
            self.running_var += share * (away**2 - self.running_var)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class FewNorm1d(_OfFew, nn.BatchNorm1d):
    """Of (B, C)."""


class FewNorm2d(_OfFew, nn.BatchNorm2d):
    """Of (B, C, h, w)."""
