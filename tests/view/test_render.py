"""Pictures show what is where: left is left, unknown is not there, what lies outside the photo is marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.labels import NYUV2, SEMANTIC_KITTI
from wholescene.scene import Scene
from wholescene.view.render import box_of, draw, out_of_view, render, render_comparison
from wholescene.view.scores import scores, scores_in_words
from wholescene.view.style import legend

SIZE = (200, 150)


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(N, 2) pixels (right, down) of nearly that hue, however they are lit."""
    pixels = picture.astype(float) + 1e-9
    bright = np.linalg.norm(pixels, axis=-1) * np.linalg.norm(colour)
    near = (pixels @ np.array(colour, float)) / bright > 0.97
    return np.argwhere(near)[:, ::-1]


def chiral(cases: Path) -> Scene:
    return Scene.load(cases / "G01_chiral_scene.npz")


def street(camera: Camera | None = None) -> Scene:
    """A road of 16 x 16 voxels with a wall across it half way, and a camera at its near end."""
    labels = np.zeros((16, 16, 6), np.uint8)
    labels[:, :, 0] = 9
    labels[8, :, 1:3] = 13
    grid = VoxelGrid.from_corner((0, -8, 0), labels.shape, 1.0)
    camera = camera or Camera.from_fov(60, (90, 60)).on_ground(2.5, 10)
    return Scene(labels, grid, SEMANTIC_KITTI, camera=camera)


def test_the_arm_along_y_is_drawn_on_the_left_and_the_arm_along_z_above(cases: Path) -> None:
    scene = chiral(cases)
    picture = np.asarray(draw(scene, SIZE, "behind", None, box_of([scene])))
    places = {label: coloured(picture, scene.label_set.colours[label]) for label in (1, 2, 3)}
    assert min(len(p) for p in places.values()) > 200
    assert places[2][:, 0].max() <= places[3][:, 0].min() + 2  # the y arm lies left of the column with the z arm
    assert places[3][:, 1].mean() < places[1][:, 1].max()
    assert places[2][:, 0].mean() < places[1][:, 0].mean()


def test_from_above_forward_is_up_and_left_is_left(cases: Path) -> None:
    scene = chiral(cases)
    picture = np.asarray(draw(scene, SIZE, "above", None, box_of([scene])))
    row, left_arm = (coloured(picture, scene.label_set.colours[label]) for label in (1, 2))
    assert row[:, 1].min() < left_arm[:, 1].min() - 20
    assert left_arm[:, 0].max() <= row[:, 0].min() + 2


@pytest.mark.parametrize("axes", ["xzy", "yxz", "zyx"])
def test_the_order_of_the_array_axes_does_not_show(cases: Path, axes: str) -> None:
    scene = chiral(cases)
    order = ["xyz".index(a) for a in axes]
    labels = np.ascontiguousarray(scene.labels.transpose(order))
    other = replace(scene, labels=labels, grid=VoxelGrid.from_corner((10, 20, 30), labels.shape, 0.5, axes))
    assert np.array_equal(np.asarray(render(scene, SIZE)), np.asarray(render(other, SIZE)))


