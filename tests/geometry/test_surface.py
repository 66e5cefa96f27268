"""Reading maps at pixels: the stride of a map whose last cells reach beyond the picture."""

from __future__ import annotations

import pytest
import torch

from wholescene.geometry.surface import read_map, strides_of


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
