"""Neighbourhood attention against a loop over cells, on maps larger than, as large as and smaller than the window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.ops.neighbourhood import neighbourhood_attention, reference, shifted


def forged(h: int, w: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(h * w)
    maps = [torch.randn(2, h, w, 3, dtype=torch.float64, generator=random).requires_grad_() for _ in range(3)]
    return maps[0], maps[1], maps[2], torch.randn(2 * size - 1, 2 * size - 1, dtype=torch.float64, generator=random).requires_grad_()


def slow(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    B, h, w, _ = q.shape
    size = (len(bias) + 1) // 2
    rows, columns = min(size, h), min(size, w)
    out = torch.zeros_like(v)
    for b in range(B):
        for y in range(h):
            for x in range(w):
                top, left = min(max(y - size // 2, 0), h - rows), min(max(x - size // 2, 0), w - columns)
                seen = [(i, j) for i in range(top, top + rows) for j in range(left, left + columns)]
                scores = torch.stack([q[b, y, x] @ k[b, i, j] + bias[i - y + size - 1, j - x + size - 1] for i, j in seen])
                shares = scores.softmax(0)
                out[b, y, x] = sum(share * v[b, i, j] for share, (i, j) in zip(shares, seen, strict=True))
    return out


@pytest.mark.parametrize(("h", "w", "size"), [(6, 7, 5), (5, 5, 5), (2, 6, 5), (1, 1, 3), (4, 3, 3)])
def test_every_cell_sees_its_shifted_window(h: int, w: int, size: int) -> None:
    given = forged(h, w, size)
    expected = slow(*given)
    to_out = torch.randn(expected.shape, dtype=torch.float64)
    slopes = torch.autograd.grad(expected, given, to_out)
    for form in (reference, shifted, neighbourhood_attention):
        out = form(*given)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
        for one, other in zip(torch.autograd.grad(out, given, to_out), slopes, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_bias_that_fits_no_window_is_named() -> None:
    with pytest.raises(InputError, match=r"2 n - 1"):
        neighbourhood_attention(*forged(4, 4, 3)[:3], torch.zeros(4, 4))
