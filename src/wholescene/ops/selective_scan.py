"""Selective scan, the recurrence S6 of state space models (Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023).

For every channel d of every sequence, with N states and what the tokens themselves say of step size, input and output:

    delta_t = softplus(dt_t + bias)
    h_t[n] = exp(delta_t A[n]) h_{t-1}[n] + delta_t u_t B_t[n]
    y_t = (sum over n of C_t[n] h_t[n] + skip u_t) * silu(gate_t)

The states of all tokens together, (L, D, N), are never held: a block of tokens is worked through at a time, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.ops.choice import reference_forced, triton_path, without_autocast
from wholescene.ops.counting import worth
from wholescene.ops.scan_blocks import Layout, Tokens, computed_in, counting, rows_dot, rows_times, run


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    skip: Tensor | None = None,
    gate: Tensor | None = None,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The scan by the path for the device; `WHOLESCENE_OPS=reference` forces `reference`.

    Computed in float32 (float64 for float64 `u`) whatever autocast says. Gradients reach every float argument, also through `last`.

    Args:
        u, dt, gate: (batch, L, D) tokens; input, step size before bias and softplus, and gate before its SiLU.
        A: (D, N), negative.
        B, C: (batch, L, N), or (batch, L, G, N) where channel d belongs to group d // (D / G).
        skip, bias: (D).
        initial: (batch, D, N) states before the first token; None: zeros.
        lengths: (batch) integers: tokens from there on are padding, which is answered with 0 and leaves the state as it is. None: all count.
        reverse: from the last token to the first.

    Returns:
        y (batch, L, D) in the dtype of `u`, in the tokens' own order.
        last (batch, D, N) float32 or float64, the states after the last token of the scan (the first one for `reverse`).

    Raises:
        InputError: shapes that do not belong together.
    """
    groups = 1 if B.dim() == 3 else B.shape[2] if B.dim() == 4 else 0
    given = (u, dt, A, B, C, skip, gate, bias, initial)
    _check(given, lengths, groups)
    if B.dim() == 3:
        given = (u, dt, A, B[:, :, None], C[:, :, None], *given[5:])
    with without_autocast(u.device), worth(4 * u.numel() * A.shape[1]):
        if reference_forced():
            return reference(*given, lengths, reverse)
        fast = triton_path("selective_scan", u)
        if fast is not None:
            return _around(fast.Recurrence.apply, *given, lengths, reverse)
        keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
        y, last = _Scan.apply(*given, lengths, reverse, keep)
        return y, last


