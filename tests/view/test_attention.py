"""What a query looks at, drawn: bells against a loop, and things where they belong on the page."""

from __future__ import annotations

import numpy as np
import pytest

from wholescene.grid import VoxelGrid
from wholescene.labels import SEMANTIC_KITTI
from wholescene.view.attention import draw_attention, heat_colours, scene_panels, spread

SHAPES = {"xyz": (8, 10, 4), "xzy": (8, 4, 10), "yxz": (10, 8, 4)}


def panels(axes: str, ahead: int, left: int, up: int) -> list[np.ndarray]:
    """Brightness of the attention from above and from the side, where one voxel pays nearly all of it and another one is occupied."""
    grid = VoxelGrid.from_corner((0, -5, 0), SHAPES[axes], 1.0, axes)
    heard = np.full(SHAPES[axes], 0.01)
    heard[tuple({"x": ahead, "y": left, "z": up}[axis] for axis in axes)] = 0.5
    labels = np.zeros([2 * n for n in SHAPES[axes]], np.uint8)
    above, _, side = scene_panels(grid, heard, np.zeros((0, 3)), np.zeros(0), labels, SEMANTIC_KITTI)
    return [np.asarray(panel).astype(int).sum(-1) for panel in (above, side)]


def middle(panel: np.ndarray) -> tuple[float, float]:
    """Row and column of the bright spot, as shares of the panel."""
    rows, columns = np.nonzero(panel > 600)
    return (rows.mean() + 0.5) / panel.shape[0], (columns.mean() + 0.5) / panel.shape[1]


@pytest.mark.parametrize("axes", SHAPES)
def test_ahead_is_up_and_left_is_left_from_above_and_ahead_is_right_from_the_side(axes: str) -> None:
    above, side = panels(axes, ahead=6, left=8, up=1)
    assert middle(above) == pytest.approx((1.5 / 8, 1.5 / 10))  # the seventh of eight ahead, the ninth of ten to the left
    assert middle(side) == pytest.approx((2.5 / 4, 6.5 / 8))
    assert above.shape[0] / above.shape[1] == pytest.approx(8 / 10)
    assert side.shape[0] / side.shape[1] == pytest.approx(4 / 8)


def test_the_classes_are_those_that_the_eye_meets_from_above() -> None:
    grid, labels = VoxelGrid.from_corner((0, 0, 0), (2, 2, 2), 1.0), np.zeros((2, 2, 2), np.uint8)
    labels[1, 0] = (9, 1)  # a car on the road, ahead to the right
    _, classes, _ = scene_panels(grid, np.zeros((2, 2, 2)), np.zeros((0, 3)), np.zeros(0), labels, SEMANTIC_KITTI)
    quarter = classes.width // 4
    assert classes.getpixel((3 * quarter, quarter)) == SEMANTIC_KITTI.colours[1]
    assert classes.getpixel((quarter, quarter)) == (0, 0, 0)


def test_the_whole_picture_holds_photo_and_panels() -> None:
    grid = VoxelGrid.from_corner((0, -5, 0), (8, 10, 4), 1.0)
    rng = np.random.default_rng(0)
    image = draw_attention(
        np.full((30, 60, 3), 200, np.uint8), (20.0, 10.0), np.array([[25.0, 12.0]]), np.ones(1), grid, rng.random((8, 10, 4)),
        np.array([[1.0, 2.0, 3.0]]), np.ones(1), np.ones((8, 10, 4), np.uint8), SEMANTIC_KITTI, "a caption",
    )  # fmt: skip
    photo = np.asarray(image)[:600].astype(int).sum(-1)
    assert photo[240, 500] > 1.5 * photo[500, 1000]  # bright where it looks


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
