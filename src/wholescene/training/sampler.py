"""Which frame goes where: every frame once an epoch over all processes, nothing repeated, nothing dropped, resumable at any step.

The frames of all epochs form one stream, epoch after epoch, each in its own order. The stream is cut into optimiser steps of `batch_size` frames,
and a step is shared out among accumulated parts and processes. A step may hold the last frames of one epoch and the first of the next, so all steps
but the last of a run are full and every process has as many. Where a run stands is one number: how many frames of the stream are done. The last
step takes what is left, shared out as evenly as can be; a process that nothing is left for gets a frame of weight 0, so that it takes part in what
all processes do together and adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from wholescene.errors import InputError

_ENDLESS = 2**48  # frames of a run that a clock ends


@dataclass(frozen=True)
class Draw:
    """One frame for one process.

    Attributes:
        epoch: which pass over the dataset, from 0.
        index: in the dataset.
        weight: share in the mean loss of its step, times what averaging over processes and parts divides by; 0: takes part, adds nothing.
    """

    epoch: int
    index: int
    weight: float = 1.0


class FrameStream:
    """All frames of a run in their order.

    Args:
        frames: of the dataset.
        seed: of the orders.
        total: frames of the whole run; None: until something else ends it.
    """

    def __init__(self, frames: int, seed: int, total: int | None) -> None:
        if frames < 1:
            raise InputError("the training part of the dataset holds no frame; check the root and the part with `wholescene data check`")
        self.frames, self.seed, self.endless = frames, seed, total is None
        self.total = _ENDLESS if total is None else total
        self.order = lru_cache(maxsize=2)(self._order)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(self.frames)

    def at(self, position: int) -> tuple[int, int]:
        """Epoch and dataset index of the frame at a position of the stream."""
        epoch, place = divmod(position, self.frames)
        return epoch, int(self.order(epoch)[place])


class StreamSampler(Sampler[list[Draw]]):
    """The parts of steps that one process works through, from a position of the stream to its end: a batch sampler for a DataLoader.

    Args:
        stream: of the run.
        batch_size: frames of an optimiser step over all processes and parts.
        parts: that a step is accumulated from.
        rank, world: this process, and how many there are.
        start: frames of the stream that are done; a multiple of a step.

    Raises:
        InputError: steps that cannot be shared out evenly.
    """

    def __init__(self, stream: FrameStream, batch_size: int, parts: int = 1, rank: int = 0, world: int = 1, start: int = 0) -> None:
        if batch_size % (parts * world):
            raise InputError(
                f"a batch of {batch_size} frames cannot be shared out evenly among {world} processes and {parts} accumulated parts; "
                f"set batch_size to a multiple of {parts * world}"
            )
        self.stream, self.batch_size, self.parts, self.rank, self.world, self.start = stream, batch_size, parts, rank, world, start

    def __len__(self) -> int:
        if self.stream.endless:
            raise TypeError("a run that a clock ends has no length")  # what torch and Lightning take for "unknown"
        left = max(0, self.stream.total - self.start)
        steps, rest = divmod(left, self.batch_size)
        return steps * self.parts + self._parts_of(rest)

    def __iter__(self) -> Iterator[list[Draw]]:
        for position in range(self.start, self.stream.total, self.batch_size):
            yield from self._step(position, min(self.batch_size, self.stream.total - position))

    def _parts_of(self, frames: int) -> int:
        return math.ceil(frames * self.parts / self.batch_size)

    def _step(self, position: int, frames: int) -> Iterator[list[Draw]]:
        slots = self._parts_of(frames) * self.world
        for slot in range(self.rank, slots, self.world):
            first, last = (position + frames * s // slots for s in (slot, slot + 1))
            # processes average their gradients, parts divide theirs by their usual number
            weight = self.world * self.parts / frames
            if first < last:
                yield [Draw(*self.stream.at(p), weight) for p in range(first, last)]
            else:
                yield [Draw(*self.stream.at(position), 0.0)]


def shared_out(frames: int, rank: int = 0, world: int = 1) -> list[tuple[int, bool]]:
    """Dataset indices that one process evaluates, and whether each counts.

    Every index counts in exactly one process. All processes get lists of the same length, since some strategies need all of them in every forward
    pass; what fills a list does not count.

    >>> [shared_out(5, rank, 2) for rank in (0, 1)]
    [[(0, True), (2, True), (4, True)], [(1, True), (3, True), (3, False)]]
    """
    own = list(range(rank, frames, world))
    filler = own[-1] if own else 0
    return [(i, True) for i in own] + [(filler, False)] * (math.ceil(frames / world) - len(own) if frames else 0)
