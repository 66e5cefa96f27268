from __future__ import annotations

import pytest
import torch
from torch import nn

from wholescene.layers.context_prior import ContextPrior
from wholescene.layers.fuse import fuse_for_inference
from wholescene.layers.head import CompletionHead
from wholescene.layers.unet2d import UNet2D
from wholescene.layers.unet3d import UNet3D

PARTS = {
    "2D UNet": (lambda: UNet2D("tiny", 4, width=32), (1, 3, 37, 53)),
    "2D UNet, lite": (lambda: UNet2D("tf_efficientnet_lite0", 4, width=32), (1, 3, 37, 53)),
    "3D UNet": (lambda: UNet3D(8, ContextPrior(32, (2, 2, 2))), (1, 8, 8, 8, 8)),
    "head": (lambda: CompletionHead(8, 4, 3, 1), (1, 8, 4, 4, 4)),
}


def _outputs(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for v in (value.values() if isinstance(value, dict) else value) for t in _outputs(v)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", PARTS)
def test_a_fused_part_has_no_norm_left_and_gives_the_same_numbers(part: str) -> None:
    torch.manual_seed(0)
    make, shape = PARTS[part]
    module, x = make().eval(), torch.randn(shape)
    for norm in (m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.uniform_(-0.3, 0.3)
        norm.running_var.uniform_(0.3, 3)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
    with torch.no_grad():
        before = _outputs(module(x))
        after = _outputs(fuse_for_inference(module)(x))
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    for one, other in zip(before, after, strict=True):
        assert (one - other).abs().max() <= 2e-5 * one.abs().max()


def test_a_norm_after_something_else_stays() -> None:
    chain = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    fused = fuse_for_inference(chain)
    assert isinstance(fused[1], nn.BatchNorm2d)
    assert isinstance(fused[3], nn.Identity)
