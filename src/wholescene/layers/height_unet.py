"""LMSCNet's network (Roldao, de Charette and Verroust-Blondet, 3DV 2020, section 3.1): a 2D UNet over the ground whose channels are heights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.layers.checkpoint import run

SCALES = (1, 2, 4, 8)
_GROWTH = (1.0, 1.5, 2.0, 2.5)  # widths of the descent over the number of slices


class Descent(nn.Module):
    """Halves the map where asked for, then two 3x3 convolutions with ReLU; no norms."""

    def __init__(self, width: int, out: int, *, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = nn.Conv2d(width, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, X, Y) to (B, out, X, Y), or half of each side."""
        if self.halves:
            x = F.max_pool2d(x, 2)
        return F.relu_(self.conv2(F.relu_(self.conv1(x))))


class HeightUNet(nn.Module):
    """Occupancy slice by slice to one map a scale, whose channels are the heights of the coarser grid (figure 2).

    Every scale's map is seen by all finer ones, through transposed convolutions that reach them in one step.
    """

    def __init__(self, slices: int, finest: int = 1, *, activation_checkpointing: bool = False) -> None:
        """
        Args:
            slices: heights Z of the grid, a multiple of 8.
            finest: the last scale that is made; VoxFormer's query proposals end at 2.
            activation_checkpointing: of the descent.

        Raises:
            InputError: slices that cannot be halved three times, or an unknown scale.
        """
        super().__init__()
        if slices < 8 or slices % 8 or finest not in SCALES[:-1]:
            raise InputError(
                f"the height UNet wants a multiple of 8 heights, halved three times, and ends at scale 1, 2 or 4; found {slices} and {finest}"
            )
        self.activation_checkpointing = activation_checkpointing
        self.scales = tuple(s for s in reversed(SCALES) if s >= finest)  # the order in which they are made
        widths = [int(slices * growth) for growth in _GROWTH]
        heights = {scale: slices // scale for scale in SCALES}
        self.down: Sequence[Descent] = nn.ModuleList(  # type: ignore[assignment]
            [Descent(slices, widths[0], halves=False), *(Descent(a, b, halves=True) for a, b in pairwise(widths))]
        )
        self.out, self.join, self.enlarge, self.leap = (nn.ModuleDict() for _ in range(4))
        for coarser, scale in pairwise(self.scales):
            self.enlarge[str(coarser)] = nn.ConvTranspose2d(heights[coarser], heights[coarser], 6, 2, 2)
            leaps = [s for s in (4, 8) if s > coarser]
            for leap in leaps:
                self.leap[f"{leap}_{scale}"] = nn.ConvTranspose2d(heights[leap], heights[leap], leap // scale, leap // scale)
            width = widths[SCALES.index(scale)]
            joined = heights[coarser] + width + sum(heights[leap] for leap in leaps)
            self.join[str(scale)] = nn.Conv2d(joined, width, 3, padding=1)
        for scale in self.scales:
            if scale > 1:  # at scale 1 there already are as many channels as heights
                self.out[str(scale)] = nn.Conv2d(widths[SCALES.index(scale)], heights[scale], 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """Plain convolutions as released: uniform by fan-in (He et al., ICCV 2015), biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one

    def forward(self, occupancy: Tensor) -> dict[int, Tensor]:
        """
        Args:
            occupancy: (B, Z, X, Y) float, 1 where occupied; X and Y multiples of 8.

        Returns:
            scale s -> (B, Z / s, X / s, Y / s), coarsest first.
        """
        skips = {}
        x = occupancy
        for scale, block in zip(SCALES, self.down, strict=True):
            x = skips[scale] = run(block, x, recompute=self.activation_checkpointing)
        maps = {8: self.out["8"](x)}
        for coarser, scale in pairwise(self.scales):
            leaps = [self.leap[f"{s}_{scale}"](maps[s]) for s in (4, 8) if s > coarser]
            parts = [self.enlarge[str(coarser)](maps[coarser]), skips[scale], *leaps]
            joined = F.relu(self.join[str(scale)](torch.cat(parts, 1)))
            maps[scale] = self.out[str(scale)](joined) if scale > 1 else joined
        return maps
