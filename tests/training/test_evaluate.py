"""Scores are integer counts of every frame once, and say what they depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dial import GRID, Forged, recipe

from wholescene.data.disturb import DISTURBANCES, DisturbedFrames
from wholescene.data.with_depth import WithDepth
from wholescene.depth.sources import depth_source
from wholescene.errors import InputError
from wholescene.geometry.visibility import visibility
from wholescene.metrics import Counts
from wholescene.structures import Frame
from wholescene.systems import create
from wholescene.training.baselines import EverythingEmpty, MostFrequent, VisibleFromPerfectDepth
from wholescene.training.data import Remembered
from wholescene.training.evaluate import Evaluation, dataset_name, evaluate


def _truth(frame: Frame) -> np.ndarray:
    """What a perfect system says."""
    return np.where(frame.targets[1] == 255, 0, frame.targets[1]).astype(np.uint8)


def test_a_perfect_answer_scores_one() -> None:
    found = evaluate(_truth, Forged(3))
    present = [s for s, seen in zip(found.scores["all"].class_iou, found.scores["all"].seen, strict=True) if seen]
    assert found.iou == 1
    assert present == [1.0] * 3  # car, road, building


def test_scores_are_of_summed_counts_not_means_of_frames() -> None:
    rng = np.random.default_rng(0)
    answers = {f"forged/{i}": rng.integers(0, 20, GRID.shape).astype(np.uint8) for i in range(4)}
    dataset = Forged(4)
    counts = Counts.zero(20)
    for i in range(4):
        counts.update(answers[f"forged/{i}"], dataset[i].targets[1])
    found = evaluate(lambda frame: answers[frame.name], dataset, splits=False)
    assert found.scores == {"all": counts.compute()}


def test_splits_cover_the_volume_and_are_seen_from_the_frames_own_camera() -> None:
    dataset = Forged(2)
    found = evaluate(EverythingEmpty(), dataset)
    voxels = {split: s.voxels for split, s in found.scores.items()}
    assert voxels["all"] == voxels["visible"] + voxels["hidden"] + voxels["out of view"] == voxels["near"] + voxels["far"]
    states = [(visibility(_truth(f) > 0, f.main.camera, f.grid), f.targets[1] != 255) for f in (dataset[0], dataset[1])]
    assert voxels["hidden"] == sum(int((state == 2)[known].sum()) for state, known in states) > 0


def test_batches_and_loader_processes_do_not_change_the_scores() -> None:
    torch.manual_seed(0)
    system = create("dial", recipe().system.config())
    one = evaluate(system, Forged(5))
    assert evaluate(system, Forged(5), batch_size=3, workers=1).scores == one.scores
    assert system.training
    assert all(module.training for module in system.modules())


def test_a_limit_takes_frames_spread_over_the_dataset() -> None:
    seen: list[str] = []

    def noting(frame: Frame) -> np.ndarray:
        seen.append(frame.name)
        return _truth(frame)

    found = evaluate(noting, Forged(10), frames=3, splits=False)
    assert seen == ["forged/0", "forged/4", "forged/9"]
    assert found.provenance["frames"] == "3 of 10"


def test_provenance_says_protocol_rule_data_weights_machine_and_date() -> None:
    found = evaluate(EverythingEmpty(), Forged(1), about={"part": "val (08)"})
    what = {"protocol", "rule for absent classes", "dataset", "data revision", "part", "frames"}
    assert what | {"system", "weights", "hardware", "software", "date"} <= found.provenance.keys()
    assert all(found.provenance.values())


def test_the_dataset_that_is_named_is_not_what_was_put_around_it() -> None:
    noise = DISTURBANCES["noise"]
    dataset = DisturbedFrames(Remembered(WithDepth(Forged(1), depth_source("truth"))), noise, 0.1)
    assert dataset_name(dataset) == "Forged"


def test_the_table_names_rule_and_splits() -> None:
    header, *rows = evaluate(_truth, Forged(2), rule="seen-only").table()
    assert header == ("score in %", "all", "visible", "hidden", "out of view", "near", "far")
    assert {row[0]: row[1] for row in rows}["mIoU (seen-only)"] == "100.00"
    assert rows[4][0] == "car"


def test_an_evaluation_is_saved_and_read_back(tmp_path: Path) -> None:
    found = evaluate(EverythingEmpty(), Forged(2))
    found.save(tmp_path / "scores.json")
    assert Evaluation.load(tmp_path / "scores.json") == found
    (tmp_path / "scores.json").write_text('{"scores": []}')
    with pytest.raises(InputError, match="holds no saved evaluation"):
        Evaluation.load(tmp_path / "scores.json")


def test_a_frame_without_truth_is_refused_by_name() -> None:
    class Hidden(Forged):
        def __getitem__(self, index: int) -> Frame:
            frame = super().__getitem__(index)
            return Frame(frame.name, frame.views, frame.grid)

    with pytest.raises(InputError, match=r"forged/0 has no target"):
        evaluate(EverythingEmpty(), Hidden(2))


# ---- baselines ------------------------------------------------------------------------------------------------------------------


def test_perfect_depth_fills_exactly_the_voxels_that_its_points_fall_into() -> None:
    frame = Forged(1)[0]
    labels = VisibleFromPerfectDepth()(frame)
    expected = np.zeros(GRID.shape, np.uint8)
    camera = frame.main.camera
    for v in range(camera.height):
        for u in range(camera.width):
            point = camera.unproject(np.where(np.indices((12, 16)) == np.array([v, u])[:, None, None], 1, 0).all(0) * 5.0)[0]
            index = np.floor((point - frame.grid.T_world_grid[:3, 3]) / GRID.voxel_size).astype(int)
            if (index >= 0).all() and (index < GRID.shape).all():
                expected[tuple(index)] = 1
    assert expected.any()
    assert (labels == expected).all()


def test_the_most_frequent_class_is_counted_voxel_by_voxel_over_known_labels() -> None:
    dataset = Forged(7)
    found = MostFrequent.of(dataset, 20)
    volumes = np.stack([dataset[i].targets[1] for i in range(7)])
    for x, y, z in [(0, 0, 0), (3, 2, 1), (5, 5, 3)]:
        column = [label for label in volumes[:, x, y, z] if label != 255]
        assert found.labels[x, y, z] == (min(set(column), key=lambda label: (-column.count(label), label)) if column else 0)
    assert found.frames == 7
    assert (found(dataset[0]) == found.labels).all()


def test_everything_empty_scores_nothing() -> None:
    found = evaluate(EverythingEmpty(), Forged(2))
    assert (found.iou, found.miou, found.scores["all"].recall) == (0, 0, 0)
    assert found.provenance["system"] == "everything empty"
