"""Scores along the axes against a slow loop over voxels, written from the definitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dial import GRID, Forged

from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.labels import NYUV2, SEMANTIC_KITTI
from wholescene.metrics import Counts
from wholescene.structures import Frame
from wholescene.training.axis_figures import comparison, figure
from wholescene.training.axiswise import AXES, GROUPS, AxisCounts, AxisEvaluation, array_axes, computed, distant, evaluate_axes
from wholescene.training.evaluate import evaluate


def guess(frame: Frame) -> np.ndarray:
    """Labels that are right in about half of the voxels."""
    rng = np.random.default_rng(len(frame.name))
    truth = np.where(frame.targets[1] == 255, 0, frame.targets[1])
    return np.where(rng.random(truth.shape) < 0.5, truth, rng.choice([0, 1, 9, 13], truth.shape)).astype(np.uint8)


def slow_scores(frames: list[tuple[np.ndarray, np.ndarray]], chosen: np.ndarray) -> tuple[float, float, float, int]:
    """Recall, IoU, mIoU and occupied voxels of the (X, Y, Z) chosen ones, voxel by voxel."""
    hit = missed = false = occupied = 0
    classes: dict[int, list[int]] = {k: [0, 0] for k in range(1, 20)}
    for said, truth in frames:
        for place in np.argwhere(chosen):
            s, t = int(said[tuple(place)]), int(truth[tuple(place)])
            if t == 255:
                continue
            occupied += t > 0
            hit += s > 0 and t > 0
            missed += s == 0 and t > 0
            false += s > 0 and t == 0
            for k in {s, t} - {0}:
                classes[k][0] += s == t
                classes[k][1] += 1
    each = [a / b if b else 0.0 for a, b in classes.values()]
    return hit / max(1, hit + missed), hit / max(1, hit + missed + false), sum(each) / 19, occupied


def test_bins_and_quarters_are_those_of_a_slow_loop() -> None:
    dataset = Forged(2)
    found = evaluate_axes(guess, dataset)
    frames = [(guess(dataset[i]), dataset[i].targets[1]) for i in range(2)]
    everything = np.ones(GRID.shape, bool)
    whole = slow_scores(frames, everything)[3]
    for axis, name in enumerate(AXES):  # the grid's own axes are depth, width, height here
        n = GRID.shape[axis]
        index = np.broadcast_to(np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)]), GRID.shape)
        for i, score in enumerate(found.bins[name]):
            recall, iou, miou, occupied = slow_scores(frames, index == i)
            assert (score.recall, score.iou, score.miou, score.occupied) == pytest.approx((recall, iou, miou, occupied / whole))
        for i, score in enumerate(found.quarters[name]):
            part = (index >= i * n // 4) & (index < (i + 1) * n // 4)
            assert (score.recall, score.iou, score.miou) == pytest.approx(slow_scores(frames, part)[:3])
        assert sum(s.occupied for s in found.bins[name]) == pytest.approx(1)
    assert (found.iou, found.miou) == pytest.approx(slow_scores(frames, everything)[1:3])


def test_the_whole_is_what_evaluate_says() -> None:
    found, plain = evaluate_axes(guess, Forged(3)), evaluate(guess, Forged(3), splits=False)
    assert (found.iou, found.miou) == (plain.iou, plain.miou)
    assert found.provenance.keys() == plain.provenance.keys()
    assert found.provenance["frames"] == "3 of 3"


def test_groups_are_means_over_their_classes_in_the_distant_half() -> None:
    rng = np.random.default_rng(0)
    grid = VoxelGrid((4, 8, 6), (1.0, 0.5, 0.5))
    truth, said = (rng.integers(0, 20, grid.shape).astype(np.uint8) for _ in range(2))
    said = np.where(rng.random(grid.shape) < 0.6, truth, said)
    counts = AxisCounts(20, grid.shape)
    counts.update(said, truth, grid)
    found = computed(counts, grid, SEMANTIC_KITTI)
    halves = {
        "depth": np.s_[2:], "width": np.s_[:, [0, 1, 6, 7]], "height": np.s_[:, :, :3],
    }  # fmt: skip
    for axis, half in halves.items():
        mine = Counts.zero(20)
        mine.update(said[half], truth[half])
        iou = dict(zip(SEMANTIC_KITTI.names[1:], mine.compute().class_iou, strict=True))
        for size, groups in GROUPS.items():
            for group, names in groups.items():
                assert found.groups[axis][group] == pytest.approx(np.mean([iou[n] for n in names if n in iou]))
            assert found.groups[axis][size] == pytest.approx(np.mean([iou[n] for names in groups.values() for n in names if n in iou]))
    assert sum(len([n for n in names if n in SEMANTIC_KITTI.names]) for g in GROUPS.values() for names in g.values()) == 19


def test_published_totals_are_weighted_by_the_number_of_classes() -> None:
    """Table E.1, CGFormer along depth: the groups' scores and the printed totals belong together in this division of the classes only."""
    sizes = {group: len([n for n in names if n in SEMANTIC_KITTI.names]) for groups in GROUPS.values() for group, names in groups.items()}
    large = {"ground": 24.87, "structure": 17.66, "nature": 19.57}
    small = {"vehicle": 6.92, "human": 0.07, "object": 2.86}
    for scores, total in ((large, 21.98), (small, 3.95)):
        weights = [sizes[g] for g in scores]
        assert np.average(list(scores.values()), weights=weights) == pytest.approx(total, abs=0.006)


