from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.layers.flosp import FLoSP

SHAPE = (3, 4, 5)
HEIGHT, WIDTH, CHANNELS = 13, 22, 4


def _inputs(batch: int = 2) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    torch.manual_seed(0)
    pyramid = {s: torch.randn(batch, CHANNELS, -(-HEIGHT // s), -(-WIDTH // s)) for s in (1, 2, 4, 8)}
    voxels = SHAPE[0] * SHAPE[1] * SHAPE[2]
    pixels = torch.stack([torch.randint(0, WIDTH, (batch, voxels)), torch.randint(0, HEIGHT, (batch, voxels))], -1)
    in_view = torch.rand(batch, voxels) < 0.6
    pixels[~in_view] = -(2**40)  # nobody may read these
    pixels[0, 0], in_view[0, 0] = torch.tensor([WIDTH - 1, HEIGHT - 1]), True
    return pyramid, pixels, in_view


def _slow(pyramid: dict[int, Tensor], pixels: Tensor, in_view: Tensor) -> Tensor:
    batch, voxels = in_view.shape
    volume = torch.zeros(batch, CHANNELS, voxels)
    for b in range(batch):
        for n in range(voxels):
            if in_view[b, n]:
                u, v = pixels[b, n].tolist()
                features = [m[b, :, v // s, u // s] for s, m in pyramid.items()]
                total = features[0]
                for more in features[1:]:
                    total = total + more
                volume[b, :, n] = total
    return volume.view(batch, CHANNELS, *SHAPE)


def test_every_voxel_in_view_sums_its_pixels_of_all_scales_in_order() -> None:
    pyramid, pixels, in_view = _inputs()
    assert torch.equal(FLoSP()(pyramid, pixels, in_view, SHAPE), _slow(pyramid, pixels, in_view))


def test_channels_last_maps_give_the_same() -> None:
    pyramid, pixels, in_view = _inputs()
    last = {s: m.to(memory_format=torch.channels_last) for s, m in pyramid.items()}
    assert torch.equal(FLoSP()(last, pixels, in_view, SHAPE), FLoSP()(pyramid, pixels, in_view, SHAPE))


def test_gradients_reach_every_pixel_as_often_as_a_voxel_reads_it() -> None:
    pyramid, pixels, in_view = _inputs()
    weights = torch.randn(2, CHANNELS, *SHAPE)
    grads = []
    for function in (FLoSP(), lambda *args: _slow(*args[:3])):
        leaves = {s: m.clone().requires_grad_() for s, m in pyramid.items()}
        (function(leaves, pixels, in_view, SHAPE) * weights).sum().backward()
        grads.append([leaf.grad for leaf in leaves.values()])
    for fast, slow in zip(*grads, strict=True):
        torch.testing.assert_close(fast, slow)


def test_nothing_in_view_gives_an_empty_volume() -> None:
    pyramid, pixels, in_view = _inputs()
    assert not FLoSP()(pyramid, pixels, torch.zeros_like(in_view), SHAPE).any()


def test_the_pyramid_is_left_alone() -> None:
    pyramid, pixels, in_view = _inputs()
    before = {s: m.clone() for s, m in pyramid.items()}
    with torch.no_grad():
        FLoSP()(pyramid, pixels, in_view, SHAPE)
    assert all(torch.equal(before[s], m) for s, m in pyramid.items())


def test_what_does_not_belong_together_is_refused() -> None:
    pyramid, pixels, in_view = _inputs()
    with pytest.raises(InputError, match="3x4x6 voxels"):
        FLoSP()(pyramid, pixels, in_view, (3, 4, 6))
    with pytest.raises(InputError, match="outside the 21x13 map of scale 1"):
        FLoSP()({**pyramid, 1: pyramid[1][..., :-1]}, pixels, in_view, SHAPE)
    with pytest.raises(InputError, match="at least one scale"):
        FLoSP()({}, pixels, in_view, SHAPE)
