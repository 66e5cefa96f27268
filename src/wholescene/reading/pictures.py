"""Pictures that people have, read into upright 8-bit RGB; never half of one."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from wholescene.errors import InputError
from wholescene.files import read_bytes
from wholescene.reading.exif import ExifFacts, read_exif

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".jp2", ".avif")
MOST_PIXELS = 120_000_000  # the largest phone pictures have 108 million; what is larger is refused before it is unpacked
BACKGROUND = (128, 128, 128)

_MOST_BYTES = 512 * 2**20
# Named one by one: Pillow would also try formats that start other programs (EPS).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
# What Pillow's readers raise for broken files.
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError, TypeError, AttributeError,
    ArithmeticError, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ReadPicture:
    """A picture as it was read.

    Attributes:
        array: (H, W, 3) uint8, sRGB, upright.
        name: the file's name without its suffix, or "picture".
        path: the file, where there is one.
        exif: what the file says of its lens.
        notes: what was done to the pixels beyond reading them, in sentences.
    """

    array: NDArray[np.uint8]
    name: str
    path: Path | None = None
    exif: ExifFacts = field(default_factory=lambda: ExifFacts((1, 1)))
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.array.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.array.shape[0])


def read_picture(source: str | Path | Image.Image | NDArray[Any]) -> ReadPicture:
    """Read a picture.

    Args:
        source: a file; a PIL image; or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, of uint16 (65,535 is white) or of
            floats between 0 and 1.

    Returns:
        The picture, turned upright by its EXIF orientation, in 8-bit RGB: grey is repeated over the three channels, 16 bits are divided
        by 257, and what is transparent is laid over mid-grey.

    Raises:
        InputError: not a picture, damaged or cut short, too large, or of a kind without a meaning as RGB; the file is named.
    """
    if isinstance(source, np.ndarray):
        array = _of_array(source)
        return ReadPicture(array, "picture", exif=ExifFacts((array.shape[1], array.shape[0])))
    if isinstance(source, Image.Image):
        named = getattr(source, "filename", "") or "picture"
        return _decoded(source, f"the picture {named}", Path(named).stem, None)
    if not isinstance(source, str | Path):
        raise InputError(f"a picture is a path, a PIL image or a NumPy array, not a {type(source).__name__}")
    path = Path(source)
    content = read_bytes(path, _MOST_BYTES, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, by our own limit
            Image.init()
            image = Image.open(io.BytesIO(content), formats=[f for f in _FORMATS if f in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise _too_large(str(path), str(error)) from error
    except _BROKEN as error:
        raise InputError(f"{path} is not a picture that can be read{_looks_like(path, content)}; expected JPEG, PNG, WebP, TIFF") from error
    return _decoded(image, str(path), path.stem, path)


def _too_large(where: str, size: str) -> InputError:
    return InputError(f"{where} is too large ({size}); at most {MOST_PIXELS:,} pixels are read; make it smaller first")


def _looks_like(path: Path, content: bytes) -> str:
    """What an unreadable file seems to be, as the middle of a sentence."""
    start = content[:512].lstrip().lower()
    if not content:
        return " (it is empty)"
    if start.startswith(b"version https://git-lfs"):
        return " (it is a Git LFS pointer: fetch the file itself with `git lfs pull`)"
    if start.startswith((b"<!doctype html", b"<html")):
        return " (it is a web page: the download went wrong)"
    if path.suffix.lower() in (".heic", ".heif") or content[4:12] in (b"ftypheic", b"ftypmif1", b"ftypheix"):
        return " (it is HEIC: save it as JPEG first)"
    return ""


def _decoded(image: Image.Image, where: str, name: str, path: Path | None) -> ReadPicture:
    width, height = image.size
    if width * height > MOST_PIXELS or max(width, height) > 65536:
        raise _too_large(where, f"{width:,} x {height:,} pixels")
    allowed, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False  # other libraries switch it on for the whole process
    try:
        several = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"  # a phone's MPO holds the picture, and helpers for the viewer
        image.load()
        exif, notes = read_exif(image)
        upright = ImageOps.exif_transpose(image) or image
        array, done = _rgb(upright, where)
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{where} is damaged or cut short ({error}); copy or download it again") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = allowed
    more = (f"{where} holds several pictures; the first was taken",) if several else ()
    return ReadPicture(array, name, path, exif, (*notes, *done, *more))


def _rgb(image: Image.Image, where: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """(H, W, 3) uint8 of any mode that means a picture, and what had to be decided."""
    if image.mode == "F":
        raise InputError(f"{where} holds floating-point grey, which is a measurement and not a picture; expected 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise InputError(f"{where} holds grey values {low} to {high}; expected 0 to 65,535")
        return _three(_by_257(values)), (f"16-bit grey divided by 257; its brightest value is {high:,} of 65,535",)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema()[0] == 255:
            return np.array(layer.convert("RGB")), ()
        below = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return np.array(Image.alpha_composite(below, layer).convert("RGB")), ("its transparent parts were laid over mid-grey",)
    return np.array(image.convert("RGB")), ()


def _by_257(values: NDArray[Any]) -> NDArray[np.uint8]:
    """0..65,535 to 0..255, rounded: Pillow's own conversion cuts at 255 and makes nearly everything white."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _three(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _of_array(values: NDArray[Any]) -> NDArray[np.uint8]:
    shape = values.shape
    if values.ndim not in (2, 3) or (values.ndim == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        raise InputError(f"a picture array has shape {shape}; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), rows first and channels last")
    if shape[0] * shape[1] > MOST_PIXELS or max(shape) > 65536:
        raise _too_large("the picture array", f"{shape[1]:,} x {shape[0]:,} pixels")
    if values.dtype == np.uint16:
        values = _by_257(values)
    elif np.issubdtype(values.dtype, np.floating):
        if not np.all(np.isfinite(values)) or values.min() < 0 or values.max() > 1:
            raise InputError("a picture array of floats holds values outside 0..1; divide it by its white value, or give uint8")
        values = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise InputError(f"a picture array holds {values.dtype}; expected uint8, uint16 or floats between 0 and 1")
    if values.ndim == 2 or shape[2] == 1:
        return _three(values.reshape(shape[:2]))
    if shape[2] == 4:
        return _rgb(Image.fromarray(values), "the picture array")[0]
    return np.array(values, np.uint8, order="C")
