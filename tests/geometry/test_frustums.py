"""Frustum ids against the inequalities that define a frustum, in exact fractions, and class counts against masks."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.geometry.frustums import count_known, frustum_class_counts, frustum_ids


def tile_of(place: int, edge: int, divisions: int) -> int:
    """The tile whose real bounds hold the pixel: lower inclusive, upper exclusive."""
    return next(i for i in range(divisions) if Fraction(i * edge, divisions) <= place < Fraction((i + 1) * edge, divisions))


@settings(deadline=None)
@given(st.integers(1, 65536), st.integers(1, 65536), st.integers(1, 181), st.data())
def test_a_pixel_lies_in_the_tile_whose_bounds_hold_it(width: int, height: int, divisions: int, data: st.DataObject) -> None:
    u, v = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    # a pixel right at a bound of tiles, too
    bound = min(width - 1, -(-data.draw(st.integers(0, divisions - 1)) * width // divisions))
    pixels = torch.tensor([[u, v], [bound, v], [max(0, bound - 1), v]])
    found = frustum_ids(pixels, torch.ones(3, dtype=torch.bool), (width, height), divisions)
    assert found.tolist() == [tile_of(y, height, divisions) * divisions + tile_of(x, width, divisions) for x, y in pixels.tolist()]


def test_every_column_and_row_of_the_published_pictures_is_in_its_tile() -> None:
    for edge in (1220, 370, 640, 480, 1408, 376):
        places = torch.arange(edge)
        inside = torch.ones(edge, dtype=torch.bool)
        columns = frustum_ids(torch.stack([places, torch.zeros_like(places)], -1), inside, (edge, 1))
        rows = frustum_ids(torch.stack([torch.zeros_like(places), places], -1), inside, (1, edge))
        tiles = torch.tensor([tile_of(place, edge, 8) for place in range(edge)])
        assert torch.equal(columns.long(), tiles)
        assert torch.equal(rows.long(), 8 * tiles)


def test_out_of_view_is_minus_one_whatever_the_pixel_says() -> None:
    pixels = torch.tensor([[[-5, 3], [2**31, -(2**31)], [0, 0]]])
    in_view = torch.tensor([[False, False, True]])
    assert frustum_ids(pixels, in_view, (8, 8)).tolist() == [[-1, -1, 0]]


def test_class_counts_are_those_of_one_mask_a_frustum() -> None:
    random = torch.Generator().manual_seed(2)
    ids = torch.randint(-1, 4, (2, 6, 5, 4), generator=random).short()
    targets = torch.randint(0, 3, (2, 6, 5, 4), generator=random)
    targets[torch.rand(targets.shape, generator=random) < 0.3] = 255
    counts = frustum_class_counts(ids.flatten(1), targets, 4, 3)
    for sample in range(2):
        for frustum in range(4):
            for label in range(3):
                assert counts[sample, frustum, label] == ((ids[sample] == frustum) & (targets[sample] == label)).sum()
    known = count_known(ids, targets, 4, 3)
    assert torch.equal(known[:, :4], counts)
    assert known.sum() == (targets != 255).sum()


def test_what_has_no_frustum_is_refused() -> None:
    pixels, inside = torch.zeros(2, 2, dtype=torch.long), torch.ones(2, dtype=torch.bool)
    for wrong in (pixels.float(), pixels[:1], pixels[:, :1]):
        with pytest.raises(InputError, match="integer pixels"):
            frustum_ids(wrong, inside, (8, 8))
    with pytest.raises(InputError, match="182"):
        frustum_ids(pixels, inside, (8, 8), 182)
    with pytest.raises(InputError, match="8x0"):
        frustum_ids(pixels, inside, (8, 0))


def test_ids_and_labels_out_of_range_are_refused() -> None:
    targets = torch.zeros(1, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match=r"-1\.\.3"):
        frustum_class_counts(torch.tensor([[0, 1, 2, 4]]), targets, 4, 2)
    with pytest.raises(InputError, match=r"lie in -2"):
        frustum_class_counts(torch.tensor([[0, 1, 2, -2]]), targets, 4, 2)
    with pytest.raises(InputError, match="label 3"):
        frustum_class_counts(torch.zeros(1, 4, dtype=torch.int16), torch.tensor([[0, 255, 2, 3]]), 4, 2)
    with pytest.raises(InputError, match="not of the same voxels"):
        frustum_class_counts(torch.zeros(1, 3, dtype=torch.int16), targets, 4, 2)
