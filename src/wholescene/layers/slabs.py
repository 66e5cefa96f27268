"""Chains of convolutions over a map or a volume that arrives in slabs along its first spatial axis.

Whole-volume activations of a full-resolution head take gigabytes; a slab takes megabytes. Every operator keeps the few slices that its
kernel still needs, so nothing is computed twice and the numbers are those of the whole volume, up to float rounding. A stream is an
iterator of slabs (B, C, n, ...) whose n vary and sum to the whole length; streams compose like functions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from wholescene.layers.dense import convolve_thin
from wholescene.layers.winograd import Conv, Winograd, suits

Stream = Iterator[Tensor]
TransposedConv = nn.ConvTranspose2d | nn.ConvTranspose3d
_SLICES = {2: 16, 3: 8}  # of a whole at a time, by spatial axes


def cut(x: Tensor, slab: int) -> Stream:
    """Slabs of at most `slab` slices of x (B, C, n, ...)."""
    for start in range(0, x.shape[2], slab):
        yield x[:, :, start : start + slab]


def each(function: Callable[[Tensor], Tensor], slabs: Iterable[Tensor]) -> Stream:
    """A pointwise function (a norm in eval, an activation, a 1x1 convolution) slab by slab."""
    return map(function, slabs)


def convolve(conv: Conv, slabs: Iterable[Tensor]) -> Stream:
    """A stride-1 convolution that keeps the size along the first spatial axis (padding = its reach)."""
    reach = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
    if conv.stride[0] != 1 or conv.padding[0] != reach or conv.padding_mode != "zeros":
        raise ValueError(f"only size-keeping stride-1 convolutions with zero padding can be streamed; got {conv}")

    def direct(window: Tensor) -> Tensor:
        return convolve_thin(window, conv.weight, conv.bias, conv.stride, (0, *conv.padding[1:]), conv.dilation, conv.groups)

    held, fast = None, None
    for slab, last in _marking_the_last(slabs):
        if held is None:
            fast = Winograd(conv) if suits(conv, slab) else None
            held = _zeros(slab, reach)
        window = torch.cat([held, slab, _zeros(slab, reach)] if last else [held, slab], 2)
        come = max(window.shape[2] - 2 * reach, 0)  # slices whose whole neighbourhood is here
        ready = come - come % fast.pair if fast else come
        made = [(fast or direct)(window[:, :, : ready + 2 * reach])] if ready else []
        if last and come > ready:
            made.append(direct(window[:, :, ready:]))
        held = window[:, :, ready:].clone()
        del slab, window  # nothing large may live in a stream that waits
        while made:
            yield made.pop(0)


def convolve_whole(conv: Conv, x: Tensor) -> Tensor:
    """`conv(x)`, by the faster of its two forms; the one with fewer products in slabs that stay in the cache."""
    if not suits(conv, x) or conv.padding[0] != conv.dilation[0]:
        return conv(x)
    return gather(convolve(conv, cut(x, _SLICES[x.dim() - 2] * conv.dilation[0])), x.shape[2])


def _marking_the_last(slabs: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    """Each slab and whether it is the last."""
    waiting: list[Tensor] = []
    for slab in slabs:
        waiting.append(slab)
        del slab
        if len(waiting) > 1:
            yield waiting.pop(0), False
    if waiting:
        yield waiting.pop(), True


def double(conv: TransposedConv, slabs: Iterable[Tensor], size: Sequence[int] | None = None) -> Stream:
    """A transposed convolution of kernel 3, stride 2, padding 1, output padding 1: twice the slices.

    Args:
        conv: of a map or a volume.
        slabs: as everywhere here.
        size: of the other spatial axes of the result; None: as the convolution itself makes it.
    """

    def made_of(window: Tensor) -> Tensor:
        return conv(window) if size is None else conv(window, output_size=[2 * window.shape[2], *size])

    if (conv.kernel_size[0], conv.stride[0], conv.padding[0], conv.output_padding[0], conv.dilation[0]) != (3, 2, 1, 1, 1):
        raise ValueError(f"only transposed convolutions that double the size exactly can be streamed; got {conv}")
    held = None
    for slab in slabs:
        window = slab if held is None else torch.cat([held, slab], 2)
        held = window[:, :, -1:].clone()  # output slices 2i and 2i+1 come from input slices i and i+1: the last one waits for its neighbour
        if window.shape[2] > 1:
            made = made_of(window)[:, :, :-2]
            del slab, window
            yield made
    if held is not None:
        yield made_of(held)


def enlarge(conv: TransposedConv, slabs: Iterable[Tensor]) -> Stream:
    """A transposed convolution of kernel 3 that doubles the first spatial axis exactly, or keeps it."""
    if conv.stride[0] != 1:
        return double(conv, slabs)
    if (conv.kernel_size[0], conv.padding[0], conv.output_padding[0], conv.dilation[0]) != (3, 1, 0, 1):
        raise ValueError(f"only transposed convolutions that keep the size exactly can be streamed; got {conv}")
    return _kept(conv, slabs)


def _kept(conv: TransposedConv, slabs: Iterable[Tensor]) -> Stream:
    """Slice i comes from slices i - 1 to i + 1: what stands at the edges of a window, except at the ends, is made again with the next one."""
    held, first = None, True
    for slab, last in _marking_the_last(slabs):
        window = slab if held is None else torch.cat([held, slab], 2)
        held = window[:, :, -2:].clone()
        ready = window.shape[2] - (not first) - (not last)
        if ready > 0:
            made = conv(window).narrow(2, 0 if first else 1, ready)
            first = False
            del slab, window
            yield made


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
    """The same stream `times` times; slabs are shared and live until the slowest reader has passed (itertools.tee keeps 57 of them longer)."""
    source = iter(slabs)
    queues: list[deque[Tensor]] = [deque() for _ in range(times)]

    def read(own: deque[Tensor]) -> Stream:
        while True:
            if not own:
                slab = next(source, None)
                if slab is None:
                    return
                for queue in queues:
                    queue.append(slab)
                del slab
            yield own.popleft()

    return tuple(read(own) for own in queues)


def gather(slabs: Iterable[Tensor], length: int) -> Tensor:
    """The whole (B, C, length, ...) from its slabs, written into place as they come."""
    whole, start = None, 0
    for slab in slabs:
        if slab.shape[2] == length:
            return slab
        if whole is None:
            innermost = slab.dim() == 4 and not slab.is_contiguous()  # maps with channels innermost stay so
            layout = torch.channels_last if innermost else torch.contiguous_format
            size = (*slab.shape[:2], length, *slab.shape[3:])
            whole = torch.empty(size, dtype=slab.dtype, device=slab.device, memory_format=layout)
        whole[:, :, start : start + slab.shape[2]] = slab
        start += slab.shape[2]
    if whole is None or start != length:
        raise ValueError(f"expected {length} slices in all, got {start}")
    return whole


def may_stream(module: nn.Module, x: Tensor) -> bool:
    """Whether slabs give the whole's numbers and gain something: no batch statistics, no gradient, and a CPU (a GPU wants large pieces)."""
    return not module.training and not torch.is_grad_enabled() and x.device.type == "cpu"


def _zeros(like: Tensor, slices: int) -> Tensor:
    return like.new_zeros((*like.shape[:2], slices, *like.shape[3:]))
