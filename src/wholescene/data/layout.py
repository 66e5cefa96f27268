"""Where SemanticKITTI keeps its files, what was published of it, and how to find a tree whose root is a level off."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.files import read_bytes

SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21"),
}
# Lines of poses.txt, sequences 00..21. Truth is published for every fifth frame, so ceil(n / 5) frames of each of 00..10.
_POSES = (
    4541, 1101, 4661, 801, 271, 2761, 1101, 1101, 4071, 1591, 1201,
    921, 1061, 3281, 631, 1901, 1731, 491, 1801, 4981, 831, 2721,
)  # fmt: skip
STRIDE = 5


@dataclass(frozen=True)
class Published:
    """What was published of a sequence.

    Attributes:
        split: "train", "val" or "test".
        poses: lines of poses.txt, which is the number of its pictures.
        frames: volumes at every fifth frame.
        picture_size: (width, height) in pixels.
        intrinsics: fx = fy, cx, cy of P2 in pixels.
    """

    split: str
    poses: int
    frames: int
    picture_size: tuple[int, int]
    intrinsics: tuple[float, float, float]


def _published(number: int) -> Published:
    name = f"{number:02d}"
    split = next(s for s, names in SPLITS.items() if name in names)
    if number == 3:
        size, intrinsics = (1242, 375), (721.5377, 609.5593, 172.854)
    elif 4 <= number <= 12:
        size, intrinsics = (1226, 370), (707.0912, 601.8873, 183.1104)
    else:
        size, intrinsics = (1241, 376), (718.856, 607.1928, 185.2157)
    return Published(split, _POSES[number], -(-_POSES[number] // STRIDE), size, intrinsics)


PUBLISHED = {f"{number:02d}": _published(number) for number in range(22)}

# Which download each item comes from.
ARCHIVES = {
    "image_2": "KITTI odometry, colour images (data_odometry_color.zip)",
    "image_3": "KITTI odometry, colour images (data_odometry_color.zip)",
    "velodyne": "KITTI odometry, velodyne laser data (data_odometry_velodyne.zip)",
    "labels": "SemanticKITTI, label data (data_odometry_labels.zip)",
    "voxels": "SemanticKITTI, voxel data (data_odometry_voxels.zip)",
    "calib.txt": "KITTI odometry, calibration files (data_odometry_calib.zip; the copy in the colour archive lacks Tr)",
    "poses.txt": "SemanticKITTI, label data (data_odometry_labels.zip; not KITTI's own poses)",
}

_PICTURES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")


@dataclass(frozen=True)
class Listing:
    """The frames of one sequence.

    Attributes:
        folder: of the sequence.
        frames: six-digit names, sorted.
        labelled: whether the sequence has truth (any `.label` file).
        skipped: volumes that are not on the stride.
        from_labels: whether, for want of `.bin` files, the `.label` files were listed.
    """

    folder: Path
    frames: tuple[str, ...]
    labelled: bool
    skipped: int
    from_labels: bool

    @property
    def name(self) -> str:
        """The sequence as text: "00"."""
        return self.folder.name

    def volume(self, frame: str, suffix: str) -> Path:
        """The path of a volume: suffix "bin", "label", "invalid" or "occluded"."""
        return self.folder / "voxels" / f"{frame}.{suffix}"

    def picture(self, frame: str, camera: str = "image_2") -> Path | None:
        """The path of a picture, png or jpg; None where there is none."""
        stem = self.folder / camera / frame
        return next((path for suffix in _PICTURES if (path := stem.with_suffix(suffix)).is_file()), None)


def find_sequences(root: str | Path) -> Path:
    """The folder that holds the sequences, for a root that is the parent of `dataset/`, `dataset/` itself or its `sequences/`.

    Raises:
        InputError: no volume in any of the three; it names what was looked for and the nearest folder that does hold volumes.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"the dataset folder {root} {'is a file' if root.exists() else 'does not exist'}; give the folder that holds dataset/sequences/"
        )
    candidates = [root / "dataset" / "sequences", root / "sequences", root]
    for candidate in candidates:
        if any(candidate.glob("*/voxels")):
            return candidate
    looked = ", ".join(str(candidate / "*" / "voxels") for candidate in candidates)
    without = [c for c in candidates[:2] if c.is_dir()]
    if without:
        advice = f"{without[0]} is there, but no sequence in it has a voxels folder; it comes with {ARCHIVES['voxels']}"
    else:
        advice = "unpack the voxel archive there, or give another root"
    near = _nearest(root)
    if near is not None:
        advice = f"the nearest folder that holds volumes is {near}; give {near.parent} as the root"
    raise InputError(f"no SemanticKITTI volumes under {root}: looked for {looked}; {advice}")


