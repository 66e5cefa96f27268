"""Voxel pooling of lift and splat (Philion and Fidler, ECCV 2020, section 3.2): every cell's context, times its depth distribution, into voxels.

    volume[n] = sum over the frustum's points i in voxel n of depth[i] * context[cell(i)]

A point is a bin of a cell. The products (860,160 x 128 at full size, 420 MiB) never exist: a voxel is a bag of weighted rows of the map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.ops.choice import reference_forced, without_autocast
from wholescene.ops.counting import worth


@dataclass(frozen=True)
class VoxelBags:
    """Which points of a frustum lie in which voxel; geometry alone, so made once a batch.

    Attributes:
        points: (n,) int64, the points that lie in a voxel, ordered by voxel.
        starts: (N + 1,) int64, where each voxel's points begin, and their number at last.
    """

    points: Tensor
    starts: Tensor

    @classmethod
    def of(cls, voxels: Tensor, count: int) -> VoxelBags:
        """From the flat voxel of every point, (P,) int64, -1 for none, and the number of voxels N."""
        order = torch.argsort(voxels, stable=True)
        in_each = torch.bincount(voxels + 1, minlength=count + 1)
        starts = in_each.cumsum(0)
        return cls(order[int(in_each[0]) :], starts - in_each[0])


def splat(depth: Tensor, context: Tensor, bags: VoxelBags) -> Tensor:
    """The volume of one sample; `WHOLESCENE_OPS=reference` forces `reference`. Computed in float32 (float64 for float64 context).

    Args:
        depth: (K, h w) float, the distribution of each cell over K bins.
        context: (h w, C) float.
        bags: of the K h w points, bins first.

    Returns:
        (N, C) in the dtype of `context`; voxels without a point are 0.
    """
    kind = torch.float64 if context.dtype == torch.float64 else torch.float32
    with without_autocast(context.device), worth(bags.points.numel() * context.shape[1]):
        given = depth.to(kind), context.to(kind), bags
        if context.is_meta:
            return context.new_empty(len(bags.starts) - 1, context.shape[1])
        taken = reference(*given) if reference_forced() or context.device.type != "cpu" else cpu(*given)
        return taken.to(context.dtype)


def reference(depth: Tensor, context: Tensor, bags: VoxelBags) -> Tensor:
    """The specification: all products, added where they belong. Arguments as `splat`, of one float dtype."""
    products = depth.reshape(-1)[bags.points, None] * context[bags.points % len(context)]
    count = len(bags.starts) - 1
    voxels = torch.repeat_interleave(torch.arange(count, device=context.device), bags.starts.diff())
    return context.new_zeros(count, context.shape[1]).index_add(0, voxels, products)


def cpu(depth: Tensor, context: Tensor, bags: VoxelBags) -> Tensor:
    """The same as bags of rows; nothing of the size points x channels in either direction. Arguments as `reference`."""
    shares = depth.reshape(-1).index_select(0, bags.points)
    return F.embedding_bag(bags.points % len(context), context, bags.starts[:-1], per_sample_weights=shares, mode="sum")
