"""Which relations every voxel of a coarse volume has to every group of 2x2x2 voxels: the targets of the context prior."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.geometry.counting import byte_labels
from wholescene.labels import EMPTY, UNKNOWN

RELATIONS = {
    2: ("different", "same"),
    4: ("same class", "different classes", "both empty", "one empty"),
}


def relation_targets(labels: Tensor, relations: int = 4) -> Tensor:
    """Voxel to mega-voxel relations (MonoScene, section 3.3): each is true if any voxel of the mega voxel has it to the voxel in question.

    Only known voxels have relations; a voxel in the mega voxel counts in its own relations. Where an axis is odd, its last index is in no mega voxel.
    With four relations: same class and different classes among occupied voxels, both empty, exactly one empty. With two: different and same labels,
    where empty is a label as any other.

    Whether a voxel has a relation depends on its own label alone and on which labels the mega voxel holds. So a table over labels and mega voxels
    is made first, and every voxel takes the row of its label.

    Args:
        labels: (B, X, Y, Z) integers, 0 empty, 255 unknown.
        relations: 4 or 2, in the order of `RELATIONS`.

    Returns:
        (B, R, N, M) bool: N = X*Y*Z voxels and M = (X//2)*(Y//2)*(Z//2) mega voxels, both in C order.

    Raises:
        InputError: another number of relations, a volume without four axes, a label outside 0..255.
    """
    if relations not in RELATIONS:
        raise InputError(f"relation targets exist for 2 or 4 relations, not for {relations}")
    if labels.dim() != 4:
        raise InputError(f"coarse labels have shape {tuple(labels.shape)}, not (B, X, Y, Z)")
    labels = byte_labels(labels, "coarse labels")
    holds = _held_labels(labels)
    table = torch.stack(_relations4(holds) if relations == 4 else _relations2(holds), 1)
    table[:, :, UNKNOWN] = False
    own = labels.flatten(1).long()
    targets = table.new_empty(len(labels), relations, own.shape[1], table.shape[3])
    for sample, voxels in enumerate(own):
        torch.index_select(table[sample], 1, voxels, out=targets[sample])
    return targets


def _held_labels(labels: Tensor) -> Tensor:
    """(B, 256, M) bool: does mega voxel m hold a voxel of that label? Unknown ones are held by none."""
    B, X, Y, Z = labels.shape
    x, y, z = X // 2, Y // 2, Z // 2
    # (batch, mega x, child x, mega y, child y, mega z, child z) -> (batch, children, mega voxels)
    children = labels[:, : 2 * x, : 2 * y, : 2 * z].reshape(B, x, 2, y, 2, z, 2).permute(0, 2, 4, 6, 1, 3, 5).reshape(B, 8, x * y * z)
    holds = torch.zeros(B, 256, x * y * z, dtype=torch.bool, device=labels.device)
    holds.scatter_(1, children.long(), True)
    holds[:, UNKNOWN] = False
    return holds


def _relations2(holds: Tensor) -> tuple[Tensor, Tensor]:
    return _holds_another(holds), holds


def _relations4(holds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    empty, occupied = torch.zeros_like(holds), holds.clone()
    empty[:, EMPTY] = holds[:, EMPTY]
    occupied[:, EMPTY] = False
    different = _holds_another(occupied)
    different[:, EMPTY] = False
    one_empty = holds[:, EMPTY : EMPTY + 1].expand(holds.shape).clone()
    one_empty[:, EMPTY] = occupied.any(1)
    return occupied, different, empty, one_empty


def _holds_another(holds: Tensor) -> Tensor:
    """(B, 256, M) bool: does the mega voxel hold a label other than this one?"""
    return holds.sum(1, keepdim=True) > holds.long()
