"""How often each class occurs in procedural rooms, beside NYUv2's published counts, and how long a room takes.

python benchmarks/room_shares.py [--rooms 200] [--setting nyuv2]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from machine import processor

from wholescene.labels import NYUV2, UNKNOWN
from wholescene.worlds.room import preset, room

FIRST = 5000


def main() -> None:
    """Count over small pictures, since only the truth is counted; time a few whole ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=200)
    parser.add_argument("--setting", default="nyuv2")
    given = parser.parse_args()
    setting = preset(given.setting)
    counts, rooms = np.zeros(256, np.int64), np.zeros(NYUV2.classes, np.int64)
    for seed in range(FIRST, FIRST + given.rooms):
        found = np.bincount(room(seed, replace(setting, picture=(64, 48))).targets[1].ravel(), minlength=256)
        counts, rooms = counts + found, rooms + (found[: NYUV2.classes] > 0)
    known, published = counts[: NYUV2.classes], np.asarray(NYUV2.voxels)
    shares = f"{counts[UNKNOWN] / counts.sum():.1%} unknown, {known[1:].sum() / known.sum():.1%} of the known occupied"
    print(f"{given.rooms} rooms of setting {given.setting}: {shares}")
    for label in range(1, NYUV2.classes):
        share, expected = known[label] / known[1:].sum(), published[label] / published[1:].sum()
        print(f"  {NYUV2.names[label]:10} {share:6.1%}  NYUv2 {expected:6.1%}  in {rooms[label] / given.rooms:4.0%} of the rooms")
    started = time.process_time()
    for seed in range(10):
        room(seed, setting)
    print(f"  {(time.process_time() - started) / 10:.2f} CPU seconds a room, {processor()}")


if __name__ == "__main__":
    main()
