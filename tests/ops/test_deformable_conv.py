"""Deformable convolution against a loop over taps and cells, and against an ordinary convolution where nothing is moved."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.errors import InputError
from wholescene.ops.deformable_conv import cpu, deformable_convolution, reference


def forged(spread: float, kernel: tuple[int, int] = (3, 3), padding: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64, generator=random)
    size = (4 + 2 * padding - kernel[0] + 1, 5 + 2 * padding - kernel[1] + 1)
    offsets = (torch.rand(2, 2 * math.prod(kernel), *size, dtype=torch.float64, generator=random) * 2 - 1) * spread
    return x.requires_grad_(), offsets.requires_grad_(), torch.randn(6, 2, *kernel, dtype=torch.float64, generator=random).requires_grad_()


def slow(x: Tensor, offsets: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Cell by cell: the share of a cell falls linearly with the distance of its centre; two groups of channels."""
    kh, kw = weight.shape[-2:]
    B, _, h, w = offsets.shape
    columns = []
    for y in range(h):
        for column in range(w):
            total = 0
            for tap in range(kh * kw):
                at_y = y + tap // kw - padding + offsets[:, 2 * tap, y, column]
                at_x = column + tap % kw - padding + offsets[:, 2 * tap + 1, y, column]
                near = (1 - (at_y[:, None] - torch.arange(x.shape[2])).abs()).clamp(min=0)[:, :, None]
                near = near * (1 - (at_x[:, None] - torch.arange(x.shape[3])).abs()).clamp(min=0)[:, None]
                read = (x * near[:, None]).sum((2, 3))  # (B, 4)
                parts = [read[:, :2] @ weight[:3, :, tap // kw, tap % kw].T, read[:, 2:] @ weight[3:, :, tap // kw, tap % kw].T]
                total = total + torch.cat(parts, 1)
            columns.append(total)
    return torch.stack(columns, -1).view(B, -1, h, w)


@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), 1), ((1, 3), 1), ((1, 1), 0)])
@pytest.mark.parametrize("form", [reference, cpu, deformable_convolution])
def test_every_tap_reads_beside_its_place(form, kernel: tuple[int, int], padding: int) -> None:  # type: ignore[no-untyped-def]
    given = forged(4.0, kernel, padding)
    out, expected = form(*given, padding), slow(*given, padding)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    to_out = torch.randn(expected.shape, dtype=torch.float64)
    for one, other in zip(torch.autograd.grad(out, given, to_out), torch.autograd.grad(expected, given, to_out), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_without_offsets_it_is_an_ordinary_convolution() -> None:
    x, offsets, weight = forged(0.0)
    torch.testing.assert_close(deformable_convolution(x, offsets, weight), F.conv2d(x, weight, padding=1, groups=2), rtol=1e-12, atol=1e-12)


def test_offsets_of_another_kernel_are_named() -> None:
    x, offsets, weight = forged(1.0)
    with pytest.raises(InputError, match=r"wants offsets \(2, 18, 4, 5\)"):
        deformable_convolution(x, offsets[:, :16], weight)
