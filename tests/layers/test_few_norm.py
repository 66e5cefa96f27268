"""Batch norm where a batch may hold one value a channel."""

from __future__ import annotations

import torch
from torch import nn

from wholescene.layers.few_norm import FewNorm1d, FewNorm2d


def test_of_several_values_it_is_batch_norm() -> None:
    torch.manual_seed(0)
    for own, plain, shape in ((FewNorm1d(3), nn.BatchNorm1d(3), (4, 3)), (FewNorm2d(3), nn.BatchNorm2d(3), (1, 3, 2, 2))):
        x = torch.randn(shape)
        assert torch.equal(own(x), plain(x))
        assert torch.equal(own.running_var, plain.running_var)  # type: ignore[arg-type]  # it tracks them


def test_one_value_alone_trains_and_is_normalised_by_what_came_before() -> None:
    norm = FewNorm1d(2)
    x = torch.tensor([[700.0, -3.0]], requires_grad=True)
    for _ in range(200):
        out = norm(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(norm.running_mean, x.detach()[0], rtol=1e-4, atol=1e-4)
    assert out.abs().max() < 5
    norm.eval()
    torch.testing.assert_close(norm(x), out, rtol=0.2, atol=0.2)
