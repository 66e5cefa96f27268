"""Options that several commands share, and how their text becomes cameras, grids and devices."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from wholescene.errors import InputError

if TYPE_CHECKING:
    from wholescene.camera import Camera
    from wholescene.grid import GridPlacement
    from wholescene.reading.pictures import ReadPicture

DEFAULT_WEIGHTS = "monoscene-street-small"
_KNOWS_METAVAR = hasattr(Parameter(), "metavar")  # cyclopts 4, the last that runs on Python 3.10, does not


def shown(value: str, **more: Any) -> Parameter:
    """A parameter whose value is shown under that word in the help."""
    return Parameter(**(more | {"metavar": value} if _KNOWS_METAVAR else more))


File = Annotated[Path, shown("FILE")]
Folder = Annotated[Path, shown("DIR")]
Switch = Annotated[bool, Parameter(show_default=False)]


@Parameter(name="*", group=Group("Camera", sort_key=10))
@dataclass(frozen=True)
class CameraOptions:
    """What is known of the camera.

    Attributes:
        camera: a preset (kitti, phone, ...), a calibration file or folder, or fx,fy,cx,cy in pixels; without one the picture's EXIF data count,
            else a field of view of 65 degrees is guessed, and called a guess.
        fov: horizontal field of view in degrees, between 1 and 179, instead of a camera.
        height: metres of the camera above the ground.
        pitch: degrees that the camera looks down; negative looks up.
    """

    camera: Annotated[str | None, shown("PRESET|FILE|fx,fy,cx,cy")] = None
    fov: Annotated[float | None, shown("DEG")] = None
    height: Annotated[float | None, shown("M")] = None
    pitch: Annotated[float | None, shown("DEG")] = None

    def check(self) -> None:
        """Refuse what no picture can mend, before the first one is read.

        Raises:
            InputError: two statements about the lens, or a number outside its range.
        """
        from wholescene.camera import Camera
        from wholescene.reading.cameras import parse_camera

        if self.camera is not None and self.fov is not None:
            raise InputError(f"--camera {self.camera} and --fov {self.fov:g} both say what the lens is; give one of them")
        if self.camera is not None:
            parse_camera(self.camera, (640, 480))
        probe = Camera.from_fov(self.fov if self.fov is not None else 65.0, (640, 480))
        if self.height is not None or self.pitch is not None:
            probe.on_ground(self.height if self.height is not None else 1.65, self.pitch or 0.0)

    def of(self, read: ReadPicture, height_m: float, pitch_deg: float) -> Camera:
        """The posed camera of a picture; height (metres) and pitch (degrees, positive down) stand in for what nobody gave, and are called guesses."""
        from wholescene.reading.cameras import PRESETS, camera_of, parse_camera

        camera = camera_of(read, self.fov) if self.camera is None else parse_camera(self.camera, (read.width, read.height))
        if camera.pose_known and self.height is None and self.pitch is None:
            return camera
        usual = PRESETS[self.camera].height_m if self.camera in PRESETS else None
        height_m = usual if usual is not None else height_m
        guesses = [f"height {height_m:g} m"] if self.height is None else []
        guesses += [f"pitch {pitch_deg:g} degrees"] if self.pitch is None else []
        return camera.on_ground(height_m if self.height is None else self.height, pitch_deg if self.pitch is None else self.pitch, guesses=guesses)


def placement(text: str | None, base: GridPlacement) -> GridPlacement:
    """The grid that `--grid` describes.

    Args:
        text: "X,Y,Z@SIZE" in voxels and metres, with "x" or "," between the counts and an optional ":x,y,z" for the lower corner
            relative to the ground below the camera; None: `base` as it is.
        base: the grid of the weights, whose axis order and placing rule are kept. Counts, sizes and corner are always
            written forward, left, up, whatever the order of the array axes.

    Raises:
        InputError: text of another form.

    >>> from wholescene.grid import GridPlacement
    >>> placement("128x128x16@0.4", GridPlacement()).corner
    (-0.27, -25.6, -0.27)
    >>> placement("60x60x36@0.08:0,-2.4,0", GridPlacement(axes="xzy")).shape
    (60, 36, 60)
    """
    if text is None:
        return base
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)"
    found = re.fullmatch(rf"(\d+)[x,](\d+)[x,](\d+)@({number}(?:[x,]{number}){{0,2}})(?::({number},{number},{number}))?", text.strip())
    edges = [float(e) for e in re.split("[x,]", found[4])] if found else []
    if found is None or len(edges) == 2:
        raise InputError(
            f"--grid {text!r} is not a grid; write voxels forward x left x up @ their size in metres, for example 256x256x32@0.2, "
            "and where it is not to lie straight ahead its lower corner from the ground below the camera: 256x256x32@0.2:0,-25.6,-0.3"
        )
    counts = [int(found[axis]) for axis in (1, 2, 3)]
    edges = edges * 3 if len(edges) == 1 else edges
    i, j, k = ("xyz".index(axis) for axis in base.axes)
    if found[5]:
        x, y, z = (float(c) for c in found[5].split(","))
        rule = "ground"
    else:
        x, y, z, rule = base.corner[0], -counts[1] * edges[1] / 2, base.corner[2], base.rule
    shape, sizes = (counts[i], counts[j], counts[k]), (edges[i], edges[j], edges[k])
    return replace(base, shape=shape, voxel_size=sizes, corner=(x, y, z), lidar_corner=None, rule=rule)


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: naming those that it has.
    """
    import torch

    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *(["mps"] if torch.backends.mps.is_available() else [])]
    if device in there or (device == "cuda" and "cuda:0" in there):
        return
    raise InputError(f"the device {device!r} is not here; this machine has {', '.join(there)}; choose one with --device (see `wholescene doctor`)")
