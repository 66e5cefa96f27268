"""Frames of SemanticKITTI, from a fake in the true layout, from the cases and from real frames."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fake_semantic_kitti import TR, street_labels, unknown_voxels
from wholescene.data.semantic_kitti import SemanticKITTI
from wholescene.data.volumes import pack_mask, read_mask
from wholescene.errors import InputError
from wholescene.labels import SEMANTIC_KITTI, UNKNOWN


def test_splits_are_sequences_by_name_and_say_what_is_lacking(fake_kitti):
    train = SemanticKITTI(fake_kitti, "train")
    assert train.names == ["00/000000", "00/000005"]
    assert "01, 02, 03" in train.notes[0]
    assert SemanticKITTI(fake_kitti / "dataset", "val").names == ["08/000000"]
    assert SemanticKITTI(fake_kitti / "dataset" / "sequences", sequences=("11", "08")).names == ["11/000000", "08/000000"]
    assert len(SemanticKITTI(fake_kitti)) == 4
    with pytest.raises(InputError, match=r"unknown sequence .*'09'.*known: 00, 08, 11"):
        SemanticKITTI(fake_kitti, sequences=("09",))
    with pytest.raises(InputError, match="unknown split 'vall'; the nearest is 'val'"):
        SemanticKITTI(fake_kitti, "vall")


def test_targets_are_the_classes_with_unknown_where_the_mask_says(fake_kitti):
    frame = SemanticKITTI(fake_kitti, sequences=("00",), occupancy=True)[1]
    raw = street_labels(5)
    labels = frame.targets[1]
    assert frame.name == "00/000005"
    assert np.array_equal(labels == UNKNOWN, unknown_voxels(raw))
    for raw_id, name in ((40, "road"), (48, "sidewalk"), (50, "building"), (10, "car"), (70, "vegetation"), (80, "pole")):
        assert np.array_equal(labels == SEMANTIC_KITTI.names.index(name), raw == raw_id), name
    assert frame.occupancy is not None
    assert frame.occupancy.any()
    assert not (frame.occupancy & (raw == 0)).any()


def test_the_camera_is_p2_with_its_fourth_column_in_the_lidar_frame(fake_kitti):
    frame = SemanticKITTI(fake_kitti, sequences=("08",), right=True)[0]
    camera = frame.main.camera
    assert (camera.width, camera.height) == frame.main.picture.shape[1::-1] == (1226, 370)
    assert camera.world == "lidar"
    point = np.array([20.0, 1.0, -1.0])
    u, v, depth = np.array([[707.0912, 0, 601.8873, 46.88783], [0, 707.0912, 183.1104, 0], [0, 0, 1, 0]]) @ [*(TR @ [*point, 1]), 1]
    assert np.allclose(camera.project(point)[0], [u / depth, v / depth])
    right = frame.views["right"].camera.project(point)[0]
    assert np.isclose(u / depth - right[0], (46.88783 + 333.4597) / depth)  # the disparity of the stereo pair


def test_labelled_voxels_project_onto_their_own_colour(fake_kitti):
    """The fake picture is drawn by a projection of its own: camera, grid and axis order must agree with it."""
    frame = SemanticKITTI(fake_kitti, sequences=("00",))[0]
    centres = frame.grid.centres()
    pixels, depth = frame.main.camera.project(centres[70, 115:118, 5:7])
    assert (depth > 0).all()
    for u, v in np.rint(pixels.reshape(-1, 2)).astype(int):
        assert frame.main.picture[v, u].tolist() == [70, 90, 200]  # the car, right of the middle


def test_down_sampled_targets_come_along_on_request(fake_kitti):
    frame = SemanticKITTI(fake_kitti, sequences=("00",), scales=(1, 8))[0]
    assert sorted(frame.targets) == [1, 8]
    assert frame.targets[8].shape == (32, 32, 4)
    assert frame.targets[8][9, 13, 0] == SEMANTIC_KITTI.names.index("road")  # 64 of 512 voxels are road: above five per cent
    with pytest.raises(InputError, match="7 times coarser"):
        SemanticKITTI(fake_kitti, scales=(7,))


def test_sequences_without_truth_give_frames_without_targets(fake_kitti):
    frame = SemanticKITTI(fake_kitti, "test", points=True)[0]
    assert frame.targets == {}
    assert frame.point_labels is None
    assert frame.points is not None
    assert frame.points.shape[1] == 4


def test_points_come_with_classes_and_unlabelled_ones_are_unknown(own_copy):
    path = own_copy / "dataset/sequences/08/labels/000000.label"
    raw = np.fromfile(path, "<u4")
    raw[0] = 0
    raw.tofile(path)
    frame = SemanticKITTI(own_copy, "val", points=True)[0]
    assert frame.points is not None
    assert frame.point_labels is not None
    assert frame.point_labels[0] == UNKNOWN
    index, inside = frame.grid.index_of(frame.points[1:, :3])
    assert inside.all()
    assert np.array_equal(frame.targets[1][tuple(index.T)], frame.point_labels[1:])


def test_the_sweep_gives_a_depth_target_where_its_points_are_seen(fake_kitti):
    frame = SemanticKITTI(fake_kitti, "test", points=True, depth_target=True)[0]
    assert frame.points is not None
    assert frame.depth_target is not None
    assert frame.depth_target.shape == frame.main.picture.shape[:2]
    pixels, metres = frame.main.camera.project(frame.points[:, :3])
    seen = frame.main.camera.sees(frame.points[:, :3]) & (pixels >= 0).all(-1) & (pixels <= np.array(frame.main.camera.size) - 1).all(-1)
    u, v = np.rint(pixels[seen]).astype(int).T
    assert (frame.depth_target[v, u] <= metres[seen] + 1e-4).all()
    assert np.isin(np.round(frame.depth_target[frame.depth_target > 0], 3), np.round(metres[seen].astype(np.float32), 3)).all()
    assert SemanticKITTI(fake_kitti, "test")[0].depth_target is None


def test_poses_place_frames_in_the_first_frames_lidar_system(fake_kitti):
    dataset = SemanticKITTI(fake_kitti, sequences=("00",))
    assert np.allclose(dataset.pose(0), np.eye(4))
    assert np.allclose(dataset.pose(1)[:3, 3], [5, 0, 0])  # five metres along the camera's z are five along the LiDAR's x


def test_the_other_folder_levels_and_mask_kinds_give_the_same_frame(volume_trees, add_cameras):
    plain = SemanticKITTI(add_cameras(volume_trees / "D01_root_without_dataset"))
    bytewise = SemanticKITTI(add_cameras(volume_trees / "D04_unpacked_invalid"))
    assert np.array_equal(plain[0].targets[1], bytewise[0].targets[1])
    assert "one byte a voxel" in bytewise.notes[0]
    assert plain.notes == []


def test_broken_volumes_are_refused_and_unknown_ones_are_not(volume_trees, add_cameras):
    with pytest.raises(InputError, match=r"000000\.invalid: 4,194,304 bytes"):
        SemanticKITTI(add_cameras(volume_trees / "D05_label_as_bits"))
    with pytest.raises(InputError, match="looks like point labels"):
        SemanticKITTI(add_cameras(volume_trees / "D06_point_labels"))[0]
    assert (SemanticKITTI(add_cameras(volume_trees / "D09_all_unknown"))[0].targets[1] == UNKNOWN).all()


def test_an_id_in_no_table_is_named_and_becomes_unknown(volume_trees, add_cameras):
    root = add_cameras(volume_trees / "D08_unlisted_id")
    dataset = SemanticKITTI(root)
    with pytest.warns(UserWarning, match=r"000000\.label: raw id 192 at voxel \(0, 0, 0\) is not in the table"):
        labels = dataset[0].targets[1]
    assert labels[0, 0, 0] == UNKNOWN
    assert set(np.unique(labels)) == {0, 1, 9, UNKNOWN}
    with pytest.raises(InputError, match=r"raw id 192 at voxel \(0, 0, 0\)"):
        SemanticKITTI(root, unlisted="refuse")[0]


def test_missing_files_are_named_with_their_archive(own_copy):
    sequence = own_copy / "dataset/sequences/00"
    dataset = SemanticKITTI(own_copy, sequences=("00",))
    (sequence / "voxels/000005.invalid").unlink()
    with pytest.raises(InputError, match=r"000005\.invalid is missing; it comes with SemanticKITTI, voxel data"):
        dataset[1]
    (sequence / "image_2/000000.png").unlink()
    with pytest.raises(InputError, match=r"image_2.000000\.png \(or \.jpg\) is missing; it comes with KITTI odometry, colour images"):
        dataset[0]
    text = (sequence / "calib.txt").read_text()
    (sequence / "calib.txt").write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("Tr")))
    with pytest.raises(InputError, match=r"has no row Tr .*data_odometry_calib\.zip"):
        SemanticKITTI(own_copy, sequences=("00",))[1]


def test_label_only_recordings_with_jpg_pictures_are_read_with_a_note(own_copy):
    from PIL import Image

    sequence = own_copy / "dataset/sequences/00"
    for path in sequence.glob("voxels/*.bin"):
        path.unlink()
    for path in sequence.glob("image_2/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    dataset = SemanticKITTI(own_copy, sequences=("00",))
    assert "its .label files are taken as the list of frames" in dataset.notes[0]
    assert dataset[1].main.picture.shape == (376, 1241, 3)


def test_excluded_frames_and_other_strides(own_copy):
    assert SemanticKITTI(own_copy, sequences=("00",), exclude=("00/000000",)).names == ["00/000005"]
    for path in list((own_copy / "dataset/sequences/08/voxels").iterdir()):
        path.rename(path.with_name("000003" + path.suffix))
    with pytest.raises(InputError, match=r"no frames in sequences 08.*stride=1"):
        SemanticKITTI(own_copy, sequences=("08",))
    assert SemanticKITTI(own_copy, sequences=("08",), stride=1).names == ["08/000003"]


def test_first_release_volumes_are_refused_unless_named_and_then_un_shifted(own_copy):
    now = SemanticKITTI(own_copy, "val", occupancy=True)[0]
    voxels = own_copy / "dataset/sequences/08/voxels"
    for suffix in ("bin", "invalid"):
        flat = read_mask(voxels / f"000000.{suffix}").ravel()
        (voxels / f"000000.{suffix}").write_bytes(pack_mask(np.concatenate([[False], flat[:-1]]).reshape(256, 256, 32)))
    raw = np.fromfile(voxels / "000000.label", "<u2")
    np.concatenate([[0], raw[:-1]]).astype("<u2").tofile(voxels / "000000.label")
    with pytest.raises(InputError, match=r"sequence 08 .*are of revision v1\.0, expected v1\.1: .*give revision='v1\.0'"):
        SemanticKITTI(own_copy, "val")
    then = SemanticKITTI(own_copy, "val", occupancy=True, revision="v1.0")[0]
    assert np.array_equal(then.targets[1], now.targets[1])
    assert np.array_equal(then.occupancy, now.occupancy)
    with pytest.raises(InputError, match=r"of revision v1\.1, expected v1\.0"):
        SemanticKITTI(own_copy, sequences=("00",), revision="v1.0")


def test_real_frames_project_and_count_as_measured(semantic_kitti_mini):
    dataset = SemanticKITTI(semantic_kitti_mini.parent, "val", occupancy=True, points=True)
    assert dataset.names == ["08/000000", "08/000005"]
    first = dataset[0]
    assert first.occupancy is not None
    assert int(first.occupancy.sum()) == 12866
    assert np.allclose(first.main.camera.offset, [46.88783, 0.1178601, 0.006203223])
    share = first.main.camera.sees(first.grid.coarser(4).centres()).mean()
    assert 0.67 < share < 0.70
    labels = first.targets[1]
    # known voxels of the sample are 66.8 %; the three ids that the benchmark disregards take a few labelled ones away
    assert 0.66 < (labels != UNKNOWN).mean() < 0.668
    assert first.points is not None
    assert first.point_labels is not None
    index, inside = first.grid.index_of(first.points[:, :3])
    at_points, classes = labels[tuple(index[inside].T)], first.point_labels[inside]
    known = (at_points != UNKNOWN) & (classes != UNKNOWN)
    assert (at_points[known] == classes[known]).mean() > 0.95


def test_real_v1_0_masks_are_refused(semantic_kitti_mini, tmp_path):
    shutil.copytree(semantic_kitti_mini.parent / "released_v1.0" / "sequences", tmp_path / "sequences")
    with pytest.raises(InputError, match=r"of revision v1\.0"):
        SemanticKITTI(tmp_path)
