"""SemanticKITTI's binary files: volumes of bits, bytes and raw ids, sweeps and their labels; each told by its size before it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.files import read_bytes

SHAPE = (256, 256, 32)
VOXELS = SHAPE[0] * SHAPE[1] * SHAPE[2]
BITS, BYTES, WORDS = VOXELS // 8, VOXELS, VOXELS * 2  # bytes of a packed mask, of a mask of one byte a voxel, of uint16 labels
KINDS = {BITS: "one bit a voxel", BYTES: "one byte a voxel", WORDS: "uint16 labels", 2 * WORDS: "four bytes a voxel, uint32 or float32"}

_LARGEST_SWEEP = 64 * 2**20  # bytes; a 64-beam sweep has 2 MB


def pack_mask(mask: NDArray[Any]) -> bytes:
    """A mask as its file holds it: eight voxels a byte in C order, the first in the most significant bit.

    Args:
        mask: (256, 256, 32) bool, or 0 and 1.
    """
    return np.packbits(np.asarray(mask, dtype=bool).reshape(-1)).tobytes()


def unpack_mask(content: bytes) -> NDArray[np.bool_]:
    """The inverse of `pack_mask`: 262,144 bytes to (256, 256, 32) bool."""
    return np.unpackbits(np.frombuffer(content, np.uint8)).view(np.bool_).reshape(SHAPE)


def unshift(volume: NDArray[Any]) -> NDArray[Any]:
    """A volume of the v1.0 release as v1.1 has it.

    v1.0 wrote every volume one place late in the flat order: one voxel up, the top of a column in the bottom of the next. The last voxel,
    which v1.0 lost, becomes 0.
    """
    flat = np.roll(volume.reshape(-1), -1)
    flat[-1] = 0
    return flat.reshape(volume.shape)


def read_mask(path: str | Path, revision: str = "v1.1") -> NDArray[np.bool_]:
    """A `.bin`, `.invalid` or `.occluded` file, packed or with one byte a voxel (as SSCBench writes them).

    Args:
        path: of 262,144 or 2,097,152 bytes.
        revision: what the file is, "v1.1" or "v1.0"; the latter is un-shifted.

    Returns:
        (256, 256, 32) bool in x, y, z order.

    Raises:
        InputError: it is missing, of another size, or its bytes are not 0 and 1.
    """
    path = Path(path)
    if mask_size(path) == BITS:
        mask = unpack_mask(read_bytes(path, BITS, "mask"))
    else:
        values = np.frombuffer(read_bytes(path, BYTES, "mask"), np.uint8)
        if values.max() > 1:
            raise InputError(f"{path}: one byte a voxel, but with values up to {int(values.max())}; a mask holds 0 and 1: are these class labels?")
        mask = values.astype(np.bool_).reshape(SHAPE)
    return unshift(mask) if revision == "v1.0" else mask


def read_raw_labels(path: str | Path, revision: str = "v1.1") -> NDArray[np.uint16]:
    """A `voxels/*.label` file.

    Returns:
        (256, 256, 32) uint16 raw ids in x, y, z order; 0 is empty.

    Raises:
        InputError: it is missing or not of 4,194,304 bytes.
    """
    path = Path(path)
    label_size(path)
    labels = np.frombuffer(read_bytes(path, WORDS, "label volume"), "<u2").astype(np.uint16).reshape(SHAPE)
    return unshift(labels) if revision == "v1.0" else labels


def mask_size(path: Path) -> int:
    """The size of a mask file: 262,144 or 2,097,152 bytes; `InputError` for any other."""
    size = _size(path)
    if size not in (BITS, BYTES):
        raise _wrong_size(path, size, f"{BITS:,} (one bit a voxel) or {BYTES:,} (one byte a voxel)")
    return size


def label_size(path: Path) -> int:
    """The size of a label volume, 4,194,304 bytes; `InputError` for any other."""
    size = _size(path)
    if size != WORDS:
        raise _wrong_size(path, size, f"{WORDS:,} (uint16 a voxel)")
    return size


def read_sweep(path: str | Path) -> NDArray[np.float32]:
    """A `velodyne/*.bin` file: (N, 4) float32 x, y, z in metres (LiDAR frame) and remission.

    Raises:
        InputError: it is missing, not a whole number of points, larger than 64 MiB, or holds coordinates that are not finite.
    """
    content = read_bytes(path, _LARGEST_SWEEP, "LiDAR sweep")
    if len(content) % 16:
        raise InputError(f"{path}: {len(content):,} bytes are no whole number of points of 16 bytes (float32 x, y, z, remission); copy it again")
    points = np.frombuffer(content, "<f4").astype(np.float32).reshape(-1, 4)
    if not np.isfinite(points).all():
        raise InputError(f"{path}: coordinates that are not finite; expected float32 x, y, z, remission; copy it again")
    return points


def read_sweep_labels(path: str | Path, points: int) -> NDArray[np.uint16]:
    """A `labels/*.label` file: (points,) uint16 raw ids (the instance in the upper half of each uint32 is dropped).

    Raises:
        InputError: it is missing, or does not hold as many labels as its sweep has points.
    """
    content = read_bytes(path, _LARGEST_SWEEP, "sweep label file")
    if len(content) != 4 * points:
        raise InputError(f"{path}: {len(content):,} bytes, expected {4 * points:,} (uint32 for each of {points:,} points); is it of another sweep?")
    return (np.frombuffer(content, "<u4") & 0xFFFF).astype(np.uint16)


def _size(path: Path) -> int:
    try:
        if path.is_file():
            return path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    raise InputError(f"{path} does not exist; expected a volume of {' x '.join(map(str, SHAPE))} voxels")


def _wrong_size(path: Path, size: int, expected: str) -> InputError:
    return InputError(f"{path}: {size:,} bytes, expected {expected}; {_guess(path, size)}")


def _guess(path: Path, size: int) -> str:
    """What a file of an unexpected size most likely is, and what to do."""
    with path.open("rb") as file:
        head = file.read(64)
    if size == 0:
        return "the file is empty: a copy that was cut off, or a full disk; copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run `git lfs pull` where it came from"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, not data: download it again"
    if head.startswith(b"\x93NUMPY"):
        return "it is a NumPy file, made by a preprocessing script: the original of the voxel archive is wanted"
    if size in KINDS:
        return f"that is the size of {KINDS[size]}: a file under the wrong name?"
    if size % 4 == 0 and path.suffix == ".label":
        return f"divisible by 4: looks like point labels ({size // 4:,} points), which belong in labels/; voxel labels are in the voxel archive"
    if size % 16 == 0 and path.suffix == ".bin":
        return f"divisible by 16: looks like a LiDAR sweep ({size // 16:,} points), which belongs in velodyne/; the masks are in the voxel archive"
    return "cut off or of another grid: copy it again"
