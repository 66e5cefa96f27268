"""Relation targets against their definition, voxel by voxel and child by child."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.geometry.relations import relation_targets


def related(own: int, child: int, relations: int) -> list[bool]:
    if 255 in (own, child):
        return [False] * relations
    if relations == 2:
        return [own != child, own == child]
    occupied = own != 0 and child != 0
    return [occupied and own == child, occupied and own != child, own == child == 0, (own == 0) != (child == 0)]


def related_slowly(labels: np.ndarray, relations: int) -> np.ndarray:
    mega = [n // 2 for n in labels.shape]
    target = np.zeros((relations, labels.size, int(np.prod(mega))), bool)
    for j, corner in enumerate(product(*map(range, mega))):
        for offset in product((0, 1), repeat=3):
            child = labels[tuple(2 * c + o for c, o in zip(corner, offset, strict=True))]
            for i, own in enumerate(labels.ravel()):
                target[:, i, j] |= related(int(own), int(child), relations)
    return target


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.sampled_from([2, 4]),
    st.sampled_from([(0, 1, 2, 3, 255), (0, 255), (1, 254), (255,), (0,)]),
)
def test_a_relation_holds_if_any_child_has_it(seed: int, shape: tuple[int, int, int], relations: int, among: tuple[int, ...]) -> None:
    labels = np.random.default_rng(seed).choice(among, (2, *shape)).astype(np.uint8)
    found = relation_targets(torch.from_numpy(labels), relations).numpy()
    np.testing.assert_array_equal(found, np.stack([related_slowly(volume, relations) for volume in labels]))


def test_an_empty_batch_has_no_relations() -> None:
    assert relation_targets(torch.zeros(0, 4, 4, 2, dtype=torch.uint8)).shape == (0, 4, 32, 4)


@pytest.mark.parametrize(
    ("labels", "relations", "said"),
    [
        (torch.zeros(1, 2, 2, 2, dtype=torch.uint8), 3, "2 or 4 relations"),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), 4, r"not \(B, X, Y, Z\)"),
        (torch.full((1, 2, 2, 2), -1), 4, "coarse labels lie in -1"),
        (torch.zeros(1, 2, 2, 2), 4, "coarse labels are torch.float32"),
    ],
)
def test_what_has_no_relations_is_refused(labels: torch.Tensor, relations: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        relation_targets(labels, relations)
