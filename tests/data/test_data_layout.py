"""Finding the data, whichever level of it is given, and saying where they are when it is none."""

from __future__ import annotations

import pytest

from wholescene.data.layout import PUBLISHED, SPLITS, find_sequences, list_frames, read_poses
from wholescene.errors import InputError


def test_a_root_may_be_any_of_three_levels(volume_trees):
    trees = ("D01_root_without_dataset", "D01b_root_with_dataset/dataset", "D01b_root_with_dataset", "D01b_root_with_dataset/dataset/sequences")
    for tree in trees:
        assert [path.name for path in find_sequences(volume_trees / tree).iterdir()] == ["00"]


@pytest.mark.parametrize("off", ["", "D01b_root_with_dataset/dataset/sequences/00", "D01b_root_with_dataset/dataset/sequences/00/voxels"])
def test_a_root_that_is_off_is_told_the_nearest_one(volume_trees, off):
    with pytest.raises(InputError, match=r"looked for .*dataset.sequences.*nearest folder that holds volumes is") as caught:
        find_sequences(volume_trees / off)
    offered = str(caught.value).split("give ")[1].removesuffix(" as the root")
    assert find_sequences(offered)


def test_sequences_without_volumes_are_told_the_archive(tmp_path):
    (tmp_path / "dataset" / "sequences" / "00" / "image_2").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no sequence in it has a voxels folder; it comes with .*data_odometry_voxels\.zip"):
        find_sequences(tmp_path)


def test_published_frames_are_every_fifth_of_the_poses():
    frames = {split: sum(PUBLISHED[s].frames for s in names) for split, names in SPLITS.items()}
    assert frames == {"train": 3834, "val": 815, "test": 4079}  # the published 3,992 of test are fewer: the .bin files decide
    assert [n for n, p in PUBLISHED.items() if p.picture_size == (1226, 370)] == [f"{i:02d}" for i in range(4, 13)]


def test_frames_are_the_bin_files_on_the_stride(tmp_path):
    folder = tmp_path / "07"
    (folder / "voxels").mkdir(parents=True)
    for name in ("000000.bin", "000001.bin", "000005.bin", "000010.label", "notes.bin", "000015.invalid"):
        (folder / "voxels" / name).touch()
    assert list_frames(folder).frames == ("000000", "000005")
    assert list_frames(folder).skipped == 1
    assert list_frames(folder, stride=1).frames == ("000000", "000001", "000005")
    own = folder.rename(tmp_path / "my-drive")
    assert list_frames(own).frames == ("000000", "000001", "000005")
    assert list_frames(own, stride=5).frames == ("000000", "000005")
    for path in own.glob("voxels/*.bin"):
        path.unlink()
    assert list_frames(own).frames == ("000010",)
    assert list_frames(own).from_labels
    with pytest.raises(InputError, match="stride 0"):
        list_frames(own, stride=0)


def test_poses_name_the_line_that_is_broken(tmp_path):
    good = " ".join(["1", "0", "0", "7", "0", "1", "0", "8", "0", "0", "1", "9"])
    (tmp_path / "poses.txt").write_text(f"{good}\n\n{good}\n")
    poses = read_poses(tmp_path / "poses.txt")
    assert poses.shape == (2, 4, 4)
    assert poses[1, :3, 3].tolist() == [7, 8, 9]
    assert poses[1, 3].tolist() == [0, 0, 0, 1]
    (tmp_path / "poses.txt").write_text(f"{good}\n{good} 3\n")
    with pytest.raises(InputError, match="line 2: expected twelve"):
        read_poses(tmp_path / "poses.txt")