def test_behind_is_behind_the_camera_where_the_world_has_another_forward(cases: Path) -> None:
    scene = chiral(cases)
    quarter = np.array([[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # world x becomes y, as in NYUv2
    camera = Camera.from_fov(60, (40, 30)).on_ground(31, 0)
    here = replace(scene, camera=camera)
    turned = replace(scene, grid=scene.grid.moved(quarter), camera=camera.posed(camera.T_cam_world @ np.linalg.inv(quarter)))
    one, other = (np.asarray(render(s, SIZE)).astype(int) for s in (here, turned))
    arms = [coloured(p, scene.label_set.colours[2])[:, 0].mean() for p in (one, other)]
    assert arms[0] == pytest.approx(arms[1], abs=1)


def test_unknown_voxels_and_ceilings_are_not_drawn() -> None:
    labels = np.full((4, 4, 4), 255, np.uint8)
    labels[:, :, 3] = 1
    grid = VoxelGrid((4, 4, 4), (1, 1, 1))
    scene = Scene(labels, grid, NYUV2)
    nothing = replace(scene, labels=np.zeros_like(labels))
    box = grid.corners()
    assert np.array_equal(np.asarray(draw(scene, SIZE, "behind", None, box)), np.asarray(draw(nothing, SIZE, "behind", None, box)))
    floor = replace(scene, labels=np.where(labels == 1, 2, labels).astype(np.uint8))
    assert not np.array_equal(np.asarray(draw(floor, SIZE, "behind", None, box)), np.asarray(draw(nothing, SIZE, "behind", None, box)))


def test_what_lies_outside_the_photo_is_marked_and_nothing_else() -> None:
    scene = street()
    outside = out_of_view(scene)
    assert outside is not None
    assert np.array_equal(outside, scene.occupied & ~scene.camera.sees(scene.grid.centres()))  # type: ignore[union-attr]
    assert 0 < outside.sum() < scene.occupied.sum()
    marked, plain = (np.asarray(draw(scene, SIZE, "behind", m, box_of([scene]))).astype(int) for m in (outside, None))
    changed = np.argwhere((marked != plain).any(-1))
    assert len(changed) > 500
    assert (marked.sum(-1) < plain.sum(-1))[tuple(changed.T)].all()  # darker
    assert changed[:, 0].mean() > np.argwhere(plain.sum(-1) > 200)[:, 0].mean()  # and near the eye, where the photo does not reach
    by_itself, told = (np.asarray(render(scene, (600, 300), marked=m))[:240] for m in (None, outside))
    assert np.array_equal(by_itself, told)


def test_the_view_of_the_own_camera_agrees_with_its_projection() -> None:
    scene = street()
    picture = np.asarray(draw(scene, (180, 120), "camera", None, box_of([scene]))).astype(int)
    wall = np.argwhere(picture[:, :, 2] < 60)  # of the two classes only the road has blue
    wall = wall[picture[tuple(wall.T)][:, 0] > 60]
    edges = np.array([[8, -3, z] for z in (1, 3)])
    rows = (scene.camera.project(edges)[0][:, 1] + 0.5) * 2  # type: ignore[union-attr]
    assert wall[:, 0].min() == pytest.approx(rows[1], abs=1.5)
    assert wall[:, 0].max() + 1 == pytest.approx(rows[0], abs=1.5)


def test_a_comparison_shows_both_and_refuses_what_cannot_be_compared() -> None:
    truth = street()
    wrong = replace(truth, labels=np.where(truth.labels == 13, 0, truth.labels).astype(np.uint8), name="08/000005")
    picture = np.asarray(render_comparison(wrong, truth, size=(400, 200))).astype(int)
    yellow = coloured(picture[30:170], SEMANTIC_KITTI.colours[13])
    assert len(yellow) > 50
    assert yellow[:, 0].min() > 200  # the wall stands in the truth only, on the right
    same = np.asarray(render_comparison(truth, truth, size=(400, 200))).astype(int)
    half = coloured(same[30:170], SEMANTIC_KITTI.colours[13])[:, 0]
    assert (half < 200).sum() == (half >= 200).sum()
    small = Scene(np.zeros((2, 2, 2), np.uint8), VoxelGrid((2, 2, 2), (1, 1, 1)), SEMANTIC_KITTI)
    with pytest.raises(InputError, match="cannot be compared; expected one grid shape"):
        render_comparison(small, truth)


def test_scores_count_as_a_slow_loop_does() -> None:
    rng = np.random.default_rng(0)
    grid = VoxelGrid((6, 5, 4), (1, 1, 1))
    truth, said = (rng.choice(np.array([0, 1, 2, 9, 255], np.uint8), grid.shape) for _ in range(2))
    said[said == 255] = 3
    where = rng.random(grid.shape) < 0.7
    both = either = 0
    hits, union = np.zeros(20), np.zeros(20)
    for t, p, counts in zip(truth.ravel().tolist(), said.ravel().tolist(), where.ravel().tolist(), strict=True):
        if t == 255 or not counts:
            continue
        both, either = both + (t > 0 and p > 0), either + (t > 0 or p > 0)
        hits[t] += t == p
        for label in {t, p}:
            union[label] += 1
    completion, mean, classes = scores(Scene(said, grid, SEMANTIC_KITTI), Scene(truth, grid, SEMANTIC_KITTI), where)
    assert completion == pytest.approx(both / either)
    assert mean == pytest.approx(np.mean([hits[c] / union[c] for c in (1, 2, 9)]))
    assert classes == 3


def test_a_truth_without_anything_known_has_no_score() -> None:
    grid = VoxelGrid((2, 2, 2), (1, 1, 1))
    unknown = Scene(np.full(grid.shape, 255, np.uint8), grid, SEMANTIC_KITTI)
    assert scores_in_words(unknown, unknown, np.ones(grid.shape, bool)) == (
        "completion IoU undefined · mIoU of its 0 classes undefined · in view undefined and undefined"
    )


def test_the_legend_names_every_class_within_its_width() -> None:
    wide, narrow = legend(SEMANTIC_KITTI, range(1, 20), 2000), legend(SEMANTIC_KITTI, range(1, 20), 300, "outside the camera's picture")
    assert (wide.width, narrow.width) == (2000, 300)
    assert narrow.height > 4 * wide.height
    found = {tuple(c) for c in np.asarray(narrow).reshape(-1, 3).tolist()}
    assert {SEMANTIC_KITTI.colours[label] for label in range(1, 20)} <= found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"view": "behnd"}, "unknown view 'behnd'; the nearest is 'behind'"),
        ({"view": "camera"}, 'has no camera with a known pose, so it has no view "camera"'),
        ({"size": (10, 10)}, "a picture of 10 x 10 pixels; expected 200 x 150"),
        ({"marked": np.ones((2, 2, 2), bool)}, r"marked voxels have the shape \(2, 2, 2\); expected the grid's \(4, 3, 2\)"),
    ],
)
def test_what_cannot_be_drawn_is_said(cases: Path, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        render(chiral(cases), **options)


def test_names_of_any_length_and_alphabet_fit(cases: Path) -> None:
    scene = replace(chiral(cases), name="北京\n" * 10_000, provenance={"system": "x" * 9999, "guesses": "none"})
    assert render(scene, SIZE).size == SIZE
