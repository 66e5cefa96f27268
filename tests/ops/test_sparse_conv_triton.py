"""The Triton kernels of sparse convolution, in Triton's interpreter, against the reference: forward and every gradient."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from interpreting import kernels
from test_sparse_conv import given, masks

from wholescene.ops import sparse_conv as op
from wholescene.ops.neighbours import links_between, links_of_mask
from wholescene.ops.sparse_conv import reference, sparse_conv


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
    links = links_of_mask(mask)
    inputs = given(mask)
    expected = reference(*inputs, links)
    to_out = torch.randn_like(expected)
    slopes = torch.autograd.grad(expected, inputs, to_out)
    found = sparse_conv(*inputs, links, "gather")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad(found, inputs, to_out), slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_more_channels_than_a_tile_and_a_strided_table(fast: ModuleType) -> None:
    mask = masks()["random"]
    places, _, links = links_between(mask.nonzero(), mask.shape[1:], 2, 2, 1)
    features, weight = torch.randn(int(mask.sum()), 21, dtype=torch.float64), torch.randn(18, 21, 2, 2, 2, dtype=torch.float64)
    expected = sparse_conv(features, weight, None, links, "pairs")
    torch.testing.assert_close(sparse_conv(features, weight, None, links, "gather"), expected, rtol=1e-12, atol=1e-12)
    to_out = torch.randn(len(places), 18, dtype=torch.float64)
    torch.testing.assert_close(fast.weight(features, to_out, links), op._pairs_weight(features, to_out, links), rtol=1e-12, atol=1e-12)
