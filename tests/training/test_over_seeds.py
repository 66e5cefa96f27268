"""Means and spreads over seeds of scores by steps and under disturbances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wholescene.errors import InputError
from wholescene.labels import SEMANTIC_KITTI
from wholescene.metrics import Scores
from wholescene.training.anytime import AtSteps
from wholescene.training.evaluate import Evaluation
from wholescene.training.over_seeds import left_of, robustness_figure, robustness_table, steps_table
from wholescene.training.robustness import Disturbed, Robustness


def _after(steps: int, miou: float) -> AtSteps:
    scores = Scores("semantic-kitti", 1, 8, 0.5, 0.5, 2 * miou, (), (), miou)
    return AtSteps(steps, Evaluation({"all": scores, "near": scores}, SEMANTIC_KITTI), (0.5,) * steps, 0.25 + miou, 2**20)


def _suite(clean: float, *others: float) -> Robustness:
    rows = [Disturbed("noise", 0.1 * (i + 1), "of 1", (0.5,), (value,)) for i, value in enumerate(others)]
    return Robustness((None,), Disturbed("clean", 1.0, "", (0.6,), (clean,)), tuple(rows), {"frames": "4"})


def test_steps_differ_from_the_first_only_by_more_than_both_spreads() -> None:
    header, *rows = steps_table([[_after(0, 0.10), _after(2, 0.20)], [_after(0, 0.12), _after(2, 0.22)]])
    said = dict.fromkeys(("mIoU", "mIoU near"))
    assert header == ("after so many steps", "T=0", "T=2")
    named = [row for row in rows if row[0] in said]
    assert [row[1:] for row in named] == [("11.00 ± 1.41", "21.00 ± 1.41")] * 2
    assert [row[1:] for row in rows if row[0].startswith("  against T=0")] == [("", "+20.00"), ("", "+10.00")] * 2
    close = steps_table([[_after(0, 0.10), _after(2, 0.20)], [_after(0, 0.30), _after(2, 0.25)]])
    assert all(row[2].startswith("undecided") for row in close if row[0].startswith("  against"))
    assert rows[-3:] == [("active % a step", "0.0", "50.0"), ("s a frame", "0.350", "0.450"), ("peak MiB of the process", "1", "1")]


def test_variants_are_compared_where_both_were_disturbed() -> None:
    """One of them eats depth and the other does not, in either order."""
    picture = [_suite(0.10, 0.08, 0.05)]
    more = Disturbed("depth-noise", 0.1, "of 1", (0.5,), (0.01,))
    both = [replace(run, rows=(*run.rows, more)) for run in picture]
    for found in ({"a": picture, "b": both}, {"b": both, "a": picture}):
        rows = robustness_table(found)
        assert [row[0] for row in rows[2:]] == ["noise", "noise", "mean of noise", "mean of all"]
        assert all(row[2] == row[3] for row in rows[1:])
        assert robustness_figure(found, "two").size == robustness_figure({"a": picture}, "two").size
    with pytest.raises(InputError, match="no disturbance in common"):
        robustness_table({"a": picture, "b": [replace(picture[0], rows=(more,))]})


def test_steps_by_the_same_weights_are_compared_with_each_other() -> None:
    """The most with the fewest, in whatever order they were scored; and both with the first variant."""
    clean = Disturbed("clean", 1.0, "", (0.6, 0.6), (0.20, 0.10))
    two = [Robustness((3, 0), clean, (Disturbed("noise", 0.1, "of 1", (0.5, 0.3), (0.18 + 0.001 * i, 0.06)),), {}) for i in range(2)]
    header, score, noise, *_ = robustness_table({"coarse": [_suite(0.1, 0.08), _suite(0.1, 0.08)], "refined": two})
    assert header[2:5] == ("coarse", "refined T=0", "refined T=3")
    assert header[5:] == ("refined T=0 against coarse", "refined T=3 against coarse", "refined T=3 against refined T=0")
    assert score[2:5] == ("10.00 ± 0.00", "10.00 ± 0.00", "20.00 ± 0.00")
    assert noise[2:] == ("80.00 ± 0.00", "60.00 ± 0.00", "90.25 ± 0.35", "-20.00", "+10.25", "+30.25")
    header, score, noise, *_ = robustness_table({"refined": two}, "IoU")
    assert (header[4], score[0], noise[2:4]) == ("against refined T=0", "clean IoU", ("50.00 ± 0.00", "83.33 ± 0.00"))
    table = two[0].table()
    assert table[0][-1] == "left at T=3 less T=0"
    assert [row[-1] for row in table[1:]] == ["+0.000", "+0.300", "+0.300", "+0.300"]


def test_a_severity_that_one_seed_was_not_put_under_is_left_out() -> None:
    assert left_of([_suite(0.10, 0.08, 0.05), _suite(0.10, 0.08)]) == {("noise", 0.1): pytest.approx([0.8, 0.8])}


def test_robustness_compares_shares_and_not_scores() -> None:
    low = [_suite(0.10, 0.08, 0.05), _suite(0.20, 0.16, 0.10)]
    high = [_suite(0.40, 0.36, 0.32), _suite(0.50, 0.45, 0.40)]
    assert left_of(low)["noise", 0.1] == pytest.approx([0.8, 0.8])
    header, clean, first, second, mean, overall = robustness_table({"low": low, "high": high})
    assert header == ("disturbance", "severity", "low", "high", "against low")
    assert clean == ("clean mIoU", "-", "15.00 ± 7.07", "45.00 ± 7.07", "+30.00")
    assert first == ("noise", "0.1", "80.00 ± 0.00", "90.00 ± 0.00", "+10.00")
    assert second[2:] == ("50.00 ± 0.00", "80.00 ± 0.00", "+30.00")
    assert mean == ("mean of noise", "-", "65.00 ± 0.00", "85.00 ± 0.00", "+20.00")
    assert overall == ("mean of all", *mean[1:])
    whole = np.asarray(robustness_figure({"low": low, "high": high}, "two"))
    alone = np.asarray(robustness_figure({"low": low}, "two"))
    colours = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in (alone, whole)]
    assert colours[0] < colours[1]
