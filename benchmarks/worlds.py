"""Procedural streets: CPU seconds of each part of a frame, and how often each class occurs beside SemanticKITTI's published counts.

Run: `python benchmarks/worlds.py [--preset full|half|mini] [--frames 20] [--first 0]`
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from wholescene.labels import SEMANTIC_KITTI, UNKNOWN
from wholescene.worlds import street as streets
from wholescene.worlds.casting import Caster
from wholescene.worlds.layout import lay_out
from wholescene.worlds.observing import observe
from wholescene.worlds.shading import daylight, render
from wholescene.worlds.voxelising import voxelise

# Share of all voxels (unknown ones included) that SemanticKITTI's released counts stand for: 3,834 frames of 256 x 256 x 32.
_ALL = 3834 * 256 * 256 * 32


def timed(spent: dict[str, float], part: str, do: Callable[[], Any]) -> Any:
    """Do it and book its CPU seconds."""
    start = time.process_time()
    made = do()
    spent[part] = spent.get(part, 0.0) + time.process_time() - start
    return made


def one(seed: int, setting: streets.StreetSetting, spent: dict[str, float]) -> tuple[np.ndarray, int]:
    """One frame as `street` makes it, part by part: its labels and its number of triangles."""
    places, eye, weather, grain = (np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(4))
    layout = timed(spent, "layout", lambda: lay_out(places, setting.grid.voxel_size[2] / 2))
    camera = streets.camera_of(eye, setting)
    grid = setting.grid.place(camera)
    caster = timed(spent, "meshes and tree", lambda: Caster(layout.bodies))
    across = {1: 1, 4: 2, 9: 3}[setting.samples]
    _, _, hits = timed(spent, "picture", lambda: render(caster, layout.bodies, camera, daylight(weather), grain, across))
    labels = timed(spent, "voxels", lambda: voxelise(layout.bodies, grid))
    poses = streets.scanner_poses(layout, setting)
    known = timed(spent, "observing", lambda: observe(caster, labels, grid, poses, streets.SEEN_INTO, hits.points[hits.distance < 75]))
    return np.where(known, labels, np.uint8(UNKNOWN)), caster.triangles


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="full")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    setting, spent = streets.preset(options.preset), {}
    counts, triangles = np.zeros(256, np.int64), []
    timed({}, "warm", lambda: one(options.first, setting, {}))
    with_class = np.zeros(256, np.int64)
    for seed in range(options.first, options.first + options.frames):
        labels, faces = one(seed, setting, spent)
        here = np.bincount(labels.ravel(), minlength=256)
        counts += here
        with_class += here > 0
        triangles.append(faces)
    print(f"preset {options.preset}, {options.frames} streets from seed {options.first}, {platform.machine()} {platform.processor()}")
    print(f"triangles: {min(triangles):,} to {max(triangles):,}")
    print("\npart               CPU s a frame")
    for part, seconds in spent.items():
        print(f"{part:18} {seconds / options.frames:8.3f}")
    print(f"{'all':18} {sum(spent.values()) / options.frames:8.3f}")
    print("\nclass            % of voxels   SemanticKITTI train   frames with it")
    total = counts.sum()
    for label, name in enumerate(SEMANTIC_KITTI.names):
        print(f"{name:16} {100 * counts[label] / total:10.4f} {100 * SEMANTIC_KITTI.voxels[label] / _ALL:17.4f} {with_class[label]:15d}")
    print(f"{'unknown':16} {100 * counts[UNKNOWN] / total:10.4f} {100 * (1 - sum(SEMANTIC_KITTI.voxels) / _ALL):17.4f} {with_class[UNKNOWN]:15d}")


if __name__ == "__main__":
    main()
