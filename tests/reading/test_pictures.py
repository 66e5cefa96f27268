"""Pictures that people have: turned, 16-bit, transparent, cut short, hostile; and the lens facts inside them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageFile

from wholescene.data.folder import list_pictures
from wholescene.errors import InputError
from wholescene.reading.cameras import camera_of
from wholescene.reading.exif import ExifFacts, focal_pixels
from wholescene.reading.pictures import BACKGROUND, read_picture

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, tags: dict[int, object] | None = None, **more: object) -> Path:
    exif = Image.Exif()
    tags = dict(tags or {})
    exif[ExifTags.Base.Orientation] = tags.pop(ExifTags.Base.Orientation, 1)
    if tags:
        exif[ExifTags.IFD.Exif] = tags
    image.save(path, exif=exif, **more)
    return path


# EXIF 2.32, section 4.6.4: how a picture is stored that is to be seen as PICTURE.
STORED = {
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.transpose(1, 0, 2),
    6: np.rot90(PICTURE),
    7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PICTURE, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    read = read_picture(saved(tmp_path / "a.png", stored, {ExifTags.Base.Orientation: orientation}))
    assert np.array_equal(read.array, PICTURE)
    assert (read.width, read.height, read.name) == (9, 6, "a")
    assert read.exif.stored == stored.size


def test_a_phone_picture_stands_upright_with_its_focal_length(cases: Path) -> None:
    read = read_picture(cases / "B01_orientation6.jpg")
    assert read.array.shape == (640, 480, 3)
    top_right, bottom_left = read.array[10:60, 430:470].reshape(-1, 3), read.array[580:630, 10:50].reshape(-1, 3)
    assert np.abs(top_right - np.array([255.0, 0, 0])).max() < 12
    assert np.abs(bottom_left - np.array([0.0, 255, 0])).max() < 12
    camera = camera_of(read)
    assert camera.size == (480, 640)
    assert camera.K[0, 0] == camera.K[1, 1] == pytest.approx(462.2, abs=0.05)
    assert camera.guesses == ()


def test_zero_and_undefined_focal_tags_are_ignored_and_the_guess_is_called_one(cases: Path) -> None:
    read = read_picture(cases / "B02_focal_zero.jpg")
    assert len(read.notes) == 3
    assert all("ignored" in note for note in read.notes)
    camera = camera_of(read)
    assert camera.guesses == ("field of view 65 degrees",)
    assert camera.K[0, 0] == pytest.approx(320 / np.tan(np.radians(32.5)))
    assert camera_of(read, fov=90).K[0, 0] == pytest.approx(320)
    assert camera_of(read, fov=90).guesses == ()


def test_a_resized_file_without_film_equivalent_uses_the_sensor_and_the_size_it_was_taken_at(cases: Path) -> None:
    camera = camera_of(read_picture(cases / "B03_no_35mm_resized.jpg"))
    assert camera.K[0, 0] == pytest.approx(787.4, abs=0.05)
    assert "5616" in camera.notes[0]


@pytest.mark.parametrize(("unit", "resolution"), [(2, 4000), (3, 4000 / 2.54), (4, 4000 / 25.4), (None, 4000)])
def test_sensor_resolution_is_read_in_its_unit(tmp_path: Path, unit: int | None, resolution: float) -> None:
    tags = {ExifTags.Base.FocalLength: 20.0, ExifTags.Base.FocalPlaneXResolution: resolution}
    tags |= {} if unit is None else {ExifTags.Base.FocalPlaneResolutionUnit: unit}
    read = read_picture(saved(tmp_path / "a.jpg", Image.new("RGB", (3000, 20)), tags))
    assert focal_pixels(read.exif)[0] == pytest.approx(20 * 4000 / 25.4, rel=1e-3)


def test_unknown_units_and_impossible_lenses_are_ignored_with_a_note(tmp_path: Path) -> None:
    tags = {ExifTags.Base.FocalLength: 20.0, ExifTags.Base.FocalPlaneXResolution: 4000.0, ExifTags.Base.FocalPlaneResolutionUnit: 9}
    read = read_picture(saved(tmp_path / "a.jpg", Image.new("RGB", (300, 20)), tags))
    assert "FocalPlaneResolutionUnit holds 9" in read.notes[0]
    assert camera_of(read).guesses
    pixels, notes = focal_pixels(ExifFacts((300, 200), focal_35mm=60000))
    assert pixels is None
    assert "no lens has" in notes[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(100, 9000), st.integers(100, 9000), st.floats(0.05, 1), st.booleans())
def test_the_angle_of_view_survives_resizing_and_turning(width: int, height: int, scale: float, turned: bool) -> None:
    taken = ExifFacts((width, height), focal_mm=20, pixels_per_mm=150, taken=(width, height))
    size = (round(width * scale), round(height * scale))
    stored = size[::-1] if turned else size
    now = ExifFacts(stored, focal_mm=20, pixels_per_mm=150, taken=(width, height))
    then, after = focal_pixels(taken)[0], focal_pixels(now)[0]
    if then is not None and after is not None:
        assert after / max(stored) == pytest.approx(then / max(width, height), rel=1e-6)


def test_a_crop_after_the_shot_is_noticed() -> None:
    whole = ExifFacts((1000, 667), focal_35mm=35, taken=(6000, 4000))
    square = ExifFacts((1000, 1000), focal_35mm=35, taken=(6000, 4000))
    assert len(focal_pixels(whole)[1]) == 1
    assert "cropped" in focal_pixels(square)[1][1]


@pytest.mark.parametrize("make", [lambda v: v, lambda v: Image.fromarray(v)])
def test_sixteen_bit_grey_is_scaled_and_not_cut(make: Callable) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    read = read_picture(make(values))
    assert read.array[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 128, 255)]


def test_a_sixteen_bit_file_keeps_its_ramp(cases: Path) -> None:
    read = read_picture(cases / "B05_gray16.png")
    stored = np.asarray(Image.open(cases / "B05_gray16.png")).astype(float)
    assert np.array_equal(read.array[..., 0], np.floor(stored / 257 + 0.5))
    assert np.array_equal(read.array[..., 0], read.array[..., 2])
    assert abs(int(read.array[32, 128, 0]) - 128) <= 1


def test_transparency_is_laid_over_grey_and_hidden_colours_stay_hidden(cases: Path) -> None:
    path = cases / "B06_rgba_hidden_magenta.png"
    read = read_picture(path)
    layer = np.asarray(Image.open(path)).astype(float)
    alpha = layer[..., 3:] / 255
    assert (alpha < 1).any()
    assert np.abs(read.array - (layer[..., :3] * alpha + np.array(BACKGROUND) * (1 - alpha))).max() <= 1
    assert any("mid-grey" in note for note in read.notes)


def test_an_opaque_fourth_channel_changes_nothing() -> None:
    layer = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    assert np.array_equal(read_picture(layer).array, PICTURE)
    assert read_picture(Image.fromarray(layer)).notes == ()


def test_ink_and_palette_show_the_same_scene(cases: Path) -> None:
    # The palette is dithered, so means over 8 x 8 pixels are compared.
    ink, palette = (read_picture(cases / name).array.reshape(16, 8, 32, 8, 3).mean((1, 3)) for name in ("B07_cmyk.jpg", "B08_palette.png"))
    assert np.percentile(np.abs(ink - palette), 99) < 5
    rgb = Image.fromarray(PICTURE)
    assert np.array_equal(read_picture(rgb.convert("CMYK")).array, PICTURE)
    quantised = rgb.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    assert np.array_equal(read_picture(quantised).array, PICTURE)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(4, 5), (4, 5, 1), (4, 5, 3)]).flatmap(lambda shape: arrays(np.uint8, shape)))
def test_arrays_and_images_read_alike_and_grey_is_repeated(values: np.ndarray) -> None:
    expected = np.broadcast_to(values.reshape(4, 5, -1), (4, 5, 3))
    assert np.array_equal(read_picture(values).array, expected)
    assert np.array_equal(read_picture(values / 255).array, expected)
    assert np.array_equal(read_picture(values.astype(np.uint16) * 257).array, expected)
    assert np.array_equal(read_picture(Image.fromarray(values.squeeze())).array, expected)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((3, 4, 5), np.uint8), "channels last"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.full((4, 4, 3), 255.0), "outside 0..1"),
        (np.full((4, 4), np.nan), "outside 0..1"),
        (np.zeros((4, 4), np.int32), "int32"),
        (Image.new("F", (4, 4)), "measurement"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), "70000"),
        (3, "not a int"),
    ],
)
def test_values_without_a_meaning_as_colour_are_refused(source: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_picture(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("permissive", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_no_half_picture_leaves_a_file_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, permissive: bool) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", permissive)  # other libraries switch it on for the whole process
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(stream, kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    with pytest.raises(InputError, match=r"cut\..*(damaged|not a picture)"):
        read_picture(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is permissive


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises that size and whose data is nearly nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "save it as JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (b"hello", "not a picture"),
        (png_of(12000, 11000), "too large"),
        (png_of(60000, 60000), "too large"),
        (png_of(70000, 10), "too large"),
        (png_of(500, 500), "damaged"),
    ],
)
def test_files_that_are_no_usable_picture_are_named_with_their_reason(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "strange.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"strange\.png.*{said}"):
        read_picture(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_picture(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="is a folder"):
        read_picture(tmp_path)


def test_the_pictures_of_a_folder_read_or_are_refused_one_by_one(cases: Path) -> None:
    found = list_pictures(cases / "B09_folder").pictures
    assert [p.name for p in found] == ["1.jpg", "2.JPG", "3.Jpeg", "4.jpg", "5.jpg", "10.png", "11.PNG"]
    for path in found:
        if path.name in ("4.jpg", "5.jpg"):
            with pytest.raises(InputError, match=path.name):
                read_picture(path)
        else:
            assert read_picture(path).array.shape == (96, 160, 3)


def test_every_real_picture_reads(real_pictures: Path) -> None:
    for path in list_pictures(real_pictures).pictures:
        with Image.open(path) as image:
            assert np.array_equal(read_picture(path).array, np.asarray(image.convert("RGB")))
