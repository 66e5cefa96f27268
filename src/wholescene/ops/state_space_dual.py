"""The scan of state space duality, SSD (Dao and Gu, Transformers are SSMs, ICML 2024): one decay a head, so that a chunk is a few matrix products.

For every head i of P channels with a state (P, N), group g = i // (H / G):

    delta_t = softplus(dt_t + bias)
    h_t = exp(delta_t A_i) h_{t-1} + (delta_t x_t) B_t[g]^T
    y_t = h_t C_t[g] + skip_i x_t

In a chunk of T tokens (section 6 of the paper), with c the running sum of delta A, y_t is the sum over s <= t of
exp(c_t - c_s) (C_t . B_s) (delta x)_s; what the chunk began with adds exp(c_t) h C_t. Running sums and
their differences are float64: the sums lose what the differences need.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError
from wholescene.ops.choice import reference_forced, without_autocast
from wholescene.ops.scan_blocks import computed_in, counting

CHUNK = 64  # tokens
_SEGMENT = 2**22  # entries of the (T, T) tables of all heads that are held at once: 16 MiB in float32


def dual_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    skip: Tensor | None = None,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The scan in chunks, a segment of chunks at a time forward and backward; `WHOLESCENE_OPS=reference` forces `reference`.

    Computed in float32 (float64 for float64 `x`) whatever autocast says. Gradients reach every float argument, also through `last`.

    Args:
        x: (batch, L, H, P) tokens.
        dt: (batch, L, H) step sizes before bias and softplus.
        A: (H), negative.
        B, C: (batch, L, G, N).
        skip, bias: (H).
        initial: (batch, H, P, N) states before the first token; None: zeros.
        lengths: (batch) integers: tokens from there on are padding, which is answered with 0 and leaves the state as it is. None: all count.
        reverse: from the last token to the first.

    Returns:
        y (batch, L, H, P) in the dtype of `x`, in the tokens' own order.
        last (batch, H, P, N) float32 or float64, the states after the last token of the scan (the first one for `reverse`).

    Raises:
        InputError: shapes that do not belong together.
    """
    _check(x, dt, A, B, C, skip, bias, initial, lengths)
    kind = computed_in(x)
    with without_autocast(x.device):
        if initial is None:
            initial = x.new_zeros(*x.shape[:1], *x.shape[2:], B.shape[-1], dtype=kind)
        given = (x, dt, A, B, C, skip, bias, initial)
        if reference_forced():
            return reference(*given, lengths, reverse)
        y, last = _Segments.apply(*given, lengths, reverse)
        return y, last


