"""The Triton kernels of deformable sampling, against the reference: forward and every gradient."""

from __future__ import annotations

import pytest
import torch
from interpreting import DEVICE, kernels
from test_deformable import CASES, Given, forged


def placed(case: str, kind: torch.dtype = torch.float64) -> Given:
    value, shapes, locations, weights = forged(case, kind)
    return value.to(DEVICE), shapes, locations.to(DEVICE), weights.to(DEVICE)


@pytest.mark.parametrize("case", CASES)
def test_the_kernels_give_the_reference_and_its_gradients(case: str) -> None:
    from wholescene.ops.deformable import reference

    fast = kernels("deformable")
    value, shapes, locations, weights = placed(case)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    expected = reference(value, shapes, locations, weights)
    to_out = torch.randn_like(expected)
    slopes = torch.autograd.grad(expected, inputs, to_out)
    plain = [t.detach() for t in inputs]
    torch.testing.assert_close(fast.forward(plain[0], shapes, *plain[1:]), expected, rtol=1e-12, atol=1e-12)
    for found, slope in zip(fast.backward(plain[0], shapes, *plain[1:], to_out), slopes, strict=True):
        torch.testing.assert_close(found, slope, rtol=1e-12, atol=1e-12)


def test_places_far_outside_or_not_a_number_read_zero_and_no_queries_give_nothing() -> None:
    fast = kernels("deformable")
    value, shapes, locations, weights = placed("one level", torch.float32)
    for place in (1e30, -1e30, float("inf"), float("nan")):
        read = fast.forward(value, shapes, torch.full_like(locations, place), weights)
        assert torch.equal(read, torch.zeros(2, 11, 3, 6, device=DEVICE))
    assert fast.forward(value, shapes, locations[:, :0], weights[:, :0]).shape == (2, 0, 3, 6)
