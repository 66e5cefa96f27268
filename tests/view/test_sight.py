"""What the camera saw, against every line walked in small steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.grid import VoxelGrid
from wholescene.labels import SEMANTIC_KITTI
from wholescene.scene import Scene
from wholescene.view.faces import exposed_faces, in_world
from wholescene.view.sight import HIDDEN, OUT_OF_VIEW, SEEN, sight


def scene_of(labels: np.ndarray, camera: Camera, axes: str = "xyz") -> Scene:
    return Scene(labels, VoxelGrid.from_corner((1, -labels.shape[1] / 4, 0), labels.shape, 0.5, axes), SEMANTIC_KITTI, camera=camera)


def test_a_flat_road_is_seen_to_its_end() -> None:
    labels = np.zeros((64, 16, 6), np.uint8)
    labels[:, :, 0] = 9
    scene = scene_of(labels, Camera.from_fov(80, (320, 200)).on_ground(2.2))
    state = sight(scene)
    assert state is not None
    inside = scene.camera.sees(scene.grid.centres()) & scene.occupied  # type: ignore[union-attr]
    assert inside.sum() > 500
    assert np.all(state[inside] == SEEN)
    assert np.all(state[~inside] == OUT_OF_VIEW)


def test_what_stands_behind_a_wall_is_hidden() -> None:
    labels = np.zeros((40, 16, 6), np.uint8)
    labels[:, :, 0] = 9
    labels[20, :, 1:6] = 13
    labels[30, 8, 1] = 1
    state = sight(scene_of(labels, Camera.from_fov(80, (320, 200)).on_ground(1.5)))
    assert state is not None
    assert state[30, 8, 1] == HIDDEN
    assert state[25, 8, 0] == HIDDEN
    assert np.all(state[20, 4:12, 2] == SEEN)
    assert state[15, 8, 0] == SEEN


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_lines_walked_in_small_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((10, 8, 8)) < 0.12, 13, 0).astype(np.uint8)
    camera = Camera.from_fov(70, (160, 120), offset=np.array([20.0, 0, 0])).on_ground(1.7, 4).cropped(10, 5, 140, 110)
    scene = scene_of(labels, camera, "xzy")
    grid, solid = scene.grid, scene.occupied
    expected = np.where(solid & camera.sees(grid.centres()), HIDDEN, OUT_OF_VIEW)
    faces = exposed_faces(solid)
    middles = in_world(faces.lattice().mean(1), grid)
    for voxel, middle in zip(faces.voxels, middles, strict=True):
        own = tuple(voxel)
        line = middle + (camera.position - middle) * np.linspace(1e-4, 1, 3000)[:, None]
        index, inside = grid.index_of(line)
        if expected[own] == HIDDEN and camera.sees(middle) and not solid[tuple(index[inside].T)].any():
            expected[own] = SEEN
    state = sight(scene)
    assert state is not None
    assert (state[solid] != expected[solid]).mean() < 0.02  # lines that graze an edge may fall to either side
    assert {SEEN, HIDDEN} <= set(state[solid].tolist())


def test_without_a_posed_camera_nothing_is_known() -> None:
    scene = scene_of(np.ones((2, 2, 2), np.uint8), Camera.from_fov(60, (10, 10)))
    assert sight(scene) is None
    assert sight(replace(scene, camera=None)) is None
