"""Multiply-adds: operators count as their mathematics says, whichever path computes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wholescene.ops import deformable, depth_deformable, lss_pooling, neighbourhood, neighbours, products, selective_scan, sparse_conv
from wholescene.ops.counting import MultiplyAdds, worth


def _scan() -> Tensor:
    u, B = torch.rand(2, 7, 6), torch.rand(2, 7, 3)
    return selective_scan.selective_scan(u, u, -torch.rand(6, 3), B, B)[0]


def _deformable() -> Tensor:
    return deformable.deformable_sampling(torch.rand(2, 20, 3, 4), [(4, 5)], torch.rand(2, 7, 3, 1, 6, 2), torch.rand(2, 7, 3, 1, 6))


def _in_depth() -> Tensor:
    value, depth = torch.rand(2, 20, 3, 4), torch.rand(2, 9, 4, 5)
    return depth_deformable.depth_aware_sampling(value, depth, torch.rand(2, 7, 3, 6, 3), torch.rand(2, 7, 3, 6))


def _neighbourhood() -> Tensor:
    q = torch.rand(1, 6, 3, 4)
    return neighbourhood.neighbourhood_attention(q, q, q, torch.rand(9, 9))


def _splat() -> Tensor:
    bags = lss_pooling.VoxelBags.of(torch.tensor([0, 3, -1, 3]), 5)
    return lss_pooling.splat(torch.rand(2, 2), torch.rand(2, 6), bags)


MASK = torch.rand(1, 24, 24, 8, generator=torch.Generator().manual_seed(0)) < 0.3  # enough for oneDNN to be asked by name
LINKS = neighbours.links_of_mask(MASK)


def _sparse(form: sparse_conv.Form = "auto") -> Tensor:
    return sparse_conv.sparse_conv(torch.rand(LINKS.outputs, 64), torch.rand(64, 64, 3, 3, 3), None, LINKS, form)


EXPECTED = {
    _sparse: LINKS.met * 64 * 64,
    _scan: 4 * 2 * 7 * 6 * 3,
    _deformable: 4 * 2 * 7 * 3 * 6 * 4,
    _in_depth: 4 * 2 * 7 * 3 * 6 * 4,
    _neighbourhood: 2 * 6 * 3 * (5 * 3) * 4,  # the window is five rows and all three columns
    _splat: 3 * 6,
}


@pytest.mark.parametrize("path", ["", "reference"])
@pytest.mark.parametrize("work", EXPECTED, ids=lambda work: work.__name__)
def test_an_operator_counts_the_same_on_every_path(work: object, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOLESCENE_OPS", path)
    with MultiplyAdds() as counted:
        work()  # type: ignore[operator]
    assert counted.total == EXPECTED[work]  # type: ignore[index]


@pytest.mark.parametrize(("form", "expected"), [("pairs", LINKS.met), ("gather", LINKS.met), ("dense", MASK.numel() * 27)])
def test_a_sparse_convolution_counts_its_pairs_and_a_dense_one_all(form: sparse_conv.Form, expected: int) -> None:
    with MultiplyAdds() as counted:
        _sparse(form)
    assert counted.total == expected * 64 * 64


def test_a_product_of_many_rows_counts_without_gradients_too() -> None:
    rows, weight = torch.rand(2**12, 64), torch.rand(32, 64)
    with torch.no_grad(), MultiplyAdds() as counted:
        products.product(rows, weight)
        products.outer(rows, rows)
    assert counted.total == 2**12 * 64 * (32 + 64)


def test_nothing_is_counted_outside() -> None:
    with worth(5), MultiplyAdds() as outer:
        torch.rand(2, 3) @ torch.rand(3, 4)
    _scan()
    assert outer.total == 24
