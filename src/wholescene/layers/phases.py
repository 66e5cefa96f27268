"""Transposed convolutions that double axes exactly, as one plain convolution for each phase of the output; for inference on a CPU.

Along a doubled axis output 2i sees one tap of the kernel, at input i, and output 2i + 1 two, at inputs i and i + 1. So the outputs of one phase (of
eight, where three axes are doubled) are a plain convolution of the input, with a kernel of one or two taps an axis: the same multiplications, which
libraries do about twice as fast, and what follows pointwise can act on each phase before they are woven together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wholescene.layers.dense import convolve_thin, under_autocast

_LEAST_CHANNELS = 32  # with fewer, weaving the phases costs what the convolutions save
_TAPS = {1: ((2, 1, 0),), 2: ((1,), (2, 0))}  # stride -> phase -> taps of the kernel, in the order of the inputs that they see


def suits(conv: nn.Module, x: Tensor) -> bool:
    """Whether the phases pay here: a transposed convolution of kernel 3 that keeps or doubles each axis, float32 on a CPU at inference."""
    return (
        isinstance(conv, nn.ConvTranspose3d)
        and conv.kernel_size == (3, 3, 3)
        and conv.padding == (1, 1, 1)
        and conv.dilation == (1, 1, 1)
        and conv.groups == 1
        and all(s in (1, 2) and o == s - 1 for s, o in zip(conv.stride, conv.output_padding, strict=True))
        and min(conv.in_channels, conv.out_channels) >= _LEAST_CHANNELS
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not under_autocast()
    )


class Phases:
    """One transposed convolution, and the batch norm in eval that follows it, with a kernel a phase.

    Attributes:
        stride: of the convolution.
    """

    def __init__(self, conv: nn.ConvTranspose3d, norm: nn.Module | None = None) -> None:
        self.stride = conv.stride
        self.out = conv.out_channels
        weight, bias = conv.weight, conv.bias
        if isinstance(norm, _BatchNorm):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = (norm.running_var + norm.eps).rsqrt() * (norm.weight if norm.affine else 1)
            shift = (norm.bias if norm.affine else 0) - norm.running_mean * scale
            weight, bias = weight * scale[:, None, None, None], shift if bias is None else shift + bias * scale
        self.bias = bias
        self.kernels = {}
        for phase in product(*(range(s) for s in self.stride)):
            kernel = weight.transpose(0, 1)
            for axis, (stride, which) in enumerate(zip(self.stride, phase, strict=True)):
                kernel = kernel.index_select(2 + axis, torch.tensor(_TAPS[stride][which]))
            self.kernels[phase] = kernel.contiguous()

    def __call__(self, window: Tensor, then: Callable[[Tensor], Tensor]) -> Tensor:
        """
        Args:
            window: (B, C, n + halo, y, z); the halo, along the first axis alone, is a slice before and one after where that axis is kept, and
                one after where it is doubled.
            then: what follows pointwise; may work in place and change the channels.

        Returns:
            (B, K, n * stride, y * stride, z * stride).
        """
        slices = window.shape[2] - (2 if self.stride[0] == 1 else 1)
        edges = [(1, 1) if s == 1 else (0, 1) for s in self.stride]
        padded = F.pad(window, (*edges[2], *edges[1]))
        counts = (slices, window.shape[3], window.shape[4])
        whole = None
        for phase, kernel in self.kernels.items():
            used = padded
            for axis, n in enumerate(counts):
                used = used.narrow(2 + axis, 0, n + kernel.shape[2 + axis] - 1)
            made = then(convolve_thin(used, kernel, self.bias, (1, 1, 1), (0, 0, 0), (1, 1, 1)))
            if whole is None:
                woven = [n for pair in zip(counts, self.stride, strict=True) for n in pair]
                whole = made.new_empty(made.shape[0], made.shape[1], *woven)
            whole[:, :, :, phase[0], :, phase[1], :, phase[2]] = made
        assert whole is not None
        return whole.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def stream(self, slabs: Iterable[Tensor], then: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """The same of a volume that arrives in slabs along its first spatial axis."""
        before = 1 if self.stride[0] == 1 else 0
        held: Tensor | None = None
        for slab in slabs:
            if held is None:
                held = torch.cat([_zeros(slab, before), slab], 2) if before else slab
            else:
                held = torch.cat([held, slab], 2)
            if held.shape[2] > before + 1:
                window, held = held, held[:, :, -(before + 1) :].clone()
                del slab
                yield self(window, then)
        if held is not None:
            yield self(torch.cat([held, _zeros(held, 1)], 2), then)


def _zeros(like: Tensor, slices: int) -> Tensor:
    return like.new_zeros((*like.shape[:2], slices, *like.shape[3:]))
