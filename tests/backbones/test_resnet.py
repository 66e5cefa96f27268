"""ResNet's names, sizes and frozen norms; its numbers are held by the parity cases of the systems that use it."""

from __future__ import annotations

import pytest
import torch

from wholescene.backbones.resnet import ResNet
from wholescene.errors import InputError
from wholescene.layers.fuse import fuse_for_inference


def randomised(**more: bool) -> ResNet:
    torch.manual_seed(0)
    trunk = ResNet("tiny", **more)
    for name, value in trunk.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1:
            value.normal_(1.0, 0.1)
    return trunk.eval()


def test_resnet_50_has_the_published_size_and_names() -> None:
    with torch.device("meta"):
        trunk = ResNet("resnet50")
    assert sum(p.numel() for p in trunk.parameters()) == 23_508_032  # torchvision's 25,557,032 less its classifier
    shapes = {name: tuple(t.shape) for name, t in trunk.state_dict().items()}
    assert shapes["layer3.0.downsample.0.weight"] == (1024, 512, 1, 1)
    assert shapes["layer4.2.conv2.weight"] == (512, 512, 3, 3)
    assert (trunk.widths, trunk.strides) == ((256, 512, 1024, 2048), (4, 8, 16, 32))


@pytest.mark.parametrize("size", [(64, 96), (75, 131)])
def test_maps_have_the_rounded_up_share_of_the_picture(size: tuple[int, int]) -> None:
    trunk = randomised()
    maps = trunk(torch.rand(2, 3, *size))
    expected = [(2, width, -(-size[0] // stride), -(-size[1] // stride)) for width, stride in zip(trunk.widths, trunk.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


def test_nothing_past_the_last_tap_is_built() -> None:
    whole, cut = randomised(), ResNet("tiny", ("layer1", "layer3"))
    left = cut.load_timm(whole.state_dict())
    assert left == [name for name in whole.state_dict() if name.startswith("layer4.")]
    picture = torch.rand(1, 3, 64, 64)
    for one, other in zip(cut.eval()(picture), (whole(picture)[0], whole(picture)[2]), strict=True):
        assert torch.equal(one, other)


def test_frozen_norms_are_constants_under_the_same_names() -> None:
    free, frozen = randomised(), ResNet("tiny", frozen_norms=True)
    assert free.state_dict().keys() == frozen.state_dict().keys()
    frozen.load_timm(free.state_dict())
    frozen.train()
    picture = torch.rand(2, 3, 64, 64)
    assert torch.equal(frozen(picture)[-1], free(picture)[-1])
    assert all(p.dim() == 4 for p in frozen.parameters())
    assert torch.equal(frozen.bn1.running_mean, free.bn1.running_mean)


@pytest.mark.parametrize("frozen", [False, True])
def test_folded_norms_leave_the_numbers(frozen: bool) -> None:
    trunk = randomised(frozen_norms=frozen)
    picture = torch.rand(1, 3, 64, 64)
    before = trunk(picture)[-1]
    after = fuse_for_inference(trunk)(picture)[-1]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in trunk.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_another_variants_weights_are_refused_by_name() -> None:
    state = randomised().state_dict()
    state.pop("bn1.weight")
    with pytest.raises(InputError, match=r"1 of \d+ entries are absent or have another shape, first bn1\.weight"):
        ResNet("tiny").load_timm(state)
    with pytest.raises(InputError, match="the nearest are 'resnet50'"):
        ResNet("resnet5")
