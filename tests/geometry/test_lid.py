"""Depth bins that grow linearly, against their edges."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wholescene.geometry.lid import lid_bins


@given(st.integers(1, 80), st.floats(0.5, 100), st.lists(st.floats(-1, 120), min_size=1, max_size=20))
def test_a_depth_lies_between_the_edges_of_its_bin(bins: int, most: float, depths: list[float]) -> None:
    found = lid_bins(torch.tensor(depths, dtype=torch.float64), bins, most).tolist()
    for depth, k in zip(depths, found, strict=True):
        if k == bins:
            assert depth < 0 or depth > most * (1 - 1e-9)
        else:
            low, high = (most * n * (n + 1) / (bins * (bins + 1)) for n in (k, k + 1))
            assert low - 1e-9 * most <= depth <= high + 1e-9 * most


def test_what_is_no_depth_lies_in_no_bin_and_the_input_stays() -> None:
    depth = torch.tensor([float("nan"), float("inf"), -float("inf"), -1e-7, -0.0, 10.0, 10.00001])
    kept = depth.clone()
    assert lid_bins(depth, 64, 10.0).tolist() == [64, 64, 64, 64, 0, 64, 64]
    assert torch.equal(depth.nan_to_num(), kept.nan_to_num())
