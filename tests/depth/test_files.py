"""Depth files: what their numbers mean is said, never guessed, and nothing infinite comes out."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from wholescene.depth.files import UNITS, DepthUnit, depth_unit, read_depth, to_metres, unit_doubts
from wholescene.errors import InputError


@pytest.mark.parametrize(("unit", "metres"), [("256", 5.0), ("kitti", 5.0), (256, 5.0), ("1000", 1.28), ("mm", 1.28), ("tum", 0.256), ("m", 1280.0)])
def test_sixteen_bits_mean_what_the_unit_says(cases: Path, unit: str | float, metres: float) -> None:
    depth, valid = read_depth(cases / "B11_depth_5m_times_256.png", unit)
    assert depth.dtype == np.float32
    assert depth.shape == valid.shape == (48, 64)
    assert valid.all()
    assert np.allclose(depth, metres)


def test_sixteen_bits_without_a_unit_are_refused_with_the_choices(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"B11_depth.*up to 1,280.*says no unit.*--depth-unit.*1000.*256.*5000"):
        read_depth(cases / "B11_depth_5m_times_256.png")
    np.save(tmp_path / "whole.npy", np.ones((2, 2), np.uint16))
    with pytest.raises(InputError, match="says no unit"):
        read_depth(tmp_path / "whole.npy")


def test_disparity_is_masked_where_it_has_no_depth(cases: Path) -> None:
    depth, valid = read_depth(cases / "B12_disparity.npy", focal_baseline=388.1823)
    assert valid.tolist() == [[False, True, True, True, False, False]]
    assert np.allclose(depth, [[0, 38818.23, 776.3646, 10.0, 0, 0]], rtol=1e-5)
    near, valid = read_depth(cases / "B12_disparity.npy", "disparity:388.1823", most_metres=80)
    assert valid.tolist() == [[False, False, False, True, False, False]]
    assert near[0, 3] == pytest.approx(10.0, abs=1e-4)
    assert not near[0, :3].any()


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(floats, min_size=1, max_size=8), st.sampled_from([DepthUnit(), DepthUnit(1000), DepthUnit(focal_baseline=388.0)]))
@example([1e-40, float("inf"), float("-inf"), float("nan"), 0.0, -0.0], DepthUnit(focal_baseline=388.0))
@example([1e-40, float("inf"), float("-inf"), float("nan"), 0.0, -0.0], DepthUnit(1e9))
def test_whatever_the_numbers_what_is_valid_is_finite_and_positive(values: list[float], unit: DepthUnit) -> None:
    depth, valid = to_metres(np.array(values, np.float32), unit)
    assert np.isfinite(depth).all()
    assert ((depth > 0) == valid).all()
    for value, metres, fine in zip(values, depth, valid, strict=True):
        if fine:
            expected = value / unit.per_metre if unit.focal_baseline is None else unit.focal_baseline / value
            assert metres == pytest.approx(expected, rel=1e-5)
        elif np.isfinite(value) and 1e-3 < value < 1e6:
            pytest.fail(f"{value} has a depth")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8191))
def test_rotated_bits_hold_millimetres(millimetres: int) -> None:
    stored = np.array([((millimetres << 3) | (millimetres >> 13)) & 0xFFFF], np.uint16)
    assert to_metres(stored, depth_unit("sscnet"))[0][0] == pytest.approx(millimetres / 1000)


def test_float_arrays_are_metres_in_any_layout_of_one_channel(tmp_path: Path) -> None:
    metres = np.array([[1.5, 0.0], [np.nan, 3.25]], np.float64)
    for name, stored in {"a": metres, "b": metres[None], "c": metres[..., None], "d": np.asfortranarray(metres)}.items():
        np.save(tmp_path / f"{name}.npy", stored)
        depth, valid = read_depth(tmp_path / f"{name}.npy")
        assert np.array_equal(depth, np.array([[1.5, 0], [0, 3.25]], np.float32))
        assert valid.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("unit", ["cm?", "", "disparity", "disparity:0", "-3", "nan", 0, "1e999"])
def test_units_that_mean_nothing_are_refused(unit: str | float) -> None:
    with pytest.raises(InputError, match="depth unit"):
        depth_unit(unit)


def test_two_statements_of_the_unit_are_refused(cases: Path) -> None:
    with pytest.raises(InputError, match="both a unit"):
        read_depth(cases / "B12_disparity.npy", "m", focal_baseline=388.0)


def npy(array: np.ndarray, **more: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **more)
    return stream.getvalue()


def headed(header: str) -> bytes:
    """A file whose header is that text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


