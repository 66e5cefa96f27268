"""Frustums: the picture is cut into equal tiles, and a voxel lies in the frustum of the tile that its pixel falls in."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.geometry.counting import byte_labels, count_pairs

OUT_OF_VIEW = -1
_MOST_DIVISIONS = 181  # 181^2 - 1 is the last id that int16 holds
_MOST_PIXELS = 2**16  # an edge: up to there the float32 quotient below cannot reach the next whole number
_SLICE = 2**16  # voxels at a time, so that the temporaries stay in the cache


def frustum_ids(pixels: Tensor, in_view: Tensor, picture_size: tuple[int, int], divisions: int = 8) -> Tensor:
    """The frustum of every voxel (MonoScene, section 3.4), as one number instead of one mask a frustum.

    Tile (row, column) holds the pixels row*H/d <= v < (row+1)*H/d and column*W/d <= u < (column+1)*W/d; its frustum is row*d + column.

    Args:
        pixels: (..., 2) integers, rounded pixel (u right, v down) of each voxel centre, pixels of a picture of `picture_size`.
        in_view: (...) bool, pixel inside the picture and voxel before the camera; what `pixels` says elsewhere does not matter.
        picture_size: (W, H) in pixels.
        divisions: d, tiles along each edge of the picture.

    Returns:
        (...) int16: 0..d*d-1, or -1 out of view.

    Raises:
        InputError: shapes that do not fit, pixels that are not integers, a picture or a division out of range.
    """
    width, height = picture_size
    if pixels.shape != (*in_view.shape, 2) or pixels.is_floating_point() or in_view.dtype != torch.bool:
        raise InputError(
            f"frustums need integer pixels (..., 2) and a bool view mask (...); found {tuple(pixels.shape)} {pixels.dtype} and "
            f"{tuple(in_view.shape)} {in_view.dtype}"
        )
    if not (0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS and 0 < divisions <= _MOST_DIVISIONS):
        raise InputError(
            f"frustums of a {width}x{height} picture with {divisions} divisions: edges go from 1 to {_MOST_PIXELS}, divisions to {_MOST_DIVISIONS}"
        )
    ids = torch.empty(in_view.shape, dtype=torch.int16, device=pixels.device)
    parts = (tensor.split(_SLICE) for tensor in (pixels.reshape(-1, 2), in_view.reshape(-1), ids.view(-1)))
    for place, found, out in zip(*parts, strict=True):
        tile = _tile(place[:, 1], height, divisions).mul_(divisions).add_(_tile(place[:, 0], width, divisions))
        out.copy_(tile.add_(1).mul_(found).sub_(1))  # a product with the mask: several times faster than selecting by it
    return ids


def _tile(place: Tensor, edge: int, divisions: int) -> Tensor:
    """floor(divisions * place / edge) in float32: half a unit more keeps the quotient away from whole numbers by more than its rounding error."""
    return place.to(torch.float32).mul_(divisions).add_(0.5).div_(edge).floor_()


def frustum_class_counts(ids: Tensor, targets: Tensor, frustums: int, classes: int) -> Tensor:
    """How many known voxels of each class every frustum of every sample holds.

    Args:
        ids: (B, ...) integers, -1 or 0..frustums-1.
        targets: (B, ...) labels with as many voxels a sample, 0..classes-1 or 255 unknown.
        frustums: F.
        classes: K, with empty.

    Returns:
        (B, F, K) int64.

    Raises:
        InputError: another number of voxels, an id or a label out of range.
    """
    return count_known(ids, targets, frustums, classes)[:, :-1]


def count_known(ids: Tensor, targets: Tensor, frustums: int, classes: int) -> Tensor:
    """As `frustum_class_counts`, with one row more: (B, F + 1, K), where the last row counts the known voxels in no frustum."""
    if ids.shape[:1] != targets.shape[:1] or ids.numel() != targets.numel():
        raise InputError(f"frustum ids {tuple(ids.shape)} and targets {tuple(targets.shape)} are not of the same voxels")
    if ids.numel() and not OUT_OF_VIEW <= int(ids.min()) <= int(ids.max()) < frustums:
        raise InputError(f"frustum ids lie in {int(ids.min())}..{int(ids.max())}, not in -1..{frustums - 1}")
    columns = byte_labels(targets, "targets").flatten(1) + 1  # unknown wraps to column 0
    if columns.numel() and int(columns.max()) > classes:
        raise InputError(f"a target holds label {int(columns.max()) - 1}, which is neither one of the classes 0..{classes - 1} nor unknown (255)")
    rows = ids.flatten(1).to(torch.int16 if frustums < 2**15 - 1 else torch.int32) + 1  # out of view is row 0 here, and is turned to the end at last
    counts = torch.zeros(len(rows), frustums + 1, classes, dtype=torch.int64, device=targets.device)
    for sample, own in enumerate(rows):
        counts[sample] = count_pairs(own, columns[sample], (frustums + 1, classes + 1))[:, 1:].roll(-1, 0)
    return counts
