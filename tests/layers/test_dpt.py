"""The DPT decoder against the installed library's, with the same weights."""

from __future__ import annotations

import pytest
import torch

from wholescene.layers.dpt import DPT

WIDTHS = (4, 6, 8, 10)


def randomised(**more: bool) -> DPT:
    torch.manual_seed(0)
    decoder = DPT(12, WIDTHS, 8, **more)
    for p in decoder.parameters():
        p.data.normal_(0, 0.2)
    return decoder.double()


def tokens(grid: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.randn(2, 12, *grid, dtype=torch.float64) for _ in WIDTHS]


@pytest.mark.parametrize("grid", [(4, 6), (5, 3)])
def test_every_fused_map_is_that_of_the_installed_library(grid: tuple[int, int]) -> None:
    library = pytest.importorskip("transformers.models.depth_anything.modeling_depth_anything")
    config = library.DepthAnythingConfig(reassemble_hidden_size=12, neck_hidden_sizes=list(WIDTHS), fusion_hidden_size=8)
    neck, ours = library.DepthAnythingNeck(config).double(), randomised()
    for level in range(4):
        pairs = [(neck.reassemble_stage.layers[level].projection, ours.project[level]), (neck.convs[level], ours.smooth[level])]
        theirs, own = neck.fusion_stage.layers[3 - level], ours.fusion[level]
        pairs += [(neck.reassemble_stage.layers[level].resize, ours.resize[level]), (theirs.projection, own.out)]
        pairs += [(theirs.residual_layer2.convolution1, own.unit.conv1), (theirs.residual_layer2.convolution2, own.unit.conv2)]
        if own.skip_unit is not None:
            pairs += [(theirs.residual_layer1.convolution1, own.skip_unit.conv1), (theirs.residual_layer1.convolution2, own.skip_unit.conv2)]
        for one, other in pairs:
            one.load_state_dict(other.state_dict(), strict=True)
    maps = tokens(grid)
    sequences = [torch.cat([torch.zeros(2, 1, 12, dtype=torch.float64), m.flatten(2).transpose(1, 2)], 1) for m in maps]
    with torch.inference_mode():
        for theirs, own in zip(neck(sequences, *grid), reversed(ours(maps)), strict=True):
            assert theirs.shape == own.shape
            assert (theirs - own).abs().max() <= 1e-12 * theirs.abs().max()


def test_maps_have_8_4_2_and_1_times_the_size_of_the_tokens() -> None:
    assert [tuple(m.shape[1:]) for m in randomised()(tokens((5, 3)))] == [(8, 40, 24), (8, 20, 12), (8, 10, 6), (8, 5, 3)]


def test_every_parameter_is_alive_and_recomputing_changes_no_gradient() -> None:
    maps, grads = tokens((4, 6)), []
    for recompute in (False, True):
        decoder = randomised(activation_checkpointing=recompute)
        sum(m.square().sum() for m in decoder(maps)).backward()  # type: ignore[union-attr]
        grads.append([p.grad for p in decoder.parameters()])
    assert all(g is not None and bool(g.abs().sum() > 0) for g in grads[0])
    assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))
