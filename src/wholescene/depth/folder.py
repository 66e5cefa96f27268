"""Depth maps that others made, one file a frame, found by the frame's name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from wholescene.depth.files import DepthUnit, Metres, Valid, depth_unit, read_depth
from wholescene.errors import InputError
from wholescene.structures import Frame

SUFFIXES = (".npy", ".png", ".tiff", ".tif")


class DepthFiles:
    """A folder of depth maps: FOLDER/sequences/SS/FRAME, FOLDER/SS/FRAME or FOLDER/FRAME, with a suffix of `SUFFIXES`.

    The first is how VoxFormer's and Symphonies' depth of SemanticKITTI is laid out, the second SSCBench-KITTI-360's. Arrays of floats hold metres;
    for pictures and whole numbers the unit must be said.
    """

    needs: frozenset[str] = frozenset()
    identity = ""

    def __init__(self, folder: str | Path, unit: str | None = None) -> None:
        """
        Args:
            folder: that holds them.
            unit: as for `depth_unit`; or "baseline:METRES", for disparity in pixels whose focal length is that of each frame's camera.

        Raises:
            InputError: no such folder, or a unit that is none.
        """
        self.folder = Path(folder).expanduser()
        if not str(folder) or not self.folder.is_dir():
            raise InputError(f"the depth folder {str(folder)!r} is not there; give files:FOLDER or files:FOLDER@UNIT (m, mm, kitti, baseline:METRES)")
        self._baseline, self._unit = None, None
        if unit is not None and unit.startswith("baseline:"):
            self._baseline = _baseline(unit)
        elif unit is not None:
            self._unit = depth_unit(unit)

    def __call__(self, frame: Frame) -> tuple[Metres, Valid]:
        """As every source.

        Raises:
            InputError: no file for the frame (what was looked for is named), or one that is not a depth map.
        """
        return read_depth(self.path_of(frame.name), self._unit_of(frame), option="it behind an @, files:FOLDER@UNIT")

    def path_of(self, name: str) -> Path:
        """The file of the frame of that name.

        Raises:
            InputError: there is none.
        """
        stems = dict.fromkeys((self.folder / "sequences" / name, self.folder / name, self.folder / Path(name).name))
        for stem in stems:
            for suffix in SUFFIXES:
                path = stem.with_name(stem.name + suffix)
                if path.is_file():
                    return path
        looked = ", ".join(str(stem) for stem in stems)
        raise InputError(f"no depth map for {name}: looked for {looked} with {', '.join(SUFFIXES)}; give another folder or another depth source")

    def _unit_of(self, frame: Frame) -> DepthUnit | None:
        if self._baseline is None:
            return self._unit
        return DepthUnit(focal_baseline=abs(float(frame.main.camera.intrinsics[0, 0])) * self._baseline)


def _baseline(unit: str) -> float:
    try:
        found = float(unit.removeprefix("baseline:"))
    except ValueError:
        found = math.nan
    if not (np.isfinite(found) and found > 0):
        raise InputError(f"{unit!r} is no baseline; expected baseline:METRES, such as baseline:0.54, for disparity in pixels")
    return found