def reference(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor | None, bias: Tensor | None, initial: Tensor, lengths: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The specification: one step after another. Arguments as `dual_scan`."""
    kind, (_, L, H, _) = computed_in(x), x.shape
    state, delta = initial.to(kind), _delta(dt, bias, lengths, kind)
    outputs: dict[int, Tensor] = {}
    for t in reversed(range(L)) if reverse else range(L):
        own_B, own_C = (v[:, t].to(kind).repeat_interleave(H // B.shape[2], 1)[:, :, None] for v in (B, C))  # (batch, H, 1, N)
        token = x[:, t].to(kind)
        decay = torch.exp(delta[:, t] * A.to(kind))
        state = decay[..., None, None] * state + (delta[:, t, :, None] * token)[..., None] * own_B
        outputs[t] = (state * own_C).sum(-1) + (0 if skip is None else skip.to(kind)[:, None] * token)
    y = torch.stack([outputs[t] for t in range(L)], 1) if L else x.to(kind)
    return (y if lengths is None else y * counting(lengths, range(L), x.device)[..., None, None]).to(x.dtype), state


class _Segments(torch.autograd.Function):
    """Keeps the states at the start of every segment; the backward pass runs each segment again, with gradients, from the last to the first."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor | None, bias: Tensor | None, initial: Tensor,
        lengths: Tensor | None, reverse: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        y, state = torch.empty_like(x, memory_format=torch.contiguous_format), initial.to(computed_in(x)).clone()
        ctx.starts, ctx.lengths, ctx.reverse = [], lengths, reverse
        ctx.save_for_backward(x, dt, A, B, C, skip, bias, initial)
        if x.is_meta:
            return y, state
        for part in _segments(x, reverse):
            ctx.starts.append(state)
            y[:, part], state = _segment(x[:, part], dt[:, part], A, B[:, part], C[:, part], skip, bias, state, _within(lengths, part), reverse)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_y: Tensor, to_last: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, skip, bias, initial = given = ctx.saved_tensors
        if x.is_meta:
            return (*(None if v is None else torch.zeros_like(v) for v in given), None, None)
        tokens, shared = (x, dt, B, C), [v for v in (A, skip, bias) if v is not None]
        to_tokens = [torch.zeros_like(v, memory_format=torch.contiguous_format) for v in tokens]
        to_shared = [torch.zeros_like(v) for v in shared]
        for part, start in zip(reversed(_segments(x, ctx.reverse)), reversed(ctx.starts), strict=True):
            with torch.enable_grad():
                own = [v[:, part].detach().requires_grad_() for v in tokens]
                own_x, own_dt, own_B, own_C = own
                same = [v.detach().requires_grad_() for v in shared]
                own_A, own_skip, own_bias = (None if v is None else same[i] for v, i in _numbered(A, skip, bias))
                before = start.detach().requires_grad_()
                assert own_A is not None
                lengths = _within(ctx.lengths, part)
                y, after = _segment(own_x, own_dt, own_A, own_B, own_C, own_skip, own_bias, before, lengths, ctx.reverse)
            found = torch.autograd.grad((y, after), (*own, *same, before), (to_y[:, part], to_last))
            for out, value in zip(to_tokens, found, strict=False):
                out[:, part] = value
            for out, value in zip(to_shared, found[4:], strict=False):
                out += value
            to_last = found[-1]
        to_A, to_skip, to_bias = (None if v is None else to_shared[i] for v, i in _numbered(A, skip, bias))
        to_x, to_dt, to_B, to_C = to_tokens
        return to_x, to_dt, to_A, to_B, to_C, to_skip, to_bias, to_last.to(initial.dtype), None, None


def _segment(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor | None, bias: Tensor | None, state: Tensor, lengths: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Outputs and last states of a run of tokens: all chunks side by side, what they end with carried from each to the next."""
    kind, (L, H), G = state.dtype, x.shape[1:3], B.shape[2]
    delta = _delta(dt, bias, lengths, kind)
    # a last chunk that is not full is filled with steps of size 0: decay 1, input 0. (batch, K chunks, T, G, heads of a group, ...)
    given, steps, own_B, own_C = (_chunked(v.to(kind), reverse) for v in (x, delta, B, C))
    given, heads = given.unflatten(3, (G, H // G)), steps.unflatten(3, (G, H // G))
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    sums = (heads.to(wide) * A.to(wide).view(G, H // G)).cumsum(2).permute(0, 1, 3, 4, 2)  # (batch, K, G, h, T)
    between = (sums[..., :, None] - sums[..., None, :]).to(kind)
    T = sums.shape[-1]
    later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
    alike = torch.einsum("bktgn,bksgn->bkgts", own_C, own_B)[:, :, :, None]
    entered = given * heads[..., None]  # delta x
    inside = torch.einsum("bkghts,bksghp->bktghp", between.masked_fill(later, -torch.inf).exp() * alike, entered)
    to_end = (sums[..., -1:] - sums).to(kind).exp()
    ended = torch.einsum("bkght,bktghp,bktgn->bkghpn", to_end, entered, own_B)
    decay, begun = sums[..., -1].to(kind).exp()[..., None, None], []
    state = state.unflatten(1, (G, H // G))
    for chunk in range(ended.shape[1]):
        begun.append(state)
        state = decay[:, chunk] * state + ended[:, chunk]
    from_start = torch.einsum("bktgn,bkghpn->bktghp", own_C, torch.stack(begun, 1))
    y = inside + from_start * sums.to(kind).exp().permute(0, 1, 4, 2, 3)[..., None]
    y = y if skip is None else y + given * skip.to(kind).view(G, H // G, 1)
    y = y.flatten(1, 2).flatten(2, 3)[:, :L]
    y = y.flip(1) if reverse else y
    y = y if lengths is None else y * counting(lengths, range(L), x.device)[..., None, None]
    return y.to(x.dtype), state.flatten(1, 2)


def _delta(dt: Tensor, bias: Tensor | None, lengths: Tensor | None, kind: torch.dtype) -> Tensor:
    """(batch, L, H) step sizes, 0 for padding."""
    delta = F.softplus(dt.to(kind) + (0 if bias is None else bias.to(kind)))
    return delta if lengths is None else delta * counting(lengths, range(dt.shape[1]), dt.device)[..., None]


def _chunked(values: Tensor, reverse: bool) -> Tensor:
    """(batch, L, ...) in the order of the scan, to (batch, K, T, ...)."""
    ordered = values.flip(1) if reverse else values
    missing = -ordered.shape[1] % CHUNK
    filled = F.pad(ordered, (*(0, 0) * (values.dim() - 2), 0, missing)) if missing else ordered
    return filled.unflatten(1, (-1, CHUNK))


def _segments(x: Tensor, reverse: bool) -> list[slice]:
    """Runs of whole chunks, in the order of the scan."""
    batch, L, H, _ = x.shape
    step = max(1, _SEGMENT // (batch * H * CHUNK * CHUNK)) * CHUNK
    found = [slice(max(0, L - start - step), L - start) if reverse else slice(start, min(start + step, L)) for start in range(0, L, step)]
    return found


def _within(lengths: Tensor | None, part: slice) -> Tensor | None:
    """How many tokens of the part count."""
    return None if lengths is None else (lengths - part.start).clamp(0, part.stop - part.start)


def _numbered(*values: Tensor | None) -> list[tuple[Tensor | None, int]]:
    """Each value, and which of those that are given it is."""
    place = -1
    return [(v, place := place + (v is not None)) for v in values]


def _check(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor | None, bias: Tensor | None, initial: Tensor | None,
    lengths: Tensor | None,
) -> None:  # fmt: skip
    batch, L, H, P = x.shape if x.dim() == 4 else (0, 0, 0, 0)
    G, N = B.shape[2:] if B.dim() == 4 else (0, 0)
    expected = (
        ("dt", dt, (batch, L, H)), ("A", A, (H,)), ("B", B, (batch, L, G, N)), ("C", C, (batch, L, G, N)), ("skip", skip, (H,)), ("bias", bias, (H,)),
        ("initial", initial, (batch, H, P, N)), ("lengths", lengths, (batch,)),
    )  # fmt: skip
    wrong = [f"{name} {tuple(t.shape)} instead of {shape}" for name, t, shape in expected if t is not None and tuple(t.shape) != shape]
    if x.dim() != 4 or not G or H % G or wrong:
        raise InputError(
            f"a dual scan wants x (batch, L, H, P) and B, C (batch, L, G, N) with G dividing H; found x {tuple(x.shape)}, B {tuple(B.shape)}; "
            f"{'; '.join(wrong) or 'groups do not fit'}"
        )
