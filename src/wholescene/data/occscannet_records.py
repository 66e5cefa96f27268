"""One record of Occ-ScanNet: a pickle with the paths of picture and depth map, the camera, and the labels of 60 x 60 x 36 voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.labels import NYUV2, UNKNOWN
from wholescene.reading.pickles import printable, read_record

SHAPE, COARSE_SHAPE = (60, 60, 36), (15, 15, 9)  # voxels of 0.08 m and 0.32 m, as stored
VOXEL = 0.08
Axes = Literal["y-x-z", "x-y-z"]
AXES: tuple[Axes, ...] = ("y-x-z", "x-y-z")
_LONGEST = 200  # bytes of SCENE/FRAME; file systems refuse to look for much longer names


@dataclass(frozen=True)
class Record:
    """What a record says.

    Attributes:
        picture, depth: paths as they were written on the disk of its authors.
        K: (3, 3) float64 intrinsics in pixels of the recorded picture.
        pose: (4, 4) float64, camera to world.
        origin: (3,) float64 lower corner of the volume in the world (x, y, z up), metres.
        targets: scale -> (60, 60, 36) or (15, 15, 9) uint8 classes 0..11, 255 unknown, as stored.
    """

    picture: str
    depth: str
    K: NDArray[np.float64]
    pose: NDArray[np.float64]
    origin: NDArray[np.float64]
    targets: dict[int, NDArray[np.uint8]]

    @classmethod
    def read(cls, path: Path) -> Record:
        """The record of a file.

        Raises:
            InputError: as `read_record`, or a field is missing, of another shape, or holds labels that no class has.
        """
        found = read_record(path)
        intrinsic = _numbers(path, found, "intrinsic")
        if intrinsic.ndim != 2 or min(intrinsic.shape) < 3:
            raise InputError(f"{path}: its intrinsic has shape {intrinsic.shape}; expected (3, 3) or (4, 4) numbers")
        pose, origin = _numbers(path, found, "cam_pose"), _numbers(path, found, "voxel_origin")
        if pose.shape != (4, 4) or origin.size != 3:
            raise InputError(f"{path}: its cam_pose has shape {pose.shape} and its voxel_origin {origin.shape}; expected (4, 4) and (3,)")
        targets = {1: _labels(path, found, "target_1_4", SHAPE), 4: _labels(path, found, "target_1_16", COARSE_SHAPE)}
        return cls(_text(path, found, "img"), _text(path, found, "depth_gt"), intrinsic[:3, :3], pose, origin.reshape(3), targets)

    def grid(self) -> VoxelGrid:
        """60 x 60 x 36 voxels of 0.08 m from the record's corner, axes world x, y, z."""
        return VoxelGrid.from_corner(self.origin.tolist(), SHAPE, VOXEL)

    def camera(self, size: tuple[int, int], source: str) -> Camera:
        """The camera for pictures of (width, height) pixels as recorded."""
        K = self.K.copy()
        K[1, 0], K[2] = 0.0, (0.0, 0.0, 1.0)
        try:
            pose = np.linalg.inv(self.pose)
        except np.linalg.LinAlgError as error:
            raise InputError(f"{source}: its cam_pose is no invertible 4x4 matrix (ScanNet marks lost frames so); exclude the frame") from error
        return Camera(K, size, pose_known=False, source=source).posed(pose, world="scene")

    def on_axes(self, axes: Axes) -> dict[int, NDArray[np.uint8]]:
        """The targets with axes world x, y, z, if the stored ones are `axes`."""
        if axes == "x-y-z":
            return dict(self.targets)
        return {scale: np.ascontiguousarray(labels.transpose(1, 0, 2)) for scale, labels in self.targets.items()}


def rerooted(written: str, anchor: str, root: Path) -> Path:
    """A path that was written on another disk, under this root: what follows the folder `anchor` in it, else its last two parts.

    >>> rerooted("/mnt/someone/data/posed_images/scene0000_00/00000.jpg", "posed_images", Path("here")).as_posix()
    'here/posed_images/scene0000_00/00000.jpg'
    """
    parts = PurePosixPath("/" + written.replace("\\", "/").lstrip("/")).parts[1:]  # without the root, which would lead back to that disk's
    kept = parts[len(parts) - parts[::-1].index(anchor) :] if anchor in parts else parts[-2:]
    name = "/".join(kept)
    if not kept or ".." in kept or not name.isprintable() or len(name.encode()) > _LONGEST:
        said = f"the path {written[:200]!r} in a record leads out of its folder, or names no frame"
        raise InputError(f"{said}; expected .../{anchor}/SCENE/FRAME; do not trust this file")
    return root / anchor / Path(*kept)


def _field(path: Path, found: Mapping[str, Any], name: str) -> Any:
    if name not in found:
        raise InputError(f"{path} has no {name}; expected the fields of an Occ-ScanNet record, found {printable(', '.join(sorted(found))) or 'none'}")
    return found[name]


def _text(path: Path, found: Mapping[str, Any], name: str) -> str:
    value = _field(path, found, name)
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"{path}: its {name} is no path; expected text such as posed_images/scene0000_00/00000.jpg")
    return value


def _numbers(path: Path, found: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    try:
        value = np.asarray(_field(path, found, name), np.float64)
    except (TypeError, ValueError, OverflowError):
        value = np.array(np.nan)
    if not np.isfinite(value).all():
        raise InputError(f"{path}: its {name} is not finite numbers (ScanNet marks frames whose camera was lost so); exclude the frame")
    return value


def _labels(path: Path, found: Mapping[str, Any], name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    try:
        value = np.asarray(_field(path, found, name))
    except (TypeError, ValueError, OverflowError):  # rows of unlike lengths
        value = np.empty(0)
    if value.shape != shape or value.dtype.kind not in "iuf":
        raise InputError(f"{path}: its {name} has shape {value.shape}; expected {shape} voxels: a record of another grid")
    wrong = ~np.isin(value, [*range(NYUV2.classes), UNKNOWN])
    if wrong.any():
        raise InputError(f"{path}: its {name} holds the label {value[wrong].reshape(-1)[0]}; expected classes 0 to {NYUV2.classes - 1}, or {UNKNOWN}")
    return value.astype(np.uint8)
