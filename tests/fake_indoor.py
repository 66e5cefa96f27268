"""Write fake NYUv2 and Occ-ScanNet trees in the true layouts: few frames, but files of the true kinds and sizes.

    python tests/fake_indoor.py FOLDER

Every frame is one room, 4.8 m wide and deep, whose camera stands at the world's origin 1.3 m above the floor. The left side differs from the
right one, and every frame from the next, so that a mirrored or swapped axis or a mixed-up frame shows.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NYU_SHAPE, NYU_VOXEL = (240, 144, 240), 0.02  # axes world x, up, y
HEIGHT, FOCAL = 1.3, 518.8579
# (raw id, lower corner, upper corner) in metres x, y, z; x to the right, y ahead. Raw: floor 2, wall 3, window 4, chair 6, bed 7, table 9, tv 33.
THINGS = [
    (2, (-2.4, 1.0, -0.05), (2.4, 4.1, 0.03)),
    (3, (-2.4, 4.0, -0.05), (2.4, 4.1, 2.6)),
    (4, (-1.0, 4.0, 1.0), (0.2, 4.1, 1.9)),
    (7, (-2.2, 2.2, 0.03), (-0.9, 3.9, 0.5)),
    (9, (0.6, 3.0, 0.03), (1.9, 3.9, 0.75)),
    (33, (1.0, 3.3, 0.75), (1.6, 3.5, 1.2)),
]


def nyu_pose() -> np.ndarray:
    """(4, 4) float32 camera to world of a level camera that looks along world y."""
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = np.stack([(1, 0, 0), (0, 0, -1), (0, 1, 0)], axis=1)
    pose[2, 3] = HEIGHT
    return pose


def nyu_origin() -> np.ndarray:
    """The corner that SSCNet's rule gives: 3.4 m before the camera, minus half the box, 5 cm below the floor."""
    return np.array([-2.4, 3.4 - 2.4, -0.05], np.float32)


def raw_volume(number: int) -> np.ndarray:
    """(240, 144, 240) uint8 raw ids; a chair (6) stands further right in every later frame; behind the back wall nothing is known."""
    raw = np.zeros(NYU_SHAPE, np.uint8)
    raw[:, :, round(3.1 / NYU_VOXEL) :] = 255
    chair = (6, (-0.5 + 0.1 * number, 2.0, 0.03), (-0.1 + 0.1 * number, 2.4, 0.9))
    for label, low, high in [*THINGS, chair]:
        begin = [max(0, round((a - o) / NYU_VOXEL)) for a, o in zip(low, nyu_origin(), strict=True)]
        end = [round((a - o) / NYU_VOXEL) for a, o in zip(high, nyu_origin(), strict=True)]
        raw[begin[0] : end[0], begin[2] : end[2], begin[1] : end[1]] = label
    return raw


def runs_of(raw: np.ndarray) -> np.ndarray:
    """(N, 2) uint32 (value, length) of maximal runs in C order."""
    flat = raw.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    return np.stack([flat[starts], np.diff(np.append(starts, flat.size))], axis=1).astype("<u4")


def volume_bytes(origin: np.ndarray, pose: np.ndarray, runs: np.ndarray) -> bytes:
    """The content of a `.bin`."""
    return np.asarray(origin, "<f4").tobytes() + np.asarray(pose, "<f4").tobytes() + np.asarray(runs, "<u4").tobytes()


def room_depth() -> np.ndarray:
    """(480, 640) float64 metres of the empty room: floor and back wall."""
    v = np.arange(480)[:, None] - 240
    return np.broadcast_to(np.where(v > 0, np.minimum(4.0, HEIGHT * FOCAL / np.maximum(v, 1e-6)), 4.0), (480, 640))


