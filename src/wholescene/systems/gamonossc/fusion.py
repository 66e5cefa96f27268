"""Line-of-sight projection of every scale and modality, and their fusion into one volume (supplement A.2, equation 1; the weights are a reader's)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wholescene.layers.dpt import LEVELS
from wholescene.layers.sight_sampling import footprint, read_between


class ScaleAttention(nn.Module):
    """A weight for every scale and channel of one modality: sigmoid(MLP(the volumes of all scales, averaged over the grid))."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, LEVELS * width // reduction)
        self.reduce = nn.Linear(LEVELS * width, inner)
        self.expand = nn.Linear(inner, LEVELS * width)
        nn.init.zeros_(self.expand.bias)

    def forward(self, averages: Tensor) -> Tensor:
        """(scales, C) to the same."""
        weights: Tensor = self.expand(torch.relu(self.reduce(averages.flatten()))).sigmoid()
        return weights.view_as(averages)


class ScaleFusion(nn.Module):
    """The sum over scales and modalities of weight times volume, where each volume holds for every voxel the feature of its pixel.

    Reading a map is linear. So a scale's average over the grid is its map times how much each cell is read, the weights act on the maps, and both
    modalities are read together: no volume is ever held beside the one that leaves.
    """

    def __init__(self, width: int, modalities: Sequence[str], reduction: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({name: ScaleAttention(width, reduction) for name in modalities})

    def forward(
        self, maps: Mapping[str, Sequence[Tensor]], shares: Sequence[Tensor], visible: Sequence[Tensor], shape: Sequence[int],
        gates: Sequence[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """
        Args:
            maps: modality -> four maps (B, C, h, w), finest first.
            shares: for each frame (n, 2), where its visible voxels fall, as shares of the picture's width and height.
            visible: for each frame (n) flat indices of those voxels.
            shape: (X, Y, Z).
            gates: for each frame (n), what geometric features of a voxel are multiplied with; None: ones.

        Returns:
            (B, C, X, Y, Z), zero where the picture does not hold the voxel.
        """
        volumes = []
        voxels = shape[0] * shape[1] * shape[2]
        for frame, (places, rows) in enumerate(zip(shares, visible, strict=True)):
            own = {name: [level[frame] for level in levels] for name, levels in maps.items()}
            gate = None if gates is None else gates[frame]
            weighted = {name: self._weighted(name, levels, places, voxels, gate if name == "geometric" else None) for name, levels in own.items()}
            read = self._read(weighted, places, gate)
            volumes.append(read.new_zeros(read.shape[1], voxels).index_copy(1, rows, read.T))
        return torch.stack(volumes).unflatten(2, tuple(shape))

    def _weighted(self, name: str, levels: list[Tensor], places: Tensor, voxels: int, gate: Tensor | None) -> list[Tensor]:
        """The maps of one modality (C, h, w) times their weights."""
        sums = [level.flatten(1).float() @ footprint(places, (level.shape[1], level.shape[2]), gate).flatten() for level in levels]
        weights = self.attention[name](torch.stack(sums) / voxels)
        return [level * weight[:, None, None] for level, weight in zip(levels, weights, strict=True)]

    @staticmethod
    def _read(weighted: Mapping[str, list[Tensor]], places: Tensor, gate: Tensor | None) -> Tensor:
        """(n, C): what the visible voxels read, summed over scales and modalities."""
        if gate is None:
            together = [sum(levels[1:], levels[0]) for levels in zip(*weighted.values(), strict=True)]
            return _sum_of(together, places)
        return _sum_of(weighted["semantic"], places) + gate[:, None] * _sum_of(weighted["geometric"], places)


def _sum_of(levels: Sequence[Tensor], places: Tensor) -> Tensor:
    total = read_between(levels[0], places)
    for level in levels[1:]:
        total = total + read_between(level, places)
    return total
