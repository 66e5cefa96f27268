"""Counts and scores against masks, against the published example of an absent class, and their sums over frames and processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.metrics import Counts, SplitCounts

K = 5


def volumes(seed: int, shape: tuple[int, ...] = (2, 6, 5, 4)) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth: the truth has unknown voxels, the prediction labels that are no class there."""
    random = np.random.default_rng(seed)
    prediction, truth = random.integers(0, K, shape).astype(np.uint8), random.integers(0, K, shape).astype(np.uint8)
    unknown = random.random(shape) < 0.3
    truth[unknown] = 255
    prediction[unknown & (random.random(shape) < 0.5)] = 250
    return prediction, truth


def counted(prediction: np.ndarray, truth: np.ndarray) -> tuple[list[list[int]], tuple[int, int, int]]:
    """tp, fp, fn of each class and of completion, mask by mask."""
    known = truth != 255
    classes = [
        [int((known & (prediction == k) & (truth == k)).sum()), int((known & (prediction == k) & (truth != k)).sum()),
         int((known & (prediction != k) & (truth == k)).sum())]
        for k in range(K)
    ]  # fmt: skip
    p, t = known & (prediction > 0), known & (truth > 0)
    return classes, (int((p & t).sum()), int((p & ~t).sum()), int((~p & t).sum()))


@settings(deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_counts_are_those_of_masks(seed: int, as_tensors: bool) -> None:
    prediction, truth = volumes(seed)
    counts = Counts.zero(K)
    counts.update(*((torch.from_numpy(prediction).long(), torch.from_numpy(truth)) if as_tensors else (prediction, truth)))
    classes, completion = counted(prediction, truth)
    assert torch.stack([counts.tp, counts.fp, counts.fn], 1).tolist() == classes
    assert counts.completion == completion
    scores = counts.compute()
    tp, fp, fn = completion
    assert (scores.precision, scores.recall, scores.iou) == pytest.approx((tp / (tp + fp), tp / (tp + fn), tp / (tp + fp + fn)))
    assert scores.class_iou == pytest.approx([a / (a + b + c) for a, b, c in classes[1:]])
    assert scores.miou == pytest.approx(np.mean(scores.class_iou))
    assert (scores.frames, scores.voxels) == (2, (truth != 255).sum())


def test_a_class_seen_nowhere_counts_as_its_rule_says(cases: Path) -> None:
    said = json.loads((cases / "E01_absent_class.json").read_text())
    counts = Counts.zero(len(said["classes"]))
    for prediction, truth in zip(said["prediction"], said["truth"], strict=True):
        counts.update(np.array(prediction).reshape(1, 1, -1), np.array(truth).reshape(1, 1, -1))
    found = torch.stack([counts.tp, counts.fp, counts.fn], 1).tolist()
    assert dict(zip(said["classes"][1:], found[1:], strict=True)) == said["per_class"]
    fixed, seen = counts.compute("semantic-kitti"), counts.compute("seen-only")
    assert fixed.miou == pytest.approx(said["mean_fixed_denominator_3"])
    assert seen.miou == pytest.approx(said["mean_over_seen_classes"])
    assert counts.completion == tuple(said["completion"][name] for name in ("tp", "fp", "fn"))
    assert fixed.iou == seen.iou == pytest.approx(said["completion"]["iou"])
    assert fixed.seen == (True, True, False)
    assert fixed.frames == 2
    rows = dict(seen.rows(said["classes"]))
    assert list(rows) == ["completion precision", "completion recall", "completion IoU", "mIoU (seen-only)", "a", "b", "c"]
    assert (rows["mIoU (seen-only)"], rows["a"], rows["c"]) == (seen.miou, 0.5, 0.0)


def test_nothing_counted_scores_zero_and_not_nan() -> None:
    for rule in ("semantic-kitti", "seen-only"):
        scores = Counts.zero(3).compute(rule)  # type: ignore[arg-type]
        assert (scores.precision, scores.recall, scores.iou, scores.miou, scores.class_iou) == (0, 0, 0, 0, (0, 0))


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 4))
def test_a_split_counts_what_lies_in_its_mask(seed: int, splits: int) -> None:
    prediction, truth = volumes(seed)
    names = tuple(f"split-{i}" for i in range(splits))
    masks = {name: np.random.default_rng(seed + i + 1).random(truth.shape) < 0.5 for i, name in enumerate(names)}
    counts = SplitCounts(K, names)
    counts.update(prediction, truth, dict(reversed(masks.items())))
    assert torch.stack([counts["all"].tp, counts["all"].fp, counts["all"].fn], 1).tolist() == counted(prediction, truth)[0]
    for name, mask in masks.items():
        classes, completion = counted(prediction, np.where(mask, truth, 255))
        assert torch.stack([counts[name].tp, counts[name].fp, counts[name].fn], 1).tolist() == classes
        assert counts[name].completion == completion
        assert counts[name].frames == 2


