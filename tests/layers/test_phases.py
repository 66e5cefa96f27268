"""A transposed convolution phase by phase is the transposed convolution, whole or in slabs, with its norm and what follows."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wholescene.layers.phases import Phases, suits
from wholescene.layers.slabs import cut, gather
from wholescene.layers.unet3d import Upsample


@pytest.mark.parametrize("strides", list(product((1, 2), repeat=3)))
@pytest.mark.parametrize(("length", "slab"), [(1, 1), (2, 1), (5, 2), (5, 9), (7, 3)])
def test_phases_are_the_whole_convolution_with_its_norm_and_what_follows(strides: tuple[int, int, int], length: int, slab: int) -> None:
    torch.manual_seed(0)
    up, then = Upsample(3, 4, strides=strides).eval(), nn.Conv3d(4, 2, 1)
    nn.init.uniform_(up.norm.weight)
    nn.init.normal_(up.norm.bias)
    up.norm.running_mean.normal_()
    up.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, length, 3, 2)
    with torch.no_grad():
        expected = then(up(x))
        made = Phases(up.conv, up.norm).stream(cut(x, slab), lambda y: then(F.relu_(y)))
        torch.testing.assert_close(gather(made, length * strides[0]), expected, rtol=1e-4, atol=1e-5)
        plain = Phases(up.conv).stream(cut(x, slab), lambda y: y)
        torch.testing.assert_close(gather(plain, length * strides[0]), up.conv(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [4, 32])
def test_an_upsampling_streams_by_phases_or_not_and_gives_the_same(width: int) -> None:
    torch.manual_seed(0)
    up, x = Upsample(width, width, strides=(1, 1, 2)).eval(), torch.randn(1, width, 6, 3, 2)
    with torch.no_grad():
        assert suits(up.conv, x) == (width == 32)
        torch.testing.assert_close(gather(up.stream(cut(x, 4), torch.neg), 6), -up(x), rtol=1e-4, atol=1e-5)
    assert not suits(up.conv, x)  # with gradients
    assert list(up.stream(iter(()))) == []
