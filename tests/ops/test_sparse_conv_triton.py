"""The Triton kernels of sparse convolution, against the reference: forward and every gradient."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from interpreting import DEVICE, kernels
from test_sparse_conv import given, masks

from wholescene.ops import sparse_conv as op
from wholescene.ops.neighbours import links_between, links_of_mask
from wholescene.ops.products import float32_products
from wholescene.ops.sparse_conv import reference, sparse_conv

# Triton before 3.7 multiplies no tiles of float64 on a GPU, and the function gives the kernels none
KIND, NEAR = (torch.float32, 1e-5) if DEVICE == "cuda" else (torch.float64, 1e-12)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The kernels in place of the blocks of the plain form, with several tiles along every axis."""
    found = kernels("sparse_conv")
    monkeypatch.setattr(found, "_ROWS", 16)
    monkeypatch.setattr(found, "_CHANNELS", 16)
    monkeypatch.setattr(found, "_MOST_PARTS", 3)
    monkeypatch.setattr(op, "_kernels", lambda features: found)
    return found


@pytest.mark.parametrize("name", ["random", "empty", "one voxel"])
def test_the_kernels_give_the_reference_and_its_gradients(name: str, fast: ModuleType) -> None:
    mask = masks()[name]
    exact = given(mask)
    expected = reference(*exact, links_of_mask(mask))
    to_out = torch.randn_like(expected)
    slopes = torch.autograd.grad(expected, exact, to_out)
    inputs = [t.detach().to(DEVICE, KIND).requires_grad_() for t in exact]
    found = sparse_conv(*inputs, links_of_mask(mask.to(DEVICE)), "gather")
    torch.testing.assert_close(found.cpu().double(), expected, rtol=NEAR, atol=NEAR)
    for one, other in zip(torch.autograd.grad(found, inputs, to_out.to(found)), slopes, strict=True):
        torch.testing.assert_close(one.cpu().double(), other, rtol=NEAR, atol=NEAR)


def test_more_channels_than_a_tile_and_a_strided_table(fast: ModuleType) -> None:
    mask = masks()["random"].to(DEVICE)
    places, _, links = links_between(mask.nonzero(), mask.shape[1:], 2, 2, 1)
    sizes = ((int(mask.sum()), 21), (18, 21, 2, 2, 2), (len(places), 18))
    features, weight, to_out = (torch.randn(size, dtype=torch.float64, device=DEVICE) for size in sizes)
    expected = sparse_conv(features, weight, None, links, "pairs")
    found = sparse_conv(features.to(KIND), weight.to(KIND), None, links, "gather")
    torch.testing.assert_close(found.double(), expected, rtol=NEAR, atol=10 * NEAR)
    slope = fast.weight(features.to(KIND), to_out.to(KIND), links)
    torch.testing.assert_close(slope.double(), op._pairs_weight(features, to_out, links), rtol=NEAR, atol=10 * NEAR)


def test_products_are_as_precise_as_those_of_torchs_convolutions() -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        assert float32_products() == "tf32"
        torch.backends.cudnn.allow_tf32 = False
        assert float32_products() == "ieee"
    finally:
        torch.backends.cudnn.allow_tf32 = before
