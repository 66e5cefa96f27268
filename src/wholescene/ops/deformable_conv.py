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
    """The specification: all taps read, then one product. Arguments as `deformable_convolution`, of one float dtype."""
    B, C = x.shape[:2]
    taps = torch.stack([_read(x, place) for place in _places(offsets, weight, padding)], 2)  # (B, C, taps, h', w')
    groups = C // weight.shape[1]
    out = torch.matmul(weight.reshape(groups, len(weight) // groups, -1), taps.reshape(B, groups, -1, taps.shape[3] * taps.shape[4]))
    return out.reshape(B, len(weight), *taps.shape[3:])


def cpu(x: Tensor, offsets: Tensor, weight: Tensor, padding: int = 1) -> Tensor:
    """The same tap by tap, so that without gradients one reading of the map is held and not nine. Arguments as `reference`."""
    groups = x.shape[1] // weight.shape[1]
    filters = weight.flatten(2).unflatten(0, (groups, -1)).movedim(-1, 0).contiguous()  # (taps, groups, O / groups, C / groups)
    total: Tensor | None = None
    for own, place in zip(filters, _places(offsets, weight, padding), strict=True):
        made = torch.matmul(own, _read(x, place).flatten(2).unflatten(1, (groups, -1)))
        total = made if total is None else total.add_(made)
    assert total is not None
    return total.flatten(1, 2).unflatten(2, offsets.shape[-2:])


def _read(x: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
    """A map (B, C, h, w) at (y, x) in cells, (B, h', w') each: (B, C, h', w')."""
    edges = torch.tensor((x.shape[3], x.shape[2]), dtype=x.dtype, device=x.device)
    return F.grid_sample(x, (2 * torch.stack(place[::-1], -1) + 1) / edges - 1, align_corners=False)


def _places(offsets: Tensor, weight: Tensor, padding: int) -> list[tuple[Tensor, Tensor]]:
    """(y, x), each (B, h', w') in cells, that every tap reads."""
    rows, columns = (torch.arange(n, dtype=offsets.dtype, device=offsets.device) for n in offsets.shape[-2:])
    taps = product(range(weight.shape[2]), range(weight.shape[3]))
    return [(rows[:, None] + (i - padding) + offsets[:, 2 * t], columns + (j - padding) + offsets[:, 2 * t + 1]) for t, (i, j) in enumerate(taps)]
