"""Relations of coarse voxels to their neighbours, and the loss on what is told of them (MonoScene's section 3.3 in NDC-Scene's local form)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.geometry.counting import byte_labels
from wholescene.labels import EMPTY, UNKNOWN

NOT_TOLD = 255


def neighbour_relations(labels: Tensor, relations: int = 4, window: int = 9) -> Tensor:
    """Which relation every voxel has to each voxel of the cube around it: exactly one, where both are known.

    With four relations: same label and the neighbour empty, different and empty, same and occupied, different and occupied. With two: same and
    different. Empty is a label as any other.

    Args:
        labels: (B, X, Y, Z) integers, 0 empty, 255 unknown.
        relations: 4 or 2.
        window: edge of the cube, odd.

    Returns:
        (B, M, N) uint8: the relation's number, or 255 where either voxel is unknown or the neighbour lies outside. M = window^3 neighbours, the
        second axis slowest, then the third, then the first (as released); N voxels in C order.
    """
    labels = byte_labels(labels, "coarse labels")
    reach = window // 2
    cubes = F.pad(labels, (reach,) * 6, value=UNKNOWN)
    for axis in (1, 2, 3):
        cubes = cubes.unfold(axis, window, 1)
    neighbours = cubes.permute(0, 5, 6, 4, 1, 2, 3)  # (B, second, third, first, X, Y, Z)
    own = labels[:, None, None, None]
    found = (neighbours != own).to(torch.uint8)
    if relations == 4:
        found = found + 2 * (neighbours != EMPTY).to(torch.uint8)
    told = (neighbours != UNKNOWN) & (own != UNKNOWN)
    return torch.where(told, found, NOT_TOLD).flatten(1, 3).flatten(2)


def neighbour_relation_loss(logits: Tensor, relations: Tensor) -> Tensor:
    """Binary cross-entropy of each relation, over the pairs of which one is told; 0 if none is.

    Of R relations one holds and R - 1 do not, so the ones weigh R - 1 times as much (released code counts them anew each time).

    Args:
        logits: (B, R, M, N) float.
        relations: (B, M, N) uint8 as `neighbour_relations` gives them.

    Returns:
        scalar float32 (float64 for float64 logits).
    """
    count = logits.shape[1]
    values = logits if logits.dtype == torch.float64 else logits.float()
    numbers = torch.arange(count, device=logits.device).view(-1, 1, 1)
    holds = relations[:, None] == numbers
    told = (relations != NOT_TOLD)[:, None]
    surprise = F.binary_cross_entropy_with_logits(values, holds.to(values.dtype), reduction="none", pos_weight=values.new_tensor(count - 1.0))
    return (surprise * told).sum() / (count * told.sum()).clamp(min=1)
