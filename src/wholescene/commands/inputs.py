"""What `predict` takes beside the picture: depth, a right picture, points; read and checked before a system sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholescene.commands.options import CameraOptions
from wholescene.commands.printing import percent
from wholescene.errors import InputError
from wholescene.systems.refine.config import check_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wholescene.structures import Frame, View
    from wholescene.systems.base import System


@dataclass(frozen=True)
class Given:
    """What the command line says of each picture, as it was written."""

    lens: CameraOptions
    grid: str | None = None
    depth: Path | None = None
    depth_unit: str | None = None
    depth_source: str | None = None
    right: Path | None = None
    baseline: float | None = None
    right_camera: str | None = None
    points: Path | None = None
    precision: str = "float32"
    steps: int | None = None

    def check(self, pictures: int) -> None:
        """Refuse what no picture can mend, before weights are loaded."""
        self.lens.check()
        if self.steps is not None:
            check_steps(self.steps, "--steps")
        if self.depth is None and self.depth_unit is not None:
            raise InputError(f"--depth-unit {self.depth_unit} says how to read a depth map, and no --depth FILE is given")
        if self.depth is not None and self.depth_source is not None:
            raise InputError(f"--depth {self.depth} and --depth-source {self.depth_source} both say what the depth is; give one of them")
        if self.baseline is not None and self.right_camera is not None:
            raise InputError(f"--baseline {self.baseline:g} and --right-camera {self.right_camera} both place the right camera; give one of them")
        if self.right is None and (self.baseline is not None or self.right_camera is not None):
            raise InputError("--baseline and --right-camera place the camera of the right picture, and no --right PICTURE is given")
        single = {"--depth": self.depth, "--right": self.right, "--points": self.points}
        if pictures > 1 and any(single.values()):
            named = " and ".join(option for option, value in single.items() if value)
            raise InputError(f"{named} belongs to one picture and {pictures} were given; run them one by one")

    def check_for(self, system: System) -> None:
        """Refuse an input that the system would not look at: an answer that ignores it would be taken for one that used it."""
        from wholescene.depth.sources import depth_source

        given = {"depth": self.depth or self.depth_source, "right": self.right, "points": self.points}
        wanted = system.needs | ({"depth", "points"} if "occupancy" in system.needs else frozenset())  # either becomes occupied voxels
        source = depth_source(self.depth_source) if self.depth_source is not None else system.depth_source
        if source is not None and "depth" in wanted:
            wanted |= source.needs
        for name, value in given.items():
            if value is not None and name not in wanted:
                needs = " and ".join(sorted(system.needs)) or "nothing else"
                raise InputError(
                    f"{system.name} takes the picture and {needs}; leave --{name} out, or choose a system that looks at it (`wholescene systems`)"
                )

    def added_to(self, frame: Frame, needs: frozenset[str]) -> tuple[Frame, list[tuple[str, object]]]:
        """The frame with depth, right picture and points where they are given (and the voxels that they occupy, for a system that needs those),
        and what to say of them."""
        said: list[tuple[str, object]] = []
        if self.depth is not None:
            frame, depth_said = _with_depth(frame, self.depth, self.depth_unit)
            said.append(("depth", depth_said))
        if self.right is not None:
            frame = replace(frame, views={**frame.views, "right": self._right_view(frame, self.right)})
        if self.depth_source is not None:
            from wholescene.depth.sources import depth_source, with_depth

            frame = with_depth(frame, depth_source(self.depth_source))
            said.append(("depth", f"by {self.depth_source}: {_summary(frame)}"))
        if self.points is not None:
            frame = replace(frame, points=_read_points(self.points))
            said.append(("points", f"{len(frame.points):,} from {self.points}"))  # type: ignore[arg-type]  # set in the line above
        if "occupancy" in needs and (frame.depth is not None or frame.points is not None):
            frame = _with_occupancy(frame)
            said.append(("occupied", f"{int(frame.occupancy.sum()):,} voxels of the input"))  # type: ignore[union-attr]  # set in the line above
        return frame, said

    def _right_view(self, frame: Frame, path: Path) -> View:
        """The right picture with its camera: its own one, that of the baseline, or (for systems that ask for none) the left one's."""
        from wholescene.reading.cameras import parse_camera
        from wholescene.reading.pictures import read_picture
        from wholescene.structures import View

        right, left = read_picture(path), frame.main.camera
        if (right.width, right.height) != left.size:
            raise InputError(f"{path} has {right.width} x {right.height} pixels; the right picture of a rectified pair is as large as the left one")
        if self.right_camera is None:
            return View(right.array, left if self.baseline is None else left.beside(self.baseline))
        before = left if self.lens.camera is None else parse_camera(self.lens.camera, left.size)
        return View(right.array, parse_camera(self.right_camera, left.size).moved_with(before, left))


def _with_depth(frame: Frame, path: Path, unit: str | None) -> tuple[Frame, str]:
    """The frame with a depth map of its picture's size, and how it was read."""
    from wholescene.depth.files import depth_unit, read_depth
    from wholescene.depth.protocol import doubted

    metres, valid = read_depth(path, unit)
    width, height = frame.main.camera.size
    if metres.shape != (height, width):
        raise InputError(f"{path} has {metres.shape[1]} x {metres.shape[0]} numbers and the picture {width} x {height} pixels; they must agree")
    if not valid.any():
        raise InputError(f"{path} holds no valid depth (finite and above zero); expected metres along the optical axis in most of the picture")
    frame = doubted(replace(frame, depth=metres), depth_unit(unit or "m"))
    return frame, f"{path} read as {depth_unit(unit or 'm')}: {_summary(frame)}"


def _summary(frame: Frame) -> str:
    """A frame's depth in words."""
    import numpy as np

    assert frame.depth is not None
    known = frame.depth[frame.depth > 0]
    return f"median {np.median(known):.2f} m, known in {percent(known.size / frame.depth.size)} of the picture"


def _with_occupancy(frame: Frame) -> Frame:
    """The frame with the voxels that its points lie in, or those of its depth map where there are no points."""
    import torch

    from wholescene.geometry.occupancy import occupancy_of_depth, occupancy_of_points

    if frame.points is not None:
        occupied = occupancy_of_points(torch.from_numpy(frame.points), frame.grid)
    else:
        assert frame.depth is not None
        occupied = occupancy_of_depth(torch.from_numpy(frame.depth), frame.main.camera, frame.grid)
    if not occupied.any():
        raise InputError(f"{frame.name}: no point lies in the grid; expected metres in the world of the camera's pose (x forward, y left, z up)")
    return replace(frame, occupancy=occupied.numpy())


def _read_points(path: Path) -> NDArray[Any]:
    """(N, 3 or more) float32 points of a KITTI sweep (.bin) or an array (.npy), metres in the world of the camera's pose."""
    import numpy as np

    from wholescene.data.volumes import read_sweep
    from wholescene.files import open_array

    if path.suffix.lower() != ".npy":
        return read_sweep(path)
    points = open_array(path, "(N, 3) or (N, 4) numbers")
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu" or len(points) > 10_000_000:
        raise InputError(f"{path} is not an array of points; expected (N, 3) or (N, 4) numbers in metres, at most 10 million rows")
    if not np.all(np.isfinite(points)):
        raise InputError(f"{path} holds numbers that are not finite; expected points in metres")
    return np.array(points, np.float32)
