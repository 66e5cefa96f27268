"""Distance attention (MonoMRN, "Distance Attention Projection"): how much a voxel trusts the pixel it falls on, by its distance to the surface."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Profile = Literal["tent", "ramp", "gauss", "mlp", "none"]


class DistanceAttention(nn.Module):
    """A weight 0..1 by the signed distance delta between a voxel and the observed surface on its ray, positive behind it.

    With reaches behind and before, in voxels, both learned (as logarithms):
    `tent` falls linearly to 0 on both sides; `ramp` likewise behind and is 0 in front, as the published figure is drawn; `gauss` falls as
    exp(-delta^2 / 2 reach^2); `mlp` is two linear layers on delta in voxels; `none` is 1 everywhere, the uniform projection.
    """

    def __init__(self, profile: Profile = "tent", behind: float = 3.0, before: float = 1.0, widening_m: float = 0.0, steps: int = 1) -> None:
        """
        Args:
            profile: see above.
            behind, before: reaches to begin with, in voxels.
            widening_m: metres beyond which reaches grow in proportion to the depth of the surface, since errors of depth do; 0: nowhere.
            steps: sets of reaches; one is shared by all steps.
        """
        super().__init__()
        self.profile, self.widening_m = profile, widening_m
        if profile == "mlp":
            self.layers = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
        elif profile != "none":
            reaches = torch.tensor([math.log(behind)] if profile == "ramp" else [math.log(behind), math.log(before)])
            self.log_reach = nn.Parameter(reaches.repeat(steps, 1))

    def forward(self, delta: Tensor, depth: Tensor, voxel: float, step: int = 0) -> Tensor:
        """
        Args:
            delta: (n,) metres behind the surface.
            depth: (n,) metres of the surface.
            voxel: edge in metres.
            step: which set of reaches, where there are several.

        Returns:
            (n,) weights.
        """
        if self.profile == "none":
            return torch.ones_like(delta)
        wider = (depth / self.widening_m).clamp(min=1) if self.widening_m else torch.ones_like(depth)
        if self.profile == "mlp":
            weights: Tensor = torch.sigmoid(self.layers((delta / (voxel * wider))[:, None]))[:, 0]
            return weights
        reaches = self.log_reach[min(step, len(self.log_reach) - 1)].exp().to(delta.dtype) * voxel
        behind = reaches[0] * wider
        if self.profile == "ramp":
            return torch.where(delta >= 0, (1 - delta / behind).clamp(min=0), 0.0)
        reach = torch.where(delta >= 0, behind, reaches[1] * wider)
        if self.profile == "gauss":
            return torch.exp(-delta.square() / (2 * reach.square()))
        return (1 - delta.abs() / reach).clamp(min=0)
