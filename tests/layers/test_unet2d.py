from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wholescene.errors import InputError
from wholescene.layers.unet2d import Decoder2D, UNet2D


def _trained(module: torch.nn.Module) -> torch.nn.Module:
    """In eval, with statistics that differ from a fresh start's."""
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.7, 1.3)
    return module.eval()


@pytest.mark.parametrize("size", [(67, 45), (64, 96)])
def test_maps_of_every_scale_have_the_pictures_size_over_it(size: tuple[int, int]) -> None:
    net = _trained(UNet2D("tiny", 5, width=32))
    with torch.no_grad():
        pyramid = net(torch.randn(2, 3, *size))
    assert list(pyramid) == [1, 2, 4, 8]
    for scale, features in pyramid.items():
        assert features.shape == (2, 5, -(-size[0] // scale), -(-size[1] // scale))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("scales", [(1, 2, 4, 8), (2, 8), (1,)])
def test_bands_give_the_whole_maps(padding: int, scales: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = _trained(UNet2D("tiny", 5, scales, width=32, padding=padding, band=None))
    picture = torch.randn(2, 3, 83, 50)
    with torch.no_grad():
        whole = net(picture)
        net.decoder.band = 4
        banded = net(picture)
    assert list(banded) == list(whole) == sorted(scales)
    for scale in scales:
        torch.testing.assert_close(banded[scale], whole[scale], rtol=1e-4, atol=1e-5)


def test_the_released_padding_frames_the_bottleneck_with_bias() -> None:
    decoder = Decoder2D((3, 4), 6, 8, 2, (1,), padding=1)
    out = decoder.entry(torch.randn(1, 6, 3, 5))
    assert out.shape == (1, 8, 5, 7)
    frame = torch.ones(5, 7, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    torch.testing.assert_close(out[0, :, frame], decoder.entry.bias[:, None].expand(-1, int(frame.sum())))
    assert Decoder2D((3, 4), 6, 8, 2, (1,)).entry(torch.randn(1, 6, 3, 5)).shape == (1, 8, 3, 5)


def test_an_up_block_resizes_with_aligned_corners_and_joins_the_map_before_the_skip() -> None:
    torch.manual_seed(0)
    decoder = _trained(Decoder2D((3,), 4, 4, 2, (1,)))
    block = decoder.up[0]
    x, skip = torch.randn(1, 4, 3, 4), torch.randn(1, 3, 7, 9)
    joined = torch.cat([F.interpolate(x, (7, 9), mode="bilinear", align_corners=True), skip], 1)
    expected = joined
    for conv, norm in ((block.conv1, block.norm1), (block.conv2, block.norm2)):
        expected = F.leaky_relu(norm(conv(expected)), 0.01)
    with torch.no_grad():
        torch.testing.assert_close(block(x, skip), expected)


def test_nothing_finer_than_the_finest_map_is_built_and_all_that_is_built_learns() -> None:
    net = UNet2D("tiny", 5, (4, 8), width=32)
    assert len(net.decoder.up) == 3
    sum(m.square().mean() for m in net(torch.randn(2, 3, 40, 48)).values()).backward()
    unused = [n for n, p in net.named_parameters() if p.grad is None]
    assert not unused


def test_a_scale_beyond_the_decoder_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[1, 2, 4, 8, 16\]; found \[32\]"):
        UNet2D("tiny", 5, (32,))
