"""The plain residual block of two 3x3 convolutions (He et al., CVPR 2016, figure 2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.slabs import Stream, aligned, convolve, convolve_whole, each, split

_CELLS = 2**12  # at a time


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norms; where the width changes, a 3x3 convolution with bias and without norm beside them."""

    folds = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Conv2d(width, out, 3, padding=1) if width != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to (B, out, h, w)."""
        inner = F.relu_(self.bn1(convolve_whole(self.conv1, x)))
        return F.relu_(self.bn2(convolve_whole(self.conv2, inner)) + self.downsample(x))

    def stream(self, slabs: Iterable[Tensor]) -> Stream:
        """The same, in bands of rows; eval only, and only where the width stays."""
        skip, copy = split(slabs, 2)
        inner = each(lambda y: F.relu_(self.bn1(y)), convolve(self.conv1, copy))
        for whole, seen in aligned(skip, each(self.bn2, convolve(self.conv2, inner))):
            yield F.relu_(seen + whole)

    def at(self, slabs: Iterable[Tensor], sample: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The same at some cells alone, whose second convolution is then all that is not computed elsewhere; eval only, and only where the width
        stays.

        Args:
            slabs: the map in bands of rows.
            sample, row, column: (n,) int64, the cells.

        Returns:
            (n, out).
        """
        skip, copy = split(slabs, 2)
        inner = each(lambda y: F.relu_(self.bn1(y)), convolve(self.conv1, copy))
        weight, bias = self.conv2.weight, self.conv2.bias
        seen = weight.new_zeros(len(row), len(weight)) if bias is None else bias.expand(len(row), -1).clone()
        own = torch.empty_like(seen)
        start = 0
        for whole, band in aligned(skip, inner):
            for down in range(3):
                for across in range(3):
                    here, values = _read(band, sample, row - start + down - 1, column + across - 1)
                    seen.index_add_(0, here, (values @ weight[:, :, down, across].T).to(seen.dtype))
            here, values = _read(whole, sample, row - start, column)
            own[here] = values.to(own.dtype)
            start += band.shape[2]
        for first in range(0, len(row), _CELLS):
            part = slice(first, first + _CELLS)
            normed = self.bn2(seen[part].T[None, :, :, None])[0, :, :, 0].T
            seen[part] = F.relu_(normed + own[part])
        return seen


def _read(band: Tensor, sample: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the cells (n,) lie in a band (B, C, rows, columns), and (m, C) what it holds there."""
    here = ((row >= 0) & (row < band.shape[2]) & (column >= 0) & (column < band.shape[3])).nonzero()[:, 0]
    return here, band.permute(0, 2, 3, 1)[sample[here], row[here], column[here]]  # (batch, row, column, channel)
