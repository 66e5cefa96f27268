"""The stereo UNet and the neck that joins strides: sizes, and how far a cell reaches."""

from __future__ import annotations

import pytest
import torch

from wholescene.layers.hourglass import Hourglass
from wholescene.layers.second_fpn import SECONDFPN


@pytest.mark.parametrize(("axes", "size"), [(2, (8, 12)), (3, (4, 8, 12))])
def test_size_and_width_stay_and_no_gradient_is_needed_for_the_numbers(axes: int, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = Hourglass(4, axes).eval()
    x = torch.randn(2, 4, *size)
    with torch.inference_mode():
        streamed = net(x)
    recorded = net(x)
    assert recorded.shape == x.shape
    torch.testing.assert_close(streamed, recorded, rtol=1e-4, atol=1e-5)
    assert (recorded >= 0).all()
    torch.testing.assert_close(torch.cat([net(x[:1]), net(x[1:])]), recorded, rtol=1e-4, atol=1e-5)


def test_maps_of_all_strides_meet_cell_by_cell() -> None:
    torch.manual_seed(0)
    neck = SECONDFPN((3, 4, 5), (4, 8, 16), 2, 8).eval()
    maps = [torch.zeros(1, c, 32 // s, 64 // s) for c, s in ((3, 4), (4, 8), (5, 16))]
    blank = neck(maps)
    assert blank.shape == (1, 6, 4, 8)
    for index, (cell, reached) in enumerate((((5, 7), [(2, 3)]), ((2, 3), [(2, 3)]), ((1, 3), [(2, 6), (2, 7), (3, 6), (3, 7)]))):
        changed = torch.zeros(6, 4, 8, dtype=torch.bool)
        for value in (10.0, -10.0):  # what a ReLU hides at one sign, it shows at the other
            moved = [m.clone() for m in maps]
            moved[index][0, :, cell[0], cell[1]] = value
            changed |= (neck(moved) != blank)[0]
        assert changed.any(0).nonzero().tolist() == [list(place) for place in reached]
        assert changed.flatten(1).any(1).nonzero().flatten().tolist() == [2 * index, 2 * index + 1]
