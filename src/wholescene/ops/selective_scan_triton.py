"""The selective scan's recurrence on a GPU: chunks of tokens side by side, each an associative scan of a tile of tokens by channels. See
`ops.selective_scan` for the formula; step sizes come after softplus here, skip and gate are for the caller.

What every chunk ends with is found from zero, carried from chunk to chunk, and the chunks are run again from what they begin with; the backward
pass does the same from the end. States are kept at the chunks' ends alone.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_TOKENS, _CHANNELS = 64, 16  # of one tile


class Recurrence(torch.autograd.Function):
    """`forward` and `backward` as one differentiable function."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        y, last, starts = forward(u, delta, A, B, C, initial)
        ctx.save_for_backward(u, delta, A, B, C, starts)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_y: Tensor, to_last: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, starts = ctx.saved_tensors
        return backward(u, delta, A, B, C, starts, to_y, to_last)


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """
    Args:
        u, delta: (batch, L, D).
        A: (D, N).
        B, C: (batch, L, G, N).
        initial: (batch, D, N). All of one float dtype, on a GPU (or anywhere in Triton's interpreter).

    Returns:
        y (batch, L, D), the sum over states of C h; last (batch, D, N); starts (chunks + 1, batch, D, N), what chunks begin with and `last`.
    """
    u, delta, A, B, C = (t.contiguous() for t in (u, delta, A, B, C))
    y = torch.empty_like(u)
    if not u.numel():
        return y, initial.clone(), initial[None].clone()
    grid, numbers, fixed = _shape_of(u, B)
    ends, sums = u.new_empty(grid[0], *initial.shape), u.new_empty(grid[0], u.shape[0], u.shape[2])
    _chunk_ends[grid](u, delta, A, B, ends, sums, *numbers, **fixed)
    starts = _carried(initial, ends, sums, A)
    _outputs[grid](u, delta, A, B, C, starts, y, *numbers, **fixed)
    return y, starts[-1].clone(), starts


