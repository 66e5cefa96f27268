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
    """The same tap by tap, so that without gradients one reading of the map is held and not nine; a cell's channels lie side by side, so that the
    four corners of a place are four rows, summed as they are read. Arguments as `reference`."""
    groups = x.shape[1] // weight.shape[1]
    filters = weight.flatten(2).unflatten(0, (groups, -1)).permute(3, 0, 2, 1).contiguous()  # (taps, groups, C / groups, O / groups)
    places = _places(offsets, weight, padding)
    made = [_convolved(one, [(y[i].flatten(), u[i].flatten()) for y, u in places], filters) for i, one in enumerate(x)]
    return torch.stack(made).unflatten(2, offsets.shape[-2:])


def _convolved(x: Tensor, places: list[tuple[Tensor, Tensor]], filters: Tensor) -> Tensor:
    """One map (C, h, w), a place (n,) and (n,) a tap, to (O, n)."""
    cells = torch.cat([x.flatten(1).T, x.new_zeros(1, len(x))])  # the last row is what lies outside
    total: Tensor | None = None
    for own, (y, u) in zip(filters, places, strict=True):
        corners, shares = _corners(y, u, x.shape[1], x.shape[2])
        rows = F.embedding_bag(corners, cells, mode="sum", per_sample_weights=shares)
        made = torch.matmul(rows.unflatten(1, (len(own), -1)).transpose(0, 1), own)  # (groups, n, O / groups)
        total = made if total is None else total.add_(made)
    assert total is not None
    return total.transpose(1, 2).flatten(0, 1)


def _corners(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four cells around each place (n,) of a map, (n, 4) int64, `height * width` for one outside; and their shares (n, 4)."""
    top, left = y.detach().floor(), x.detach().floor()
    below, right = y - top, x - left
    rows, columns = torch.stack([top, top, top + 1, top + 1], 1), torch.stack([left, left + 1, left, left + 1], 1)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    shares = torch.stack([(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right], 1)
    return torch.where(inside, rows * width + columns, height * width).long(), shares


def _read(x: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
    """A map (B, C, h, w) at (y, x) in cells, (B, h', w') each: (B, C, h', w')."""
    edges = torch.tensor((x.shape[3], x.shape[2]), dtype=x.dtype, device=x.device)
    return F.grid_sample(x, (2 * torch.stack(place[::-1], -1) + 1) / edges - 1, align_corners=False)


def _places(offsets: Tensor, weight: Tensor, padding: int) -> list[tuple[Tensor, Tensor]]:
    """(y, x), each (B, h', w') in cells, that every tap reads."""
    rows, columns = (torch.arange(n, dtype=offsets.dtype, device=offsets.device) for n in offsets.shape[-2:])
    taps = product(range(weight.shape[2]), range(weight.shape[3]))
    return [(rows[:, None] + (i - padding) + offsets[:, 2 * t], columns + (j - padding) + offsets[:, 2 * t + 1]) for t, (i, j) in enumerate(taps)]
