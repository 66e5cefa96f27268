"""Bits, bytes and words: what the binary files are taken for, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.data.volumes import (
    SHAPE,
    VOXELS,
    pack_mask,
    read_mask,
    read_raw_labels,
    read_sweep,
    read_sweep_labels,
    unpack_mask,
    unshift,
)
from wholescene.errors import InputError


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 31)), max_size=20))
def test_every_voxel_has_one_bit_at_its_place(voxels):
    mask = np.zeros(SHAPE, bool)
    expected = bytearray(VOXELS // 8)
    for x, y, z in voxels:
        mask[x, y, z] = True
        place = x * 8192 + y * 32 + z
        expected[place // 8] |= 128 >> (place % 8)  # the first of eight voxels in the most significant bit
    assert pack_mask(mask) == bytes(expected)
    assert np.array_equal(unpack_mask(bytes(expected)), mask)


def test_a_mask_of_one_byte_a_voxel_is_the_packed_one(volume_trees):
    frame = "dataset/sequences/00/voxels/000000.invalid"
    packed = read_mask(volume_trees / "D01b_root_with_dataset" / frame)
    assert packed[0, 0, 7]
    assert not packed[0, 0, 1]
    assert np.array_equal(read_mask(volume_trees / "D04_unpacked_invalid" / frame), packed)


def test_labels_under_a_masks_name_are_refused_by_size(volume_trees):
    with pytest.raises(InputError, match=r"000000\.invalid: 4,194,304 bytes, expected 262,144 .*or 2,097,152 .*size of uint16 labels"):
        read_mask(volume_trees / "D05_label_as_bits/dataset/sequences/00/voxels/000000.invalid")


def test_point_labels_in_place_of_voxel_labels_are_refused_by_size(volume_trees):
    with pytest.raises(InputError, match=r"509,620 bytes, expected 4,194,304 .*divisible by 4: looks like point labels \(127,405 points\)"):
        read_raw_labels(volume_trees / "D06_point_labels/dataset/sequences/00/voxels/000000.label")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 4194304\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"\x93NUMPY\x01\x00" + bytes(VOXELS * 4), "NumPy file"),
        (bytes(VOXELS), "one byte a voxel"),
        (bytes(7), "cut off"),
    ],
)
def test_other_files_under_a_labels_name_are_recognised(tmp_path, content, said):
    (tmp_path / "000000.label").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_raw_labels(tmp_path / "000000.label")


def test_a_mask_of_bytes_other_than_0_and_1_is_refused(tmp_path):
    values = np.zeros(VOXELS, np.uint8)
    values[5] = 40
    values.tofile(tmp_path / "000000.invalid")
    with pytest.raises(InputError, match="values up to 40"):
        read_mask(tmp_path / "000000.invalid")


def test_labels_are_little_endian_words_in_x_y_z_order(tmp_path):
    content = bytearray(VOXELS * 2)
    place = 3 * 8192 + 4 * 32 + 5
    content[2 * place : 2 * place + 2] = bytes([0xFC, 0x00])  # 252, a moving car
    content[-2:] = bytes([0x02, 0x01])  # 258
    (tmp_path / "000000.label").write_bytes(content)
    labels = read_raw_labels(tmp_path / "000000.label")
    assert (labels[3, 4, 5], labels[255, 255, 31], np.count_nonzero(labels)) == (252, 258, 2)


def test_un_shifting_moves_one_voxel_down_and_columns_back():
    volume = np.arange(1, 17).reshape(2, 2, 4)
    assert unshift(volume).ravel().tolist() == [*range(2, 17), 0]
    assert volume[0, 0, 0] == 1  # the input is left alone


def test_released_v1_0_masks_un_shifted_are_the_v1_1_files(semantic_kitti_mini):
    released = semantic_kitti_mini.parent / "released_v1.0" / "sequences" / "08" / "voxels"
    names = [f"{frame}.{suffix}" for frame in ("000000", "000005") for suffix in ("bin", "occluded")]
    for name in names:
        now = semantic_kitti_mini / "sequences" / "08" / "voxels" / name
        assert np.array_equal(read_mask(released / name, revision="v1.0"), read_mask(now)), name
        assert not np.array_equal(read_mask(released / name), read_mask(now)), name


def test_sweeps_and_their_labels_must_fit(tmp_path):
    np.arange(8, dtype="<f4").tofile(tmp_path / "s.bin")
    np.array([0x0001000A, 0x00020028], "<u4").tofile(tmp_path / "s.label")  # instances 1 and 2 of a car and of road
    assert read_sweep(tmp_path / "s.bin").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert read_sweep_labels(tmp_path / "s.label", 2).tolist() == [10, 40]
    with pytest.raises(InputError, match="8 bytes, expected 12"):
        read_sweep_labels(tmp_path / "s.label", 3)
    np.array([1, 2, np.nan, 0], "<f4").tofile(tmp_path / "s.bin")
    with pytest.raises(InputError, match="not finite"):
        read_sweep(tmp_path / "s.bin")
    (tmp_path / "s.bin").write_bytes(bytes(17))
    with pytest.raises(InputError, match="no whole number of points"):
        read_sweep(tmp_path / "s.bin")