def room_picture(number: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Shades of distance, a bright left half, and a stripe that moves from frame to frame."""
    grey = (255 - 50 * room_depth()).astype(np.uint8)
    picture = np.stack([grey, grey // 2, grey], axis=-1)
    picture[:, :320, 1] = grey[:, :320]
    picture[100:200, 300 + 20 * number : 320 + 20 * number] = (220, 60, 40)
    return Image.fromarray(picture).resize(size)


def rotated(millimetres: np.ndarray) -> np.ndarray:
    """Sixteen bits rotated left by three, as SSCNet stores depth."""
    bits = millimetres.astype(np.uint16)
    return (bits << 3) | (bits >> 13)


def write_fake_nyuv2(root: Path, train: int = 2, test: int = 1) -> Path:
    """Write `root/depthbin/NYUtrain` and `NYUtest`; the folder `root/depthbin`."""
    number = 1
    for folder, count in (("NYUtest", test), ("NYUtrain", train)):
        (root / "depthbin" / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            stem = root / "depthbin" / folder / f"NYU{number:04d}_0000"
            stem.with_suffix(".bin").write_bytes(volume_bytes(nyu_origin(), nyu_pose(), runs_of(raw_volume(number))))
            Image.fromarray(rotated(1000 * room_depth())).save(stem.with_suffix(".png"))
            room_picture(number).save(f"{stem}_color.jpg")
            number += 1
    return root / "depthbin"


def occ_targets(number: int) -> dict[str, np.ndarray]:
    """Targets (x, y, z): floor, a wall ahead, a bed on the left; a chair that moves; behind the wall nothing is known."""
    fine = np.zeros((60, 60, 36), np.uint8)
    fine[:, :, 0] = 2
    fine[50:, :, :] = 255
    fine[49, :, :32] = 3
    fine[30:45, 44:58, 1:6] = 6
    fine[20:25, 10 + number : 15 + number, 1:11] = 5
    return {"target_1_4": fine, "target_1_16": fine[2::4, 2::4, 2::4].copy()}


def occ_record(scene: str, frame: str, number: int) -> dict[str, object]:
    """A record; its camera looks along world x; its paths are of another disk; its targets are stored (y, x, z)."""
    pose = np.eye(4)
    pose[:3, :3] = np.stack([(0, -1, 0), (0, 0, -1), (1, 0, 0)], axis=1)
    pose[:3, 3] = 1.0, 2.0, HEIGHT
    there = f"/mnt/someone/data/posed_images/{scene}/{frame}"
    return {
        "img": f"{there}.jpg",
        "depth_gt": f"{there}.png",
        "cam_pose": pose,
        "intrinsic": np.array([[1170.0, 0, 647.0, 0], [0, 1170.0, 483.0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        "voxel_origin": np.array([1.5, -0.4, -0.05]),
        **{name: np.ascontiguousarray(labels.transpose(1, 0, 2)) for name, labels in occ_targets(number).items()},
    }


def write_fake_occscannet(root: Path, train: int = 2, val: int = 1, protocol: int = 4) -> Path:
    """Write records, pictures, depth maps and lists of both kinds; the root."""
    number = 0
    for old, new, count in (("train_subscenes", "train_mini_final", train), ("val_subscenes", "test_mini_final", val)):
        names = [f"scene{number + i:04d}_00/{number + i:05d}" for i in range(count)]
        for name in names:
            scene, frame = name.split("/")
            for folder in ("gathered_data", "posed_images"):
                (root / folder / scene).mkdir(parents=True, exist_ok=True)
            (root / "gathered_data" / f"{name}.pkl").write_bytes(pickle.dumps(occ_record(scene, frame, number), protocol=protocol))
            room_picture(number, (1296, 968)).save(root / "posed_images" / f"{name}.jpg")
            Image.fromarray((1000 * room_depth()).astype(np.uint16)).save(root / "posed_images" / f"{name}.png")
            number += 1
        (root / f"{old}.txt").write_text("".join(f"gathered_data/{name}.pkl\n" for name in names))
        (root / f"{new}.txt").write_text("".join(f"{name}\n" for name in names[:1]))
    return root


if __name__ == "__main__":
    print(write_fake_nyuv2(Path(sys.argv[1]) / "nyu"), write_fake_occscannet(Path(sys.argv[1]) / "occscannet"))
