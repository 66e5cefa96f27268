"""A 3x3 convolution of [a resized map, a skip] without ever making the resized map; for inference on a CPU.

Resizing and convolving are both linear. So each of the nine taps can be a 1x1 convolution of the small map, and the resize acts on its result:
a quarter of the multiplications where the map is doubled, and the widest tensor of a UNet is never held. The numbers are those of the plain
form up to float rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.slabs import Stream

_COLUMNS = 128  # output columns at a time: an interpolation matrix is nearly empty away from its diagonal


def convolve_resized(conv: nn.Conv2d, x: Tensor, skip: Tensor, band: int) -> Stream:
    """conv(cat[x resized bilinearly with aligned corners to the skip's size, skip]) in bands of rows.

    Args:
        conv: 3x3, padding 1, of width + skip channels.
        x: (B, width, h, w).
        skip: (B, skip, H, W).
        band: rows a band.

    Yields:
        (B, out, n, W), n at most `band`.
    """
    if conv.kernel_size != (3, 3) or conv.padding != (1, 1) or conv.stride != (1, 1) or conv.dilation != (1, 1) or conv.groups != 1:
        raise ValueError(f"only plain 3x3 convolutions of padding 1 act on a resized map like this; got {conv}")
    width, (height, columns) = x.shape[1], skip.shape[-2:]
    out = conv.out_channels
    # (width, down * across * out): what a small pixel gives to each of its nine neighbours' outputs, channels innermost
    taps = conv.weight[:, :width].permute(1, 2, 3, 0).reshape(width, 9 * out)
    down, across = _taps_of_resize(x.shape[2], height, x), _taps_of_resize(x.shape[3], columns, x)
    blocks = _blocks(across)
    pixels = x.permute(0, 2, 3, 1)
    for start in range(0, height, band):
        stop = min(start + band, height)
        first, last = _reach(down[..., start:stop])
        rows = down[:, first:last, start:stop].permute(2, 0, 1).flatten(1)  # (n, down * small rows)
        samples = []
        for sample in pixels[:, first:last]:
            small = torch.matmul(sample, taps).unflatten(2, (3, 3, out))
            spread = _spread(small, blocks, columns)
            samples.append(torch.matmul(rows.to(spread.dtype), spread.view(rows.shape[1], -1)).view(-1, columns, out))
        yield torch.stack(samples).permute(0, 3, 1, 2).add_(_of_skip(skip, conv, width, start, stop))


def _taps_of_resize(small: int, large: int, like: Tensor) -> Tensor:
    """(3, small, large): what each small cell adds to each large one, for the neighbour before, the cell itself, the neighbour after."""
    itself = F.interpolate(torch.eye(small, device=like.device)[None], large, mode="linear", align_corners=True)[0]
    padded = F.pad(itself, (1, 1))
    return torch.stack([padded[:, i : i + large] for i in range(3)])


def _reach(taps: Tensor) -> tuple[int, int]:
    """First and one past the last small cell that these large cells need."""
    used = taps.ne(0).any(0).any(1).nonzero()
    return int(used[0]), int(used[-1]) + 1


def _blocks(taps: Tensor) -> list[tuple[slice, slice, Tensor]]:
    """An interpolation in blocks of large cells: which they are, which small cells they need, and how much of them (3, block, needed)."""
    blocks = []
    for start in range(0, taps.shape[2], _COLUMNS):
        large = slice(start, start + _COLUMNS)
        small = slice(*_reach(taps[..., large]))
        blocks.append((large, small, taps[:, small, large].transpose(1, 2).contiguous()))
    return blocks


def _spread(small: Tensor, blocks: list[tuple[slice, slice, Tensor]], columns: int) -> Tensor:
    """Small rows resized along the row: (h, w, down, across, out) to (down, h, columns, out), summed over across."""
    rows, _, _, _, out = small.shape
    made = small.new_empty(3, rows, columns, out)
    for down in range(3):
        for large, needed, weights in blocks:
            part = made[down, :, large]
            for across in range(3):
                how = weights[across].to(small.dtype).expand(rows, -1, -1)
                torch.baddbmm(part, how, small[:, needed, down, across], beta=float(across > 0), out=part)
    return made


def _of_skip(skip: Tensor, conv: nn.Conv2d, width: int, start: int, stop: int) -> Tensor:
    """The skip's part of output rows start..stop, and the bias."""
    above, below = max(start - 1, 0), min(stop + 1, skip.shape[2])
    window = F.pad(skip[:, :, above:below], (1, 1, above - start + 1, stop + 1 - below))
    return F.conv2d(window, conv.weight[:, width:], conv.bias)
