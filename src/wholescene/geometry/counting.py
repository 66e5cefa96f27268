"""Joint counts of two integer volumes (frustums by class, truth by prediction, blocks by label), and the check of labels before they are counted."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.labels import UNKNOWN


def byte_labels(labels: Tensor, what: str) -> Tensor:
    """Labels of any integer type (any shape) as uint8; `what` names them in the error.

    Raises:
        InputError: labels that are not integers in 0..255.
    """
    if labels.dtype == torch.uint8:
        return labels
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"{what} are {labels.dtype}, not integers in 0..255; convert them to uint8")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= UNKNOWN:
        raise InputError(f"{what} lie in {int(labels.min())}..{int(labels.max())}, not in 0..255; map raw ids to classes first")
    return labels.to(torch.uint8)


def count_pairs(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """How often each pair (row, column) occurs.

    Args:
        rows: any shape, integers 0..R-1; the caller has checked the range.
        columns: the same shape, integers 0..C-1.
        shape: (R, C).

    Returns:
        (R, C) int64.
    """
    bins = shape[0] * shape[1]
    # narrow keys: the time goes into moving them
    kind = torch.int16 if bins < 2**15 else torch.int32 if bins < 2**31 else torch.int64
    keys = rows.to(kind).mul(shape[1]).add_(columns)
    return torch.bincount(keys.reshape(-1), minlength=bins).view(shape)
