"""The depth loss: how far the distribution is from a normal one around the true depth of each cell (CGFormer, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.errors import InputError
from wholescene.geometry.sweeps import depth_of_points
from wholescene.structures import Batch
from wholescene.systems.cgformer.config import GeometryConfig
from wholescene.systems.cgformer.encoder import STRIDE
from wholescene.systems.cgformer.stereo import nearest_of_cells

_EPSILON = 1e-4  # added to predicted probabilities (released)


def depth_target(batch: Batch, cells: Sequence[int]) -> Tensor:
    """(B, h, w) metres, the smallest true depth of each cell: of the frames' points, else of their depth target, else of the depth they were given.
    1e5 where there is none.

    Raises:
        InputError: frames with none of them.
    """

    def make() -> Tensor:
        maps = _true_depth(batch)
        height, width = (n * STRIDE for n in cells)
        padded = torch.stack([F.pad(one, (0, width - one.shape[1], 0, height - one.shape[0])) for one in maps])
        return nearest_of_cells(padded, torch.isfinite(padded) & (padded > 0))

    return batch.once(("depth target", tuple(cells)), make)


def _true_depth(batch: Batch) -> Sequence[Tensor]:
    if batch.points is not None:
        return [depth_of_points(points, camera) for points, camera in zip(batch.points, batch.cameras["main"], strict=True)]
    found = batch.depth_target if batch.depth_target is not None else batch.depth
    if found is None:
        raise InputError(f"frames {', '.join(batch.names)} have no points, no depth target and no depth, so there is no depth loss; give one of them")
    return list(found)


def target_distribution(depth: Tensor, config: GeometryConfig) -> Tensor:
    """(..., bins): the mass of a normal distribution around each depth (...) in metres, of one bin's deviation, that falls in each bin.

    As released, mean and deviation are in bins but the edges in metres: the peak then lies at twice the depth and is two bins wide.
    """
    edges = config.depth_range[0] + config.depth_step * torch.arange(config.depth_bins + 1, dtype=depth.dtype, device=depth.device)
    if config.depth_target == "centred":
        edges = edges / config.depth_step
    below = torch.special.ndtr(edges - depth[..., None] / config.depth_step)
    return below.diff(dim=-1)


def depth_loss(distribution: Tensor, depth: Tensor, config: GeometryConfig) -> Tensor:
    """Kullback-Leibler divergence of the predicted from the target distribution, averaged over the cells whose depth lies between the first and the
    last bin; 0 where none does.

    Args:
        distribution: (B, bins, h, w).
        depth: (B, h, w) metres.
        config: bins, and which target.
    """
    last = config.depth_near + config.depth_step * (config.depth_bins - 1)
    told = (depth >= config.depth_near) & (depth <= last)
    target = target_distribution(depth[told].float(), config)
    predicted = distribution.float().movedim(1, -1)[told]
    return (torch.xlogy(target, target) - target * (predicted + _EPSILON).log()).sum() / told.sum().clamp(min=1)
