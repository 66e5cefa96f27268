"""Matrix products of many rows by the faster of torch's two libraries on a CPU.

`torch.mm` calls MKL, which gives a processor of another maker its AVX2 form; oneDNN takes what the processor has. On an AMD EPYC with AVX-512 a
multiply-add costs 19 ps by the first and 8 to 10 ps by the second (one thread; benchmarks/sparse_conv.py prints the rate of both). A product of rows
is a convolution of kernel 1 in oneDNN's own layout, so nothing is copied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.ops.counting import worth

_LEAST = 2**20  # multiply-adds; for less the call itself is the cost


def product(rows: Tensor, weight: Tensor) -> Tensor:
    """rows (n, C) times weight (D, C) transposed: (n, D), as `F.linear`; no gradient where oneDNN is asked by name."""
    n, C = rows.shape
    if not _suits(rows, weight, n * weight.numel()):
        return F.linear(rows, weight)
    pixels = rows.contiguous().view(1, 1, n, C).permute(0, 3, 1, 2)  # a row of pixels, channels innermost
    with worth(n * weight.numel()):
        made = torch.mkldnn_convolution(pixels, weight.contiguous().view(-1, C, 1, 1), None, [0, 0], [1, 1], [1, 1], 1)
    return made.permute(0, 2, 3, 1).reshape(n, -1)


def outer(rows: Tensor, others: Tensor) -> Tensor:
    """rows (n, C) transposed times others (n, D): (C, D); no gradient where oneDNN is asked by name."""
    n, C = rows.shape
    if not _suits(rows, others, C * others.numel()):
        return rows.T @ others
    channels = rows.contiguous().view(1, n, C, 1)
    with worth(C * others.numel()):
        made = torch.mkldnn_convolution(channels, others.T.contiguous().view(-1, n, 1, 1), None, [0, 0], [1, 1], [1, 1], 1)
    return made[0, :, :, 0].T


def _suits(rows: Tensor, others: Tensor, multiply_adds: int) -> bool:
    return bool(
        multiply_adds >= _LEAST
        and rows.device.type == "cpu"
        and rows.dtype == others.dtype == torch.float32
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled  # type: ignore[attr-defined]  # missing from torch's stubs
        and hasattr(torch, "mkldnn_convolution")
    )


def float32_products() -> str:
    """How precise a convolution in float32 is on a GPU, as torch is told for its own: "tf32" (its default) or "ieee"."""
    told = torch.backends.cudnn
    precision = told.conv.fp32_precision if hasattr(told, "conv") else "tf32" if told.allow_tf32 else "ieee"  # two names, from torch 2.9 on
    return "tf32" if precision == "tf32" else "ieee"
