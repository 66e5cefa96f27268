"""The linear layer for many rows is torch's."""

from __future__ import annotations

import pytest
import torch

from wholescene.layers.rows import RowLinear


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 24), (2, 700, 24), (0, 24), (1400, 24)])
def test_rows_are_multiplied_as_torch_does(shape: tuple[int, ...], bias: bool) -> None:
    layer = RowLinear(24, 40, bias=bias)
    rows = torch.randn(*shape)
    expected = torch.nn.functional.linear(rows, layer.weight, layer.bias)
    assert torch.equal(layer(rows), expected)  # with gradients it is the same call
    with torch.inference_mode():
        torch.testing.assert_close(layer(rows), expected.detach(), rtol=1e-5, atol=1e-5)
        layer.double()
        wide = torch.nn.functional.linear(rows.double(), layer.weight, layer.bias)
        torch.testing.assert_close(layer(rows.double()), wide, rtol=1e-12, atol=1e-12)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(rows).dtype == torch.bfloat16


def test_columns_that_do_not_lie_together_are_read_right() -> None:
    layer = RowLinear(64, 64)
    rows = torch.randn(1, 64, 900).transpose(1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(layer(rows), torch.nn.functional.linear(rows, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)
