"""Cameras that people have: presets, calibration files and folders, four numbers, and what the picture itself says."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wholescene.camera import Camera
from wholescene.errors import InputError, unknown_name
from wholescene.reading.descriptions import camera_of_plain, read_plain
from wholescene.reading.exif import FILM_MM, focal_pixels
from wholescene.reading.kitti import RAW_FILES, camera_of_raw, camera_of_rows, is_kitti, read_rows
from wholescene.reading.pictures import ReadPicture

USUAL_FOV_DEG = 65.0


@dataclass(frozen=True)
class Preset:
    """A camera whose numbers are public.

    Attributes:
        shows: what it is, for lists.
        variants: (width, height, fx, fy, cx, cy) in pixels; the one of the picture's own size is taken, else the first, scaled.
        film_mm: instead of numbers in pixels, the focal length on 35 mm film.
        height_m: usual height above the ground, metres, where it is known.
    """

    shows: str
    variants: tuple[tuple[int, int, float, float, float, float], ...] = ()
    film_mm: float | None = None
    height_m: float | None = None


PRESETS: dict[str, Preset] = {
    "kitti": Preset(
        "KITTI and SemanticKITTI, rectified colour cameras of the odometry set (by picture size)",
        (
            (1241, 376, 718.856, 718.856, 607.1928, 185.2157),
            (1226, 370, 707.0912, 707.0912, 601.8873, 183.1104),
            (1242, 375, 721.5377, 721.5377, 609.5593, 172.854),
        ),
        height_m=1.65,
    ),
    "kitti-360": Preset("KITTI-360, rectified perspective cameras", ((1408, 376, 552.554261, 552.554261, 682.049453, 238.769549),), height_m=1.55),
    "nuscenes-front": Preset(
        "nuScenes, front camera", ((1600, 900, 1266.417203, 1266.417203, 816.267020, 491.507066),), height_m=1.51
    ),
    "nuscenes-back": Preset("nuScenes, wide rear camera", ((1600, 900, 809.220991, 809.220991, 829.219600, 481.778424),)),
    "ddad-front": Preset("DDAD, front camera, a long lens", ((1936, 1216, 2181.530254, 2181.603447, 928.021882, 615.956788),)),
    "nyuv2": Preset("NYUv2 as the scene completion sets use it", ((640, 480, 518.8579, 518.8579, 320.0, 240.0),)),
    "kinect": Preset("Kinect (first generation), nominal numbers", ((640, 480, 525.0, 525.0, 319.5, 239.5),)),
    "phone": Preset("a phone's main camera, 26 mm on 35 mm film", film_mm=26.0),
}  # fmt: skip


def read_camera(path: str | Path, size: tuple[int, int] | None = None, which: str = "P2") -> Camera:
    """Read a camera from a calibration file or folder.

    Read are KITTI's text files (odometry, object, tracking), the folder of its raw data and that of an odometry sequence, ROS camera_info
    and OpenCV FileStorage and Kalibr YAML, JSON with K (3x3), width, height and a pose under a name that says its reading (see
    `descriptions`), and text of four (fx fy cx cy) or nine (K) numbers.

    Args:
        path: the file or folder.
        size: (width, height) of the picture that it is for; None: the calibration's own.
        which: of KITTI's cameras "P0" to "P3" (P2 is left colour); "P" for ROS's rectified projection; the camera's name where a file holds several.

    Returns:
        The camera, scaled to `size` where the calibration is for another one (a note then states both). Its world is the LiDAR's where the
        calibration says where that is; where no pose is given `pose_known` is False. Notes hold what was left out, such as distortion.

    Raises:
        InputError: missing, malformed, not calibrated, or without a picture size while `size` is None; the message says what was found.
    """
    path = Path(path)
    if path.is_dir():
        if (path / RAW_FILES[0]).exists():
            return _for_picture(camera_of_raw(path, which), size)
        if not (path / "calib.txt").exists():
            raise InputError(f"{path} holds neither {RAW_FILES[0]} (KITTI raw data) nor calib.txt (KITTI odometry); give the calibration file itself")
        path = path / "calib.txt"
    if path.name == RAW_FILES[0]:
        return _for_picture(camera_of_raw(path.parent, which), size)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return _for_picture(camera_of_plain(read_plain(path), path, size, which), size)
    rows = read_rows(path)
    if is_kitti(rows):
        return _for_picture(camera_of_rows(rows, path, _needed(size, path), which), size)
    numbers = _loose_numbers(path)
    if numbers is not None:
        return _of_numbers(numbers, _needed(size, path), path.name)
    return _for_picture(camera_of_plain(read_plain(path), path, size, which), size)


def parse_camera(text: str, size: tuple[int, int]) -> Camera:
    """The camera that a user names in one word.

    Args:
        text: a preset ("kitti"); a file or folder for `read_camera`, with an optional ":P3" behind it that says which of its cameras; or
            "fx,fy,cx,cy" in pixels of the picture. A folder that is called like a preset is given as "./kitti".
        size: (width, height) of the picture.

    Raises:
        InputError: none of these; the nearest preset is named.

    >>> float(parse_camera("kitti", (1241, 376)).K[0, 0])
    718.856
    """
    text = text.strip()
    if text in PRESETS:
        return _of_preset(text, size)
    if Path(text).exists():
        return read_camera(text, size)
    which = re.fullmatch(r"(.+):(P[0-3]?|\w+)", text)
    if which and Path(which[1]).exists():
        return read_camera(which[1], size, which[2])
    try:
        numbers = [float(word) for word in re.split(r"[,;\s]+", text)]
    except ValueError:
        numbers = []
    if len(numbers) == 4 and all(map(math.isfinite, numbers)):
        return _of_numbers(numbers, size, "four numbers")
    if numbers:
        raise InputError(f"the camera {text!r} has {len(numbers)} numbers; expected fx,fy,cx,cy in pixels, four finite ones")
    if "/" in text or "\\" in text or Path(text).suffix:
        raise InputError(f"the camera file {text} does not exist; check the path, or give a preset ({', '.join(PRESETS)}) or fx,fy,cx,cy")
    raise InputError(f"{unknown_name('camera preset', text, PRESETS)}; or give four numbers of pixels, fx,fy,cx,cy, or a calibration file")


def camera_of(read: ReadPicture, fov: float | None = None) -> Camera:
    """The camera of a picture about which nothing else is known, without a pose.

    Args:
        read: the picture.
        fov: horizontal field of view in degrees; None: what EXIF says, else 65 degrees along the longer side, which is called a guess.

    Raises:
        InputError: a field of view outside 1..179 degrees.
    """
    size = (read.width, read.height)
    if fov is not None:
        return Camera.from_fov(fov, size, source=f"a field of view of {fov:g} degrees")
    pixels, notes = focal_pixels(read.exif)
    if pixels is not None:
        return _middle(pixels, size, "EXIF").noted(*notes)
    pixels = max(size) / 2 / math.tan(math.radians(USUAL_FOV_DEG) / 2)
    guessed = _middle(pixels, size, f"a guessed field of view of {USUAL_FOV_DEG:g} degrees", (f"field of view {USUAL_FOV_DEG:g} degrees",))
    return guessed.noted(*notes)


def _middle(focal: float, size: tuple[int, int], source: str, guesses: tuple[str, ...] = ()) -> Camera:
    return Camera.from_intrinsics(focal, focal, (size[0] - 1) / 2, (size[1] - 1) / 2, size, source=source, guesses=guesses)


def _of_preset(name: str, size: tuple[int, int]) -> Camera:
    preset = PRESETS[name]
    source = f"the preset {name}"
    if preset.film_mm is not None:
        return _middle(preset.film_mm / FILM_MM * max(size), size, source, (f"focal length {preset.film_mm:g} mm on 35 mm film",))
    width, height, fx, fy, cx, cy = next((v for v in preset.variants if v[:2] == size), preset.variants[0])
    return _for_picture(Camera.from_intrinsics(fx, fy, cx, cy, (width, height), source=source), size)


def _of_numbers(numbers: list[float], size: tuple[int, int], source: str) -> Camera:
    if len(numbers) == 4:
        fx, fy, cx, cy = numbers
        return Camera.from_intrinsics(fx, fy, cx, cy, size, source=source)
    return Camera(np.array(numbers).reshape(3, 3), size, pose_known=False, source=source)


def _loose_numbers(path: Path) -> list[float] | None:
    """Four or nine numbers that are all a text file holds; None if it holds anything else."""
    try:
        numbers = [float(word) for word in re.split(r"[,;\s]+", path.read_text(encoding="utf-8-sig").strip())]
    except ValueError:
        return None
    return numbers if len(numbers) in (4, 9) else None


def _needed(size: tuple[int, int] | None, path: Path) -> tuple[int, int]:
    if size is None:
        raise InputError(f"{path} states no picture size; give the picture with it, or its size")
    return size


def _for_picture(camera: Camera, size: tuple[int, int] | None) -> Camera:
    """The camera scaled to a picture of another size, each axis by its own factor, with a note that states both sizes."""
    if size is None or camera.size == size:
        return camera
    (width, height), (now_width, now_height) = camera.size, size
    across, down = now_width / width, now_height / height
    note = f"{camera.source} is for {width} x {height} pixels and the picture has {now_width} x {now_height}: "
    note += f"K was scaled by {across:.4g} and {down:.4g}"
    if abs(across / down - 1) > 0.02:
        note += "; the two differ, so if the picture was cropped and not resized, give fx,fy,cx,cy in its own pixels"
    return camera.resized(size).noted(note)
