"""NDC-Scene's 2D half: picture -> frustum volume in normalised device coordinates -> what it holds where each voxel lies (sections 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wholescene.backbones.efficientnet import EfficientNet
from wholescene.geometry.selecting import indices_of
from wholescene.structures import Batch, Lifted
from wholescene.systems.base import normalise
from wholescene.systems.halves import Half2D
from wholescene.systems.ndcscene.config import NDCSceneConfig
from wholescene.systems.ndcscene.decoder import DualDecoder, FrustumLevel
from wholescene.systems.ndcscene.momentum import set_momentum
from wholescene.systems.ndcscene.sight import Sight, sight_of

_TAPS = ("blocks.1", "blocks.2", "blocks.4", "conv_head")  # strides 4, 8, 16, 32


class FrustumEncoder(nn.Module):
    """EfficientNet trunk and dual decoder."""

    def __init__(self, config: NDCSceneConfig) -> None:
        super().__init__()
        recompute = config.activation_checkpointing
        self.frozen_norms = config.frozen_norms
        self.trunk = EfficientNet(config.encoder, _TAPS, activation_checkpointing=recompute)
        self.decoder = DualDecoder(self.trunk.widths, config.features, config.slices, activation_checkpointing=recompute)
        set_momentum(self.decoder, config.norm_momentum)

    def train(self, mode: bool = True) -> FrustumEncoder:
        """As every module, but frozen norms of the trunk stay in eval."""
        super().train(mode)
        if self.frozen_norms:
            for module in self.trunk.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, picture: Tensor) -> list[FrustumLevel]:
        """(B, 3, H, W) normalised to levels of strides 32, 16, 8 and 4."""
        levels: list[FrustumLevel] = self.decoder(self.trunk(picture))
        return levels


class NormalisedSampling(nn.Module):
    """Every voxel in view reads all levels at its pixel and depth, trilinearly; the sum passes a convolution, a norm and an activation.

    A level's own 1x1x1 convolution to the common width stands before the reading or after it, whichever has fewer places: both are linear, and the
    weights of a reading sum to one. Voxels out of view read 0, so all of them leave with the same features.
    """

    folds = (("conv", "norm"),)

    def __init__(self, widths: Sequence[int], out: int) -> None:
        """
        Args:
            widths: channels of the levels, coarsest first.
            out: of the lifted volume.
        """
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv3d(width, out, 1) for width in widths)
        self.conv = nn.Conv3d(out, out, 1)
        self.norm = nn.BatchNorm3d(out)

    def forward(self, levels: Sequence[FrustumLevel], sight: Sight, shape: Sequence[int]) -> Tensor:
        """
        Args:
            levels: coarsest first.
            sight: of N voxels.
            shape: (X, Y, Z) with X * Y * Z = N.

        Returns:
            (B, out, X, Y, Z).
        """
        return F.leaky_relu_(self.norm(self.conv(self.read(levels, sight).unflatten(2, tuple(shape)))), 0.01)

    def read(self, levels: Sequence[FrustumLevel], sight: Sight) -> Tensor:
        """(B, out, N), the sum over the levels, 0 out of view."""
        visible = [indices_of(mask) for mask in sight.in_view]
        slices = levels[-1].shape[0]
        sums: list[Tensor | None] = [None] * len(visible)
        for narrow, level in zip(self.narrow, levels, strict=True):
            places = [_places(sight, sample, seen, level, slices) for sample, seen in enumerate(visible)]
            for sample, read in enumerate(_read_level(narrow, level, places)):
                held = sums[sample]
                sums[sample] = read if held is None else held + read
        volumes = []
        for seen, rows in zip(visible, sums, strict=True):
            assert rows is not None
            volumes.append(rows.new_zeros(rows.shape[1], sight.in_view.shape[1]).index_copy(1, seen, rows.T))
        return torch.stack(volumes)


def _places(sight: Sight, sample: int, seen: Tensor, level: FrustumLevel, slices: int) -> Tensor:
    """(n, 3) float32, where the seen voxels of a sample stand in cells of a level (depth, row, column); clamped to its outermost cells."""
    u, v = sight.pixels[sample, seen].unbind(-1)
    depth = sight.depth[sample, seen] * ((slices - 1) * level.shape[0] / slices)
    places = torch.stack([depth, v / level.stride, u / level.stride], -1)
    last = torch.tensor(level.shape, dtype=places.dtype, device=places.device) - 1
    return places.clamp(min=0).minimum(last).float()


def _read_level(narrow: nn.Module, level: FrustumLevel, places: Sequence[Tensor]) -> list[Tensor]:
    """(n, out) for each sample, from a level that comes in slabs along depth."""
    depth, height, width = level.shape
    before = depth * height * width <= sum(len(p) for p in places)
    found: list[Tensor | None] = [None] * len(places)
    for first, window in _windows(narrow(slab) if before else slab for slab in level.slabs):
        stop = first + window.shape[2] - 1 if first + window.shape[2] < depth else depth
        for sample, where in enumerate(places):
            slice_of = where[:, 0].floor()
            chosen = indices_of((slice_of >= first) & (slice_of < stop))
            rows = trilinear(window[sample], where[chosen] - where.new_tensor([first, 0, 0]))
            rows = rows if before else _at_points(narrow, rows)
            held = found[sample]
            held = rows.new_zeros(len(where), rows.shape[1]) if held is None else held
            found[sample] = held.index_copy(0, chosen, rows) if torch.is_grad_enabled() else held.index_copy_(0, chosen, rows)
    return [rows for rows in found if rows is not None]


def _windows(slabs: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Each slab with the last slice of the one before, and the number of its first slice: so every voxel finds both its slices in one of them."""
    start, held = 0, None
    for slab in slabs:
        window = slab if held is None else torch.cat([held, slab], 2)
        first = start - (held is not None)
        start += slab.shape[2]
        held = slab[:, :, -1:].clone()
        del slab
        yield first, window


