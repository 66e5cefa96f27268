"""Convolutions of thin slabs at full speed on a CPU.

PyTorch takes oneDNN for a float32 volume only above 20,480 elements in its first four axes; a slab of a few slices and few channels falls below,
and the form it then gets is five times as slow. Here oneDNN is asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve_thin(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int = 1
) -> Tensor:
    """A 2D or 3D convolution, as `torch.nn.functional.conv2d` and `conv3d`; the same numbers up to float rounding, without gradients where thin.

    Args:
        x: (B, C, h, w) or (B, C, x, y, z).
        weight, bias, stride, padding, dilation, groups: as there, one number an axis.
    """
    if x.dim() == 5 and _falls_back(x, weight):
        return torch.mkldnn_convolution(x, weight, bias, list(padding), list(stride), list(dilation), groups)
    apply = F.conv2d if x.dim() == 4 else F.conv3d
    return apply(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def _falls_back(x: Tensor, weight: Tensor) -> bool:
    return bool(
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.shape[0] * x.shape[1] * x.shape[2] * x.shape[3] <= 20_480
        and x.numel() > 4_096  # for less the call itself is the cost
        and not torch.is_grad_enabled()
        and not under_autocast()
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled  # type: ignore[attr-defined]  # missing from torch's stubs
        and hasattr(torch, "mkldnn_convolution")
    )


def under_autocast() -> bool:
    """Whether CPU operators choose their own precision now."""
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # before torch 2.4 the device was part of the name
        return torch.is_autocast_cpu_enabled()
