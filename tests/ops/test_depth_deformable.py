"""Depth-aware sampling: the reference against trilinear sampling of the whole product, the fast path against the reference, all gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.errors import InputError
from wholescene.ops import depth_deformable
from wholescene.ops.depth_deformable import cpu, depth_aware_sampling, reference

Given = tuple[Tensor, Tensor, Tensor, Tensor]

CASES = {"two samples": (2, 5, 7, 6, 11, 3, 4, 6), "one of everything": (1, 1, 1, 1, 1, 1, 1, 1), "more bins than cells": (1, 3, 2, 9, 17, 2, 3, 5)}


def forged(case: str, kind: torch.dtype = torch.float64, spread: float = 0.4) -> Given:
    """Places up to `spread` outside map and bins, so that all six borders and what lies beyond them are read too."""
    B, h, w, bins, Q, M, P, D = CASES[case]
    random = torch.Generator().manual_seed(len(case))
    value = torch.randn(B, h * w, M, D, dtype=kind, generator=random)
    depth = torch.randn(B, bins, h, w, dtype=kind, generator=random).softmax(1)
    locations = torch.rand(B, Q, M, P, 3, dtype=kind, generator=random) * (1 + 2 * spread) - spread
    weights = torch.rand(B, Q, M, P, dtype=kind, generator=random) - 0.3
    return value, depth, locations, weights


def dense(value: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Trilinear sampling of depth times value, head by head, with zeros outside."""
    B, _, h, w = depth.shape
    out = []
    for head in range(value.shape[2]):
        whole = depth[:, None] * value[:, :, head].transpose(1, 2).reshape(B, -1, 1, h, w)  # (B, D, bins, h, w)
        read = F.grid_sample(whole, 2 * locations[:, :, head, :, None] - 1, align_corners=False)[..., 0]  # (B, D, Q, P)
        out.append(torch.einsum("bdqp,bqp->bqd", read, weights[:, :, head]))
    return torch.stack(out, 2)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_samples_the_product_of_depth_and_value(case: str) -> None:
    given = forged(case)
    torch.testing.assert_close(reference(*given), dense(*given), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_the_cpu_path_is_the_reference(case: str, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_deformable, "_MOST_PLACES", 16)  # several parts, the last one shorter
    given = forged(case, kind)
    tolerance = 1e-12 if kind == torch.float64 else 1e-5
    torch.testing.assert_close(cpu(*given), reference(*given), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_all_gradients_are_those_of_the_dense_form(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_deformable, "_MOST_PLACES", 16)
    inputs = [t.requires_grad_() for t in forged(case)]
    to_out = torch.randn(dense(*inputs).shape, dtype=torch.float64)
    expected = torch.autograd.grad(dense(*inputs), inputs, to_out)
    for name, form in (("fast", depth_aware_sampling), ("reference", reference)):
        for one, other in zip(torch.autograd.grad(form(*inputs), inputs, to_out), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12, msg=name)


def test_no_queries_give_nothing_and_gradients_of_zero() -> None:
    value, depth, locations, weights = forged("two samples")
    inputs = [value.requires_grad_(), depth.requires_grad_(), locations[:, :0], weights[:, :0]]
    out = depth_aware_sampling(*inputs)
    assert out.shape == (2, 0, 3, 6)
    out.sum().backward()
    assert torch.equal(value.grad, torch.zeros_like(value))  # type: ignore[arg-type]  # set by backward
    assert torch.equal(depth.grad, torch.zeros_like(depth))  # type: ignore[arg-type]


def test_half_precision_is_read_at_full_precision_and_nothing_is_read_where_no_number_is() -> None:
    value, depth, locations, weights = forged("two samples", torch.float32)
    expected = reference(value.bfloat16().float(), depth, locations, weights)
    with torch.autocast("cpu", torch.bfloat16):
        found = depth_aware_sampling(value.bfloat16(), depth, locations, weights)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-6)
    for place in (1e30, -1e30, float("inf"), float("nan")):
        assert not depth_aware_sampling(value, depth, torch.full_like(locations, place), weights).any()


def test_the_environment_forces_the_reference_and_wrong_shapes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given = forged("two samples")
    monkeypatch.setattr(depth_deformable, "cpu", lambda *_: pytest.fail("the fast path was taken"))
    monkeypatch.setenv("WHOLESCENE_OPS", "reference")
    torch.testing.assert_close(depth_aware_sampling(*given), dense(*given))
    with pytest.raises(InputError, match="depth-aware sampling wants value"):
        depth_aware_sampling(given[0], given[1][:, :, 1:], *given[2:])
