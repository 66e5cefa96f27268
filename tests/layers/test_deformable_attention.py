"""Deformable attention against a loop over queries, heads and points; the feature pyramid against its definition."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from wholescene.layers.deformable_attention import DeformableAttention, FeedForward
from wholescene.layers.fpn import FPN


def read_one(volume: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """(D,) of a map (D, h, w) at (x, y) in cells, linear, zero outside."""
    out = torch.zeros(volume.shape[0])
    for row in range(volume.shape[1]):
        for column in range(volume.shape[2]):
            share = (1 - (place[0] - column).abs()).clamp(min=0) * (1 - (place[1] - row).abs()).clamp(min=0)
            out += share * volume[:, row, column]
    return out


def test_every_head_reads_its_points_around_the_reference() -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(8, heads=2, levels=2, points=3, groups=2, query_width=6)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    shapes = ((3, 5), (2, 2))
    queries, value = torch.randn(1, 4, 6), torch.randn(1, 19, 8)
    references = torch.rand(1, 4, 2, 2)
    projected = layer.value_proj(value)[0]
    maps = [projected[:15].T.view(8, 3, 5), projected[15:].T.view(8, 2, 2)]
    offsets = layer.sampling_offsets(queries).view(4, 2, 2, 2, 3, 2)  # query, head, group, level, point, (x, y)
    weights = layer.attention_weights(queries).view(4, 2, 2, 6).softmax(-1).view(4, 2, 2, 2, 3)
    expected = torch.zeros(4, 8)
    for q, head, group, level, point in torch.cartesian_prod(*map(torch.arange, (4, 2, 2, 2, 3))).tolist():
        size = torch.tensor([shapes[level][1], shapes[level][0]])
        place = references[0, q, level] * size - 0.5 + offsets[q, head, group, level, point]
        read = read_one(maps[level][4 * head : 4 * head + 4], place)
        expected[q, 4 * head : 4 * head + 4] += weights[q, head, group, level, point] * read / 2
    torch.testing.assert_close(layer(queries, references, value, shapes)[0], layer.output_proj(expected), rtol=1e-4, atol=1e-5)


def test_a_fresh_layer_looks_one_cell_farther_with_each_point_and_a_way_of_its_own_with_each_head() -> None:
    for axes in (2, 3):
        offsets = DeformableAttention(8, heads=4, points=3, axes=axes).sampling_offsets.bias.view(4, 1, 3, axes)
        reach = offsets.abs().amax(-1)
        torch.testing.assert_close(reach, torch.tensor([1.0, 2.0, 3.0]).expand(4, 1, 3))
        assert len({tuple(o.round(decimals=3).tolist()) for o in offsets[:, 0, 0]}) == 4


def test_the_pyramid_adds_what_coarser_maps_say() -> None:
    torch.manual_seed(0)
    pyramid = FPN((4, 6), 5)
    fine, coarse = torch.randn(1, 4, 5, 7), torch.randn(1, 6, 3, 4)
    top = pyramid.lateral[1](coarse)
    rows, columns = torch.arange(5) * 3 // 5, torch.arange(7) * 4 // 7
    bottom = pyramid.lateral[0](fine) + top[:, :, rows][..., columns]
    expected = [F.conv2d(m, s.weight, s.bias, padding=1) for m, s in zip((bottom, top), pyramid.smooth, strict=True)]
    for one, other in zip(pyramid([fine, coarse]), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    layer, tokens = FeedForward(8, 16, dropout=0.5), torch.randn(2, 3, 8)
    assert not torch.equal(layer(tokens), layer(tokens))
    layer.eval()
    torch.testing.assert_close(layer(tokens), layer.narrow(layer.widen(tokens).relu()))
