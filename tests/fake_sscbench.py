"""Write a fake SSCBench-KITTI-360 in the true layout: few frames, but files of the true kinds and sizes.

    python tests/fake_sscbench.py FOLDER

The streets are those of the fake SemanticKITTI, whose raw ids are the same. `.bin` has one bit a voxel, `.invalid` one byte.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from fake_semantic_kitti import CORNER, SIZE, street_labels, surface_points, unknown_voxels

PICTURE = (1408, 376)


def write_fake_sscbench(root: Path, frames: Mapping[str, int], *, right: bool = True, poses: bool = True, lift: int = 0) -> Path:
    """Write `root/data_2d_raw/2013_05_28_drive_DDDD_sync/...`.

    Args:
        root: folder, made if need be.
        frames: drive ("0009") -> how many frames on the stride of five.
        right: write the right pictures.
        poses: write pose.txt and cam0_to_world.txt.
        lift: voxels by which `.bin` lies above the labels.

    Returns:
        `root`.
    """
    for drive, count in frames.items():
        folder = root / "data_2d_raw" / f"2013_05_28_drive_{drive}_sync"
        cameras = ("image_00", "image_01") if right else ("image_00",)
        for sub in ("voxels", *(f"{camera}/data_rect" for camera in cameras)):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        if poses:
            for name in ("pose.txt", "cam0_to_world.txt"):
                (folder / name).write_text("".join(f"{5 * i} 1 0 0 {i} 0 1 0 0 0 0 1 0\n" for i in range(count)))
        for number in range(0, 5 * count, 5):
            for camera in cameras:
                Image.new("RGB", PICTURE, (number, 128, 128)).save(folder / camera / "data_rect" / f"{number:06d}.png", compress_level=1)
            _write_volumes(folder / "voxels", number, lift)
    return root


def _write_volumes(folder: Path, number: int, lift: int) -> None:
    labels = street_labels(number)
    points, _ = surface_points(labels)
    index = np.floor((points[:, :3] - CORNER) / SIZE).astype(int)
    occupied = np.zeros(labels.shape, bool)
    occupied[index[:, 0], index[:, 1], np.minimum(index[:, 2] + lift, labels.shape[2] - 1)] = True
    invalid = unknown_voxels(labels)
    invalid[90:96, 94:98] = True  # the tree: labelled, so known whatever the mask says
    np.packbits(occupied.ravel()).tofile(folder / f"{number:06d}.bin")
    labels.astype("<u2").tofile(folder / f"{number:06d}.label")
    invalid.astype(np.uint8).tofile(folder / f"{number:06d}.invalid")


if __name__ == "__main__":
    print(write_fake_sscbench(Path(sys.argv[1]), {"0006": 1, "0009": 2}))
