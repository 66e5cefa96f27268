"""SSCBench-KITTI-360 (Li et al., IROS 2024) in its published layout: drives of KITTI-360 with volumes in SemanticKITTI's manner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.data.layout import STRIDE, Listing, list_frames
from wholescene.data.volumes import read_mask, read_raw_labels
from wholescene.errors import InputError, unknown_name
from wholescene.grid import VoxelGrid, semantic_kitti_grid
from wholescene.labels import KITTI_360, UNKNOWN, LabelSet
from wholescene.reading.pictures import read_picture
from wholescene.structures import Frame, View

SPLITS = {"train": ("0000", "0002", "0003", "0004", "0005", "0007", "0010"), "val": ("0006",), "test": ("0009",)}
# Frames with volumes as the paper states them, and as the later download holds them.
STATED = {"train": 8487, "val": 1812, "test": 2566}
DOWNLOADED = {"train": 8483, "val": 1812, "test": 2165}
LEFT, RIGHT = "image_00/data_rect", "image_01/data_rect"
SIZE = (1408, 376)
SOURCE = "SSCBench-KITTI-360 (github.com/ai4ce/SSCBench)"

# One calibration for all drives, as every loader of the benchmark has it.
_FOCAL, _CENTRE = 552.554261, (682.049453, 238.769549)
_RIGHT_OFFSET = -328.318735  # P3[0, 3], pixel-metres: 0.594 m
_CAMERA_TO_LIDAR = (
    (0.04307104361, -0.08829286498, 0.995162929, 0.8043914418),
    (-0.999004371, 0.007784614041, 0.04392796942, 0.2993489574),
    (-0.01162548558, -0.9960641394, -0.08786966659, -0.1770225824),
)


def camera(size: tuple[int, int], right: bool = False) -> Camera:
    """The rectified left or right camera, posed in the LiDAR frame, for pictures of (width, height)."""
    pose = np.linalg.inv(np.vstack([_CAMERA_TO_LIDAR, (0, 0, 0, 1)]))
    K = np.array([[_FOCAL, 0, _CENTRE[0]], [0, _FOCAL, _CENTRE[1]], [0, 0, 1]])
    offset = np.array([_RIGHT_OFFSET if right else 0.0, 0, 0])
    made = Camera(K, SIZE, pose, offset, world="lidar", source="SSCBench-KITTI-360's calibration of all drives")
    return made if size == SIZE else made.resized(size)


def folder_of(drive: str) -> str:
    """The name of a drive's folder.

    >>> folder_of("0009")
    '2013_05_28_drive_0009_sync'
    """
    return f"2013_05_28_drive_{drive}_sync"


def find_drives(root: str | Path) -> Path:
    """The folder that holds the drives, for a root that is the parent of `data_2d_raw/`, or that folder itself.

    Raises:
        InputError: no volumes in either; it names what was looked for.
    """
    root = Path(root)
    candidates = (root / "data_2d_raw", root)
    for candidate in candidates:
        if list_drives(candidate):
            return candidate
    looked = ", ".join(str(c / folder_of("DDDD") / "voxels") for c in candidates)
    raise InputError(f"no volumes of SSCBench-KITTI-360 under {root}: looked for {looked}; give the folder that holds data_2d_raw, of {SOURCE}")


def list_drives(drives: Path) -> tuple[str, ...]:
    """Names of the drives that have a `voxels/` folder (four digits, where they are KITTI-360's), sorted."""
    before, after = folder_of("*").split("*")
    found = drives.glob(f"{before}*{after}/voxels")
    return tuple(sorted(path.parent.name.removeprefix(before).removesuffix(after) for path in found if path.is_dir()))


class SSCBenchKITTI360:
    """A map-style dataset of frames; world = LiDAR frame of the frame (x forward, y left, z up, metres).

    A voxel is unknown (255) where its raw id is in no class, or where `.invalid` says so and nothing is labelled. About five voxels of six are:
    only what a ray passed through is known to be empty.

    Attributes:
        names: of the frames, "2013_05_28_drive_0009_sync/000005", in order.
        labels: the label set.
        grid: as SemanticKITTI's.
        notes: what was taken otherwise than published, in words.
    """

    labels: LabelSet = KITTI_360

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        drives: Sequence[str] | None = None,
        *,
        right: bool = False,
        occupancy: bool = False,
        scales: Sequence[int] = (),
        stride: int | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        """List the frames; nothing is opened.

        Args:
            root: the parent of `data_2d_raw/`, or that folder itself.
            split: "train", "val" (0006) or "test" (0009); None: every drive that is there.
            drives: four-digit names ("0009") or folder names instead of a split.
            right: give the right camera's picture (`image_01`) as view "right".
            occupancy: give the `.bin` mask.
            scales: down-sampled targets by the rule `share-95`, beside the target itself.
            stride: take frames whose number is a multiple of it; None: five, as the benchmark does.
            exclude: names of frames to leave out.

        Raises:
            InputError: no volumes at the root, an unknown split or drive, or no frame.
        """
        self.drives_folder = find_drives(root)
        self.grid: VoxelGrid = semantic_kitti_grid()
        self.notes: list[str] = []
        self.scales = tuple(s for s in scales if s != 1)
        for scale in self.scales:
            self.grid.coarser(scale)  # refuses what does not divide
        self._right, self._occupancy = right, occupancy
        chosen = self._choose(split, drives)
        self._listings = {name: list_frames(self.drives_folder / folder_of(name), STRIDE if stride is None else stride) for name in chosen}
        left_out = set(exclude)
        every = ((listing, frame) for listing in self._listings.values() for frame in listing.frames)
        self._index = [(listing, frame) for listing, frame in every if f"{listing.name}/{frame}" not in left_out]
        self.names = [f"{listing.name}/{frame}" for listing, frame in self._index]
        if not self.names:
            raise InputError(f"no frames in drives {', '.join(chosen)} of {self.drives_folder}: looked for voxels/*.bin; run the data check")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        """One frame.

        Raises:
            IndexError: past the end.
            InputError: a file of the frame is missing or broken.
        """
        listing, frame = self._index[index]
        views = {"main": self._view(listing, frame, right=False)}
        if self._right:
            views["right"] = self._view(listing, frame, right=True)
        return Frame(
            name=self.names[index],
            views=views,
            grid=self.grid,
            occupancy=read_mask(_there(listing.volume(frame, "bin"))) if self._occupancy else None,
            targets=self._targets(listing, frame) if listing.labelled else {},
        )

    def _choose(self, split: str | None, drives: Sequence[str] | None) -> tuple[str, ...]:
        there = list_drives(self.drives_folder)
        if split is not None and drives is not None:
            raise InputError(f"both a split ({split}) and drives ({', '.join(map(str, drives))}) are given; give one of them")
        if drives is not None:
            names = [next((d for d in there if name in (d, folder_of(d))), name) for name in drives]
            for name in names:
                if name not in there:
                    raise unknown_name(f"drive under {self.drives_folder}", name, there)
            return tuple(dict.fromkeys(names))
        if split is None:
            return there
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        found = tuple(d for d in SPLITS[split] if d in there)
        lacking = [d for d in SPLITS[split] if d not in there]
        if not found:
            wanted = ", ".join(lacking)
            raise InputError(f"none of the drives of split {split} ({wanted}) is under {self.drives_folder}, which holds {', '.join(there)}")
        if lacking:
            self.notes.append(f"split {split}: drives {', '.join(lacking)} are not there; taken: {', '.join(found)}")
        return found

    def _view(self, listing: Listing, frame: str, right: bool) -> View:
        folder = RIGHT if right else LEFT
        path = listing.picture(frame, folder)
        if path is None:
            more = "; early downloads have no right pictures" if right else ""
            raise InputError(f"{listing.folder / folder / frame}.png is missing; it comes with {SOURCE}{more}")
        picture = read_picture(path).array
        return View(picture, camera((picture.shape[1], picture.shape[0]), right))

    def _targets(self, listing: Listing, frame: str) -> dict[int, NDArray[np.uint8]]:
        raw = read_raw_labels(_there(listing.volume(frame, "label")))
        invalid = read_mask(_there(listing.volume(frame, "invalid")))
        targets = {1: target_of(raw, invalid)}
        if self.scales:
            from wholescene.geometry.pyramid import pool_labels  # torch, only where it is asked for

            targets |= {scale: pool_labels(targets[1], scale, "share-95").astype(np.uint8, copy=False) for scale in self.scales}
        return targets


def target_of(raw: NDArray[np.uint16], invalid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) from raw ids and the mask of what is not known; a labelled voxel is known whatever the mask says."""
    labels: NDArray[np.uint8] = KITTI_360.from_raw(raw)
    labels[invalid & (raw == 0)] = UNKNOWN
    return labels


def _there(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing; it comes with {SOURCE}")
    return path
