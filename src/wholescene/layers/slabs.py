"""Chains of convolutions over a map or a volume that arrives in slabs along its first spatial axis.

Whole-volume activations of a full-resolution head take gigabytes; a slab takes megabytes. Every operator keeps the few slices that its
kernel still needs, so nothing is computed twice and the numbers are those of the whole volume, up to float rounding. A stream is an
iterator of slabs (B, C, n, ...) whose n vary and sum to the whole length; streams compose like functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import tee

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d

Stream = Iterator[Tensor]
Conv = nn.Conv2d | nn.Conv3d
TransposedConv = nn.ConvTranspose2d | nn.ConvTranspose3d


def cut(x: Tensor, slab: int) -> Stream:
    """Slabs of at most `slab` slices of x (B, C, n, ...)."""
    for start in range(0, x.shape[2], slab):
        yield x[:, :, start : start + slab]


def each(function: Callable[[Tensor], Tensor], slabs: Iterable[Tensor]) -> Stream:
    """A pointwise function (a norm in eval, an activation, a 1x1 convolution) slab by slab."""
    for slab in slabs:
        yield function(slab)


def convolve(conv: Conv, slabs: Iterable[Tensor]) -> Stream:
    """A stride-1 convolution that keeps the size along the first spatial axis (padding = its reach)."""
    reach = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
    if conv.stride[0] != 1 or conv.padding[0] != reach or conv.padding_mode != "zeros":
        raise ValueError(f"only size-keeping stride-1 convolutions with zero padding can be streamed; got {conv}")
    apply = conv2d if isinstance(conv, nn.Conv2d) else conv3d
    padding = (0, *conv.padding[1:])
    held = None
    for slab in slabs:
        window = torch.cat([_zeros(slab, reach) if held is None else held, slab], 2)
        held = window[:, :, max(window.shape[2] - 2 * reach, 0) :]
        if window.shape[2] > 2 * reach:
            yield apply(window, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)
    if held is not None and reach:
        window = torch.cat([held, _zeros(held, reach)], 2)
        yield apply(window, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)


def double(conv: TransposedConv, slabs: Iterable[Tensor]) -> Stream:
    """A transposed convolution of kernel 3, stride 2, padding 1, output padding 1: twice the slices."""
    if (conv.kernel_size[0], conv.stride[0], conv.padding[0], conv.output_padding[0], conv.dilation[0]) != (3, 2, 1, 1, 1):
        raise ValueError(f"only transposed convolutions that double the size exactly can be streamed; got {conv}")
    held = None
    for slab in slabs:
        window = slab if held is None else torch.cat([held, slab], 2)
        held = window[:, :, -1:]  # output slices 2i and 2i+1 come from input slices i and i+1: the last one waits for its neighbour
        if window.shape[2] > 1:
            yield conv(window)[:, :, :-2]
    if held is not None:
        yield conv(held)


def aligned(*streams: Iterable[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Streams of equal total length, cut where any of them is cut, side by side."""
    sources = [iter(s) for s in streams]
    waiting: list[Tensor | None] = [None] * len(sources)
    while True:
        for i, source in enumerate(sources):
            if waiting[i] is None:
                waiting[i] = next(source, None)
        ready = [w for w in waiting if w is not None]
        if len(ready) < len(sources):
            if ready:
                raise ValueError("streams of different lengths cannot be aligned")
            return
        step = min(w.shape[2] for w in ready)
        yield tuple(w[:, :, :step] for w in ready)
        waiting = [w[:, :, step:] if w.shape[2] > step else None for w in ready]


def split(slabs: Iterable[Tensor], times: int) -> tuple[Stream, ...]:
    """The same stream `times` times; slabs are shared and live until the slowest reader has passed."""
    return tee(slabs, times)


def gather(slabs: Iterable[Tensor], length: int) -> Tensor:
    """The whole (B, C, length, ...) from its slabs, written into place as they come."""
    whole, start = None, 0
    for slab in slabs:
        if whole is None:
            whole = slab.new_empty((*slab.shape[:2], length, *slab.shape[3:]))
        whole[:, :, start : start + slab.shape[2]] = slab
        start += slab.shape[2]
    if whole is None or start != length:
        raise ValueError(f"expected {length} slices in all, got {start}")
    return whole


def may_stream(module: nn.Module) -> bool:
    """Whether slabs give the whole's numbers and save memory: no batch statistics, no gradient."""
    return not module.training and not torch.is_grad_enabled()


def _zeros(like: Tensor, slices: int) -> Tensor:
    return like.new_zeros((*like.shape[:2], slices, *like.shape[3:]))
