"""SSCBench-KITTI-360 in its true layout, made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fake_semantic_kitti import street_labels, unknown_voxels
from fake_sscbench import PICTURE, write_fake_sscbench
from wholescene.camera import Camera
from wholescene.data import open_dataset
from wholescene.data.check import check
from wholescene.data.config import DataConfig
from wholescene.data.sscbench_kitti_360 import SSCBenchKITTI360, camera
from wholescene.errors import InputError
from wholescene.grid import semantic_kitti_grid
from wholescene.labels import KITTI_360, UNKNOWN

DRIVE = "2013_05_28_drive_{}_sync"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_sscbench(tmp_path_factory.mktemp("sscbench"), {"0003": 1, "0006": 1, "0009": 2})


def test_frames_are_listed_by_split_and_by_drive(root: Path) -> None:
    assert SSCBenchKITTI360(root, "test").names == [f"{DRIVE.format('0009')}/{n}" for n in ("000000", "000005")]
    assert SSCBenchKITTI360(root / "data_2d_raw", drives=["0006", DRIVE.format("0009")]).names[0] == f"{DRIVE.format('0006')}/000000"
    train = SSCBenchKITTI360(root, "train")
    assert len(train) == 1
    assert "0000, 0002" in train.notes[0]
    assert len(SSCBenchKITTI360(root, "test", exclude=[f"{DRIVE.format('0009')}/000005"])) == 1
    for split, drives, said in (("tests", None, "'test'"), (None, ["0001"], "'0003'"), ("test", ["0009"], "give one of them")):
        with pytest.raises(InputError, match=said):
            SSCBenchKITTI360(root, split, drives)
    with pytest.raises(InputError, match="data_2d_raw"):
        SSCBenchKITTI360(root / "nothing")


def test_an_own_drives_name_may_be_any_and_a_file_is_no_drive(tmp_path: Path) -> None:
    write_fake_sscbench(tmp_path, {"my_street": 1})
    (tmp_path / "data_2d_raw" / DRIVE.format("0006")).mkdir()
    (tmp_path / "data_2d_raw" / DRIVE.format("0006") / "voxels").write_text("not unpacked")
    assert SSCBenchKITTI360(tmp_path, drives=["my_street"]).names == SSCBenchKITTI360(tmp_path).names == [f"{DRIVE.format('my_street')}/000000"]


def test_a_labelled_voxel_is_known_and_an_invalid_empty_one_is_not(root: Path) -> None:
    target = SSCBenchKITTI360(root, "test", scales=(2,))[0].targets
    raw = street_labels(0)
    assert (target[1][raw == 70] == KITTI_360.names.index("vegetation")).all()  # though the mask says invalid
    assert (target[1][unknown_voxels(raw)] == UNKNOWN).all()
    known = ~unknown_voxels(raw) & (raw == 0)
    known[90:96, 94:98] = False
    assert (target[1][known] == 0).all()
    assert target[2].shape == (128, 128, 16)


def test_the_camera_is_the_published_one_and_the_right_one_stands_60_cm_beside_it(root: Path) -> None:
    frame = SSCBenchKITTI360(root, "test", right=True)[0]
    left, right = (frame.views[name].camera for name in ("main", "right"))
    assert left.size == PICTURE
    into = np.linalg.inv(left.T_cam_world)
    assert into[:3, 3] == pytest.approx((0.8043914418, 0.2993489574, -0.1770225824))
    beside = left.T_cam_world[:3, :3] @ (right.position - left.position)
    assert beside == pytest.approx((0.594184, 0, 0), abs=1e-6)
    assert 0.5 < semantic_kitti_grid().coarser(8).share_in_view(left) < 0.9
    half = camera((704, 188))
    assert half.intrinsics[0, 0] == pytest.approx(552.554261 / 2)
    assert isinstance(half, Camera)


def test_the_table_of_datasets_opens_it_with_what_a_system_needs(root: Path) -> None:
    config = DataConfig("sscbench-kitti-360", str(root), train="train", val="val", test="0006,0009")
    assert len(open_dataset(config, "test")) == 3
    frame = open_dataset(config, "val", {"right", "occupancy"})[0]
    assert set(frame.views) == {"main", "right"}
    assert frame.occupancy.sum() > 1000
    assert open_dataset(config, "val").labels is KITTI_360
    with pytest.raises(InputError, match="data_2d_raw"):
        open_dataset(DataConfig("sscbench-kitti-360"), "train")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    root = write_fake_sscbench(tmp_path, {"0009": 1}, right=False)
    folder = root / "data_2d_raw" / DRIVE.format("0009")
    with pytest.raises(InputError, match="early downloads have no right pictures"):
        SSCBenchKITTI360(root, "test", right=True)[0]
    (folder / "voxels" / "000000.invalid").unlink()
    with pytest.raises(InputError, match=r"000000\.invalid is missing"):
        SSCBenchKITTI360(root, "test")[0]


def test_the_check_tells_a_trimmed_split_missing_poses_and_a_shift_in_height(tmp_path: Path, root: Path) -> None:
    report = check(root, "sscbench-kitti-360")
    assert report.ok, report
    said = str(report)
    assert "split test has 2 frames; stated 2,566, later download 2,165" in said
    assert "one voxel" not in said
    shifted = write_fake_sscbench(tmp_path, {"0009": 1}, right=False, poses=False, lift=-1)
    (shifted / "data_2d_raw" / DRIVE.format("0009") / "voxels" / "000010.label").write_bytes(b"")
    said = str(check(shifted, "sscbench-kitti-360"))
    assert "the labels lie one voxel higher than the sweeps" in said
    assert "no pose.txt" in said
    assert "no cam0_to_world.txt" in said
    assert "labels without a .bin" in said
    assert "no image_01/data_rect folder" in said


def test_drives_of_no_split_are_checked_too_and_a_choice_that_would_be_dropped_is_refused(tmp_path: Path) -> None:
    root = write_fake_sscbench(tmp_path, {"my_street": 1, "0042": 0}, right=False)
    folder = root / "data_2d_raw" / DRIVE.format("my_street") / "voxels"
    assert "own: my_street" in str(check(root, "sscbench-kitti-360"))
    (folder / "000000.label").write_bytes(b"cut off")
    report = check(root, "sscbench-kitti-360")
    assert report.unusable == (f"{DRIVE.format('my_street')}/000000",)
    assert "no volume in the voxels folder" in str(report)
    with pytest.raises(InputError, match="leave them out"):
        check(root, "sscbench-kitti-360", sequences=["my_street"])


def test_the_later_download_is_recognised_by_its_count() -> None:
    from wholescene.data.check_sscbench import _judge_count
    from wholescene.data.report import Findings

    findings = Findings()
    _judge_count("test", 2165, True, findings)
    _judge_count("val", 1812, True, findings)
    _judge_count("train", 3, False, findings)
    (finding,) = findings.sorted()
    assert finding.severity == "note"
    assert "2,165 frames, not the 2,566" in finding.text


def test_broken_volumes_are_named_and_make_their_frame_unusable(tmp_path: Path) -> None:
    root = write_fake_sscbench(tmp_path, {"0006": 1}, right=False)
    folder = root / "data_2d_raw" / DRIVE.format("0006") / "voxels"
    (folder / "000000.label").write_bytes(b"cut off")
    report = check(root, "sscbench-kitti-360", most_frames=1)
    assert not report.ok
    assert report.unusable == (f"{DRIVE.format('0006')}/000000",)
