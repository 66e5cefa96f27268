"""SSCNet's volume files (NYUv2 and its relatives): where the volume lies, the camera's pose, and run lengths of raw ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.files import read_bytes
from wholescene.labels import NYUV2, UNKNOWN

SHAPE = (240, 144, 240)  # voxels along world x, z (up), y
VOXEL = 0.02  # metres
VOXELS = SHAPE[0] * SHAPE[1] * SHAPE[2]
HEADER = 19 * 4  # bytes: three float32 of the corner, sixteen of the pose
_MOST_BYTES = HEADER + 8 * VOXELS + 8 * 2**16  # every voxel a run of its own, and some runs of length zero


@dataclass(frozen=True)
class NYUVolume:
    """One `.bin` file.

    Attributes:
        origin: (3,) float32 lower corner of the volume in the world (x, y, z up), metres.
        pose: (4, 4) float32, camera (x right, y down, z forward) to world.
        labels: (240, 144, 240) uint8 classes 0..11, 255 unknown; axes world x, z (up), y.
        runs: how many run lengths the file holds.
        missing: voxels at the end that no run covers; they are 0, as the released decoder leaves them.
    """

    origin: NDArray[np.float32]
    pose: NDArray[np.float32]
    labels: NDArray[np.uint8]
    runs: int
    missing: int


def read_volume(path: str | Path) -> NYUVolume:
    """Read a `.bin` file.

    Raises:
        InputError: as `decode`, or the file is missing or larger than any volume.
    """
    return decode(read_bytes(path, _MOST_BYTES, "volume of run lengths"), str(path))


def decode(content: bytes, where: str = "the volume") -> NYUVolume:
    """The content of a `.bin` file: 3 float32, 16 float32 row by row, then (raw id, run length) pairs of uint32, all little endian.

    Raw ids 0..36 become the twelve classes; 255 stays unknown.

    Args:
        content: of the file.
        where: its name, for messages.

    Raises:
        InputError: no run or no whole number of them, numbers that are not finite, a raw id from 37 to 254 or above 255, or runs that pass the
            volume's end.
    """
    if len(content) < HEADER or (len(content) - HEADER) % 8:
        raise InputError(
            f"{where}: {len(content):,} bytes are no header of {HEADER} bytes and whole runs of 8; expected an SSCNet volume (.bin), "
            "not a LiDAR sweep or a cut copy; copy it again"
        )
    header = np.frombuffer(content, "<f4", 19).astype(np.float32)
    if not np.isfinite(header).all():
        raise InputError(f"{where}: its corner or pose is not finite; expected three and sixteen float32; copy it again")
    pairs = np.frombuffer(content, "<u4", offset=HEADER).reshape(-1, 2)
    values, lengths = pairs[:, 0], pairs[:, 1].astype(np.int64)
    odd = (values >= len(NYUV2.raw)) & (values != UNKNOWN)
    if odd.any():
        first = int(np.argmax(odd))
        raise InputError(
            f"{where}: run {first:,} has the raw id {int(values[first])}, which no class of NYUv2 has; expected 0 to {len(NYUV2.raw) - 1}, or "
            f"{UNKNOWN} for unknown; is it of another dataset?"
        )
    covered = int(lengths.sum())
    if covered == 0:
        raise InputError(f"{where}: it holds a header and no run of voxels; expected {VOXELS:,} voxels; copy it again")
    if covered > VOXELS:
        raise InputError(
            f"{where}: its runs cover {covered:,} voxels and pass the end of the volume of {' x '.join(map(str, SHAPE))} = {VOXELS:,}; "
            "the file is damaged or of another grid; copy it again"
        )
    labels = np.zeros(VOXELS, np.uint8)
    labels[:covered] = np.repeat(NYUV2.from_raw(values), lengths)
    return NYUVolume(header[:3], header[3:].reshape(4, 4), labels.reshape(SHAPE), len(pairs), VOXELS - covered)
