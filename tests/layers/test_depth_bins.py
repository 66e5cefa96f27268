"""Depth of a head on a map lies where the map's cells do."""

from __future__ import annotations

import pytest
import torch

from wholescene.geometry.surface import read_map
from wholescene.layers.depth_bins import DepthBins


@pytest.mark.parametrize("rows", [96, 90, 83])
def test_depth_of_a_pixel_is_read_where_its_features_are(rows: int) -> None:
    """Also where the last cells reach beyond the picture."""
    torch.manual_seed(0)
    head, stride = DepthBins(5, (1.0, 30.0)), 16
    with torch.no_grad():
        head.conv1.weight.mul_(20)
        depth, shares = head(torch.rand(1, 5, -(-rows // stride), 10), (rows, 160))
    assert depth.shape == (1, rows, 160)
    centres = 1 + 29 * (torch.arange(64) + 0.5) / 64
    cells = torch.einsum("bdhw,d->bhw", shares, centres)
    inner = torch.tensor([[40.0, 20.0], [100.0, 50.0], [77.0, 71.0]])
    found = torch.stack([depth[0, int(v), int(u)] for u, v in inner])
    torch.testing.assert_close(found, read_map(cells, inner, (stride, stride))[:, 0])
