"""Trees that the tests of datasets read: a fake SemanticKITTI and the folder trees of the cases."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fake_semantic_kitti import write_fake_semantic_kitti
from wholescene.camera import Camera
from wholescene.grid import VoxelGrid
from wholescene.structures import Frame, View


@pytest.fixture(scope="session")
def fake_kitti(tmp_path_factory) -> Path:
    """A fake SemanticKITTI: two frames of 00, one of 08, one of 11 (without truth). Only to be read; see `own_copy`."""
    return write_fake_semantic_kitti(tmp_path_factory.mktemp("kitti"), {"00": 2, "08": 1, "11": 1}).parent


@pytest.fixture
def own_copy(fake_kitti, tmp_path) -> Path:
    """A copy of the fake SemanticKITTI that a test may spoil."""
    return Path(shutil.copytree(fake_kitti, tmp_path / "kitti"))


@pytest.fixture(scope="session")
def volume_trees(tmp_path_factory) -> Path:
    """The trees D01, D01b, D04, D05, D06, D08 and D09 of the cases; they hold volumes only."""
    root = tmp_path_factory.mktemp("trees")
    script = Path(__file__).resolve().parents[1] / "cases" / "D01_make_volumes.py"
    arguments, sys.argv = sys.argv, [str(script), str(root)]
    try:
        runpy.run_path(str(script))
    finally:
        sys.argv = arguments
    return root


@pytest.fixture
def add_cameras(tmp_path):
    """Copies a tree and gives its sequences what they lack to be read: calibration and pictures."""

    def add(tree: Path) -> Path:
        root = Path(shutil.copytree(tree, tmp_path / tree.name))
        donor = write_fake_semantic_kitti(tmp_path / "donor" / tree.name, {"00": 1}, pictures=False) / "sequences" / "00"
        for voxels in root.rglob("voxels"):
            shutil.copy(donor / "calib.txt", voxels.parent)
            shutil.copytree(donor / "image_2", voxels.parent / "image_2")
        return root

    return add


@pytest.fixture
def stereo_frame() -> Frame:
    """A frame of two small noisy views with a depth map."""
    rng = np.random.default_rng(0)
    camera = Camera.from_intrinsics(20.0, 20.0, 11.0, 5.0, (24, 10)).posed(np.eye(4))
    views = {name: View(rng.integers(0, 256, (10, 24, 3), dtype=np.uint8), camera) for name in ("main", "right")}
    grid = VoxelGrid((2, 3, 4), (1.0, 1.0, 1.0))
    targets = {1: rng.integers(0, 5, grid.shape, dtype=np.uint8)}
    return Frame("f", views, grid, depth=rng.random((10, 24), dtype=np.float32), depth_target=rng.random((10, 24), dtype=np.float32), targets=targets)