LYING = npy(np.zeros((4, 4), np.float32)).replace(b"(4, 4), }  ", b"(40000, 40000), }")[: 128 + 64]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npy", b"hello", "not a NumPy array"),
        ("a.npy", npy(np.array([{}, []], dtype=object), allow_pickle=True), "not a NumPy array"),
        ("a.npy", LYING, "not a NumPy array"),
        ("a.npy", b"PK\x03\x04 cut off", "not a NumPy array"),
        ("a.npy", headed("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2,"), "not a NumPy array"),
        ("a.npy", headed("{'descr': ('<f4',), 'fortran_order': False, 'shape': (2, 2)}"), "not a NumPy array"),
        ("a.npy", headed("-" * 3000 + "1"), "not a NumPy array"),
        ("a.npy", npy(np.zeros((3, 4, 5))), r"shape \(3, 4, 5\)"),
        ("a.npy", npy(np.zeros(4)), r"shape \(4,\)"),
        ("a.npy", npy(np.array([["x"]])), "<U1"),
        ("a.png", b"hello", "not a depth map"),
        ("a.png", b"", "not a depth map"),
    ],
)
def test_files_that_are_no_depth_map_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*{said}"):
        read_depth(tmp_path / name, "m")
    with pytest.raises(InputError, match=r"gone\."):
        read_depth(tmp_path / name.replace("a.", "gone."), "m")


def test_a_file_of_another_kind_is_named_without_an_address_in_memory(tmp_path: Path) -> None:
    (tmp_path / "depth.png").write_text("no picture")
    with pytest.raises(InputError, match="no PNG or TIFF") as caught:
        read_depth(tmp_path / "depth.png", "mm")
    assert "0x" not in str(caught.value)


def test_a_drawing_of_depth_and_half_a_file_are_refused(tmp_path: Path, cases: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "drawn.png")
    with pytest.raises(InputError, match="drawing of depth"):
        read_depth(tmp_path / "drawn.png", "mm")
    content = (cases / "B11_depth_5m_times_256.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"half\.png"):
        read_depth(tmp_path / "half.png", "mm")


@pytest.mark.parametrize(
    ("values", "right", "read"), [(2100, "mm", "m"), (9800, "tum", "m"), (2560, "kitti", "m"), (60000, "tum", "kitti"), (4, "m", "mm")]
)
def test_a_depth_that_is_too_near_or_far_names_the_unit_that_was_meant(values: int, right: str, read: str) -> None:
    metres = np.full((4, 6), values / UNITS[read].per_metre, np.float32)
    metres[0] = 0
    (said,) = unit_doubts(metres, UNITS[read])
    assert f"as {right} {values / UNITS[right].per_metre:.2f} m" in said
    assert f"as {read} " not in said


def test_a_depth_of_a_scene_is_not_doubted() -> None:
    assert unit_doubts(np.array([[0, 0, 5.0, 150.0, 900.0]], np.float32)) == ()
    assert unit_doubts(np.zeros((2, 2), np.float32)) == ()
    assert unit_doubts(np.full((2, 2), 0.4, np.float32)) == ()
    assert "baseline" in unit_doubts(np.full((2, 2), 800, np.float32), DepthUnit(focal_baseline=388.0))[0]


def test_the_largest_number_of_sixteen_bits_is_no_depth(tmp_path: Path) -> None:
    Image.fromarray(np.array([[65535, 1300, 0]], np.uint16)).save(tmp_path / "d.png")
    metres, valid = read_depth(tmp_path / "d.png", "mm")
    assert valid.tolist() == [[False, True, False]]
    assert np.allclose(metres, [[0, 1.3, 0]])
    np.save(tmp_path / "d.npy", np.array([[65535.0]]))
    assert read_depth(tmp_path / "d.npy", "mm")[1].all()
