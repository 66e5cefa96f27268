"""KITTI's calibration text in all its spellings: odometry, object, tracking and raw data (Geiger et al. 2012, 2013)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.files import read_bytes

Rows = dict[str, NDArray[np.float64]]

RAW_FILES = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")

_LIDAR_TO_CAMERA = ("Tr", "Tr_velo_cam", "Tr_velo_to_cam")  # odometry, tracking, object
_RECTIFICATION = ("R_rect", "R0_rect")  # tracking, object; odometry's Tr has it inside
_MOST_BYTES = 2**20
_MATRICES = re.compile(r"P\d|[PRST]_rect_\d\d|R0?_rect|R|T|Tr\w*")  # rows that must be numbers
_KEYED = re.compile(r"\s*([A-Za-z]\w*)\s*(?::\s*|\s)(.*)")


def read_rows(path: str | Path) -> Rows:
    """Key -> numbers (N,) of a calibration text file, in the order of the file.

    A line is a key, a colon or a space, and numbers. Lines without a number (empty ones, dates, comments) are passed over wherever they stand.

    Raises:
        InputError: missing, too large, not text, or a matrix with something that is not a finite number.
    """
    content = read_bytes(path, _MOST_BYTES, "calibration file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file ({error.reason} at byte {error.start}); expected a calibration file") from error
    rows: Rows = {}
    for line in text.splitlines():
        found = _KEYED.fullmatch(line)
        if not found:
            continue
        try:
            values = np.array([float(word) for word in found[2].replace(",", " ").split()])
        except ValueError as error:
            if _MATRICES.fullmatch(found[1]):
                raise InputError(f"{path}: row {found[1]} holds a word that is not a number ({error}); is the file damaged?") from error
            continue
        if values.size and not np.all(np.isfinite(values)):
            raise InputError(f"{path}: row {found[1]} holds a number that is not finite: {found[2].strip()[:80]}")
        if values.size:
            rows[found[1]] = values
    return rows


def is_kitti(rows: Rows) -> bool:
    """Whether rows look like a KITTI calibration."""
    return any(re.fullmatch(r"P\d|P_rect_\d\d", key) for key in rows)


def lidar_to_camera(rows: Rows, where: str) -> NDArray[np.float64] | None:
    """(4, 4) float64, LiDAR to rectified camera 0, metres; None where the rows hold none.

    Raises:
        InputError: a row with a wrong count of numbers.
    """
    key = next((k for k in _LIDAR_TO_CAMERA if k in rows), None)
    if key is None:
        return None
    transform = np.eye(4)
    transform[:3] = matrix(rows, key, (3, 4), where)
    rectification = next((k for k in _RECTIFICATION if k in rows), None)
    if key != "Tr" and rectification:
        transform[:3] = matrix(rows, rectification, (3, 3), where) @ transform[:3]
    return transform


def matrix(rows: Rows, key: str, shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    """One row as a matrix.

    Raises:
        InputError: the row is missing, or has another count of numbers; the keys that are there are listed.
    """
    if key not in rows:
        raise InputError(f"{where} has no row {key}; it holds {', '.join(rows) or 'no row of numbers'}")
    if rows[key].size != np.prod(shape):
        raise InputError(f"{where}: row {key} has {rows[key].size} numbers; expected {' x '.join(map(str, shape))}; is the file cut short?")
    return rows[key].reshape(shape)


def camera_of_rows(rows: Rows, path: Path, size: tuple[int, int], which: str) -> Camera:
    """A camera from odometry, object or tracking rows, which state no picture size.

    Args:
        rows: of `read_rows`.
        path: for messages.
        size: (width, height) of the picture, taken as that of the calibration.
        which: "P0" to "P3"; P2 is the left colour camera, P3 the right one.

    Returns:
        The camera; its world is the LiDAR's where a row says where that is, else it has no pose and a note says what was looked for.
    """
    projection = matrix(rows, which, (3, 4), str(path))
    transform = lidar_to_camera(rows, str(path))
    camera = _camera(projection, size, f"{path.name} ({which})", transform)
    if transform is None:
        camera = camera.noted(
            f"no pose: {path} holds {', '.join(rows)} but no LiDAR-to-camera row ({', '.join(_LIDAR_TO_CAMERA)}), "
            "which is in KITTI's separate calibration archive"
        )
    width, height = size
    if abs(camera.K[0, 2] - (width - 1) / 2) > 0.2 * width or abs(camera.K[1, 2] - (height - 1) / 2) > 0.2 * height:
        camera = camera.noted(
            f"{path.name} states no picture size and its principal point ({camera.K[0, 2]:.0f}, {camera.K[1, 2]:.0f}) is far from the middle of "
            f"this picture ({width} x {height}): if the picture was resized, give fx,fy,cx,cy in its own pixels"
        )
    return camera


def camera_of_raw(folder: Path, which: str) -> Camera:
    """A camera from KITTI's raw-data calibration: P_rect_xx and S_rect_xx of one file, R and T of the other.

    LiDAR to camera is R_rect_00 * [R | T]. Args and pose as in `camera_of_rows`.

    Raises:
        InputError: a file or a row is missing.
    """
    number = re.fullmatch(r"P([0-3])", which)
    if not number:
        raise InputError(f"unknown camera {which!r} of a KITTI calibration; known: P0, P1, P2, P3")
    where = folder / RAW_FILES[0]
    rows = read_rows(where)
    key = f"0{number[1]}"
    projection = matrix(rows, f"P_rect_{key}", (3, 4), str(where))
    width, height = matrix(rows, f"S_rect_{key}", (2,), str(where))
    source = f"{folder.resolve().name}/{where.name} (P_rect_{key})"
    lidar = folder / RAW_FILES[1]
    if not lidar.exists():
        camera = _camera(projection, (int(width), int(height)), source, None)
        return camera.noted(f"no pose: {lidar} is missing, which says where the LiDAR is")
    pose_rows = read_rows(lidar)
    transform = np.eye(4)
    transform[:3, :3] = matrix(pose_rows, "R", (3, 3), str(lidar))
    transform[:3, 3] = matrix(pose_rows, "T", (3,), str(lidar))
    transform[:3] = matrix(rows, "R_rect_00", (3, 3), str(where)) @ transform[:3]
    return _camera(projection, (int(width), int(height)), source, transform)


def _camera(projection: NDArray[np.float64], size: tuple[int, int], source: str, transform: NDArray[np.float64] | None) -> Camera:
    pose = np.eye(4) if transform is None else transform
    return Camera(
        projection[:, :3], size, pose, projection[:, 3], pose_known=transform is not None,
        world="scene" if transform is None else "lidar", source=source,
    )  # fmt: skip
