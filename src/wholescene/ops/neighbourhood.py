"""Neighbourhood attention (Hassani et al., CVPR 2023) between two maps: every cell attends to a window around it that is shifted to stay inside.

out[i] = sum over the window's cells j of softmax_j(q_i . k_j + bias[j - i]) * v_j
"""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.ops.choice import reference_forced, without_autocast
from wholescene.ops.counting import worth


def neighbourhood_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """One head of it; `WHOLESCENE_OPS=reference` forces `reference`. Computed in float32 (float64 for float64) whatever autocast says.

    Args:
        q, k, v: (B, h, w, C) float, q scaled.
        bias: (2 n - 1, 2 n - 1) for a window of n x n cells, by the offset of the key's row and column from the query's, plus n - 1. A map that
            is smaller than the window along an axis is seen whole along it.

    Returns:
        (B, h, w, C) in the dtype of `v`.

    Raises:
        InputError: a bias that is not square with an odd edge.
    """
    if bias.dim() != 2 or bias.shape[0] != bias.shape[1] or bias.shape[0] % 2 == 0:
        raise InputError(f"neighbourhood attention wants a bias (2 n - 1, 2 n - 1) for windows of n x n cells; found {tuple(bias.shape)}")
    kind = torch.float64 if v.dtype == torch.float64 else torch.float32
    size = (len(bias) + 1) // 2
    with without_autocast(v.device), worth(2 * v.numel() * min(size, v.shape[1]) * min(size, v.shape[2])):
        given = q.to(kind), k.to(kind), v.to(kind), bias.to(kind)
        return (reference(*given) if reference_forced() else shifted(*given)).to(v.dtype)


def reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The specification: scores of all pairs of cells, those outside the window masked. Arguments as `neighbourhood_attention`, of one dtype."""
    _, h, w, _ = q.shape
    size = (len(bias) + 1) // 2
    rows, columns = (_window(n, size, q.device) for n in (h, w))
    at = [torch.arange(n, device=q.device) for n in (h, w)]
    sees_row, sees_column = ((window[:, :, None] == places).any(1) for window, places in zip((rows, columns), at, strict=True))
    row_off, column_off = (torch.clamp(places - places[:, None] + size - 1, 0, 2 * size - 2) for places in at)  # (query, key)
    scores = torch.einsum("byxc,bmnc->byxmn", q, k) + bias[row_off[:, None, :, None], column_off[None, :, None, :]]
    scores = scores.masked_fill(~(sees_row[:, None, :, None] & sees_column[None, :, None, :]), -torch.inf)
    return torch.einsum("byxmn,bmnc->byxc", scores.flatten(3).softmax(-1).view_as(scores), v)


def shifted(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Place by place of the window: at each, the map of what all cells see there. One map at a time where no gradient is recorded."""
    _, h, w, _ = q.shape
    size = (len(bias) + 1) // 2
    rows, columns = (_window(n, size, q.device) for n in (h, w))
    row_off, column_off = (window - torch.arange(len(window), device=q.device)[:, None] + size - 1 for window in (rows, columns))
    places = [(i, j) for i in range(rows.shape[1]) for j in range(columns.shape[1])]

    def seen(values: Tensor, i: int, j: int) -> Tensor:
        return values.index_select(1, rows[:, i]).index_select(2, columns[:, j])

    scores = [(q * seen(k, i, j)).sum(-1) + bias[row_off[:, i, None], column_off[:, j]] for i, j in places]
    shares = torch.stack(scores, -1).softmax(-1)
    out = torch.zeros_like(v)
    for index, (i, j) in enumerate(places):
        out = torch.addcmul(out, shares[..., index, None], seen(v, i, j))
    return out


def _window(length: int, size: int, device: torch.device) -> Tensor:
    """(length, min(size, length)) int64, the indices along one axis that each cell's window holds."""
    size = min(size, length)
    first = (torch.arange(length, device=device) - size // 2).clamp(0, length - size)
    return first[:, None] + torch.arange(size, device=device)
