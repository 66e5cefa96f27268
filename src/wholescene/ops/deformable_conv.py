"""Deformable convolution (Dai et al., ICCV 2017, equation 2): every tap of the kernel reads beside its place, by an offset of the picture's own.

    out[y, x] = sum over taps t of weight_t . map(y + t_y - pad + dy_t(y, x), x + t_x - pad + dx_t(y, x))

map(.) interpolates bilinearly and is zero outside. Stride 1, one group of offsets, no modulation (version 1).
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.errors import InputError
from wholescene.ops.choice import reference_forced, without_autocast


def deformable_convolution(x: Tensor, offsets: Tensor, weight: Tensor, padding: int = 1) -> Tensor:
    """The convolution; `WHOLESCENE_OPS=reference` forces `reference`. Computed in float32 (float64 for float64) whatever autocast says.

    Args:
        x: (B, C, h, w) float.
        offsets: (B, 2 kh kw, h', w') in cells, (dy, dx) of each tap, taps row by row; h' = h + 2 padding - kh + 1, and likewise w'.
        weight: (O, C / groups, kh, kw); the groups follow from its shape.
        padding: cells of zeros on each side.

    Returns:
        (B, O, h', w') in the dtype of `x`.

    Raises:
        InputError: shapes that do not belong together.
    """
    B, C, h, w = x.shape
    kh, kw = weight.shape[-2:]
    size = (h + 2 * padding - kh + 1, w + 2 * padding - kw + 1)
    if offsets.shape != (B, 2 * kh * kw, *size) or C % weight.shape[1] or weight.shape[0] % (C // weight.shape[1]):
        raise InputError(
            f"deformable convolution of {tuple(x.shape)} by {tuple(weight.shape)} wants offsets {(B, 2 * kh * kw, *size)} and whole groups of "
            f"channels; found offsets {tuple(offsets.shape)}"
        )
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    with without_autocast(x.device):
        given = x.to(kind), offsets.to(kind), weight.to(kind), padding
        if x.is_meta:
            return x.new_empty(B, len(weight), *size)
        return (reference(*given) if reference_forced() or x.device.type != "cpu" else cpu(*given)).to(x.dtype)


def reference(x: Tensor, offsets: Tensor, weight: Tensor, padding: int = 1) -> Tensor:
    """The specification: `grid_sample` for every tap, then an ordinary product. Arguments as `deformable_convolution`, of one float dtype."""
    edges = torch.tensor((x.shape[3], x.shape[2]), dtype=x.dtype, device=x.device)
    taps = []
    for place in _places(offsets, weight, padding):
        grid = (2 * torch.stack(place[::-1], -1) + 1) / edges - 1
        taps.append(F.grid_sample(x, grid, align_corners=False))
    return _joined(torch.stack(taps, 2), weight)


def cpu(x: Tensor, offsets: Tensor, weight: Tensor, padding: int = 1) -> Tensor:
    """The same with every reading a bag of four weighted rows of the padded map, which keeps the places exact. Arguments as `reference`."""
    B, _, h, w = x.shape
    maps = F.pad(x.movedim(1, -1), (0, 0, 1, 2, 1, 2)).flatten(1, 2)  # zeros around: a place outside is moved to the nearest
    taps = []
    for y, across in _places(offsets, weight, padding):
        y, across = (y + 1).clamp(0, h + 1), (across + 1).clamp(0, w + 1)
        top, left = y.detach().floor(), across.detach().floor()
        down, right = (y - top).flatten(1), (across - left).flatten(1)
        first = (top * (w + 3) + left).long().flatten(1)
        rows = torch.stack([first, first + 1, first + w + 3, first + w + 4], -1)
        shares = torch.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], -1)
        read = [F.embedding_bag(rows[b], maps[b], per_sample_weights=shares[b], mode="sum") for b in range(B)]
        taps.append(torch.stack(read).transpose(1, 2).unflatten(2, y.shape[1:]))
    return _joined(torch.stack(taps, 2), weight)


def _places(offsets: Tensor, weight: Tensor, padding: int) -> list[tuple[Tensor, Tensor]]:
    """(y, x), each (B, h', w') in cells, that every tap reads."""
    rows, columns = (torch.arange(n, dtype=offsets.dtype, device=offsets.device) for n in offsets.shape[-2:])
    taps = product(range(weight.shape[2]), range(weight.shape[3]))
    return [(rows[:, None] + (i - padding) + offsets[:, 2 * t], columns + (j - padding) + offsets[:, 2 * t + 1]) for t, (i, j) in enumerate(taps)]


def _joined(taps: Tensor, weight: Tensor) -> Tensor:
    """(B, C, taps, h', w') and the weight to (B, O, h', w')."""
    B, C, _, h, w = taps.shape
    groups = C // weight.shape[1]
    parts = taps.reshape(B, groups, -1, h * w)
    return torch.matmul(weight.reshape(groups, len(weight) // groups, -1), parts).reshape(B, len(weight), h, w)