def reference(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None = None,
    gate: Tensor | None = None,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The specification: one step after another. Arguments as `selective_scan`, B and C with groups (batch, L, G, N)."""
    kind = computed_in(u)
    given, answered = u.to(kind), u.dtype
    batch, L, D = u.shape
    repeats = D // B.shape[2]
    delta = F.softplus(dt.to(kind) + (0 if bias is None else bias.to(kind)))
    if lengths is not None:
        delta = delta * counting(lengths, range(L), u.device)[..., None]
    state = A.new_zeros(batch, D, A.shape[1], dtype=kind) if initial is None else initial.to(kind)
    outputs: dict[int, Tensor] = {}
    for t in reversed(range(L)) if reverse else range(L):
        own_B, own_C = (x[:, t].to(kind).repeat_interleave(repeats, 1) for x in (B, C))
        state = torch.exp(delta[:, t, :, None] * A.to(kind)) * state + (delta[:, t] * given[:, t])[..., None] * own_B
        outputs[t] = (state * own_C).sum(-1)
    y = torch.stack([outputs[t] for t in range(L)], 1) if L else given
    y = y if skip is None else y + skip.to(kind) * given
    y = y if gate is None else y * F.silu(gate.to(kind))
    y = y if lengths is None else y * counting(lengths, range(L), u.device)[..., None]
    return y.to(answered), state


def _around(
    recurrence: Callable[..., tuple[Tensor, Tensor]], u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor | None,
    gate: Tensor | None, bias: Tensor | None, initial: Tensor | None, lengths: Tensor | None, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The scan by a function that does h and the sum of C h alone, forward in time: (u, delta, A, B, C, initial) to y and last."""
    kind, (batch, L, D) = computed_in(u), u.shape
    given = u.to(kind)
    delta = F.softplus(dt.to(kind) + (0 if bias is None else bias.to(kind)))
    counts = None if lengths is None else counting(lengths, range(L), u.device)[..., None]
    delta = delta if counts is None else delta * counts
    first = given.new_zeros(batch, D, A.shape[1]) if initial is None else initial.to(kind)
    tokens = (given, delta, B.to(kind), C.to(kind))
    own_u, own_delta, own_B, own_C = (t.flip(1) for t in tokens) if reverse else tokens
    y, last = recurrence(own_u, own_delta, A.to(kind), own_B, own_C, first)
    y = y.flip(1) if reverse else y
    y = y if skip is None else y + skip.to(kind) * given
    y = y if gate is None else y * F.silu(gate.to(kind))
    return (y if counts is None else y * counts).to(u.dtype), last


class _Scan(torch.autograd.Function):
    """Keeps the states at the start of every block; the backward pass makes those between again, a block at a time, from the last to the first."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor | None, gate: Tensor | None, bias: Tensor | None,
        initial: Tensor | None, lengths: Tensor | None, reverse: bool, keep: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        layout = Layout(u, A, B, lengths, reverse)
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        ctx.save_for_backward(u, dt, A, B, C, skip, gate, bias, initial)
        if u.is_meta:
            return y, u.new_empty(layout.batch, *A.shape, dtype=layout.kind)
        rows = layout.by_channel(A)
        state = torch.zeros_like(rows) if initial is None else layout.by_channel(initial)
        blocks = layout.blocks()
        # one tensor: small ones that stay, between the large ones that go, would keep an allocator from using the space again
        starts = rows.new_empty(len(blocks) if keep else 0, *rows.shape)
        for index, part in enumerate(blocks):
            if keep:
                starts[index] = state
            tokens = layout.tokens(part, u, dt, B, C, gate, bias)
            decay, states = tokens.recurrence(rows)
            run(decay, states, state, layout.piece)
            state = states[-1].clone()
            out = tokens.read_out(states)
            out = out if skip is None else out.addcmul_(tokens.u, layout.vector(skip))
            out = out if tokens.gate is None else out.mul_(F.silu(tokens.gate))
            layout.put(y, part, out if tokens.counts is None else out * tokens.counts)
        ctx.layout, ctx.starts = layout, starts
        return y, layout.from_rows(state)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_y: Tensor, to_last: Tensor) -> tuple[Tensor | None, ...]:
        u, dt, A, B, C, skip, gate, bias, initial = given = ctx.saved_tensors
        if u.is_meta:
            return (*(None if v is None else torch.zeros_like(v) for v in given), None, None, None)
        layout: Layout = ctx.layout
        to: dict[str, Tensor] = {n: torch.zeros_like(v, memory_format=torch.contiguous_format)
                                 for n, v in (("u", u), ("dt", dt), ("B", B), ("C", C), ("gate", gate)) if v is not None}  # fmt: skip
        rows = layout.by_channel(A)
        sums = _Sums(torch.zeros_like(rows), rows.new_zeros(2, layout.rows, layout.width))
        carry = layout.by_channel(to_last)
        skips = None if skip is None else layout.vector(skip)
        for part, start in zip(reversed(layout.blocks()), reversed(ctx.starts.unbind(0)), strict=True):
            tokens = layout.tokens(part, u, dt, B, C, gate, bias)
            found, carry = _block_backward(tokens, rows, start, skips, layout.take(to_y, part), carry, sums, layout.piece)
            for name, value in found.items():
                layout.put(to[name], part, value)
        to_A = layout.from_rows(sums.A).sum(0).to(A.dtype)
        to_skip, to_bias = (sums.vectors.view(2, layout.batch, -1).sum(1)[i].to(u.dtype if v is None else v.dtype) for i, v in ((0, skip), (1, bias)))
        to_initial = None if initial is None else layout.from_rows(carry).to(initial.dtype)
        return (
            to["u"], to["dt"], to_A, to["B"], to["C"], None if skip is None else to_skip, to.get("gate"), None if bias is None else to_bias,
            to_initial, None, None, None,
        )  # fmt: skip


@dataclass(frozen=True)
class _Sums:
    """Gradients that all blocks add to.

    Attributes:
        A: (R, N, E).
        vectors: (2, R, E) of skip and bias.
    """

    A: Tensor
    vectors: Tensor


def _block_backward(
    tokens: Tokens, A: Tensor, start: Tensor, skip: Tensor | None, to_y: Tensor, carry: Tensor, sums: _Sums, piece: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients of one block (T, R, ...), and the one at the state before it.

    The adjoint of the states runs from the end: lam_t = C_t g_t + a_{t+1} lam_{t+1}, with g the gradient at y before skip and gate.
    """
    decay, states = tokens.recurrence(A)
    run(decay.clone() if piece > 1 else decay, states, start, piece)
    if tokens.counts is not None:
        to_y = to_y * tokens.counts
    found, to_read = {}, to_y
    if tokens.gate is not None:
        y = tokens.read_out(states)
        y = y if skip is None else y.addcmul_(tokens.u, skip)
        opened = torch.sigmoid(tokens.gate)
        found["gate"] = to_y * y * opened * (1 + tokens.gate * (1 - opened))
        to_read = to_y * (tokens.gate * opened)
    found["C"] = rows_dot(states, to_read)
    adjoint = to_read[:, :, None] * tokens.C[..., None]
    if piece > 1:
        following = torch.cat([decay[1:], torch.ones_like(decay[:1])])
        run(following, adjoint, carry, piece, backwards=True)
    else:
        adjoint[-1].add_(carry)
        run(decay[1:], adjoint[:-1], adjoint[-1], piece, backwards=True)
    carry = decay[0] * adjoint[0]
    into = rows_times(tokens.B, adjoint)  # sum over n of lam B
    found["B"] = rows_dot(adjoint, tokens.delta * tokens.u)
    decay[1:].mul_(states[:-1])
    decay[0].mul_(start)
    through = decay.mul_(adjoint)  # lam_t a_t h_{t-1}
    to_delta = torch.mul(through, A, out=states).sum(2).addcmul_(tokens.u, into)
    if piece > 1:
        sums.A.add_(through.mul_(tokens.delta[:, :, None]).sum(0))
    else:  # a token is large enough to be a call of its own, which spares writing the products
        for own, delta in zip(through.unbind(0), tokens.delta.unbind(0), strict=True):
            sums.A.addcmul_(own, delta[:, None])
    to_before = torch.ops.aten.softplus_backward(to_delta, tokens.before, 1, 20)  # torch's softplus is the identity above 20
    found["dt"] = to_before if tokens.counts is None else to_before * tokens.counts
    found["u"] = tokens.delta * into
    if skip is not None:
        found["u"].addcmul_(to_read, skip)
        sums.vectors[0].add_((to_read * tokens.u).sum(0))
    sums.vectors[1].add_(found["dt"].sum(0))
    return found, carry


def _check(given: tuple[Tensor | None, ...], lengths: Tensor | None, groups: int) -> None:
    u, dt, A, B, C, skip, gate, bias, initial = given
    assert u is not None
    assert A is not None
    assert B is not None
    batch, L, D = u.shape if u.dim() == 3 else (0, 0, 0)
    N = A.shape[-1]
    expected: Iterator[tuple[str, Tensor | None, tuple[int, ...]]] = iter((
        ("dt", dt, (batch, L, D)), ("A", A, (D, N)), ("B", B, (batch, L, *B.shape[2:-1], N)), ("C", C, tuple(B.shape)), ("skip", skip, (D,)),
        ("gate", gate, (batch, L, D)), ("bias", bias, (D,)), ("initial", initial, (batch, D, N)), ("lengths", lengths, (batch,)),
    ))  # fmt: skip
    wrong = [f"{name} {tuple(t.shape)} instead of {shape}" for name, t, shape in expected if t is not None and tuple(t.shape) != shape]
    if u.dim() != 3 or not groups or D % groups or wrong:
        raise InputError(
            f"a selective scan wants u (batch, L, D), A (D, N) and B, C (batch, L, N) or (batch, L, G, N) with G dividing D; "
            f"found u {tuple(u.shape)}, A {tuple(A.shape)}, B {tuple(B.shape)}; {'; '.join(wrong) or 'groups do not fit'}"
        )
