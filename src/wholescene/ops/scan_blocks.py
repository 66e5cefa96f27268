"""How a selective scan is cut into blocks of tokens, and the recurrence inside one block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 2**20  # states of a block on a CPU: a few arrays of 4 MiB; smaller ones spend their time in calls and between threads
_BLOCK_ELSEWHERE = 2**24
_SHORTEST_BLOCK, _LONGEST_BLOCK = 16, 4096  # tokens
_LEVELLED_BELOW = 6000  # states a step: below, calls cost more than the two more passes of the two-level form


@dataclass(frozen=True)
class Tokens:
    """A block of T tokens in the order of the scan; R rows (one a sequence and group) of E channels.

    Attributes:
        u, before, delta, gate: (T, R, E); `before` is what softplus takes.
        B, C: (T, R, N).
        counts: (T, R, 1) bool, None where all tokens count.
    """

    u: Tensor
    before: Tensor
    delta: Tensor
    gate: Tensor | None
    B: Tensor
    C: Tensor
    counts: Tensor | None

    def recurrence(self, A: Tensor) -> tuple[Tensor, Tensor]:
        """Decay exp(delta A) and input delta u B, both (T, R, N, E)."""
        decay = (self.delta[:, :, None] * A).exp_()
        return decay, (self.delta * self.u)[:, :, None] * self.B[..., None]

    def read_out(self, states: Tensor) -> Tensor:
        """(T, R, E): sum over n of C h."""
        return rows_times(self.C, states)


class Layout:
    """How arguments are cut into blocks: sequences and groups become rows, tokens come first."""

    def __init__(self, u: Tensor, A: Tensor, B: Tensor, lengths: Tensor | None, reverse: bool) -> None:
        self.batch, self.length, self.channels = u.shape
        self.groups, self.states = B.shape[2:]
        self.rows, self.width = self.batch * self.groups, self.channels // self.groups
        self.kind, self.lengths, self.reverse, self.device = computed_in(u), lengths, reverse, u.device
        a_step = max(1, self.rows * self.states * self.width)
        whole = _BLOCK if u.device.type == "cpu" else _BLOCK_ELSEWHERE
        tokens = max(_SHORTEST_BLOCK, min(_LONGEST_BLOCK, whole // a_step))
        # a power of two near the square root of half the block takes the fewest calls
        self.piece = 2 ** int(math.log2(tokens / 2) / 2) if a_step < _LEVELLED_BELOW else 1
        self.block = tokens // self.piece * self.piece

    def blocks(self) -> list[slice]:
        """In the order of the scan; what no whole piece is left of comes in a block of its own."""
        pieces = self.length // self.piece * self.piece
        found = [slice(s, min(s + self.block, pieces)) for s in range(0, pieces, self.block)]
        found += [slice(pieces, self.length)] if pieces < self.length else []
        return found[::-1] if self.reverse else found

    def by_channel(self, values: Tensor) -> Tensor:
        """(D, N) or (batch, D, N) to (R, N, E)."""
        lead = values.expand(self.batch, *values.shape[-2:])
        return lead.to(self.kind).unflatten(1, (self.groups, self.width)).transpose(2, 3).reshape(self.rows, self.states, self.width)

    def from_rows(self, values: Tensor) -> Tensor:
        """(R, N, E) to (batch, D, N)."""
        return values.view(self.batch, self.groups, self.states, self.width).transpose(2, 3).reshape(self.batch, self.channels, self.states)

    def take(self, values: Tensor, part: slice) -> Tensor:
        """(batch, L, G * n) or (batch, L, G, n) to a block (T, R, n)."""
        block = values[:, part].to(self.kind)
        block = (block.flip(1) if self.reverse else block).transpose(0, 1)
        return block.reshape(block.shape[0], self.rows, -1).contiguous()

    def put(self, out: Tensor, part: slice, block: Tensor) -> None:
        """The inverse of `take`, into `out`."""
        back = block.reshape(block.shape[0], self.batch, *out.shape[2:]).transpose(0, 1)
        out[:, part] = back.flip(1) if self.reverse else back

    def vector(self, values: Tensor) -> Tensor:
        """(D) to (R, E)."""
        return values.to(self.kind).view(self.groups, self.width).repeat(self.batch, 1)

    def tokens(self, part: slice, u: Tensor, dt: Tensor, B: Tensor, C: Tensor, gate: Tensor | None, bias: Tensor | None) -> Tokens:
        """What a block holds."""
        before = self.take(dt, part)
        if bias is not None:
            before = before + self.vector(bias)
        delta, counts = F.softplus(before), None
        if self.lengths is not None:
            count = counting(self.lengths, range(part.start, part.stop), self.device)
            counts = self.take(count[..., None].expand(-1, -1, self.groups), slice(None)).bool()
            delta = delta * counts
        return Tokens(
            self.take(u, part), before, delta, None if gate is None else self.take(gate, part), self.take(B, part), self.take(C, part), counts
        )


def run(decay: Tensor, states: Tensor, start: Tensor, piece: int, backwards: bool = False) -> None:
    """states_t += decay_t * states_{t-1} along the first axis, in place, beginning from `start` (from the end if `backwards`).

    With pieces, all pieces of `piece` tokens run side by side from zero, what they end with is carried from each to the next, and what each began
    with is then added to all its tokens; `decay` is used up. As many calls as T / piece + 2 piece instead of T, for two passes more.
    """
    if len(decay) % piece:
        piece = 1
    a, h = decay.unflatten(0, (-1, piece)), states.unflatten(0, (-1, piece))
    steps = [*zip(a.unbind(1), h.unbind(1), strict=True)]
    steps = steps[::-1] if backwards else steps
    for (product, before), (own, now) in pairwise(steps):
        now.addcmul_(own, before)
        own.mul_(product)
    ends = [*zip(*(x.unbind(0) for x in steps[-1]), strict=True)]
    begun = []
    for product, end in reversed(ends) if backwards else ends:
        begun.append(start)
        start = end.addcmul_(product, start)
    if piece > 1:
        came = torch.stack(begun[::-1] if backwards else begun)[:, None]
        inner = slice(1, None) if backwards else slice(None, -1)
        h[:, inner].addcmul_(a[:, inner], came)


def rows_times(weights: Tensor, states: Tensor) -> Tensor:
    """(T, R, N) and (T, R, N, E) to (T, R, E): the sum over n."""
    T, R, N, E = states.shape
    return torch.bmm(weights.reshape(T * R, 1, N), states.view(T * R, N, E)).view(T, R, E)


def rows_dot(states: Tensor, values: Tensor) -> Tensor:
    """(T, R, N, E) and (T, R, E) to (T, R, N): the sum over channels."""
    T, R, N, E = states.shape
    return torch.bmm(values.reshape(T * R, 1, E), states.view(T * R, N, E).transpose(1, 2)).view(T, R, N)


def counting(lengths: Tensor, places: range, device: torch.device) -> Tensor:
    """(batch, T) bool: whether the token at each place counts."""
    return torch.arange(places.start, places.stop, device=device) < lengths.to(device)[:, None]


def computed_in(u: Tensor) -> torch.dtype:
    return torch.float64 if u.dtype == torch.float64 else torch.float32
