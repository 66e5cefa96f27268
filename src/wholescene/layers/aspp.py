"""Parallel dilated convolutions over a volume, summed with the input (MonoScene, section 3.2, after Chen et al.'s ASPP and 3DSketch)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.checkpoint import run
from wholescene.layers.slabs import Stream, aligned, convolve, convolve_whole, each, split


class ASPP(nn.Module):
    """relu(x + sum over d of BN(conv_d(relu(BN(conv_d(x)))))), all 3x3x3 of one width."""

    def __init__(self, width: int, dilations: Sequence[int] = (1, 2, 3), *, inner_norms: bool = True, activation_checkpointing: bool = False) -> None:
        """
        Args:
            width: channels.
            dilations: of the branches.
            inner_norms: False: the first convolution of each branch has a bias in place of its norm (NDC-Scene's light head).
            activation_checkpointing: of the branches.
        """
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.branches: Sequence[_Branch] = nn.ModuleList(_Branch(width, d, inner_norms) for d in dilations)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        total = x
        for branch in self.branches:
            # not in place: x may be the caller's, and a first sum makes the one new volume that the others are added to
            y = run(branch, x, recompute=self.activation_checkpointing)
            total = total + y if total is x else total.add_(y)
        return F.relu_(total) if total is not x else F.relu(x)

    def stream(self, slabs: Iterable[Tensor]) -> Stream:
        """The same, slab by slab along the first spatial axis; eval only."""
        skip, *copies = split(slabs, len(self.branches) + 1)
        for terms in aligned(skip, *(b.stream(c) for b, c in zip(self.branches, copies, strict=True))):
            total = terms[0] + terms[1]
            for term in terms[2:]:
                total += term
            yield F.relu_(total)


class _Branch(nn.Module):
    """Two convolutions of one dilation; the sum that follows takes the value before any ReLU."""

    folds = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, width: int, dilation: int, inner_norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(width, width, 3, padding=dilation, dilation=dilation, bias=not inner_norm)
        self.bn1 = nn.BatchNorm3d(width) if inner_norm else nn.Identity()
        self.conv2 = nn.Conv3d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(convolve_whole(self.conv2, F.relu_(self.bn1(convolve_whole(self.conv1, x)))))

    def stream(self, slabs: Iterable[Tensor]) -> Stream:
        inner = each(lambda y: F.relu_(self.bn1(y)), convolve(self.conv1, slabs))
        return each(self.bn2, convolve(self.conv2, inner))
