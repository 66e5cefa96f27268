"""Occ-ScanNet (Yu et al., ISO, ECCV 2024): rooms of ScanNet seen from single pictures, and the protocols that people score it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholescene.camera import Camera
from wholescene.data.occscannet_records import AXES, Axes, Record, rerooted
from wholescene.depth.files import read_depth
from wholescene.errors import InputError, unknown_name
from wholescene.files import read_bytes
from wholescene.grid import VoxelGrid
from wholescene.labels import EMPTY, NYUV2, UNKNOWN, LabelSet
from wholescene.reading.pictures import read_picture
from wholescene.structures import Frame, View

PICTURE_SIZE = (640, 480)
_MOST_LIST = 16 * 2**20
Protocol = Literal["known", "unknown-as-empty", "in-view"]
PROTOCOLS: dict[str, str] = {
    "known": "voxels known to the scan, also outside the picture; unknown ones are neither trained on nor scored",
    "unknown-as-empty": "every voxel of the grid, unknown ones counted as empty (ISO's own protocol)",
    "in-view": "voxels known to the scan whose centre is in the picture (the protocol of EmbodiedOcc and its successors)",
}


@dataclass(frozen=True)
class Lists:
    """Which frames a role takes.

    Attributes:
        files: role -> text file under the root, a frame a line.
        first: role -> how many of its lines count; None: all.
        published: role -> how many frames that gives where the files are the published ones.
        summary: whose lists these are.
    """

    files: dict[str, str]
    first: dict[str, int | None]
    published: dict[str, int]
    summary: str


_SUBSCENES = {"train": "train_subscenes.txt", "val": "val_subscenes.txt"}
LISTS = {
    "full": Lists(_SUBSCENES, {}, {"train": 45755, "val": 19764}, "ISO's lists"),
    "iso-mini": Lists(_SUBSCENES, {"train": 4639, "val": 2007}, {"train": 4639, "val": 2007}, "the first lines of ISO's lists, as ISO's mini"),
    "final": Lists({"train": "train_final.txt", "val": "test_final.txt"}, {}, {"train": 45610, "val": 19705}, "EmbodiedOcc's cleaned lists"),
    "final-mini": Lists(
        {"train": "train_mini_final.txt", "val": "test_mini_final.txt"}, {}, {"train": 5504, "val": 2376}, "EmbodiedOcc's mini lists"
    ),
}


class OccScanNet:
    """A map-style dataset of frames; world = ScanNet's own of each scene (z up).

    Pictures are stretched to 640 x 480 as ISO does (here with antialiasing, and with pixel centres kept; ISO's shift is a quarter pixel).
    The depth map has that size already and is taken as aligned with the picture; where it lies beside the picture it is the frame's
    `depth_target`, and its `depth` if that is asked for. Three things are choices, named in `protocol` and printed
    with every result, because published numbers differ in them: the lists, what becomes of unknown voxels, and the order of the stored axes
    (ISO reads the first as x; three other code bases swap the first two, so y-x-z is most likely what is stored).

    Attributes:
        names: of the frames, "scene0000_00/00000", in the order of the list.
        labels: the label set, NYUv2's classes.
        protocol: the protocol in words, for reports.
        revision: lists and axes in words, for reports.
    """

    labels: LabelSet = NYUV2

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        lists: str = "full",
        protocol: str = "known",
        axes: str = "y-x-z",
        depth: bool = False,
        exclude: Sequence[str] = (),
    ) -> None:
        """List the frames; one text file is read.

        Args:
            root: the folder that holds `gathered_data/`, `posed_images/` and the lists.
            split: "train", or "val" (also called "test": there is no third part).
            lists: one of `LISTS`.
            protocol: one of `PROTOCOLS`: what becomes of unknown voxels and of those outside the picture.
            axes: the order of the stored targets: "y-x-z", or "x-y-z" as ISO's loader reads them.
            depth: give the depth map as an input.
            exclude: names of frames to leave out.

        Raises:
            InputError: an unknown option, no list at the root, or a line in it that is no frame.
        """
        for kind, name, known in (("lists", lists, LISTS), ("protocol", protocol, PROTOCOLS), ("axes", axes, AXES)):
            if name not in known:
                raise unknown_name(f"{kind} of Occ-ScanNet", name, known)
        role = {"train": "train", "val": "val", "test": "val"}.get(split)
        if role is None:
            raise unknown_name("split of Occ-ScanNet", split, ("train", "val", "test"))
        self.root, self.axes, self._rule, self._depth = Path(root), axes, protocol, depth
        chosen = LISTS[lists]
        left_out = set(exclude)
        self.names = [name for name in read_list(self.root / chosen.files[role], chosen.first.get(role)) if name not in left_out]
        if not self.names:
            raise InputError(f"no frames in {self.root / chosen.files[role]}, or all of them are excluded")
        self.protocol = f"{protocol}: {PROTOCOLS[protocol]}"
        self.revision = f"Occ-ScanNet, lists {lists} ({chosen.summary}: {chosen.files[role]}, {len(self.names):,} frames), stored axes {axes}"

    def __len__(self) -> int:
        return len(self.names)

    def record(self, index: int) -> Record:
        """The record of a frame as it is stored."""
        return Record.read(self.root / "gathered_data" / f"{self.names[index]}.pkl")

    def __getitem__(self, index: int) -> Frame:
        """One frame.

        Raises:
            IndexError: past the end.
            InputError: a file of the frame is missing or broken; the message names it.
        """
        name = self.names[index]
        record = self.record(index)
        picture, camera = _picture(record, rerooted(record.picture, "posed_images", self.root), name)
        depth_path = rerooted(record.depth, "posed_images", self.root)
        depth = _depth_map(depth_path) if self._depth or depth_path.is_file() else None
        grid = record.grid()
        targets = {scale: judged(labels, self._rule, camera, grid.coarser(scale)) for scale, labels in record.on_axes(_axes(self.axes)).items()}
        return Frame(name, {"main": View(picture, camera)}, grid, depth=depth if self._depth else None, depth_target=depth, targets=targets)


def judged(labels: NDArray[np.uint8], protocol: str, camera: Camera, grid: VoxelGrid) -> NDArray[np.uint8]:
    """Labels as a protocol counts them.

    Args:
        labels: (X, Y, Z) on `grid`, 255 unknown.
        protocol: one of `PROTOCOLS`.
        camera: of the main picture.
    """
    if protocol == "unknown-as-empty":
        return np.where(labels == UNKNOWN, np.uint8(EMPTY), labels)
    if protocol == "in-view":
        return np.where(camera.sees(grid.centres()), labels, np.uint8(UNKNOWN))
    return labels


def read_list(path: Path, first: int | None = None) -> list[str]:
    """Names of frames ("scene0000_00/00000") in a list, whose lines may or may not begin with `gathered_data/` and end with `.pkl`.

    Args:
        path: of the text file.
        first: take that many lines; None: all.

    Raises:
        InputError: it is missing, or a line is no scene and frame.
    """
    lines = [line.strip() for line in read_bytes(path, _MOST_LIST, "list of frames").decode("utf-8", "replace").splitlines()]
    names = []
    for number, line in enumerate((line for line in lines if line), 1):
        if first is not None and number > first:
            break
        parts = line.removesuffix(".pkl").split("/")
        if "gathered_data" in parts:
            parts = parts[parts.index("gathered_data") + 1 :]
        if len(parts) != 2 or not all(parts) or ".." in parts or not line.isprintable():
            raise InputError(f"{path}, line {number}: {line[:80]!r} is no frame; expected gathered_data/SCENE/FRAME.pkl or SCENE/FRAME")
        names.append("/".join(parts))
    return names


def _axes(axes: str) -> Axes:
    return "x-y-z" if axes == "x-y-z" else "y-x-z"


def _picture(record: Record, path: Path, name: str) -> tuple[NDArray[np.uint8], Camera]:
    """(480, 640, 3) uint8 and the camera of the stretched picture."""
    read = read_picture(path)
    camera = record.camera((read.width, read.height), f"the record {name}")
    if camera.size == PICTURE_SIZE:
        return read.array, camera
    stretched: Any = Image.fromarray(read.array).resize(PICTURE_SIZE, Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(stretched), camera.resized(PICTURE_SIZE)


def _depth_map(path: Path) -> NDArray[np.float32]:
    """(480, 640) float32 metres, 0 where the sensor saw nothing."""
    metres, _ = read_depth(path, "mm")
    if metres.shape != PICTURE_SIZE[::-1]:
        raise InputError(f"{path} has {metres.shape[1]} x {metres.shape[0]} pixels; expected ScanNet's depth of 640 x 480")
    return metres
