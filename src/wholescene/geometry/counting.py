"""Joint counts of two integer volumes: frustums by class, truth by prediction, blocks by label are all this one table."""

from __future__ import annotations

import torch
from torch import Tensor


def count_pairs(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """How often each pair (row, column) occurs.

    Args:
        rows: any shape, integers 0..R-1; the caller has checked the range.
        columns: the same shape, integers 0..C-1.
        shape: (R, C).

    Returns:
        (R, C) int64.
    """
    most_rows, most_columns = shape
    # int32 halves the memory traffic of the keys, which is what the time goes into
    kind = torch.int32 if most_rows * most_columns < 2**31 else torch.int64
    keys = rows.to(kind, copy=True).mul_(most_columns).add_(columns)
    return torch.bincount(keys.reshape(-1), minlength=most_rows * most_columns).view(shape)
