"""The residual pyramid: sizes, its fast forms, and a plain form written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.fuse import fuse_for_inference
from wholescene.layers.residual_pyramid import GeneralisedFPN, ResidualPyramid


def randomised(width: int = 16, blocks: tuple[int, ...] = (2, 1, 1)) -> ResidualPyramid:
    torch.manual_seed(0)
    pyramid = ResidualPyramid(width, blocks)
    for name, value in pyramid.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1:
            value.normal_(1.0, 0.1)
    return pyramid.eval()


def plain(pyramid: ResidualPyramid, volume: Tensor) -> Tensor:
    """Figure and text: residual stages, then from the coarsest level up."""

    def block(index: str, x: Tensor) -> Tensor:
        own = pyramid.get_submodule(f"trunk.stages.{index}")
        stride = 2 if index in ("1.0", "2.0") else 1
        y = F.relu(own.bn1(F.conv3d(x, own.conv1.weight, stride=stride, padding=1)))
        y = own.bn2(F.conv3d(y, own.conv2.weight, padding=1))
        short = own.bn_short(F.conv3d(x, own.conv_short.weight, stride=stride, padding=1)) if index.endswith(".0") else x
        return F.relu(y + short)

    levels, x = [], volume
    for stage, blocks in enumerate(pyramid.trunk.stages):
        for i in range(len(blocks)):
            x = block(f"{stage}.{i}", x)
        levels.append(x)
    for level in (1, 0):
        neck = pyramid.neck
        x = torch.cat([levels[level], F.interpolate(x, levels[level].shape[2:], mode="trilinear")], 1)
        x = F.relu(F.group_norm(F.conv3d(x, neck.lateral[level].weight), 4, neck.lateral_norm[level].weight, neck.lateral_norm[level].bias))
        x = F.conv3d(x, neck.smooth[level].weight, padding=1)
        x = F.relu(F.group_norm(x, 4, neck.smooth_norm[level].weight, neck.smooth_norm[level].bias))
    return x


@pytest.mark.parametrize("shape", [(8, 8, 4), (9, 6, 5)])
def test_slabs_and_the_small_lateral_convolution_leave_the_numbers(shape: tuple[int, int, int]) -> None:
    pyramid = randomised()
    volume = torch.randn(2, 16, *shape)
    expected = plain(pyramid, volume).detach()
    torch.testing.assert_close(pyramid(volume).detach(), expected, rtol=1e-4, atol=1e-4)
    pyramid.trunk.slab = 3
    with torch.inference_mode():
        torch.testing.assert_close(pyramid(volume), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fuse_for_inference(pyramid)(volume), expected, rtol=1e-4, atol=1e-4)


def test_a_pyramid_of_maps_meets_levels_of_other_widths() -> None:
    neck = GeneralisedFPN([4, 6, 8], 5, 2, nn.BatchNorm2d).eval()
    shapes = {name: tuple(p.shape) for name, p in neck.named_parameters() if p.dim() > 1}
    assert shapes == {
        "lateral.0.weight": (5, 9, 1, 1),
        "lateral.1.weight": (5, 14, 1, 1),
        "smooth.0.weight": (5, 5, 3, 3),
        "smooth.1.weight": (5, 5, 3, 3),
    }
    levels = [torch.randn(1, w, *s) for w, s in ((4, (7, 8)), (6, (4, 4)), (8, (2, 2)))]
    recorded = neck(list(levels)).detach()
    with torch.no_grad():
        torch.testing.assert_close(neck(list(levels)), recorded, rtol=1e-4, atol=1e-5)
    assert recorded.shape == (1, 5, 7, 8)


def test_the_released_size_is_counted() -> None:
    with torch.device("meta"):
        pyramid = ResidualPyramid(128)
    assert sum(p.numel() for p in pyramid.parameters()) == 22_773_120 // 3 - 384  # a third of ScanSSC's, without its fusion weights
