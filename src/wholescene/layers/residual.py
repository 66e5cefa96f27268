"""The plain residual block of two 3x3 convolutions (He et al., CVPR 2016, figure 2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.slabs import Stream, aligned, convolve, convolve_whole, each, split


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