def backward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor, to_y: Tensor, to_last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients for u, delta, A, B, C and initial, given those for y and last."""
    u, delta, A, B, C, to_y = (t.contiguous() for t in (u, delta, A, B, C, to_y))
    made = [torch.zeros_like(t) for t in (u, delta, A, B, C)]
    if not u.numel():
        return (*made, to_last.clone())  # type: ignore[return-value]
    grid, numbers, fixed = _shape_of(u, B)
    ends, sums = torch.empty_like(starts[1:]), u.new_empty(grid[0], u.shape[0], u.shape[2])
    _adjoint_ends[grid](delta, A, C, to_y, ends, sums, *numbers, **fixed)
    inflows = _carried(to_last, ends.flip(0), sums.flip(0), A).flip(0)  # inflows[k + 1] enters chunk k, from its end
    _gradients[grid](u, delta, A, B, C, starts, inflows, to_y, *made, *numbers, **fixed)
    to_initial = torch.exp(delta[:, 0, :, None] * A) * inflows[0]
    return (*made, to_initial)  # type: ignore[return-value]


def _shape_of(u: Tensor, B: Tensor) -> tuple[tuple[int, int, int], tuple[int, ...], dict[str, int]]:
    """Programs (chunks, blocks of channels, rows), numbers L, D, E, G, N, and what is fixed when a kernel is compiled."""
    batch, L, D = u.shape
    G, N = B.shape[2:]
    grid = (triton.cdiv(L, _TOKENS), triton.cdiv(D // G, _CHANNELS), batch * G)
    return grid, (L, D, D // G, G, N), {"T": _TOKENS, "W": _CHANNELS}


def _carried(first: Tensor, ends: Tensor, sums: Tensor, A: Tensor) -> Tensor:
    """(K + 1, batch, D, N): what each of K chunks begins with, and what the last one ends with, from what each adds and decays by."""
    states = torch.empty((len(ends) + 1, *ends.shape[1:]), dtype=ends.dtype, device=ends.device)
    states[0] = first
    entries = first.numel()
    rows = A.expand(first.shape).contiguous()
    _carry[(triton.cdiv(entries, 128),)](states, ends.contiguous(), sums.contiguous(), rows, len(ends), entries, A.shape[1], BLOCK=128)
    return states


@triton.jit  # type: ignore[untyped-decorator]
def _carry(states, ends, sums, rates, K, entries, N, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    real = at < entries
    rate = tl.load(rates + at, mask=real, other=0.0)
    state = tl.load(states + at, mask=real, other=0.0)
    here, channel = at, at // N  # in 64 bits: chunks times entries can pass 2^31
    for _ in range(K):
        decay = tl.exp(rate * tl.load(sums + channel, mask=real, other=0.0))
        state = decay * state + tl.load(ends + here, mask=real, other=0.0)
        here, channel = here + entries, channel + entries // N
        tl.store(states + here, state, mask=real)


@triton.jit  # type: ignore[untyped-decorator]
def _after(first_decay, first, second_decay, second):  # type: ignore[no-untyped-def]
    """Two steps h -> decay h + input, one after the other."""
    return first_decay * second_decay, second_decay * first + second


@triton.jit  # type: ignore[untyped-decorator]
def _place(L, D, E, G, N, T: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of a tile (T tokens, W channels): where its entries lie, which are real, where its tokens' B and C begin, which tokens are real, where its
    channels' states lie in (batch, D, N), and which channels are real."""
    row = tl.program_id(2)
    b, g = (row // G).to(tl.int64), row % G
    t = tl.program_id(0) * T + tl.arange(0, T)
    e = tl.program_id(1) * W + tl.arange(0, W)
    token, channel = t < L, e < E
    at = ((b * L + t) * D)[:, None] + (g * E + e)[None, :]
    at_token = ((b * L + t) * G + g) * N
    at_channel = (b * D + g * E + e) * N
    return at, token[:, None] & channel[None, :], at_token, token, at_channel, channel


@triton.jit  # type: ignore[untyped-decorator]
def _states(u, delta, B, rate, start, at, real, at_token, token, channel, n, L, D, G, N, T: tl.constexpr):  # type: ignore[no-untyped-def]
    """States n of a tile before each token, and each token's decay and input, all (T, W)."""
    place = tl.arange(0, T)
    inner = (place > 0) & (tl.program_id(0) * T + place <= L)  # the token before it is in the tile and in the sequence
    earlier = inner[:, None] & channel[None, :]
    d_before, u_before = tl.load(delta + at - D, mask=earlier, other=0.0), tl.load(u + at - D, mask=earlier, other=0.0)
    B_before = tl.load(B + at_token - G * N + n, mask=inner, other=0.0)
    product, sum_before = tl.associative_scan((tl.exp(d_before * rate[None, :]), d_before * u_before * B_before[:, None]), 0, _after)
    step, value = tl.load(delta + at, mask=real, other=0.0), tl.load(u + at, mask=real, other=0.0)
    own_B = tl.load(B + at_token + n, mask=token, other=0.0)
    return sum_before + product * start[None, :], tl.exp(step * rate[None, :]), step * value * own_B[:, None]


@triton.jit  # type: ignore[untyped-decorator]
def _adjoint(delta, C, to_y, rate, inflow, at, real, at_token, token, n, L, D, T: tl.constexpr):  # type: ignore[no-untyped-def]
    """Gradients at states n of a tile (T, W): lam_t = C_t g_t + a_{t+1} lam_{t+1}, with `inflow` behind the tile."""
    following = real & (tl.program_id(0) * T + tl.arange(0, T) + 1 < L)[:, None]
    decay = tl.exp(tl.load(delta + at + D, mask=following, other=0.0) * rate[None, :])
    said = tl.load(C + at_token + n, mask=token, other=0.0)[:, None] * tl.load(to_y + at, mask=real, other=0.0)
    product, found = tl.associative_scan((decay, said), 0, _after, reverse=True)
    return found + product * inflow[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _chunk_ends(u, delta, A, B, ends, sums, L, D, E, G, N, T: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]
    at, real, at_token, token, at_channel, channel = _place(L, D, E, G, N, T, W)
    k, entries = tl.program_id(0).to(tl.int64), (tl.num_programs(2) // G) * D
    total = tl.sum(tl.load(delta + at, mask=real, other=0.0), axis=0)
    tl.store(sums + k * entries + at_channel // N, total, mask=channel)
    last = (tl.arange(0, T) == T - 1)[:, None]
    for n in range(N):
        rate = tl.load(A + at_channel % (D * N) + n, mask=channel, other=0.0)
        before, decay, entered = _states(u, delta, B, rate, rate * 0, at, real, at_token, token, channel, n, L, D, G, N, T)
        end = tl.sum(tl.where(last, decay * before + entered, 0.0), axis=0)
        tl.store(ends + k * entries * N + at_channel + n, end, mask=channel)


@triton.jit  # type: ignore[untyped-decorator]
def _outputs(u, delta, A, B, C, starts, y, L, D, E, G, N, T: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]
    at, real, at_token, token, at_channel, channel = _place(L, D, E, G, N, T, W)
    k, entries = tl.program_id(0).to(tl.int64), (tl.num_programs(2) // G) * D * N
    total = tl.load(u + at, mask=real, other=0.0) * 0
    for n in range(N):
        rate = tl.load(A + at_channel % (D * N) + n, mask=channel, other=0.0)
        start = tl.load(starts + k * entries + at_channel + n, mask=channel, other=0.0)
        before, decay, entered = _states(u, delta, B, rate, start, at, real, at_token, token, channel, n, L, D, G, N, T)
        total += (decay * before + entered) * tl.load(C + at_token + n, mask=token, other=0.0)[:, None]
    tl.store(y + at, total, mask=real)


@triton.jit  # type: ignore[untyped-decorator]
def _adjoint_ends(delta, A, C, to_y, ends, sums, L, D, E, G, N, T: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]
    at, real, at_token, token, at_channel, channel = _place(L, D, E, G, N, T, W)
    k, entries = tl.program_id(0).to(tl.int64), (tl.num_programs(2) // G) * D
    following = real & (tl.program_id(0) * T + tl.arange(0, T) + 1 < L)[:, None]
    total = tl.sum(tl.load(delta + at + D, mask=following, other=0.0), axis=0)
    tl.store(sums + k * entries + at_channel // N, total, mask=channel)
    first = (tl.arange(0, T) == 0)[:, None]
    for n in range(N):
        rate = tl.load(A + at_channel % (D * N) + n, mask=channel, other=0.0)
        adjoint = _adjoint(delta, C, to_y, rate, rate * 0, at, real, at_token, token, n, L, D, T)
        tl.store(ends + k * entries * N + at_channel + n, tl.sum(tl.where(first, adjoint, 0.0), axis=0), mask=channel)


@triton.jit  # type: ignore[untyped-decorator]
def _gradients(  # type: ignore[no-untyped-def]
    u, delta, A, B, C, starts, inflows, to_y, to_u, to_delta, to_A, to_B, to_C, L, D, E, G, N, T: tl.constexpr, W: tl.constexpr
):
    at, real, at_token, token, at_channel, channel = _place(L, D, E, G, N, T, W)
    k, entries = tl.program_id(0).to(tl.int64), (tl.num_programs(2) // G) * D * N
    step, value = tl.load(delta + at, mask=real, other=0.0), tl.load(u + at, mask=real, other=0.0)
    upstream = tl.load(to_y + at, mask=real, other=0.0)
    into, through_rates = step * 0, step * 0
    for n in range(N):
        rate = tl.load(A + at_channel % (D * N) + n, mask=channel, other=0.0)
        start = tl.load(starts + k * entries + at_channel + n, mask=channel, other=0.0)
        inflow = tl.load(inflows + (k + 1) * entries + at_channel + n, mask=channel, other=0.0)
        before, decay, entered = _states(u, delta, B, rate, start, at, real, at_token, token, channel, n, L, D, G, N, T)
        adjoint = tl.where(real, _adjoint(delta, C, to_y, rate, inflow, at, real, at_token, token, n, L, D, T), 0.0)
        into += adjoint * tl.load(B + at_token + n, mask=token, other=0.0)[:, None]
        through = adjoint * decay * before
        through_rates += through * rate[None, :]
        tl.atomic_add(to_A + at_channel % (D * N) + n, tl.sum(through * step, axis=0), mask=channel)
        tl.atomic_add(to_B + at_token + n, tl.sum(adjoint * step * value, axis=1), mask=token)
        tl.atomic_add(to_C + at_token + n, tl.sum((decay * before + entered) * upstream, axis=1), mask=token)
    tl.store(to_u + at, step * into, mask=real)
    tl.store(to_delta + at, through_rates + value * into, mask=real)
