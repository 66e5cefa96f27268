"""NYUv2 for scene completion (Silberman et al. 2012; volumes of Song et al. 2017), in SSCNet's layout with MonoScene's pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.data.nyuv2_volumes import VOXEL, NYUVolume, read_volume
from wholescene.depth.files import read_depth
from wholescene.errors import InputError, unknown_name
from wholescene.grid import VoxelGrid
from wholescene.labels import NYUV2, LabelSet
from wholescene.reading.pictures import read_picture
from wholescene.structures import Frame, View

FOLDERS = {"train": "NYUtrain", "test": "NYUtest"}
SPLITS = {**FOLDERS, "val": "NYUtest"}  # there is no third part; published tables call the test frames either
PUBLISHED = {"NYUtrain": 795, "NYUtest": 654}
FACTOR, COARSE = 4, 16  # of the stored voxels of 0.02 m: the benchmark's 0.08 m, and the 0.32 m of the context prior
_MOST_MISSING = 0.01  # share of a volume; the writer leaves out a voxel at most (of a constant volume), and the frames at hand none
PICTURE_SIZE = (640, 480)
PICTURE_SUFFIXES = ("_color.jpg", "_color.png")


def camera_of_pose(pose: NDArray[np.floating], source: str) -> Camera:
    """The camera of NYUv2's volumes: fx = fy = 518.8579, cx = 320, cy = 240 at 640 x 480, posed.

    Args:
        pose: (4, 4), camera to world.
        source: the file it came from, for messages.
    """
    camera = Camera.from_intrinsics(518.8579, 518.8579, 320.0, 240.0, PICTURE_SIZE, source=source)
    try:
        return camera.posed(np.linalg.inv(np.asarray(pose, np.float64)), world="scene")
    except np.linalg.LinAlgError as error:
        raise InputError(f"{source}: its camera pose is no invertible 4x4 matrix; copy the file again") from error


class NYUv2:
    """A map-style dataset of frames; world = the volumes' own (z up, floor at 0; the camera may look anywhere).

    Targets are 60 x 36 x 60 voxels of 0.08 m in the released order (world x, up, y), made from the stored 0.02 m by the rule `share-95`;
    targets[4] (15 x 9 x 15) comes from the stored voxels too, not from targets[1]. The sensor's depth map is the frame's `depth_target`
    where there are depth files, and its `depth` if that is asked for; sensor and colour edges differ by some pixels, as in the release.

    Attributes:
        names: of the frames, "NYU0001_0000", in order.
        labels: the label set.
        revision: what the volumes are, for reports.
        notes: what was taken otherwise than published, in words.
    """

    labels: LabelSet = NYUV2
    revision = "SSCNet volumes of 0.02 m, pooled to 0.08 m by the rule share-95"

    def __init__(
        self, root: str | Path, split: str | None = None, names: Sequence[str] | None = None, *, depth: bool = False, exclude: Sequence[str] = ()
    ) -> None:
        """List the frames; no file is opened.

        Args:
            root: the folder that holds `NYUtrain` and `NYUtest`, or its parent (where they lie in `depthbin/`).
            split: "train" (NYUtrain), "test" or "val" (both NYUtest).
            names: frames by name instead of a split.
            depth: give the sensor's depth map as an input.
            exclude: names of frames to leave out.

        Raises:
            InputError: nothing there, an unknown split or frame, or both a split and names.
        """
        self.root = find_root(root)
        if (split is None) == (names is None):
            raise InputError("give NYUv2 either a split (train, test) or names of frames")
        if split is not None and split not in SPLITS:
            raise unknown_name("split of NYUv2", split, SPLITS)
        folders = [SPLITS[split]] if split is not None else list(FOLDERS.values())
        there = {path.stem: path for folder in folders for path in sorted((self.root / folder).glob("*.bin"))}
        if not there:
            raise InputError(f"no volumes in {self.root / folders[0]}: looked for NYUxxxx_0000.bin; copy SSCNet's depthbin archive there")
        for name in names or ():
            if name not in there:
                raise unknown_name(f"frame under {self.root}", name, there)
        left_out = set(exclude)
        self.names = [name for name in (names if names is not None else there) if name not in left_out]
        if not self.names:
            raise InputError(f"no frames are left of {self.root}: all {len(there)} are excluded")
        self._paths = [there[name] for name in self.names]
        self._depth_needed = depth
        self._depth_there = depth or self._paths[0].with_suffix(".png").is_file()
        self.notes: list[str] = []
        for folder in folders if names is None else ():
            if len(there) != PUBLISHED[folder]:
                self.notes.append(f"{self.root / folder} holds {len(there)} volumes; published are {PUBLISHED[folder]}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        """One frame.

        Raises:
            IndexError: past the end.
            InputError: a file of the frame is missing, broken or cut short; the message names it.
        """
        path = self._paths[index]
        volume = read_volume(path)
        if volume.missing:
            said = f"{path}: its runs end {volume.missing:,} voxels before the volume does, as in a copy that was cut off"
            if volume.missing > _MOST_MISSING * volume.labels.size:
                raise InputError(f"{said} or a volume of another grid; expected {' x '.join(map(str, volume.labels.shape))} voxels; copy it again")
            warnings.warn(f"{said}; those voxels count as empty, as in the released decoder", stacklevel=2)
        camera = camera_of_pose(volume.pose, str(path))
        depth = read_depth_of(path) if self._depth_there else None
        return Frame(
            name=self.names[index],
            views={"main": View(read_colour(path), camera)},
            grid=grid_of(volume),
            depth=depth if self._depth_needed else None,
            depth_target=depth,
            targets=targets_of(volume),
        )


def find_root(root: str | Path) -> Path:
    """The folder that holds `NYUtrain` or `NYUtest`, for it or its parent.

    Raises:
        InputError: neither is there.
    """
    root = Path(root)
    for candidate in (root, root / "depthbin"):
        if any((candidate / folder).is_dir() for folder in FOLDERS.values()):
            return candidate
    said = "does not exist" if not root.is_dir() else f"holds neither {' nor '.join(FOLDERS.values())}, nor does {root / 'depthbin'}"
    raise InputError(f"the NYUv2 folder {root} {said}; give the folder of SSCNet's depthbin archive (NYUxxxx_0000.bin and .png in it)")


def picture_path(volume: Path) -> Path | None:
    """The colour picture beside a `.bin`; None where there is none."""
    return next((path for suffix in PICTURE_SUFFIXES if (path := volume.with_name(volume.stem + suffix)).is_file()), None)


def read_colour(volume: Path) -> NDArray[np.uint8]:
    """(480, 640, 3) uint8, the colour picture beside a `.bin`.

    Raises:
        InputError: it is missing (SSCNet's own archive has none), broken, or of another size than the one camera of the dataset.
    """
    path = picture_path(volume)
    if path is None:
        raise InputError(
            f"{volume.with_name(volume.stem + PICTURE_SUFFIXES[0])} is missing; SSCNet's archive holds volumes and depth only: the colour "
            "pictures are in MonoScene's NYUv2 archive"
        )
    picture = read_picture(path)
    if (picture.width, picture.height) != PICTURE_SIZE:
        raise InputError(f"{path} has {picture.width} x {picture.height} pixels; NYUv2's camera is known for 640 x 480: give the original picture")
    return picture.array


def read_depth_of(volume: Path) -> NDArray[np.float32]:
    """(480, 640) float32 metres along the optical axis, 0 where the sensor saw nothing: the 16-bit PNG beside a `.bin`, its bits rotated.

    Raises:
        InputError: it is missing, broken or of another size.
    """
    path = volume.with_suffix(".png")
    metres, _ = read_depth(path, "sscnet")
    if metres.shape != PICTURE_SIZE[::-1]:
        raise InputError(f"{path} has {metres.shape[1]} x {metres.shape[0]} pixels; expected a depth map of 640 x 480, as its picture")
    return metres


def grid_of(volume: NYUVolume) -> VoxelGrid:
    """60 x 36 x 60 voxels of 0.08 m from the volume's corner, axes world x, up, y."""
    shape = [n // FACTOR for n in volume.labels.shape]
    return VoxelGrid.from_corner(volume.origin.astype(np.float64).tolist(), shape, VOXEL * FACTOR, "xzy")


def targets_of(volume: NYUVolume) -> dict[int, NDArray[np.uint8]]:
    """Scale 1 (60, 36, 60) and scale 4 (15, 9, 15) of the benchmark's grid, both from the stored voxels by the rule `share-95`."""
    from wholescene.geometry.pyramid import pool_labels  # torch, only where it is asked for

    return {factor // FACTOR: pool_labels(volume.labels, factor, "share-95").astype(np.uint8, copy=False) for factor in (FACTOR, COARSE)}
