"""The blocks around the scans: Mamba (Gu and Dao, 2023, section 3.4), in one direction or both, and Mamba-2 (Dao and Gu, 2024, section 7).

Parameters have the public package's names and start as they do there, so that its weights load. A block maps a sequence (batch, L, width) to the
same, without norm or residual. Without gradients it runs over some two thousand tokens at a time and carries state and convolution from part to
part, so that nothing as wide as the inner tokens is ever as long as the sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.layers.rows import RowLinear
from wholescene.ops.scan_blocks import counting
from wholescene.ops.selective_scan import selective_scan
from wholescene.ops.state_space_dual import dual_scan

_PART = 2048  # tokens of a part without gradients; longer ones are not faster
_STEPS = (1e-3, 1e-1)  # the range that step sizes start in, drawn evenly on a logarithmic scale
_LEAST_STEP = 1e-4


@dataclass(frozen=True)
class Carried:
    """What a part of a sequence hands to the next one.

    Attributes:
        tail: (batch, kernel - 1, C) inputs of the convolution that the next part still sees.
        state: of the scan; None at the beginning.
    """

    tail: Tensor
    state: Tensor | None = None


@dataclass(frozen=True)
class _Branch:
    """One direction of a Mamba block: what its parameters are, whatever they are called."""

    conv1d: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: Tensor
    D: Tensor


class Mamba(nn.Module):
    """Project to x and z, convolve x causally, let it say dt, B and C, scan, gate with z, project back.

    Attributes:
        reverse: the sequence is read from its end (and causality runs the other way).
    """

    def __init__(self, width: int, *, state: int = 16, kernel: int = 4, expand: int = 2, rank: int | None = None, reverse: bool = False) -> None:
        """
        Args:
            width: channels of the tokens.
            state: N, states a channel.
            kernel: taps of the causal convolution.
            expand: inner channels over outer ones.
            rank: of the projection that makes step sizes; None: width / 16, rounded up.
            reverse: see the attribute.
        """
        super().__init__()
        inner, self.states, self.rank, self.reverse = expand * width, state, rank or math.ceil(width / 16), reverse
        self.in_proj = RowLinear(width, 2 * inner, bias=False)
        self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D = self._branch(inner, kernel)
        self.out_proj = RowLinear(inner, width, bias=False)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, L, width) to the same; tokens from `lengths` (batch) on are padding and come out as 0."""
        return self._scanned(tokens, _Branch(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D), lengths, self.reverse)

    def _branch(self, inner: int, kernel: int) -> tuple[nn.Conv1d, nn.Linear, nn.Linear, nn.Parameter, nn.Parameter]:
        conv = nn.Conv1d(inner, inner, kernel, groups=inner)
        x_proj = RowLinear(inner, self.rank + 2 * self.states, bias=False)
        dt_proj = nn.Linear(self.rank, inner)
        nn.init.uniform_(dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            dt_proj.bias.copy_(first_steps(inner))
        A_log = torch.arange(1, self.states + 1, dtype=torch.float32).log().repeat(inner, 1)
        return conv, x_proj, dt_proj, nn.Parameter(A_log), nn.Parameter(torch.ones(inner))

    def _scanned(self, tokens: Tensor, branch: _Branch, lengths: Tensor | None, reverse: bool) -> Tensor:
        carried = Carried(tokens.new_zeros(len(tokens), branch.conv1d.kernel_size[0] - 1, branch.conv1d.in_channels))
        out: dict[int, Tensor] = {}
        for part in parts_of(tokens, reverse):
            x, z = self.in_proj(tokens[:, part]).chunk(2, -1)
            count = within(lengths, part)
            x, tail = convolve_causally(masked(x, count), branch.conv1d, carried.tail, reverse)
            said = branch.x_proj(x)
            rank, B, C = said.split([self.rank, self.states, self.states], -1)
            y, state = selective_scan(
                x, F.linear(rank, branch.dt_proj.weight), -branch.A_log.exp(), B, C,
                skip=branch.D, gate=z, bias=branch.dt_proj.bias, initial=carried.state, lengths=count, reverse=reverse,
            )  # fmt: skip
            carried = Carried(tail, state)
            out[part.start] = self.out_proj(y)
        return joined(out, tokens)


class BidirectionalMamba(Mamba):
    """Two scans with own parameters, one from each end, between one projection in and one out; their outputs are added (Vision Mamba, Zhu et al.,
    ICML 2024, type v2)."""

    def __init__(self, width: int, *, state: int = 16, kernel: int = 4, expand: int = 2, rank: int | None = None) -> None:
        """As `Mamba`."""
        super().__init__(width, state=state, kernel=kernel, expand=expand, rank=rank)
        self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b = self._branch(expand * width, kernel)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `Mamba`."""
        backward = _Branch(self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)
        return super().forward(tokens, lengths) + self._scanned(tokens, backward, lengths, True)


class Mamba2(nn.Module):
    """One projection to z, x, B, C and dt, a causal convolution of x, B and C, the dual scan, a gated norm, a projection back.

    Attributes:
        reverse: the sequence is read from its end.
    """

    def __init__(
        self, width: int, *, state: int = 128, kernel: int = 4, expand: int = 2, head: int = 64, groups: int = 1, reverse: bool = False
    ) -> None:
        """
        Args:
            width, state, kernel, expand, reverse: as `Mamba`.
            head: channels of a head.
            groups: of heads that share B and C.

        Raises:
            InputError: heads that do not fill the inner width, groups that do not fill the heads.
        """
        super().__init__()
        inner, self.head, self.groups, self.states, self.reverse = expand * width, head, groups, state, reverse
        heads = inner // head
        if inner % head or heads % groups:
            raise InputError(f"Mamba-2 of {inner} inner channels in heads of {head} and {groups} groups; each must divide what it cuts")
        self.cuts = [inner, inner + 2 * groups * state, heads]
        self.in_proj = RowLinear(width, sum(self.cuts), bias=False)
        self.conv1d = nn.Conv1d(self.cuts[1], self.cuts[1], kernel, groups=self.cuts[1])
        self.dt_bias = nn.Parameter(first_steps(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = GatedNorm(inner, groups)
        self.out_proj = RowLinear(inner, width, bias=False)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, L, width) to the same; tokens from `lengths` (batch) on are padding and come out as 0."""
        carried = Carried(tokens.new_zeros(len(tokens), self.conv1d.kernel_size[0] - 1, self.cuts[1]))
        out: dict[int, Tensor] = {}
        for part in parts_of(tokens, self.reverse):
            z, mixed, dt = self.in_proj(tokens[:, part]).split(self.cuts, -1)
            count = within(lengths, part)
            mixed, tail = convolve_causally(masked(mixed, count), self.conv1d, carried.tail, self.reverse)
            x, B, C = mixed.split([self.cuts[0], self.groups * self.states, self.groups * self.states], -1)
            y, state = dual_scan(
                x.unflatten(2, (-1, self.head)), dt, -self.A_log.exp(), B.unflatten(2, (self.groups, -1)), C.unflatten(2, (self.groups, -1)),
                skip=self.D, bias=self.dt_bias, initial=carried.state, lengths=count, reverse=self.reverse,
            )  # fmt: skip
            carried = Carried(tail, state)
            out[part.start] = self.out_proj(self.norm(y.flatten(2), z))
        return joined(out, tokens)


class GatedNorm(nn.Module):
    """RMS norm of y * silu(z) in groups of channels, times a weight."""

    def __init__(self, width: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.groups, self.eps = groups, eps

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """(..., width) both, to the same."""
        gated = (y * F.silu(z)).unflatten(-1, (self.groups, -1))
        return (gated * (gated.square().mean(-1, keepdim=True) + self.eps).rsqrt()).flatten(-2) * self.weight


def first_steps(channels: int) -> Tensor:
    """(channels) biases of which softplus makes the step sizes that training begins with."""
    low, high = (math.log(step) for step in _STEPS)
    step = torch.empty(channels).uniform_(low, high).exp().clamp(min=_LEAST_STEP)
    return step + torch.log(-torch.expm1(-step))


def convolve_causally(x: Tensor, conv: nn.Conv1d, tail: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """SiLU of a depthwise convolution whose last tap is the token itself, and the tail for the part that follows.

    Args:
        x: (batch, T, C).
        conv: of C channels.
        tail: (batch, kernel - 1, C), the inputs before the part (after it, for `reverse`).
        reverse: earlier means a larger index.
    """
    kernel, T = conv.kernel_size[0], x.shape[1]
    window = torch.cat([x, tail.to(x.dtype)] if reverse else [tail.to(x.dtype), x], 1)
    assert conv.bias is not None
    y = conv.bias.expand_as(x)
    for tap in range(kernel):
        start = kernel - 1 - tap if reverse else tap
        y = torch.addcmul(y, window[:, start : start + T], conv.weight[:, 0, tap])
    return F.silu(y), window[:, : kernel - 1] if reverse else window[:, T:]


def parts_of(tokens: Tensor, reverse: bool) -> list[slice]:
    """The whole sequence where gradients are recorded, else parts of it in the order of the scan."""
    L = tokens.shape[1]
    step = max(1, L) if torch.is_grad_enabled() or tokens.is_meta else _PART
    found = [slice(start, min(start + step, L)) for start in range(0, L, step)]
    return found[::-1] if reverse else found


def within(lengths: Tensor | None, part: slice) -> Tensor | None:
    """How many tokens of a part count."""
    return None if lengths is None else (lengths - part.start).clamp(0, part.stop - part.start)


def masked(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Padding set to 0, which is what a convolution sees beyond the ends."""
    return x if lengths is None else x * counting(lengths, range(x.shape[1]), x.device)[..., None]


def joined(parts: dict[int, Tensor], tokens: Tensor) -> Tensor:
    """The parts by where they start, as one sequence."""
    ordered = [parts[start] for start in sorted(parts)]
    if len(ordered) == 1:
        return ordered[0]
    return torch.cat(ordered, 1) if ordered else torch.zeros_like(tokens)