def list_sequences(sequences: Path) -> tuple[str, ...]:
    """Names of the folders below `sequences` that have a `voxels/` folder, sorted, as text."""
    return tuple(sorted(path.parent.name for path in sequences.glob("*/voxels")))


def list_frames(folder: Path, stride: int | None = None) -> Listing:
    """The frames of a sequence: its `voxels/*.bin`, or its `.label` files where no `.bin` is there.

    Args:
        folder: of the sequence.
        stride: take frames whose number is a multiple of it; None: five in KITTI's own sequences, as the benchmark does (there is a release
            with volumes for every frame), and every frame of any other recording.

    Raises:
        InputError: a stride below one.
    """
    if stride is None:
        stride = STRIDE if folder.name in PUBLISHED else 1
    if stride < 1:
        raise InputError(f"stride {stride} is not a positive number; the benchmark takes every fifth frame")
    numbers: dict[str, list[str]] = {".bin": [], ".label": []}
    for entry in os.scandir(folder / "voxels"):
        stem, suffix = os.path.splitext(entry.name)
        if suffix in numbers and stem.isdecimal():
            numbers[suffix].append(stem)
    names = numbers[".bin"] or numbers[".label"]
    frames = tuple(sorted(name for name in names if int(name) % stride == 0))
    return Listing(folder, frames, bool(numbers[".label"]), len(names) - len(frames), not numbers[".bin"] and bool(numbers[".label"]))


def read_poses(path: str | Path) -> NDArray[np.float64]:
    """poses.txt: (frames, 4, 4) float64, camera 0 of each frame to camera 0 of the first frame, metres.

    Raises:
        InputError: it is missing, or a line has not twelve finite numbers.
    """
    text = read_bytes(path, 64 * 2**20, "pose file").decode("ascii", "replace")
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [float(value) for value in line.split()]
        except ValueError:
            row = []
        if len(row) != 12 or not np.all(np.isfinite(row)):
            raise InputError(f"{path}, line {number}: expected twelve finite numbers (3x4, row by row), found {line.strip()[:60]!r}")
        rows.append(row)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = np.asarray(rows, dtype=np.float64).reshape(-1, 3, 4)
    return poses


def split_of(sequences: Path, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sequences of a split that are there, and those that are not."""
    wanted, there = SPLITS[split], set(list_sequences(sequences))
    return tuple(s for s in wanted if s in there), tuple(s for s in wanted if s not in there)


def is_frame_name(text: str) -> bool:
    """Whether the text is a frame's name as the test server reads it: six digits."""
    return re.fullmatch(r"[0-9]{6}", text) is not None


def _nearest(root: Path) -> Path | None:
    """The sequence folder with `voxels/` that is nearest to a wrong root: above it first, then below."""
    home = root.resolve()
    for parent in [home, *list(home.parents)[:3]]:
        if parent.name == "voxels":
            return parent.parent
        if (parent / "voxels").is_dir():
            return parent
        for level in (parent / "sequences", parent / "dataset" / "sequences"):
            found = sorted(level.glob("*/voxels"))
            if found:
                return found[0].parent
    return next((path.parent for path in _below(home)), None)


def _below(root: Path, depth: int = 5, most: int = 5000) -> Iterator[Path]:
    """Folders called voxels below `root`, nearest first; a bounded look, since a wrong root may be a whole disk."""
    level, seen = [root], 0
    for _ in range(depth):
        deeper: list[Path] = []
        for folder in level:
            try:
                inner = sorted(Path(e.path) for e in os.scandir(folder) if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
            except OSError:
                continue  # not ours to read
            for path in inner:
                seen += 1
                if path.name == "voxels":
                    yield path
            if seen > most:
                return
            deeper += inner
        level = deeper
