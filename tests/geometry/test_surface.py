"""Reading maps at pixels: the stride of a map whose last cells reach beyond the picture."""

from __future__ import annotations

import pytest
import torch

from wholescene.geometry.surface import read_map, strides_of, surface_distance


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("size", [(370, 1220), (376, 1241), (96, 304), (480, 640), (200, 290)])
def test_the_stride_is_that_of_the_network_however_its_last_cells_end(size: tuple[int, int], stride: int) -> None:
    height, width = size
    features = torch.empty(3, -(-height // stride), -(-width // stride))
    assert strides_of(features, torch.empty(3, height, width)) == (stride, stride)


def test_a_map_of_its_own_coordinates_says_where_a_pixel_lies() -> None:
    """370 rows in 24 cells of 16: row 350 lies at cell (350 + 0.5) / 16 - 0.5."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(77.0), indexing="ij")
    features = torch.stack([columns, rows])
    pixels = torch.tensor([[100.0, 350.0], [1210.0, 20.0]])
    found = read_map(features, pixels, strides_of(features, torch.empty(3, 370, 1220)))
    torch.testing.assert_close(found, (pixels + 0.5) / 16 - 0.5)


@pytest.mark.parametrize("unknown", [float("inf"), float("-inf"), float("nan"), 0.0])
def test_depth_that_is_no_number_is_unknown(unknown: float) -> None:
    depth = torch.full((6, 8), 4.0)
    depth[:3] = unknown
    pixels = torch.tensor([[3.0, 1.0], [3.0, 2.4], [3.0, 2.6], [3.0, 4.0]])
    delta, surface, seen, _ = surface_distance(depth, pixels, torch.full((4,), 5.0), (8, 6), 0.4)
    assert seen.tolist() == [False, False, True, True]
    assert surface.tolist() == [0, 0, 4, 4]
    assert delta.tolist() == [0, 0, 1, 1]
