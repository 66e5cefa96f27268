"""Telling the first release (one voxel too high) from the second."""

from __future__ import annotations

import numpy as np
import pytest

from fake_semantic_kitti import street_labels, surface_points, unknown_voxels
from wholescene.data.layout import list_frames
from wholescene.data.revision import by_ground, by_sweep, by_wrap, revision_of
from wholescene.data.volumes import SHAPE, pack_mask, unshift
from wholescene.grid import semantic_kitti_grid


def shift(volume):
    """What v1.0 did: everything one place later in the flat order, the last value lost."""
    flat = np.empty_like(volume).ravel()
    flat[0], flat[1:] = 0, volume.ravel()[:-1]
    return flat.reshape(volume.shape)


def sweep_and_hits():
    points, _ = surface_points(street_labels(0))
    hits = np.zeros(SHAPE, bool)
    index, _ = semantic_kitti_grid().index_of(points[:, :3])
    hits[tuple(index.T)] = True
    return points, hits


def test_each_clue_tells_the_revision():
    unknown = unknown_voxels(street_labels(0))
    points, hits = sweep_and_hits()
    assert (by_wrap(unknown).revision, by_wrap(shift(unknown)).revision) == ("v1.1", "v1.0")
    assert (by_ground(hits).revision, by_ground(shift(hits)).revision) == ("v1.1", "v1.0")
    grid = semantic_kitti_grid()
    assert (by_sweep(hits, points, grid).revision, by_sweep(shift(hits), points, grid).revision) == ("v1.1", "v1.0")
    assert np.array_equal(unshift(shift(unknown)), unknown)


@pytest.mark.parametrize("mask", ["nothing", "everything", "every seventh", "only what rays crossed"])
def test_masks_of_own_making_are_not_called_v1_0(mask):
    unknown = np.zeros(SHAPE, bool)
    if mask == "everything":
        unknown[:] = True
    elif mask == "every seventh":
        unknown.ravel()[::7] = True
    elif mask == "only what rays crossed":  # below the ground and in the sky nothing is known
        unknown[:, :, 0] = unknown[:, :, 12:] = True
    assert by_wrap(unknown).revision != "v1.0"


def test_a_sweep_of_another_frame_tells_nothing():
    points, hits = sweep_and_hits()
    assert by_sweep(hits, points + np.float32([3, 3, 1, 0]), semantic_kitti_grid()).revision is None


def test_test_sequences_are_told_by_their_sweep(own_copy):
    folder = own_copy / "dataset/sequences/11"
    _, hits = sweep_and_hits()
    (folder / "voxels/000000.bin").write_bytes(pack_mask(shift(hits)))
    evidence = revision_of(list_frames(folder), "000000")
    assert (evidence.revision, evidence.strong) == ("v1.0", True)
    (folder / "velodyne/000000.bin").unlink()
    evidence = revision_of(list_frames(folder), "000000")
    assert (evidence.revision, evidence.strong) == ("v1.0", False)


@pytest.mark.parametrize(("part", "expected"), [("dataset", "v1.1"), ("released_v1.0", "v1.0")])
def test_real_files_of_both_releases_are_told_apart(semantic_kitti_mini, part, expected):
    listing = list_frames(semantic_kitti_mini.parent / part / "sequences" / "08")
    assert [revision_of(listing, frame).revision for frame in listing.frames] == [expected] * 2
