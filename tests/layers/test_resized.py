"""Resizing and convolving commute: the fast form against the plain one, and when it may be used."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wholescene.layers.resized import convolve_resized
from wholescene.layers.slabs import gather
from wholescene.layers.winograd import Winograd, suits

small, large = st.integers(1, 9), st.integers(1, 150)


@given(h=small, w=small, height=st.integers(1, 20), width=large, band=st.integers(1, 21))
@settings(max_examples=60, deadline=None)
def test_a_convolution_of_a_resized_map_needs_no_resized_map(h: int, w: int, height: int, width: int, band: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3 + 2, 4, 3, padding=1)
    x, skip = torch.randn(2, 3, h, w), torch.randn(2, 2, height, width)
    with torch.no_grad():
        plain = conv(torch.cat([F.interpolate(x, (height, width), mode="bilinear", align_corners=True), skip], 1))
        torch.testing.assert_close(gather(convolve_resized(conv, x, skip, band), height), plain, rtol=1e-4, atol=1e-5)


def test_other_convolutions_are_refused() -> None:
    with pytest.raises(ValueError, match="plain 3x3"):
        next(convolve_resized(nn.Conv2d(5, 4, 3, padding=1, stride=2), torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 4, 4), 4))


@pytest.mark.parametrize("channels", [16, 19])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_winograds_products_give_the_convolution(channels: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(channels, channels, 3, padding=dilation, dilation=dilation)
    window = torch.randn(2, channels, 4 * dilation + 2 * dilation, 3, 2)
    padding = (0, dilation, dilation)
    with torch.no_grad():
        assert suits(conv, window)
        plain = F.conv3d(window, conv.weight, conv.bias, 1, padding, conv.dilation)
        assert (Winograd(conv)(window) - plain).abs().max() <= 3e-6 * plain.abs().max()


def test_winograd_stays_out_of_training_half_precision_and_other_kernels() -> None:
    conv, x = nn.Conv2d(128, 128, 3, padding=1), torch.zeros(1, 128, 4, 4)
    assert not suits(conv, x)
    with torch.no_grad():
        assert suits(conv, x)
        assert not suits(conv, x.double())
        assert not suits(nn.Conv2d(128, 128, 1), x)
        assert not suits(nn.Conv2d(128, 128, 3, stride=2), x)
        assert not suits(nn.Conv2d(128, 128, 3, groups=2), x)
        assert not suits(nn.Conv2d(127, 128, 3), x)
        with torch.autocast("cpu", torch.bfloat16):
            assert not suits(conv, x)
