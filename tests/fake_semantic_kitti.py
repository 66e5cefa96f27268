"""Write a fake SemanticKITTI in the true layout: few frames, but files of the true kinds and sizes.

    python tests/fake_semantic_kitti.py FOLDER

Every frame is one street: a road between two sidewalks, a row of houses on the left, a car ahead, a tree and a pole on the right. The left side
differs from the right one, and every frame from the next, so that a mirrored axis or a mixed-up frame shows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

CORNER = np.array([0.0, -25.6, -2.0])
SIZE = 0.2
COLOURS = {0: (120, 160, 220), 40: (90, 90, 90), 48: (150, 140, 140), 50: (180, 150, 60), 10: (70, 90, 200), 70: (30, 130, 40), 80: (200, 200, 120)}
# The row Tr: LiDAR (x forward, y left, z up) to camera (x right, y down, z forward), the camera 0.08 m above and 0.27 m ahead of it.
TR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27]], dtype=float)
CAMERAS = {  # first sequence of a group: picture size; fx, cx, cy; fourth columns of P2 and P3
    0: ((1241, 376), (718.856, 607.1928, 185.2157), (45.38225, -337.2877)),
    3: ((1242, 375), (721.5377, 609.5593, 172.854), (44.85728, -339.5242)),
    4: ((1226, 370), (707.0912, 601.8873, 183.1104), (46.88783, -333.4597)),
    13: ((1241, 376), (718.856, 607.1928, 185.2157), (45.38225, -337.2877)),
}


def street_labels(frame: int) -> np.ndarray:
    """(256, 256, 32) uint16 raw ids of the fake street; the car is further ahead in every later frame."""
    labels = np.zeros((256, 256, 32), np.uint16)
    labels[:, 108:148, 1] = 40  # road, 8 m wide; its surface 1.7 m below the sensor
    labels[:, 98:108, 1] = labels[:, 148:158, 1] = 48
    labels[:, 158:160, 1:24] = 50  # houses on the left (large y)
    car = 60 + 2 * (frame // 5)
    labels[car : car + 20, 112:121, 2:9] = 10
    labels[90:96, 94:98, 1:20] = 70
    labels[130, 100, 1:16] = 80
    return labels


def unknown_voxels(labels: np.ndarray) -> np.ndarray:
    """(256, 256, 32) bool: below the ground, inside and behind the houses; never a labelled voxel, never the sky."""
    unknown = np.zeros(labels.shape, bool)
    unknown[:, :, 0] = True
    unknown[:, 160:, :20] = True
    unknown[:, :98, 1] = True
    return unknown & (labels == 0)


def surface_points(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sweep: the centre of every second labelled voxel within 40 m, (N, 4) float32, and its raw id (N,)."""
    index = np.argwhere(labels > 0)[::2]
    points = CORNER + (index + 0.5) * SIZE
    near = np.linalg.norm(points, axis=1) < 40
    raw = labels[tuple(index[near].T)]
    return np.column_stack([points[near], np.full(near.sum(), 0.5)]).astype("<f4"), raw


def draw(labels: np.ndarray, P: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """The street as a picture: every labelled voxel a square of its colour, far ones first."""
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[:] = COLOURS[0]
    index = np.argwhere(labels > 0)
    centres = np.column_stack([CORNER + (index + 0.5) * SIZE, np.ones(len(index))])
    u, v, depth = P @ np.vstack([TR, [0, 0, 0, 1]]) @ centres.T
    for i in np.argsort(-depth):
        if depth[i] > 1:
            x, y, half = round(u[i] / depth[i]), round(v[i] / depth[i]), int(P[0, 0] * SIZE / depth[i]) // 2 + 1
            picture[max(0, y - half) : max(0, y + half), max(0, x - half) : max(0, x + half)] = COLOURS[int(labels[tuple(index[i])])]
    return Image.fromarray(picture)


def write_fake_semantic_kitti(root: Path, frames: Mapping[str, int], pictures: bool = True) -> Path:
    """Write `root/dataset/sequences/...`.

    Args:
        root: folder, made if need be.
        frames: sequence ("08") -> how many frames on the stride of five; sequences 11-21 get no truth, as in the release.
        pictures: False writes small grey pictures of the true size, which takes a tenth of the time.

    Returns:
        The folder `root/dataset`.
    """
    for name, count in frames.items():
        folder = root / "dataset" / "sequences" / name
        for sub in ("voxels", "image_2", "image_3", "velodyne", "labels"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        size, (focal, cx, cy), offsets = CAMERAS[max(first for first in CAMERAS if first <= int(name))]
        P = np.array([[focal, 0, cx, 0], [0, focal, cy, 0], [0, 0, 1, 0]])
        right, left = P.copy(), P.copy()
        left[0, 3], right[0, 3] = offsets
        rows = {"P0": P, "P1": P, "P2": left, "P3": right, "Tr": TR}
        (folder / "calib.txt").write_text("".join(f"{key}: {' '.join(f'{v:.12e}' for v in m.ravel())}\n" for key, m in rows.items()))
        poses = np.tile(np.eye(4)[:3], (5 * count, 1, 1))
        poses[:, 2, 3] = np.arange(5 * count)  # a metre ahead a frame, in the camera's axes
        (folder / "poses.txt").write_text("".join(" ".join(f"{v:.6e}" for v in m.ravel()) + "\n" for m in poses))
        (folder / "times.txt").write_text("".join(f"{0.1 * i:.6e}\n" for i in range(5 * count)))
        for number in range(0, 5 * count, 5):
            _write_frame(folder, number, int(name) <= 10, {"image_2": left, "image_3": right}, size, pictures)
    return root / "dataset"


def _write_frame(folder: Path, number: int, truth: bool, matrices: Mapping[str, np.ndarray], size: tuple[int, int], pictures: bool) -> None:
    name = f"{number:06d}"
    labels = street_labels(number)
    points, raw = surface_points(labels)
    occupied = np.zeros(labels.shape, bool)
    occupied[tuple(np.floor((points[:, :3] - CORNER) / SIZE).astype(int).T)] = True
    masks = {"bin": occupied}
    if truth:
        masks |= {"invalid": unknown_voxels(labels), "occluded": unknown_voxels(labels) | (labels > 0)}
        labels.astype("<u2").tofile(folder / "voxels" / f"{name}.label")
        (raw.astype("<u4") | (1 << 16)).tofile(folder / "labels" / f"{name}.label")  # instance 1 in the upper half
    for suffix, mask in masks.items():
        np.packbits(mask.ravel()).tofile(folder / "voxels" / f"{name}.{suffix}")
    points.tofile(folder / "velodyne" / f"{name}.bin")
    for camera, P in matrices.items():
        picture = draw(labels, P, size) if pictures else Image.new("RGB", size, (number, 128, 128))
        picture.save(folder / camera / f"{name}.png", compress_level=1)


if __name__ == "__main__":
    print(write_fake_semantic_kitti(Path(sys.argv[1]), {"00": 2, "08": 1, "11": 1}))
