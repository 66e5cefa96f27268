"""Resizing by products against PyTorch's loop over voxels: values and gradients, up and down, odd sizes, long axes."""

from __future__ import annotations

import pytest
import torch

from wholescene.ops import trilinear
from wholescene.ops.trilinear import reference, resize_volume

SHAPES = [((4, 3, 2), (8, 6, 4)), ((5, 3, 1), (7, 11, 4)), ((9, 8, 7), (4, 3, 2)), ((3, 4, 5), (3, 4, 5)), ((1, 70, 40), (2, 140, 100))]


@pytest.mark.parametrize(("small", "large"), SHAPES)
def test_values_and_gradients_are_those_of_the_reference(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 3, *small, dtype=torch.float64, requires_grad=True)
    found, expected = resize_volume(volume, large), reference(volume, large)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slope = torch.randn_like(found)
    (got,), (wanted,) = torch.autograd.grad(found, volume, slope), torch.autograd.grad(expected, volume, slope)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_pieces_of_rows_and_of_channels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    volume, size = torch.randn(2, 5, 12, 10, 6).transpose(2, 3), (20, 23, 12)
    whole = resize_volume(volume, size)
    monkeypatch.setattr(trilinear, "_ROWS", 3)
    monkeypatch.setattr(trilinear, "_CHANNELS", 2 * 20 * 23 * 12)
    trilinear._bands.cache_clear()
    try:
        torch.testing.assert_close(resize_volume(volume, size), whole)
    finally:
        trilinear._bands.cache_clear()


def test_the_matrices_lead_outside_inference_mode() -> None:
    """They are kept: made under inference mode first, autograd would refuse them later."""
    trilinear._bands.cache_clear()
    with torch.inference_mode():
        resize_volume(torch.randn(1, 1, 2, 3, 4), (4, 6, 8))
    volume = torch.randn(1, 1, 2, 3, 4, requires_grad=True)
    resize_volume(volume, (4, 6, 8)).sum().backward()
    assert volume.grad is not None
    torch.testing.assert_close(volume.grad.sum(), torch.tensor(192.0))


def test_half_precision_and_autocast_answer_in_the_dtype_of_the_volume() -> None:
    volume = torch.randn(1, 2, 3, 4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found, halved = resize_volume(volume, (6, 8, 4)), resize_volume(volume.bfloat16(), (6, 8, 4))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference(volume, (6, 8, 4)))
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved, reference(volume.bfloat16().float(), (6, 8, 4)).bfloat16())
