"""What a query looks at, drawn: bells against a loop, and things where they belong on the page."""

from __future__ import annotations

import numpy as np
import pytest

from wholescene.grid import VoxelGrid
from wholescene.labels import SEMANTIC_KITTI
from wholescene.view.attention import draw_attention, heat_colours, spread

SHAPES = {"xyz": (8, 10, 4), "xzy": (8, 4, 10), "yxz": (10, 8, 4)}


def drawn(axes: str, ahead: int, left: int, up: int, photo: tuple[int, int] = (30, 60)) -> np.ndarray:
    """The panels from above and from the side, where one voxel pays all the attention."""
    grid = VoxelGrid.from_corner((0, -5, 0), SHAPES[axes], 1.0, axes)
    heard = np.full(SHAPES[axes], 0.01)
    place = tuple({"x": ahead, "y": left, "z": up}[axis] for axis in axes)
    heard[place] = 0.5
    labels = np.zeros([2 * n for n in SHAPES[axes]], np.uint8)
    nothing = np.zeros((0, 2)), np.zeros(0)
    image = draw_attention(
        np.zeros((*photo, 3), np.uint8), (5.0, 5.0), *nothing, grid, heard, np.zeros((0, 3)), np.zeros(0), labels, SEMANTIC_KITTI, ""
    )
    return np.asarray(image)[600 + 26 : -60].astype(int).sum(-1)


def middle(panel: np.ndarray) -> tuple[float, float]:
    """Row and column of the bright spot, as shares of what is drawn."""
    rows, columns = np.nonzero(panel > 600)
    tall = np.flatnonzero((panel < 20).any(1)).max() + 1
    return rows.mean() / tall, columns.mean() / panel.shape[1]


@pytest.mark.parametrize("axes", SHAPES)
def test_ahead_is_up_and_left_is_left_from_above_and_ahead_is_right_from_the_side(axes: str) -> None:
    panels = drawn(axes, ahead=6, left=8, up=1)
    row, column = middle(panels[:, :592])
    assert row == pytest.approx(1.5 / 8, abs=0.03)  # the seventh of eight, from the far end
    drawn_wide = np.flatnonzero((panels[:, :592] < 20).any(0)).max() + 1
    assert column * 592 / drawn_wide == pytest.approx(1.5 / 10, abs=0.03)
    row, column = middle(panels[:, 608:])
    assert column == pytest.approx(6.5 / 8, abs=0.03)
    assert row == pytest.approx(2.5 / 4, abs=0.06)


def test_bells_are_summed_and_the_largest_sum_is_one() -> None:
    places, weights = np.array([[3.0, 4.0], [10.0, 2.5]]), np.array([0.2, 0.7])
    found = spread(places, weights, (9, 14), 2.0)
    expected = np.zeros((9, 14))
    for row in range(9):
        for column in range(14):
            for (x, y), weight in zip(places, weights, strict=True):
                expected[row, column] += weight * np.exp(-((row - y) ** 2 + (column - x) ** 2) / 8)
    np.testing.assert_allclose(found, expected / expected.max())
    assert not spread(places[:0], weights[:0], (3, 4), 1.0).any()


def test_more_is_brighter() -> None:
    brightness = heat_colours(np.linspace(0, 1, 20)).astype(int).sum(-1)
    assert (np.diff(brightness) > 0).all()
