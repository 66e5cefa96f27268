"""Multiply-adds of a computation: what torch's own counter knows, and what operators without a matrix product say of themselves.

Counted: convolutions, matrix products and attention as torch does, whichever path computes them; of our own operators the plain form of their
mathematics, the same on every device and for every path:

    selective scan                 4 a token, channel and state (decay, input, state, read-out)
    deformable sampling            2^A a channel and place read of a map with A axes
    depth-aware sampling           4 a channel and place
    neighbourhood attention        2 a channel, cell and cell of its window
    splat of a frustum             1 a channel and point that lies in a voxel
    sparse convolution             1 an input and output channel and pair of active neighbours

The state space dual is matrix products and counts as such. Not counted: norms, activations, softmax, resizing, pooling,
sums, other gathering (FLoSP, `grid_sample`), geometry, and the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

_active: ContextVar[MultiplyAdds | None] = ContextVar("multiply_adds", default=None)


class MultiplyAdds:
    """The context in which multiply-adds are counted.

    >>> import torch
    >>> with MultiplyAdds() as counted:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 5)
    ...     with worth(100):
    ...         _ = torch.ones(2, 3) @ torch.ones(3, 5)
    >>> counted.total
    130.0
    """

    def __init__(self) -> None:
        self._torch, self._instead = FlopCounterMode(display=False), 0.0

    @property
    def total(self) -> float:
        """So far."""
        return self._torch.get_total_flops() / 2 + self._instead

    def __enter__(self) -> MultiplyAdds:
        self._before = _active.set(self)
        self._torch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._torch.__exit__(*error)
        _active.reset(self._before)


@contextmanager
def worth(multiply_adds: float | Callable[[], float]) -> Iterator[None]:
    """What is computed inside counts as so many, whatever torch saw of it; a number that takes work to find is a function, called only if counted."""
    counter = _active.get()
    before = counter.total if counter is not None else 0.0
    yield
    if counter is not None:
        counter._instead += before + (multiply_adds() if callable(multiply_adds) else multiply_adds) - counter.total
