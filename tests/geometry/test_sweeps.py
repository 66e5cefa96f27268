"""A sweep in a picture against a loop over its points."""

from __future__ import annotations

import numpy as np
import torch

from wholescene.camera import Camera
from wholescene.geometry.sweeps import depth_of_points, labels_of_points


def forged(seed: int = 0) -> tuple[np.ndarray, np.ndarray, Camera]:
    rng = np.random.default_rng(seed)
    points = rng.uniform((-5, -8, -1, 0), (20, 8, 4, 1), (400, 4)).astype(np.float32)
    return points, rng.choice([0, 1, 9, 255], 400).astype(np.uint8), Camera.from_fov(80, (12, 8)).on_ground(1.65, 3)


def test_the_nearest_point_of_a_pixel_counts_with_its_class() -> None:
    points, labels, camera = forged()
    pixels, metres = camera.project(points[:, :3])
    depth, classes = np.zeros((8, 12), np.float32), np.full((8, 12), 255, np.uint8)
    for (u, v), d, label in zip(pixels, metres, labels, strict=True):
        if d > 0 and 0 <= u <= 11 and 0 <= v <= 7:
            at = (round(v), round(u))
            if depth[at] == 0 or d < depth[at]:
                depth[at], classes[at] = d, label
    assert 10 < np.count_nonzero(depth) < 96
    np.testing.assert_allclose(depth_of_points(torch.from_numpy(points), camera).numpy(), depth, rtol=1e-6)
    assert np.array_equal(labels_of_points(torch.from_numpy(points), torch.from_numpy(labels), camera).numpy(), classes)


def test_a_sweep_behind_the_camera_leaves_the_picture_empty() -> None:
    points, labels, camera = forged()
    points[:, 0] = -1
    assert not depth_of_points(torch.from_numpy(points), camera).any()
    assert (labels_of_points(torch.from_numpy(points), torch.from_numpy(labels), camera) == 255).all()
