"""The Triton kernels of depth-aware sampling, against the reference: forward and every gradient."""

from __future__ import annotations

import pytest
import torch
from interpreting import DEVICE, kernels
from test_depth_deformable import CASES, forged

from wholescene.ops.depth_deformable import reference


@pytest.mark.parametrize("case", CASES)
def test_the_kernels_give_the_reference_and_its_gradients(case: str) -> None:
    fast = kernels("depth_deformable")
    inputs = [t.to(DEVICE).requires_grad_() for t in forged(case)]
    expected = reference(*inputs)
    to_out = torch.randn_like(expected)
    slopes = torch.autograd.grad(expected, inputs, to_out)
    plain = [t.detach() for t in inputs]
    torch.testing.assert_close(fast.forward(*plain), expected, rtol=1e-12, atol=1e-12)
    for found, slope in zip(fast.backward(*plain, to_out), slopes, strict=True):
        torch.testing.assert_close(found, slope, rtol=1e-10, atol=1e-12)


def test_places_far_outside_read_zero_and_no_queries_give_nothing() -> None:
    fast = kernels("depth_deformable")
    value, depth, locations, weights = (t.to(DEVICE) for t in forged("two samples", torch.float32))
    for place in (1e30, -1e30, float("inf"), float("nan")):
        assert not fast.forward(value, depth, torch.full_like(locations, place), weights).any()
    assert fast.forward(value, depth, locations[:, :0], weights[:, :0]).shape == (2, 0, 3, 6)
