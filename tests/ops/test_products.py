"""Products of rows: both libraries give the same numbers, at every size, and gradients take the one that has them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wholescene.ops import products
from wholescene.ops.products import outer, product


@pytest.mark.parametrize("shape", [(0, 8, 4), (1, 8, 4), (7, 5, 3), (300, 130, 65), (513, 64, 128)])
def test_products_are_those_of_torch(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    n, C, D = shape
    monkeypatch.setattr(products, "_LEAST", 1)
    torch.manual_seed(0)
    rows, weight, others = torch.randn(n, C), torch.randn(D, C), torch.randn(n, D)
    with torch.no_grad():
        torch.testing.assert_close(product(rows, weight), F.linear(rows.double(), weight.double()).float(), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(outer(rows, others), (rows.double().T @ others.double()).float(), rtol=1e-5, atol=1e-4)
        strided = torch.randn(C, n).T
        torch.testing.assert_close(product(strided, weight), F.linear(strided, weight), rtol=1e-5, atol=1e-4)


def test_gradients_and_float64_take_the_library_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_LEAST", 1)
    rows, weight = torch.randn(20, 6, dtype=torch.float64, requires_grad=True), torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(product, (rows, weight))
    assert torch.autograd.gradcheck(outer, (rows, torch.randn(20, 2, dtype=torch.float64, requires_grad=True)))
