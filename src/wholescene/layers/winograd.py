"""Stride-1 convolutions of kernel 3 with a third fewer multiplications: Winograd's F(2, 3) along the first spatial axis, for a CPU.

Two neighbouring outputs of a three-tap filter need four products instead of six (Winograd 1980; Lavin and Gray, CVPR 2016). Along one axis only,
each product is itself a convolution over the other axes, which the library does well. Rounding differs from the plain form by about 1e-6 of the
largest value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholescene.layers.dense import convolve_thin, under_autocast

Conv = nn.Conv2d | nn.Conv3d
_LEAST_CHANNELS = {2: 128, 3: 16}  # by spatial axes; with fewer, the sums around the products cost what the products save


def suits(conv: Conv, x: Tensor) -> bool:
    """Whether the four products pay here: float32 on a CPU at inference, kernel 3 and stride 1 along the first axis, channels enough."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not under_autocast()
        and (conv.kernel_size[0], conv.stride[0], conv.groups) == (3, 1, 1)
        and min(conv.in_channels, conv.out_channels) >= _LEAST_CHANNELS[x.dim() - 2]
    )


class Winograd:
    """One convolution with its filters transformed.

    Attributes:
        pair: outputs come in multiples of this many slices (twice the dilation).
    """

    def __init__(self, conv: Conv) -> None:
        self.conv = conv
        self.pair = 2 * conv.dilation[0]
        first, middle, last = conv.weight.unbind(2)
        ends = first + last
        filters = [first, (ends + middle) / 2, (ends - middle) / 2, last]
        # a library that works in blocks of sixteen channels does four groups at once better than four leftovers
        self.grouped = conv.in_channels % 16 != 0
        self.filters = [torch.cat(filters).unsqueeze(2)] if self.grouped else [f.unsqueeze(2) for f in filters]

    def __call__(self, window: Tensor) -> Tensor:
        """(B, C, n + 2 d, ...) to (B, out, n, ...), n a multiple of `pair`; no padding along the first axis."""
        dilation = self.conv.dilation[0]
        even, odd = window.unflatten(2, (-1, 2, dilation)).unbind(3)  # (B, C, k + 1, d, ...) each
        a, b, c, d = even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:]
        one, two, three, four = self._products((a - c, b + c, c - b, b - d))
        shape = one.shape
        made = one.new_empty((*shape[:2], shape[2], 2, *shape[3:]))
        torch.add(two, three, out=made[:, :, :, 0]).add_(one)
        torch.sub(two, three, out=made[:, :, :, 1]).sub_(four)
        if self.conv.bias is not None:
            made += self.conv.bias.view(-1, *(1,) * (made.dim() - 2))
        return made.flatten(2, 4)

    def _products(self, parts: tuple[Tensor, ...]) -> list[Tensor]:
        """The four convolutions over the other axes: each (B, C, k, d, ...) to (B, out, k, d, ...)."""
        conv = self.conv
        stride = (1,) * len(conv.kernel_size)
        padding, dilation = (0, *conv.padding[1:]), (1, *conv.dilation[1:])
        kept = parts[0].shape[2:4]
        if self.grouped:
            joined = torch.cat(parts, 1).flatten(2, 3)
            return list(convolve_thin(joined, self.filters[0], None, stride, padding, dilation, 4).unflatten(2, kept).chunk(4, 1))
        pairs = zip(parts, self.filters, strict=True)
        return [convolve_thin(p.flatten(2, 3), f, None, stride, padding, dilation).unflatten(2, kept) for p, f in pairs]
