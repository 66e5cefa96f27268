from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.aspp import ASPP
from wholescene.layers.context_prior import ContextPrior
from wholescene.layers.unet3d import Bottleneck, Downsample, Process, UNet3D, Upsample


class Middle(nn.Module):
    def forward(self, volume: Tensor) -> tuple[Tensor, str]:
        return volume * 0, "said"


def test_a_flat_bottleneck_has_no_short_cuts_and_keeps_the_size() -> None:
    block = Bottleneck(8, 2, dilation=3)
    assert not any("downsample" in n for n in block.state_dict())
    assert block(torch.randn(1, 8, 5, 4, 3)).shape == (1, 8, 5, 4, 3)


def test_each_axis_convolution_reaches_as_far_as_its_dilation_along_its_own_axis() -> None:
    """The receptive field is the full box of +-d, and nothing past it."""
    torch.manual_seed(0)
    block = Bottleneck(4, 2, expansion=2, dilation=2).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.abs_().add_(0.1)  # positive everywhere, so that nothing cancels or dies in a ReLU
        base = torch.ones(1, 4, 9, 9, 9)
        changed = base.clone()
        changed[..., 4, 4, 4] += 1
        moved = (block(changed) - block(base))[0].abs().amax(0) > 1e-6
    where = moved.nonzero()
    assert {tuple(p) for p in where.tolist()} == {(x, y, z) for x in (2, 4, 6) for y in (2, 4, 6) for z in (2, 4, 6)}


def test_the_sums_inside_a_bottleneck_take_values_before_their_relu() -> None:
    """A strongly negative last-axis branch must pull the sum down, not vanish."""
    block = Bottleneck(4, 1, expansion=4).eval()
    with torch.no_grad():
        for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
            getattr(block, name).weight.zero_()
        block.bn2.bias.fill_(-5.0)
        block.bn3.bias.fill_(2.0)
        block.bn4.bias.fill_(4.0)
        block.conv5.weight.fill_(1.0)
        out = block(torch.zeros(1, 4, 2, 2, 2))
    # along_y = 2 - 5; along_x = 4 - 5 + (2 - 5) < 0, so relu(along_x) is 0 and so is the output
    assert not out.any()


def test_downsample_halves_every_axis_and_doubles_the_width_and_upsample_undoes_it() -> None:
    down = Downsample(8)(torch.randn(1, 8, 6, 4, 2))
    assert down.shape == (1, 16, 3, 2, 1)
    assert Upsample(16, 8)(down).shape == (1, 8, 6, 4, 2)


def test_process_dilates_one_two_three() -> None:
    assert [block.conv2.dilation[2] for block in Process(8)] == [1, 2, 3]


def test_the_skips_are_the_inputs_of_the_descents() -> None:
    net = UNet3D(4, Middle()).eval()
    volume = torch.randn(1, 4, 8, 8, 4)
    kept = volume.clone()
    with torch.no_grad():
        out, said = net(volume)
        second = net.down[0](volume)
        expected = net.up[0](net.up[1](torch.zeros(1, 16, 2, 2, 1)) + second) + volume
    torch.testing.assert_close(out, expected)
    assert said == "said"
    assert torch.equal(volume, kept)


def test_aspp_sums_branches_and_input_before_the_last_relu() -> None:
    torch.manual_seed(0)
    aspp, x = ASPP(3, (1, 3)).eval(), torch.randn(1, 3, 5, 6, 7)
    total = x
    for branch in aspp.branches:
        total = total + branch.bn2(branch.conv2(F.relu(branch.bn1(branch.conv1(x)))))
    torch.testing.assert_close(aspp(x), F.relu(total))


@pytest.mark.parametrize(("shape", "mega"), [((4, 6, 2), (2, 3, 1)), ((5, 3, 5), (2, 1, 2)), ((4, 3, 2), (2, 1, 1))])
def test_mega_voxels_are_halves_rounded_down_on_even_and_odd_grids(shape: tuple[int, int, int], mega: tuple[int, int, int]) -> None:
    prior = ContextPrior(8, shape, relations=2)
    volume, logits = prior(torch.randn(2, 8, *shape))
    voxels, megas = shape[0] * shape[1] * shape[2], mega[0] * mega[1] * mega[2]
    assert prior.mega_shape == mega
    assert volume.shape == (2, 8, *shape)
    assert logits.shape == (2, 2, megas, voxels)


def test_every_voxel_gathers_mega_contexts_weighted_by_its_relations() -> None:
    torch.manual_seed(0)
    prior = ContextPrior(8, (4, 3, 2), relations=4).eval()
    volume = torch.randn(1, 8, 4, 3, 2)
    with torch.no_grad():
        got, logits = prior(volume)
        seen = prior.aspp(volume)
        mega = prior.mega_context(seen).flatten(2)[0]
        parts = [volume[0].flatten(1)]
        for relation in range(4):
            weights = torch.sigmoid(prior.relations[relation](seen).flatten(2)[0])
            context = torch.zeros(16, 24)
            for voxel in range(24):
                for m in range(mega.shape[1]):
                    context[:, voxel] += weights[m, voxel] * mega[:, m]
            parts.append(context)
            torch.testing.assert_close(torch.sigmoid(logits[0, relation]), weights)
        expected = prior.refine(prior.merge(torch.cat(parts)[None].unflatten(2, (4, 3, 2))))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
