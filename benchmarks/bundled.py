"""A bundled model on held-out streets or rooms beside what needs no learning, in one table, every frame scored by the same code.

    python benchmarks/bundled.py [--world street|room] [--frames 64] [--weights NAME] [--counted 256] [--workers 2]

Streets and rooms 1,000,000 and on are never trained on. Rows: the model; occupied where the true depth map hits and nothing behind it (IoU only);
the most frequent class of each voxel over training frames; everything empty. Columns: IoU / mIoU of all known voxels, then of visible, hidden and
out of view. A room's truth knows what NYUv2's knows: the room within the picture's field of view.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import processor

import wholescene as ws
from wholescene.metrics import SplitCounts
from wholescene.training.baselines import EverythingEmpty, MostFrequent, VisibleFromPerfectDepth
from wholescene.training.evaluate import SPLITS, split_masks
from wholescene.worlds.room import Rooms
from wholescene.worlds.room import preset as room_preset
from wholescene.worlds.street import Streets, StreetSetting

FIRST = 1_000_000
PARTS = ("all", *SPLITS["visibility"])


def frames_of(world: str, seeds: Sequence[int], small: bool = False) -> Any:
    """Streets or rooms; with tiny pictures where only the truth is counted."""
    if world == "room":
        return Rooms(seeds, replace(room_preset("half"), picture=(64, 48) if small else (640, 480)))
    return Streets(seeds, StreetSetting(picture=(64, 20)) if small else StreetSetting())


def score(world: str, seeds: list[int], weights: str, frequent: np.ndarray) -> dict[str, list[int]]:
    """Counts of every row over some streets or rooms."""
    torch.set_num_threads(1)
    system = ws.load(weights)
    rows: dict[str, Any] = {
        weights: lambda frame: system.predict(frame).labels,
        VisibleFromPerfectDepth.name: VisibleFromPerfectDepth(),
        MostFrequent.name: MostFrequent(frequent, 0),
        EverythingEmpty.name: EverythingEmpty(),
    }
    counts = {name: SplitCounts(system.config.classes, SPLITS["visibility"]) for name in rows}
    frames = frames_of(world, seeds)
    for i in range(len(seeds)):
        frame = frames[i]
        truth = frame.targets[1]
        masks = split_masks(frame, truth, ("visibility",))
        for name, answer in rows.items():
            counts[name].update(answer(frame), truth, masks)
        print(f"{world} {seeds[i]}: IoU so far {counts[weights]['all'].compute().iou:.3f}", flush=True)
    return {name: count.as_tensor().tolist() for name, count in counts.items()}


def main() -> None:
    """Count, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=("street", "room"), default="street")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--weights")
    parser.add_argument("--counted", type=int, default=256, help="training frames that the most frequent class is counted over")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    weights = given.weights or f"monoscene-{given.world}-small"
    config = ws.load(weights).config
    frequent = MostFrequent.of(frames_of(given.world, range(given.counted), small=True), config.classes).labels
    shares = [list(range(FIRST, FIRST + given.frames))[w :: given.workers] for w in range(given.workers)]
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        parts = pool.starmap(score, [(given.world, share, weights, frequent) for share in shares])
    lines = [f"{given.frames} held-out {given.world}s, rule semantic-kitti (absent classes count 0), {processor()}"]
    lines.append(f"{'IoU / mIoU, %':58}" + "".join(f"{part:>16}" for part in PARTS))
    per_class: dict[str, Any] = {}
    for name in parts[0]:
        counts = reduce(add, (SplitCounts.from_tensor(torch.tensor(part[name]), SPLITS["visibility"]) for part in parts))
        scores = {part: counts[part].compute() for part in PARTS}
        only = name == VisibleFromPerfectDepth.name
        cells = (f"{s.iou:.2%}" + (" / -" if only else f" / {s.miou:.2%}") for s in scores.values())
        lines.append(f"{name:58}" + "".join(f"{cell:>16}" for cell in cells))
        per_class[name] = {part: s.class_iou for part, s in scores.items()}
    named = zip(config.label_set.names[1:], per_class[weights]["all"], strict=True)
    lines.append("per class, all: " + ", ".join(f"{name} {value:.2%}" for name, value in named))
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")
        given.out.with_suffix(".json").write_text(json.dumps(per_class))


if __name__ == "__main__":
    main()
