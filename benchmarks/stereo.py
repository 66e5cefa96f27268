"""Stereo depth on real pairs against projected LiDAR: share of points that are off by more than 3 pixels, density, and seconds.

    python benchmarks/stereo.py [FOLDER]

FOLDER holds the research samples (`images/cameras.json` and a miniature SemanticKITTI); it is not part of the repository. A point counts where the
left picture has a disparity. Points that another one hides (nearer by more than 1 m within 3 x 7 pixels) are left out: the LiDAR sees past edges that
the camera does not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.data.semantic_kitti import SemanticKITTI
from wholescene.data.volumes import read_sweep
from wholescene.depth.stereo import SemiGlobalStereo, rectified
from wholescene.grid import semantic_kitti_grid
from wholescene.reading.pictures import read_picture
from wholescene.structures import Frame, View

ROOT = Path(__file__).resolve().parents[1]
_HIDING = (3, 7)  # rows and columns of the window in which a nearer point hides


@dataclass(frozen=True)
class Score:
    """One pair.

    Attributes:
        points: LiDAR points in the picture that nothing hides.
        density: share of the picture's pixels with a depth.
        covered: share of the points with a depth.
        bad: share of the covered points whose disparity is off by more than 3 pixels.
        median: absolute error of the covered points' depth over the depth, median.
        seconds: of making the depth.
    """

    points: int
    density: float
    covered: float
    bad: float
    median: float
    seconds: float


def score(frame: Frame, points: NDArray[np.float32]) -> Score:
    """Stereo depth of a frame with a right view, against points in its world."""
    start = time.perf_counter()
    metres, valid = SemiGlobalStereo()(frame)
    seconds = time.perf_counter() - start
    row, column, depth = in_picture(points, frame.main.camera)
    _, focal_baseline = rectified(frame.main.camera, frame.views["right"].camera, frame.name)
    held = valid[row, column]
    found, true = metres[row, column][held], depth[held]
    off = np.abs(focal_baseline / found - focal_baseline / true)
    return Score(len(depth), float(valid.mean()), float(held.mean()), float((off > 3).mean()), float(np.median(np.abs(found - true) / true)), seconds)


def in_picture(points: NDArray[np.float32], camera: Camera) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Row, column and depth of the points that the camera sees and nothing hides."""
    seen = points[camera.sees(points[:, :3]), :3]
    pixels, depth = camera.project(seen)
    column, row = np.rint(pixels).astype(np.int64).T
    nearest = np.full((camera.height, camera.width), np.inf)
    np.minimum.at(nearest, (row, column), depth)
    padded = np.pad(nearest, [(n // 2, n // 2) for n in _HIDING], constant_values=np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, _HIDING).min((2, 3))
    keep = depth <= around[row, column] + 1
    return row[keep], column[keep], depth[keep]


def pairs(folder: Path) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """Every stereo pair with a sweep beside it."""
    entries: list[dict[str, Any]] = json.loads((folder / "images" / "cameras.json").read_text())
    by_file = {entry["file"]: entry for entry in entries}
    for entry in entries:
        if entry.get("stereo") == "left" and "sweep" in entry:
            other = by_file[entry["stereo_partner"]]
            views = {name: view_of(folder, one) for name, one in (("main", entry), ("right", other))}
            yield Frame(Path(entry["file"]).stem, views, semantic_kitti_grid()), read_sweep(folder / entry["sweep"])
    dataset = SemanticKITTI(folder / "semantickitti_mini" / "dataset", sequences=["00", "08"], right=True, points=True)
    for frame in (dataset[i] for i in range(len(dataset))):
        assert frame.points is not None
        yield replace(frame, name=f"mini {frame.name}"), frame.points


def view_of(folder: Path, entry: dict[str, Any]) -> View:
    """Picture and camera of an entry of cameras.json; the pose is the sweep's, with the offset of P inside."""
    size = (entry["width"], entry["height"])
    camera = Camera.from_intrinsics(*(entry[n] for n in ("fx", "fy", "cx", "cy")), size)
    return View(read_picture(folder / entry["file"]).array, camera.posed(np.array(entry["velo_to_cam"]), "lidar"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    folder = parser.parse_args().folder
    if not (folder / "images" / "cameras.json").is_file():
        raise SystemExit(f"no research samples in {folder}: expected images/cameras.json; give their folder")
    print(processor())
    print(f"{'pair':28} {'points':>8} {'density':>8} {'covered':>8} {'off > 3 px':>11} {'median error':>13} {'seconds':>8}")
    for frame, points in pairs(folder):
        one = score(frame, points)
        print(f"{frame.name:28} {one.points:8,} {one.density:8.1%} {one.covered:8.1%} {one.bad:11.2%} {one.median:13.2%} {one.seconds:8.2f}")


if __name__ == "__main__":
    main()
