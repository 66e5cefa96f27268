"""Down-sampled labels: both rules against a slow loop over blocks, at and around their thresholds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.geometry import pyramid
from wholescene.geometry.pyramid import pool_labels


def label_of(block: np.ndarray, rule: str) -> int:
    """The rule in words, for one block."""
    counts = Counter(block.ravel().tolist())
    empty, unknown = counts[0], counts[255]
    classes = {label: n for label, n in counts.items() if 0 < label < 255}
    if rule == "share-95" and (empty + unknown) * 100 > 95 * block.size:
        return 0 if empty > unknown else 255
    if rule == "majority" and not classes:
        return 0 if empty else 255
    return min(label for label, n in classes.items() if n == max(classes.values()))


def pooled_slowly(labels: np.ndarray, d: int, rule: str) -> np.ndarray:
    X, Y, Z = (n // d for n in labels.shape)
    blocks = [labels[d * x : d * x + d, d * y : d * y + d, d * z : d * z + d] for x in range(X) for y in range(Y) for z in range(Z)]
    return np.array([label_of(block, rule) for block in blocks], np.uint8).reshape(X, Y, Z)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 4]), st.sampled_from(pyramid.RULES), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_pooling_is_the_rule_of_each_block(seed: int, factor: int, rule: str, occupied: float, unknown: float) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(factor * n for n in random.integers(1, 4, 3))
    labels = np.where(random.random(shape) < occupied, random.choice([1, 2, 3, 254], shape), 0)
    labels = np.where(random.random(shape) < unknown, 255, labels).astype(np.uint8)
    np.testing.assert_array_equal(pool_labels(labels, factor, rule), pooled_slowly(labels, factor, rule))


@pytest.mark.parametrize(("factor", "fewest"), [(2, 1), (4, 4), (8, 26), (16, 205)])
def test_a_block_gets_a_class_from_the_fewest_occupied_voxels_on(factor: int, fewest: int) -> None:
    labels = torch.zeros(factor**3, dtype=torch.uint8)
    labels[:fewest] = 7
    assert pool_labels(labels.view(factor, factor, factor), factor).item() == 7
    labels[0] = 255
    assert pool_labels(labels.view(factor, factor, factor), factor).item() == 0


def test_as_many_empty_as_unknown_voxels_are_unknown_and_ties_go_to_the_smallest_class() -> None:
    tie = torch.tensor([0, 0, 0, 0, 255, 255, 255, 255], dtype=torch.uint8).view(2, 2, 2)
    assert pool_labels(tie, 2, "share-95").item() == 255
    assert pool_labels(tie, 2, "majority").item() == 0
    classes = torch.tensor([9, 4, 9, 4, 255, 255, 0, 0], dtype=torch.uint8).view(2, 2, 2)
    assert pool_labels(classes, 2, "share-95").item() == pool_labels(classes, 2, "majority").item() == 4


def test_leading_axes_are_kept_and_slabs_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(1).choice([0, 1, 2, 255], (2, 3, 6, 4, 2)).astype(np.uint8)
    whole = np.stack([[pooled_slowly(volume, 2, "share-95") for volume in row] for row in labels])
    monkeypatch.setattr(pyramid, "_MOST_COUNTS", 1)  # one row of blocks at a time
    np.testing.assert_array_equal(pool_labels(labels, 2), whole)


def test_frozen_and_wide_arrays_are_pooled_and_give_arrays() -> None:
    labels = np.zeros((2, 2, 2), np.uint16)
    labels[0] = 3
    labels.setflags(write=False)
    pooled = pool_labels(labels, 2)
    assert isinstance(pooled, np.ndarray)
    assert (pooled.dtype, pooled.item()) == (np.uint8, 3)


@pytest.mark.parametrize(
    ("labels", "factor", "said"),
    [
        (torch.zeros(4, 4, 3, dtype=torch.uint8), 2, "blocks of 2"),
        (torch.zeros(4, 4, dtype=torch.uint8), 2, "blocks of 2"),
        (torch.zeros(4, 4, 4, dtype=torch.uint8), 0, "blocks of 0"),
        (torch.zeros(2, 2, 2), 2, "float32"),
        (torch.full((2, 2, 2), 256), 2, "256..256"),
    ],
)
def test_what_cannot_be_pooled_is_refused(labels: torch.Tensor, factor: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pool_labels(labels, factor)


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(InputError, match="nearest is 'majority'"):
        pool_labels(torch.zeros(2, 2, 2, dtype=torch.uint8), 2, "majorty")  # type: ignore[arg-type]
