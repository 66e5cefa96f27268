"""Deformable sampling: the reference against a slow loop, the fast paths against the reference, forward and every gradient."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.ops import deformable
from wholescene.ops.deformable import cpu, deformable_sampling, reference

Given = tuple[Tensor, tuple[tuple[int, ...], ...], Tensor, Tensor]

CASES = {
    "one level": (2, ((5, 7),), 11, 3, 4, 6),
    "three levels of odd sizes": (1, ((9, 13), (5, 7), (1, 1)), 17, 2, 3, 5),
    "one query, one point": (1, ((4, 4),), 1, 1, 1, 1),
    "a volume": (2, ((4, 5, 3),), 9, 2, 4, 3),
    "two volumes": (1, ((4, 5, 3), (2, 2, 2)), 6, 2, 2, 4),
}


def forged(case: str, kind: torch.dtype = torch.float64, spread: float = 0.4) -> Given:
    """Places up to `spread` outside the maps, so that all four borders and what lies beyond them are read too."""
    B, shapes, Q, M, P, D = CASES[case]
    random = torch.Generator().manual_seed(len(case))
    cells = sum(math.prod(s) for s in shapes)
    value = torch.randn(B, cells, M, D, dtype=kind, generator=random)
    locations = torch.rand(B, Q, M, len(shapes), P, len(shapes[0]), dtype=kind, generator=random) * (1 + 2 * spread) - spread
    weights = torch.rand(B, Q, M, len(shapes), P, dtype=kind, generator=random) - 0.3
    return value, shapes, locations, weights


def slow(value: Tensor, shapes: tuple[tuple[int, ...], ...], locations: Tensor, weights: Tensor) -> Tensor:
    """The definition, cell by cell: the share of a cell falls linearly with the distance of its centre on each axis."""
    B, Q, M, L, P, A = locations.shape
    out = torch.zeros(B, Q, M, value.shape[3], dtype=value.dtype)
    for b, q, m, level, p in itertools.product(range(B), range(Q), range(M), range(L), range(P)):
        start = sum(math.prod(s) for s in shapes[:level])
        for flat, cell in enumerate(itertools.product(*map(range, shapes[level]))):
            share = weights[b, q, m, level, p].clone()
            for axis in range(A):
                place = locations[b, q, m, level, p, A - 1 - axis] * shapes[level][axis] - 0.5
                share *= max(0.0, 1 - abs(float(place) - cell[axis]))
            out[b, q, m] += share * value[b, start + flat, m]
    return out


@pytest.mark.parametrize("case", CASES)
def test_the_reference_is_the_definition(case: str) -> None:
    given = forged(case)
    torch.testing.assert_close(reference(*given), slow(*given), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_the_cpu_path_is_the_reference(case: str, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformable, "_MOST_PLACES", 16)  # several parts, the last one shorter
    given = forged(case, kind)
    tolerance = 1e-12 if kind == torch.float64 else 1e-5
    torch.testing.assert_close(cpu(*given), reference(*given), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_all_gradients_are_those_of_the_reference(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformable, "_MOST_READ", 128)
    monkeypatch.setattr(deformable, "_HEADS_AT_ONCE", 2)
    value, shapes, locations, weights = forged(case)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    to_out = torch.randn(reference(value, shapes, locations, weights).shape, dtype=value.dtype)
    expected = torch.autograd.grad(reference(value, shapes, locations, weights), inputs, to_out)
    found = torch.autograd.grad(deformable_sampling(value, shapes, locations, weights), inputs, to_out)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_gradients_are_the_slopes() -> None:
    value, shapes, locations, weights = forged("one query, one point", spread=0.0)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, places, shares: deformable_sampling(v, shapes, places, shares), inputs)


def test_no_queries_give_nothing_and_gradients_of_zero() -> None:
    value, shapes, locations, weights = forged("one level")
    inputs = [value.requires_grad_(), locations[:, :0].clone().requires_grad_(), weights[:, :0].clone().requires_grad_()]
    out = deformable_sampling(inputs[0], shapes, *inputs[1:])
    assert out.shape == (2, 0, 3, 6)
    out.sum().backward()
    assert torch.equal(inputs[0].grad, torch.zeros_like(value))  # type: ignore[arg-type]  # set by backward
    assert inputs[1].grad.shape == inputs[1].shape  # type: ignore[union-attr]


def test_half_precision_values_are_read_at_full_precision_and_autocast_changes_nothing() -> None:
    value, shapes, locations, weights = forged("three levels of odd sizes", torch.float32)
    expected = reference(value.bfloat16().float(), shapes, locations, weights)
    with torch.autocast("cpu", torch.bfloat16):
        found = deformable_sampling(value.bfloat16(), shapes, locations, weights)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-6)


def test_what_lies_far_outside_or_is_no_number_reads_zero() -> None:
    value, shapes, locations, weights = forged("one level", torch.float32)
    for place in (1e30, -1e30, float("inf"), float("nan")):
        assert torch.equal(cpu(value, shapes, torch.full_like(locations, place), weights), torch.zeros(2, 11, 3, 6))


def test_the_environment_forces_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformable, "cpu", lambda *_: pytest.fail("the fast path was taken"))
    given = forged("one level")
    with pytest.raises(pytest.fail.Exception):
        deformable_sampling(*given)
    monkeypatch.setenv("WHOLESCENE_OPS", "reference")
    torch.testing.assert_close(deformable_sampling(*given), slow(*given))


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    value, shapes, locations, weights = forged("one level")
    for wrong in ((value[:, 1:], shapes, locations, weights), (value, shapes * 2, locations, weights), (value, shapes, locations, weights[..., 1:])):
        with pytest.raises(InputError, match="deformable sampling wants"):
            deformable_sampling(*wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_gives_the_reference_forward_and_backward(case: str) -> None:
    value, shapes, locations, weights = forged(case)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    expected = reference(value, shapes, locations, weights)
    to_out = torch.randn_like(expected)
    on_gpu = [t.detach().cuda().requires_grad_() for t in inputs]
    found = deformable_sampling(on_gpu[0], shapes, *on_gpu[1:])
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)
    slopes = torch.autograd.grad(expected, inputs, to_out)
    for one, other in zip(torch.autograd.grad(found, on_gpu, to_out.cuda()), slopes, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-10, atol=1e-10)
