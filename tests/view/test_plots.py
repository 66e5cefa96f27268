"""Line plots put values where they belong."""

from __future__ import annotations

import numpy as np

from wholescene.view.plots import _BOTTOM, _LEFT, _RIGHT, _SIZE, _TOP, LINES, Panel, draw


def rows_of(picture: np.ndarray, colour: tuple[int, int, int], column: int) -> np.ndarray:
    return np.flatnonzero((picture[: _SIZE[1] - _BOTTOM, column] == colour).all(-1))


def test_lines_lie_at_their_values_and_rise_to_the_right() -> None:
    x = [0.5, 1.5, 2.5, 3.5]
    panel = Panel("scores", x, "metres", {"half": [0.2] * 4, "whole": [0.4] * 4, "rising": [0.0, 0.1, 0.2, 0.3]})
    picture = np.asarray(draw([panel]))
    height, width = _SIZE[1] - _BOTTOM - _TOP, _SIZE[0] - _RIGHT - _LEFT
    middle = _LEFT + width // 2  # between the second and the third bin
    for colour, share in ((LINES[0], 0.5), (LINES[1], 1.0), (LINES[2], 0.15 / 0.4)):
        assert abs(rows_of(picture, colour, middle).mean() - (_TOP + (1 - share) * height)) <= 1.5
    first, last = (rows_of(picture, LINES[2], _LEFT + round(width * share)).mean() for share in (0.2, 0.8))
    assert first > last


def test_the_background_fills_each_bin_by_its_share() -> None:
    panel = Panel("scores", [0.5, 1.5], "metres", {"none": [0.0, 0.0]}, background=[1.0, 0.5])
    picture = np.asarray(draw([panel, panel], "voxels"))
    assert picture.shape[1] == 2 * _SIZE[0]
    width, filled = _SIZE[0] - _RIGHT - _LEFT, (58, 63, 70)
    left, right = (len(rows_of(picture, filled, _LEFT + round(width * share))) for share in (0.1, 0.9))
    assert 1.8 < left / right < 2.2
