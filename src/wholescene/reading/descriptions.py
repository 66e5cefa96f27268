"""Cameras written as YAML or JSON: ROS camera_info, OpenCV FileStorage, Kalibr, or a plain mapping with K and a pose."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.files import read_bytes
from wholescene.reading.distortion import largest_shift

Plain = Mapping[str, Any]

_MOST_BYTES = 2**20
_MOST_NUMBERS = 64
_WORLDS = ("scene", "ground", "lidar")

# Names are compared in lower case without separators, so camera_matrix, cameraMatrix and Camera.Matrix are one.
_K = ("k", "cameramatrix", "intrinsicmatrix", "intrinsics", "intrinsic", "camk")
_SCALARS = {"fx": ("fx", "flx", "camerafx"), "fy": ("fy", "fly", "camerafy"), "cx": ("cx", "cameracx"), "cy": ("cy", "cameracy")}
_RECTIFIED = ("p", "projectionmatrix")
_DISTORTION = ("d", "distortioncoefficients", "distcoeffs", "distortioncoeffs", "distortion", "dist")
_WIDTH, _HEIGHT = ("width", "imagewidth", "w", "camerawidth"), ("height", "imageheight", "h", "cameraheight")
_SIZE = ("resolution", "imagesize", "size")
_CAM_TO_WORLD = ("camtoworld", "cameratoworld", "cam2world", "camera2world", "c2w", "tworldcam", "tworldcamera", "twc", "pose", "camerapose")
_WORLD_TO_CAM = ("worldtocam", "worldtocamera", "world2cam", "world2camera", "w2c", "tcamworld", "tcameraworld", "tcw", "extrinsics", "extrinsic")
_LIDAR_TO_CAM = ("lidartocam", "lidartocamera", "lidar2cam", "velotocam", "velo2cam", "tcamlidar", "tcamvelo")

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # y up and z backward, to y down and z forward; its own inverse


def read_plain(path: Path) -> Plain:
    """A YAML or JSON file as plain mappings, lists, numbers and texts; nothing in it is executed.

    Raises:
        InputError: not text, too large, malformed, or not a mapping.
    """
    content = read_bytes(path, _MOST_BYTES, "camera file")
    try:
        text = content.decode("utf-8-sig")
        plain = json.loads(text) if path.suffix.lower() == ".json" else _yaml(text)
    except (ValueError, RecursionError) as error:  # decoding and JSON errors are ValueErrors
        raise InputError(f"{path} cannot be read as {'JSON' if path.suffix.lower() == '.json' else 'YAML'} ({_short(error)})") from error
    if not isinstance(plain, dict):
        raise InputError(f"{path} holds {_short(type(plain).__name__)} at the top; expected names and values, such as K, width and height")
    return {str(key): value for key, value in plain.items()}


def _yaml(text: str) -> Any:
    """The first document of a YAML text, or of what OpenCV's FileStorage writes."""
    import yaml

    class PlainLoader(yaml.SafeLoader):
        """Safe loading that takes OpenCV's matrix tag for the mapping it marks."""

    PlainLoader.add_constructor("tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True))  # type: ignore[arg-type]
    text = re.sub(r"\A%YAML:1\.\d[^\n]*", "", text)  # OpenCV's own first line, which YAML's grammar refuses
    try:
        return PlainLoader(text).get_data()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def camera_of_plain(plain: Plain, path: Path, size: tuple[int, int] | None, which: str) -> Camera:
    """A camera from the plain types of a file.

    Args:
        plain: of `read_plain`.
        path: for messages.
        size: (width, height) of the picture, used where the file states none.
        which: "P" takes ROS's projection_matrix (for rectified pictures) instead of the camera matrix; of several cameras in one file
            the name of one (Kalibr's "cam0").

    Returns:
        The camera at the file's own size. A bare `pose` is camera to world with OpenCV axes (x right, y down, z forward); names such as
        cam_to_world_opengl, world_to_cam_opencv, T_cam_world, extrinsics (world to camera) and lidar_to_cam say otherwise.
        `height_m` and `pitch_deg` put it on the ground.

    Raises:
        InputError: no intrinsics, values that are no numbers, or two poses that disagree.
    """
    if {"K", "recorded_size", "T_cam_world"} <= plain.keys():
        return Camera.from_dict(dict(plain))
    entries = _Entries.chosen(plain, str(path), which)
    source = path.name if entries.prefix == "" else f"{path.name} ({entries.prefix.rstrip('.')})"
    rectified = entries.find(_RECTIFIED) if which == "P" else None
    if which == "P" and rectified is None:
        raise InputError(f"{path} has no projection_matrix (P); it holds {_names(plain)}")
    K, offset = _projection(entries, rectified)
    recorded = _recorded_size(entries) or size
    if not K.any() or recorded is None:
        # An all-zero K often comes with a size of 0 x 0: the camera's own refusal says what matters.
        Camera(K, recorded or (1, 1), offset=offset, source=source)
        raise InputError(f"{path} states no picture size; add width and height, or give the picture with it")
    camera = Camera(K, recorded, offset=offset, pose_known=False, source=source)
    if rectified is None:
        camera = _with_distortion(camera, entries)
    return _posed(camera, entries, path)


@dataclass(frozen=True)
class _Entries:
    """The entries of one camera by their normalised names, with the names as written for messages."""

    values: dict[str, tuple[str, Any]]
    where: str
    prefix: str = ""

    @classmethod
    def chosen(cls, plain: Plain, where: str, which: str) -> _Entries:
        """The entries at the top, or those of the camera inside that is meant."""
        top = cls._of(plain, where)
        if top.has_intrinsics():
            return top
        inside = {name: cls._of(value, where, f"{name}.") for name, value in plain.items() if isinstance(value, dict)}
        cameras = {name: entries for name, entries in inside.items() if entries.has_intrinsics()}
        if which in cameras:
            return cameras[which]
        if len(cameras) == 1:
            return next(iter(cameras.values()))
        if cameras:
            raise InputError(f"{where} holds several cameras ({_names(cameras)}); say which, for example {where}:{next(iter(cameras))}")
        raise InputError(f"{where} holds no camera: its names are {_names(plain)}; expected K (3x3, pixels) or fx, fy, cx, cy, with width and height")

    @classmethod
    def _of(cls, plain: Plain, where: str, prefix: str = "") -> _Entries:
        return cls({re.sub(r"[^a-z0-9]", "", str(k).lower()): (f"{prefix}{k}", v) for k, v in plain.items()}, where, prefix)

    def has_intrinsics(self) -> bool:
        return self.find(_K) is not None or all(self.find(names) for names in _SCALARS.values())

    def find(self, names: tuple[str, ...]) -> tuple[str, Any] | None:
        """(name as written, value) of the first of those names that is there and not null."""
        return next((self.values[n] for n in names if n in self.values and self.values[n][1] is not None), None)

    def numbers(self, entry: tuple[str, Any], counts: tuple[int, ...] = ()) -> list[float]:
        """The numbers of an entry: a number, a list, a list of lists, a matrix with rows, cols and data, or a text of numbers."""
        name, value = entry
        rows = cols = None
        if isinstance(value, dict):
            if "data" not in value:
                raise InputError(f"{self.where}: {name} has no data; it holds {_names(value)}")
            name, rows, cols, value = f"{name}.data", value.get("rows"), value.get("cols"), value["data"]
        found: list[float] = []
        self._collect(value, name, found, 0)
        if isinstance(rows, int) and isinstance(cols, int) and found and len(found) != rows * cols:
            raise InputError(f"{self.where}: {name} has {len(found)} numbers, but its rows and cols say {rows} x {cols}")
        if counts and len(found) not in counts:
            raise InputError(f"{self.where}: {name} has {len(found)} numbers; expected {' or '.join(map(str, counts))}")
        return found

    def _collect(self, value: Any, name: str, found: list[float], depth: int) -> None:
        # Depth and count are bounded because YAML's aliases can make a small file unfold for ever.
        if isinstance(value, list) and depth < 3 and len(value) <= _MOST_NUMBERS:
            for part in value:
                self._collect(part, name, found, depth + 1)
            return
        words = value.replace(",", " ").split() if isinstance(value, str) and len(value) < 4096 else [value]
        for word in words:
            try:
                number = float("nan") if isinstance(word, bool | list | dict | None) else float(word)
            except (TypeError, ValueError, OverflowError):
                number = float("nan")
            if not np.isfinite(number) or len(found) >= _MOST_NUMBERS:
                found_here = f"a {type(word).__name__} inside" if isinstance(word, list | dict) else _short(repr(word))  # which may unfold too
                raise InputError(f"{self.where}: {name} holds {found_here}; expected at most {_MOST_NUMBERS} finite numbers")
            found.append(number)

    def word(self, names: tuple[str, ...], otherwise: str) -> str:
        """The text of an entry."""
        name, value = self.find(names) or ("", otherwise)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: {name} holds a {type(value).__name__}; expected a word")
        return value

    def scalar(self, names: tuple[str, ...]) -> float | None:
        """The number of an entry, None where there is none."""
        entry = self.find(names)
        return None if entry is None else self.numbers(entry, (1,))[0]


def _projection(entries: _Entries, rectified: tuple[str, Any] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K (3, 3) and the fourth column of a 3x4 matrix (zero where there is none)."""
    entry = rectified or entries.find(_K)
    if entry is None:
        fx, fy, cx, cy = (entries.scalar(names) or 0.0 for names in _SCALARS.values())
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.zeros(3)
    values = entries.numbers(entry, (4, 9, 12, 16))
    if len(values) == 4:
        fx, fy, cx, cy = values
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.zeros(3)
    if len(values) == 9:
        return np.array(values).reshape(3, 3), np.zeros(3)
    matrix = np.array(values[:12]).reshape(3, 4)
    return matrix[:, :3], matrix[:, 3]


def _recorded_size(entries: _Entries) -> tuple[int, int] | None:
    width, height = entries.scalar(_WIDTH), entries.scalar(_HEIGHT)
    both = entries.find(_SIZE)
    if (width is None or height is None) and both is not None:
        width, height = entries.numbers(both, (2,))
    if not width or not height:
        return None
    if not (1 <= width <= 65536 and 1 <= height <= 65536):
        raise InputError(f"{entries.where} states a picture size of {width:g} x {height:g}; expected 1 to 65,536 pixels on each side")
    return round(width), round(height)


def _with_distortion(camera: Camera, entries: _Entries) -> Camera:
    """The camera with a note that says how far its lens bends: nothing here straightens pictures."""
    entry = entries.find(_DISTORTION)
    if entry is not None:
        coefficients = entries.numbers(entry)
    else:
        named = [entries.scalar((name, f"camera{name}")) for name in ("k1", "k2", "p1", "p2", "k3")]
        coefficients = [value or 0.0 for value in named]
    if not any(coefficients):
        return camera
    if len(coefficients) > 12 and any(coefficients[12:]):
        raise InputError(f"{entries.where} gives {len(coefficients)} distortion numbers (a tilted sensor); straighten the picture, and give K alone")
    shift = largest_shift(camera.K, camera.size, coefficients, entries.word(("distortionmodel", "distmodel"), ""))
    return camera.noted(
        f"the lens distortion in {Path(entries.where).name} is left in the picture: it moves pixels by up to {shift:.1f} px at the border; "
        "straighten the picture first where that matters"
    )


def _posed(camera: Camera, entries: _Entries, path: Path) -> Camera:
    poses: dict[str, NDArray[np.float64]] = {}
    world = "scene"
    for key in entries.values:
        axes = np.eye(4) if not key.endswith("opengl") else _OPENGL
        direction = re.sub(r"(opencv|opengl)$", "", key)
        if direction not in (*_CAM_TO_WORLD, *_WORLD_TO_CAM, *_LIDAR_TO_CAM) or entries.values[key][1] is None:
            continue
        name = entries.values[key][0]
        values = np.array(entries.numbers(entries.values[key], (12, 16)))
        matrix = np.vstack([values[:12].reshape(3, 4), values[12:].reshape(-1, 4) if values.size == 16 else [[0.0, 0.0, 0.0, 1.0]]])
        if direction in _CAM_TO_WORLD:
            if abs(np.linalg.det(matrix)) < 1e-9:
                raise InputError(f"{path}: {name} cannot be inverted; expected a rigid 4x4 transform")
            matrix = np.linalg.inv(matrix)
        world = "lidar" if direction in _LIDAR_TO_CAM else world
        poses[name] = axes @ matrix
    first, *others = poses or [""]
    for other in others:
        if not np.allclose(poses[first], poses[other], atol=1e-3):
            raise InputError(f"{path} gives two poses that disagree: {first} and {other}; keep the right one")
    height, pitch = entries.scalar(("heightm", "cameraheightm")), entries.scalar(("pitchdeg", "camerapitchdeg"))
    if height is not None and not poses:
        return camera.on_ground(height, pitch or 0.0, guesses=() if pitch is not None else ("pitch 0 degrees",))
    if not poses:
        held = _names(dict(entries.values.values()))
        return camera.noted(f"no pose: {path} holds {held} but no 4x4 pose (cam_to_world_opencv, world_to_cam_opencv or the like)")
    said = entries.word(("world",), world)
    if said not in _WORLDS:
        raise InputError(f"{path}: world is {_short(repr(said))}; expected one of {', '.join(_WORLDS)}")
    return camera.posed(poses[first], said)


def _names(plain: Mapping[str, Any]) -> str:
    shown = ", ".join(_short(name, 40) for name in list(plain)[:12])
    return (shown + (", ..." if len(plain) > 12 else "")) or "nothing"


def _short(text: object, length: int = 120) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= length else line[: length - 3] + "..."
