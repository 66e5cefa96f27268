"""Neighbour tables of sparse volumes: for every active place, which row each kernel offset reads.

A table is made once for a set of places and shared by all convolutions on it; when the set changes it is made again. Both directions are tables,
so neither the forward nor the backward pass of a convolution has to scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.geometry.selecting import indices_of

_MOST_CODES = 2**62  # a place is one int64


@dataclass(frozen=True)
class Links:
    """Which input rows meet which output rows, one column a kernel offset, offsets in C order of the kernel.

    Attributes:
        rows: (n_out, K) int32, the input row that an output row reads at each offset; `n_in` where there is none.
        back: (n_in, K) int32, the output row that reads an input row at each offset; `n_out` where there is none.
        kernel: three extents, K is their product.
        mask: (B, X, Y, Z) bool, the places of the rows in C order, where input and output share them and the volume is known; else None.
        dilation: of a table that has a mask.
    """

    rows: Tensor
    back: Tensor
    kernel: tuple[int, int, int]
    mask: Tensor | None = None
    dilation: tuple[int, int, int] = (1, 1, 1)
    _turned: list[Links] = field(default_factory=list, repr=False, compare=False)

    @property
    def inputs(self) -> int:
        """n_in."""
        return len(self.back)

    @property
    def outputs(self) -> int:
        """n_out."""
        return len(self.rows)

    @cached_property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """For each offset the output rows and the input rows of its pairs, (p,) int32 each; no output row occurs twice in one offset."""
        found = self.rows != self.inputs
        counts = found.sum(0).tolist()
        columns, rows = found.T.nonzero().unbind(1)
        read = self.rows.T[columns, rows]
        return list(zip(rows.int().split(counts), read.split(counts), strict=True))

    @cached_property
    def met(self) -> int:
        """How many pairs there are; counted without making them. Without content (device meta): as if every neighbour were there."""
        return self.rows.numel() if self.rows.is_meta else int((self.rows != self.inputs).sum())

    def turned(self) -> Links:
        """The same pairs from output to input: the table of the inverse convolution, and of the gradient."""
        if not self._turned:
            other = Links(self.back, self.rows, self.kernel)
            if "pairs" in self.__dict__:
                other.__dict__["pairs"] = [(read, written) for written, read in self.pairs]
            self._turned.append(other)
        return self._turned[0]


def links_of_mask(mask: Tensor, kernel: Sequence[int] | int = 3, dilation: Sequence[int] | int = 1, *, table: bool = True) -> Links:
    """The table of a submanifold convolution, by a dense volume of row numbers (4 bytes a voxel).

    Args:
        mask: (B, X, Y, Z) bool, active voxels; rows are in C order of it. Items of a batch do not meet.
        kernel: odd extents along X, Y, Z.
        dilation: of the offsets.
        table: False leaves rows and columns empty, for the dense form, which reads the mask alone.

    Raises:
        InputError: an even kernel.
    """
    extents, steps = _odd(kernel), _three(dilation)
    active = indices_of(mask)
    n = len(active)
    if not table:
        nothing = torch.empty(n, 0, dtype=torch.int32, device=mask.device)
        return Links(nothing, nothing, extents, mask, steps)
    reach = [d * (k // 2) for k, d in zip(extents, steps, strict=True)]
    B, X, Y, Z = mask.shape
    wide = (B, X + 2 * reach[0], Y + 2 * reach[1], Z + 2 * reach[2])
    volume = torch.full((math.prod(wide),), n, dtype=torch.int32, device=mask.device)
    strides = torch.tensor([math.prod(wide[1:]), wide[2] * wide[3], wide[3], 1], device=mask.device)
    inner = torch.tensor([0, *reach], device=mask.device)
    places = torch.stack(_unravelled(active, mask.shape), 1) + inner
    base = (places * strides).sum(1)
    volume[base] = torch.arange(n, dtype=torch.int32, device=mask.device)
    steps_to = (_offsets(extents, steps, mask.device) * strides[1:]).sum(1)
    rows = volume[base[:, None] + steps_to]
    return Links(rows, rows.flip(1), extents, mask, steps)


def links_of_places(places: Tensor, kernel: Sequence[int] | int = 3, dilation: Sequence[int] | int = 1) -> Links:
    """The table of a submanifold convolution, by sorted codes: for places without bounds, in memory that does not depend on how far they lie apart.

    Args:
        places: (n, 4) integers (item, x, y, z), in any order, none twice; coordinates may be negative.
        kernel, dilation: as for `links_of_mask`.

    Raises:
        InputError: an even kernel, a place that occurs twice, or places too far apart for a number of 62 bits.
    """
    extents, steps = _odd(kernel), _three(dilation)
    offsets = torch.nn.functional.pad(_offsets(extents, steps, places.device), (1, 0))
    coder = _Coder.of(places, [0, *(d * (k // 2) for k, d in zip(extents, steps, strict=True))])
    codes, order = coder.codes(places).sort()
    if len(codes) > 1 and bool((codes[1:] == codes[:-1]).any()):
        raise InputError("a place occurs twice among the rows of a sparse volume; sum or average such rows first")
    wanted = coder.codes(places)[:, None] + coder.steps(offsets)
    rows = _looked_up(codes, order, wanted)
    return Links(rows, rows.flip(1), extents)


def links_between(
    places: Tensor, shape: Sequence[int], kernel: Sequence[int] | int, stride: int, padding: int
) -> tuple[Tensor, tuple[int, int, int], Links]:
    """The table of a regular sparse convolution: an output place is active if any input place lies in its window.

    Args:
        places: (n, 4) integers (item, x, y, z) within `shape`, in any order, none twice.
        shape: (X, Y, Z) of the input volume.
        kernel: extents, even ones too.
        stride, padding: along all three axes; input place = stride * output place - padding + offset.

    Returns:
        output places (m, 4) int64 in ascending order, the output volume's shape (X + 2 padding - kernel) // stride + 1, and the table.
    """
    extents = _three(kernel)
    out = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(shape, extents, strict=True))
    offsets = torch.stack(torch.meshgrid(*(torch.arange(k, device=places.device) for k in extents), indexing="ij"), -1).view(-1, 3)
    places = places.long()
    reached = places[:, None, 1:] + padding - offsets
    ahead = reached.div(stride, rounding_mode="floor")
    limits = torch.tensor(out, device=places.device)
    meets = ((reached % stride == 0) & (ahead >= 0) & (ahead < limits)).all(-1)
    items = places[:, :1, None].expand(-1, len(offsets), 1)
    codes = (torch.cat([items, ahead], -1) * torch.tensor([math.prod(out), out[1] * out[2], out[2], 1], device=places.device)).sum(-1)
    active = codes[meets].unique()
    m = len(active)
    back = torch.where(meets, torch.searchsorted(active, codes), m).int()
    rows = torch.full((m + 1, len(offsets)), len(places), dtype=torch.int32, device=places.device)
    own = torch.arange(len(places), dtype=torch.int32, device=places.device)[:, None].expand_as(back)
    rows[back.long(), torch.arange(len(offsets), device=places.device).expand_as(back)] = own  # row m takes what meets nothing
    found = torch.stack(_unravelled(active, (int(places[:, 0].max()) + 1 if len(places) else 1, *out)), 1)
    return found, out, Links(rows[:m].contiguous(), back, extents)  # type: ignore[return-value]  # three extents


@dataclass(frozen=True)
class _Coder:
    """Places as one number each, with room for every offset around them."""

    lowest: Tensor
    strides: Tensor

    @classmethod
    def of(cls, places: Tensor, reach: Sequence[int]) -> _Coder:
        around = torch.tensor(reach, device=places.device)
        if not len(places):
            return cls(torch.zeros(4, dtype=torch.int64, device=places.device), torch.ones(4, dtype=torch.int64, device=places.device))
        low, high = places.long().amin(0) - around, places.long().amax(0) + around
        extents = (high - low + 1).tolist()
        if math.prod(extents) >= _MOST_CODES:
            raise InputError(f"the places of a sparse volume span {extents} items and voxels; at most 2^62 in all can be told apart")
        strides = [math.prod(extents[axis + 1 :]) for axis in range(4)]
        return cls(low, torch.tensor(strides, device=places.device))

    def codes(self, places: Tensor) -> Tensor:
        return ((places.long() - self.lowest) * self.strides).sum(-1)

    def steps(self, offsets: Tensor) -> Tensor:
        return (offsets * self.strides).sum(-1)


def _looked_up(codes: Tensor, order: Tensor, wanted: Tensor) -> Tensor:
    """int32 rows whose code is wanted; the number of rows where none has it."""
    n = len(codes)
    if not n:
        return torch.zeros(wanted.shape, dtype=torch.int32, device=wanted.device)
    place = torch.searchsorted(codes, wanted).clamp_(max=n - 1)
    return torch.where(codes[place] == wanted, order[place], n).int()


def _offsets(kernel: Sequence[int], dilation: Sequence[int], device: torch.device) -> Tensor:
    """(K, 3) int64: dilation * (index - kernel // 2), in C order."""
    axes = [d * (torch.arange(k, device=device) - k // 2) for k, d in zip(kernel, dilation, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)


def _unravelled(flat: Tensor, shape: Sequence[int]) -> list[Tensor]:
    """Indices along each axis of flat indices in C order."""
    found = []
    for size in reversed(list(shape)[1:]):
        found.append(flat % size)
        flat = flat.div(size, rounding_mode="floor")
    return [flat, *reversed(found)]


def _three(value: Sequence[int] | int) -> tuple[int, int, int]:
    x, y, z = (value,) * 3 if isinstance(value, int) else value
    return x, y, z


def _odd(kernel: Sequence[int] | int) -> tuple[int, int, int]:
    extents = _three(kernel)
    if any(k < 1 or k % 2 == 0 for k in extents):
        raise InputError(f"a submanifold convolution's kernel has a middle; found extents {extents}, expected odd ones")
    return extents