def test_a_mask_of_the_grid_holds_for_every_frame() -> None:
    prediction, truth = volumes(3)
    near = np.arange(6)[:, None, None] < 3
    counts, halves = SplitCounts(K, ("near",)), Counts.zero(K)
    counts.update(prediction, truth, {"near": near})
    halves.update(prediction[:, :3], truth[:, :3])
    assert torch.equal(counts["near"].confusion, halves.confusion)


def test_sums_of_frames_and_of_processes_are_the_whole() -> None:
    prediction, truth = volumes(4)
    masks = {"hidden": np.random.default_rng(5).random(truth.shape) < 0.5}
    whole, parts = SplitCounts(K, ("hidden",)), []
    whole.update(prediction, truth, masks)
    for b in range(2):
        parts.append(SplitCounts(K, ("hidden",)))
        parts[b].update(prediction[b], truth[b], {"hidden": masks["hidden"][b]})
    summed = SplitCounts.from_tensor(sum(part.as_tensor() for part in parts), ("hidden",))  # type: ignore[arg-type]
    for total in (summed, parts[0] + parts[1]):
        for split in ("all", "hidden"):
            assert torch.equal(total[split].confusion, whole[split].confusion)
            assert total[split].compute() == whole[split].compute()
    state = whole["all"].as_tensor()
    again = Counts.from_tensor(state)
    assert torch.equal(again.as_tensor(), state)
    again.update(prediction, truth)
    assert torch.equal(whole["all"].as_tensor(), state)  # a copy, not a view


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_the_same() -> None:
    prediction, truth = volumes(7)
    mask = np.random.default_rng(8).random(truth.shape) < 0.5
    here, there = SplitCounts(K, ("near",)), SplitCounts(K, ("near",))
    here.update(prediction, truth, {"near": mask})
    there.update(*(torch.from_numpy(v).cuda() for v in (prediction, truth)), {"near": torch.from_numpy(mask)})
    assert torch.equal(here.as_tensor(), there.as_tensor())


def test_volumes_that_cannot_be_scored_are_refused_and_change_nothing() -> None:
    prediction, truth = volumes(6)
    counts = SplitCounts(K, ("hidden",))
    hidden = np.ones(truth.shape, bool)
    wrong_truth, wrong_prediction = truth.copy(), prediction.copy()
    wrong_truth[0, 0, 0, 0], wrong_prediction[truth == 2] = 5, 255
    for args, said in (
        ((prediction, wrong_truth, {"hidden": hidden}), "label 5"),
        ((wrong_prediction, truth, {"hidden": hidden}), "label 255 is predicted"),
        ((prediction[:1], truth, {"hidden": hidden}), "differ in shape"),
        ((prediction.astype(np.float32), truth, {"hidden": hidden}), "predictions are torch.float32"),
        ((prediction, truth, {}), "masks are given for"),
        ((prediction, truth, {"hidden": hidden.astype(np.uint8)}), "not bool"),
        ((prediction, truth, {"hidden": hidden[:, :3]}), "does not fit"),
        ((prediction, truth, {"hidden": hidden[None].repeat(2, 0)}), "does not fit"),
    ):
        with pytest.raises(InputError, match=said):
            counts.update(*args)
    assert counts.as_tensor().sum() == 0


def test_wrong_names_sizes_and_rules_are_refused() -> None:
    with pytest.raises(InputError, match="256 classes"):
        Counts.zero(256)
    with pytest.raises(InputError, match="'all'"):
        SplitCounts(K, ("all",))
    with pytest.raises(InputError, match="up to 8"):
        SplitCounts(K, [str(i) for i in range(9)])
    with pytest.raises(InputError, match="nearest is 'hidden'"):
        SplitCounts(K, ("hidden",))["hiden"]
    with pytest.raises(InputError, match="nearest is 'seen-only'"):
        Counts.zero(K).compute("seen")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="3 and of 4"):
        Counts.zero(3) + Counts.zero(4)
    with pytest.raises(InputError, match="cannot be added"):
        SplitCounts(K, ("near",)) + SplitCounts(K, ("far",))
    with pytest.raises(InputError, match=r"found \(9,\)"):
        Counts.from_tensor(torch.zeros(9, dtype=torch.int64))
    with pytest.raises(InputError, match="state of 1 splits"):
        SplitCounts.from_tensor(torch.zeros(1, 10, dtype=torch.int64), ("near",))
    with pytest.raises(InputError, match="2 class names"):
        Counts.zero(3).compute().rows(["empty", "a"])