def _at_points(narrow: nn.Module, rows: Tensor) -> Tensor:
    """A 1x1x1 convolution of rows (n, C)."""
    assert isinstance(narrow, nn.Conv3d)
    return F.linear(rows, narrow.weight.flatten(1), narrow.bias)


def trilinear(volume: Tensor, places: Tensor) -> Tensor:
    """What a volume holds between the centres of its cells.

    Args:
        volume: (C, D, h, w).
        places: (n, 3) float, (depth, row, column) in cells, cell i's centre being i; between the outermost centres.

    Returns:
        (n, C) float32 (float64 for float64).
    """
    wide = volume if volume.dtype == torch.float64 else volume.float()
    shape = torch.tensor(volume.shape[1:], device=volume.device)
    low = places.floor().long().clamp(min=0).minimum(shape - 1)
    high = (low + 1).minimum(shape - 1)
    share = places.to(wide.dtype) - low
    corners, weights = [], []
    for corner in range(8):
        far = torch.tensor([bool(corner & 4), bool(corner & 2), bool(corner & 1)], device=volume.device)
        depth, row, column = torch.where(far, high, low).unbind(-1)
        corners.append((depth * shape[1] + row) * shape[2] + column)
        weights.append(torch.where(far, share, 1 - share).prod(-1))
    cells = wide.flatten(1).T.contiguous()  # (cells, C): a corner is one contiguous row
    return F.embedding_bag(torch.stack(corners, -1), cells, mode="sum", per_sample_weights=torch.stack(weights, -1))


class FrustumLift(Half2D):
    """Trunk, dual decoder, and the reading of the frustum volume by voxels of the scene."""

    def __init__(self, config: NDCSceneConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.factor = config.features, config.lift_factor
        self.encoder = FrustumEncoder(config)
        self.lift = NormalisedSampling(self.encoder.decoder.widths, config.features)
        set_momentum(self.lift, config.norm_momentum)

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z) on the grid that is `lift_factor` times coarser than the batch's."""
        grids = tuple(grid.coarser(self.factor) for grid in batch.grids)
        sight = sight_of(batch, self.factor, self.config)
        levels = self.encoder(normalise(batch.pictures["main"], self.config.preparation))
        return Lifted(self.lift(levels, sight, grids[0].shape), grids)