def test_axes_are_the_worlds_whatever_the_order_of_the_array() -> None:
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 0, -1.0], [1, 0, 0], [0, 1, 0]])  # array axes: left, up, backward
    turned = VoxelGrid((5, 3, 4), (1.0, 1.0, 1.0), pose)
    assert array_axes(turned) == [(2, True), (0, False), (1, False)]
    rng = np.random.default_rng(1)
    truth, said = (rng.integers(0, 20, (4, 5, 3)).astype(np.uint8) for _ in range(2))  # depth, width, height
    plain, other = AxisCounts(20, (4, 5, 3)), AxisCounts(20, (4, 5, 3))
    plain.update(said, truth, VoxelGrid((4, 5, 3), (1.0, 1.0, 1.0)))
    other.update(*(np.ascontiguousarray(v[::-1].transpose(1, 2, 0)) for v in (said, truth)), turned)
    assert all(bool((plain.tables[axis] == other.tables[axis]).all()) for axis in AXES)


def test_counts_of_processes_add_up_to_those_of_one() -> None:
    frames = [Forged(4)[i] for i in range(4)]

    def counted(chosen: list[Frame]) -> AxisCounts:
        counts = AxisCounts(20, GRID.shape)
        for frame in chosen:
            counts.update(guess(frame), frame.targets[1], frame.grid)
        return counts

    one = counted(frames)
    both = one.filled(counted(frames[:1]).as_tensor() + counted(frames[1:]).as_tensor())
    assert both.frames == 4
    assert all(bool((one.tables[axis] == both.tables[axis]).all()) for axis in AXES)


def test_an_evaluation_is_saved_read_back_and_drawn(tmp_path: Path) -> None:
    found = evaluate_axes(guess, Forged(1))
    found.save(tmp_path / "axes.json")
    again = AxisEvaluation.load(tmp_path / "axes.json")
    assert again == found
    header, *rows = found.table()
    assert [row[0] for row in rows] == [f"{axis} ({i})" for axis in AXES for i in range(1, 5)]
    assert all(len(row) == len(header) for row in rows)
    one, many = figure(found), comparison({"a": found, "b": again})
    assert one.size == many.size
    assert len(np.unique(np.asarray(one).reshape(-1, 3), axis=0)) > 5
    with pytest.raises(InputError, match="on one grid"):
        comparison({})


@pytest.mark.parametrize("change", ["[]", "bins", "quarters", "number", "provenance", "deep"])
def test_a_file_that_holds_no_such_evaluation_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "axes.json"
    evaluate_axes(guess, Forged(1)).save(path)
    plain = json.loads(path.read_text())
    if change in ("bins", "quarters"):
        plain[change]["width"].pop()
    elif change == "number":
        plain["bins"]["depth"][0]["iou"] = "high"
    elif change == "provenance":
        plain["provenance"] = ["weights"]
    path.write_text({"[]": "[]", "deep": "[" * 100_000}.get(change, json.dumps(plain)))
    with pytest.raises(InputError, match="--by axis"):
        AxisEvaluation.load(path)


def test_label_sets_without_street_classes_have_no_groups() -> None:
    counts, grid = AxisCounts(12, (2, 2, 2)), VoxelGrid((2, 2, 2), (1.0, 1.0, 1.0))
    counts.update(np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8), grid)
    found = computed(counts, grid, NYUV2)
    assert found.groups == {}
    assert found.group_table() == []


def test_the_distant_half_of_an_axis() -> None:
    assert distant("depth", 5).tolist() == [False, False, False, True, True]
    assert distant("width", 8).tolist() == [True, True, False, False, False, False, True, True]
    assert distant("height", 4).tolist() == [True, True, False, False]


def test_grids_that_differ_are_refused() -> None:
    counts = AxisCounts(20, (2, 2, 2))
    with pytest.raises(InputError, match="has 3 along its depth"):
        counts.update(np.zeros((3, 2, 2), np.uint8), np.zeros((3, 2, 2), np.uint8), VoxelGrid((3, 2, 2), (1.0, 1.0, 1.0)))
