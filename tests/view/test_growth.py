"""The picture of how a mask grows, and the charts of scores under disturbances: what is drawn where, in which colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wholescene.camera import Camera
from wholescene.grid import GridPlacement
from wholescene.labels import SEMANTIC_KITTI
from wholescene.scene import Scene
from wholescene.view import growth
from wholescene.view.chart import Chart, draw_charts
from wholescene.view.growth import _ENTERED, _LEFT, _STAYED, Stage, draw_growth
from wholescene.view.plots import LINES


def _scene() -> Scene:
    camera = Camera.from_fov(80, (200, 100)).on_ground(1.6, 5)
    grid = GridPlacement((16, 16, 8), (1.0, 1.0, 0.5), corner=(0.0, -8.0, -0.5), lidar_corner=None).place(camera)
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, :, 0] = 9
    picture = np.full((100, 200, 3), 128, np.uint8)
    return Scene(labels, grid, SEMANTIC_KITTI, camera=camera, picture=picture, name="a street")


def _has(image: Image.Image, colour: tuple[int, int, int], tolerance: int = 60) -> np.ndarray:
    """Where a picture's colours point the way of `colour`, however bright."""
    pixels = np.asarray(image).astype(float)
    wanted = np.asarray(colour, float)
    return (np.linalg.norm(pixels - wanted * (pixels @ wanted)[..., None] / (wanted @ wanted), axis=-1) < tolerance / 6) & (pixels.max(-1) > 70)


def _mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros((8, 8, 4), bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_voxels_that_come_stay_and_go_have_their_colours_and_the_plan_its_directions() -> None:
    stage = Stage(_scene(), _mask((7, 7, 0), (0, 0, 0)))
    plan = growth._from_above(stage, _mask((7, 7, 0), (0, 7, 0)))
    assert plan is not None
    for colour, (right, up) in ((_STAYED, (True, True)), (_ENTERED, (False, False)), (_LEFT, (False, True))):
        rows, columns = np.nonzero(_has(plan, colour))
        assert len(rows), colour
        assert (columns.mean() > plan.width / 2) == right, "forward is to the right"
        assert (rows.mean() < plan.height / 2) == up, "left is up"


def test_a_voxel_is_drawn_where_it_falls_on_the_picture() -> None:
    scene = _scene()
    drawn = growth._on_picture(Stage(scene, _mask((4, 2, 0))), None)
    assert drawn is not None
    rows, columns = np.nonzero(_has(drawn, _STAYED))
    assert scene.camera is not None
    (u, v), depth = scene.camera.project(scene.grid.coarser(2).centres()[4, 2, 0])
    scale = drawn.width / scene.camera.width
    assert depth > 0
    assert (columns.mean() / scale, rows.mean() / scale) == (pytest.approx(u, abs=1), pytest.approx(v, abs=1))


def test_there_is_a_column_a_step_the_coarse_answer_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "draw", lambda scene, size, *_: Image.new("RGB", size))
    stages = [Stage(_scene(), None), Stage(_scene(), _mask((4, 2, 0))), Stage(_scene(), _mask((4, 3, 0)))]
    drawn = draw_growth(stages, "a title")
    assert drawn.width == 3 * 460
    halves = [drawn.crop((i * 460, 58, (i + 1) * 460, drawn.height - 60)) for i in range(3)]
    assert [bool(_has(half, _ENTERED).any()) for half in halves] == [False, False, True]
    assert [bool(_has(half, _STAYED).any()) for half in halves] == [False, True, False]


def test_higher_values_are_drawn_higher_and_gaps_are_left() -> None:
    chart = Chart("noise", ["0.1", "0.2", "0.3"], "sigma", {"high": [1.0, 0.9, 0.95], "low": [0.3, float("nan"), 0.2]})
    drawn = draw_charts([chart], "a title", base=1.0)
    pixels = np.asarray(drawn)[80:]
    rows = [np.nonzero((pixels == colour).all(-1))[0].mean() for colour in LINES[:2]]
    assert rows[0] < rows[1]
    assert draw_charts([chart] * 5, "a title").height > drawn.height
