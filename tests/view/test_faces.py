"""Faces, their order and their pixels, against slow loops and a ray caster that knows none of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.grid import VoxelGrid
from wholescene.view.faces import back_to_front, crowding, exposed_faces, normals
from wholescene.view.raster import edge_distance, paint
from wholescene.view.viewpoint import VIEWS, Viewpoint, fitted

GRIDS = {
    "right-handed": VoxelGrid.from_corner((1, -2, 3), (5, 4, 3), (0.5, 0.25, 1.0)),
    "reflected": VoxelGrid.from_corner((1, -2, 3), (5, 4, 3), (0.5, 0.25, 1.0), "xzy"),
    "turned": VoxelGrid.from_corner((0, 0, 0), (5, 4, 3), 0.4).moved(
        np.array([[0.6, -0.8, 0, 1], [0.8, 0.6, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    ),
}  # fmt: skip


def random_solid(seed: int, shape: tuple[int, int, int] = (5, 4, 3), share: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


@given(seed=st.integers(0, 10_000), shape=st.tuples(*[st.integers(1, 4)] * 3))
@settings(max_examples=40, deadline=None)
def test_faces_are_exposed_where_a_slow_loop_says_so(seed: int, shape: tuple[int, int, int]) -> None:
    solid = random_solid(seed, shape, 0.6)
    expected = set()
    for voxel in np.argwhere(solid):
        for direction in range(6):
            other = voxel.copy()
            other[direction // 2] += 2 * (direction % 2) - 1
            if not (np.all(other >= 0) and np.all(other < shape) and solid[tuple(other)]):
                expected.add((*voxel.tolist(), direction))
    faces = exposed_faces(solid)
    assert {(*v, d) for v, d in zip(faces.voxels.tolist(), faces.directions.tolist(), strict=True)} == expected
    assert len(faces) == len(expected)


def test_crowding_counts_the_neighbours_before_a_face() -> None:
    solid = random_solid(3, (4, 4, 4), 0.5)
    padded = np.pad(solid, 2)
    faces = exposed_faces(solid)
    for voxel, direction, count in zip(faces.voxels, faces.directions, crowding(solid, faces), strict=True):
        axis, step = direction // 2, 2 * (direction % 2) - 1
        before = voxel + 2
        before[axis] += step
        low, high = before - 1, before + 2
        low[axis], high[axis] = before[axis], before[axis] + 1
        assert count == padded[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].sum()


@pytest.mark.parametrize("name", GRIDS)
def test_faces_close_around_the_volume_and_turn_outward(name: str) -> None:
    grid = GRIDS[name]
    solid = random_solid(1)
    faces = exposed_faces(solid)
    a, b, c, d = np.moveaxis(faces.corners(grid), 1, 0)
    turned = np.cross(b - a, c - a)
    assert np.allclose(turned / np.linalg.norm(turned, axis=1, keepdims=True), normals(grid)[faces.directions])
    enclosed = (np.einsum("ni,ni->n", a, np.cross(b, c)) + np.einsum("ni,ni->n", a, np.cross(c, d))).sum() / 6  # divergence theorem
    assert enclosed == pytest.approx(solid.sum() * np.prod(grid.voxel_size))


def seen_by_rays(solid: np.ndarray, grid: VoxelGrid, viewpoint: Viewpoint, size: tuple[int, int]) -> np.ndarray:
    """(height, width) flat index of the nearest solid voxel through each pixel's centre, -1 for none: every ray against every box."""
    inverse = grid.T_grid_world
    start = (inverse[:3, :3] @ viewpoint.eye + inverse[:3, 3]) / grid.voxel_size
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    local = np.stack([(u - viewpoint.middle[0]) / viewpoint.focal, (v - viewpoint.middle[1]) / viewpoint.focal, np.ones_like(u)], -1)
    ray = (local @ viewpoint.axes) @ inverse[:3, :3].T / grid.voxel_size
    nearest, seen = np.full(u.shape, np.inf), np.full(u.shape, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        for voxel in np.argwhere(solid):
            ends = np.stack([(voxel - start) / ray, (voxel + 1 - start) / ray])
            enter, leave = ends.min(0).max(-1), ends.max(0).min(-1)
            hit = (enter <= leave) & (enter > 0) & (enter < nearest)
            nearest[hit], seen[hit] = enter[hit], np.ravel_multi_index(tuple(voxel), solid.shape)
    return seen


@pytest.mark.parametrize(("name", "view"), list(itertools.product(GRIDS, VIEWS)))
def test_each_pixel_shows_the_voxel_that_its_ray_meets_first(name: str, view: str) -> None:
    grid, solid, size = GRIDS[name], random_solid(7), (120, 90)
    viewpoint = fitted(view, grid.corners(), size)
    faces = back_to_front(exposed_faces(solid), grid, viewpoint.eye)
    quads, depth = viewpoint.project(faces.corners(grid))
    assert depth.min() > 0
    seen = paint(quads, size)
    painted = np.where(seen >= 0, np.ravel_multi_index(tuple(faces.voxels.T), solid.shape)[seen], -1)
    differ = (painted != seen_by_rays(solid, grid, viewpoint, size)).mean()
    assert differ < 0.002  # a pixel centre on an edge may fall to either side
    assert (painted >= 0).mean() > 0.1


def test_later_quads_cover_earlier_ones_and_the_border_cuts() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    outside = np.array([[20, 20], [24, 20], [24, 24], [20, 24]], float)
    seen = paint(np.stack([square, square[::-1] + 2, outside, square - 3]), (7, 6))
    expected = np.full((6, 7), -1)
    expected[0:4, 0:4] = 0
    expected[2:6, 2:6] = 1
    expected[0:1, 0:1] = 3
    assert np.array_equal(seen, expected)


def test_nothing_to_paint_is_nothing_seen() -> None:
    assert np.all(paint(np.zeros((0, 4, 2)), (3, 2)) == -1)


def test_edge_distance_is_to_the_nearest_edge() -> None:
    square = np.array([[[0, 0], [10, 0], [10, 8], [0, 8]]], float)
    points = np.array([[5, 1], [9.5, 4], [5, 4], [0, 3]])
    assert np.allclose(edge_distance(np.repeat(square, 4, 0), points), [1, 0.5, 4, 0])


@given(
    seed=st.integers(0, 1000),
    view=st.sampled_from(sorted(VIEWS)),
    size=st.tuples(st.integers(50, 400), st.integers(50, 400)),
)
@settings(max_examples=30, deadline=None)
def test_a_fitted_view_holds_the_whole_box_and_wastes_no_room(seed: int, view: str, size: tuple[int, int]) -> None:
    box = VoxelGrid.from_corner((0, 0, 0), tuple(np.random.default_rng(seed).integers(1, 50, 3)), 0.3).corners()
    pixels, depth = fitted(view, box, size).project(box)
    assert depth.min() > 0
    assert np.all(pixels >= 0)
    assert np.all(pixels <= size)
    assert np.max((pixels.max(0) - pixels.min(0)) / size) == pytest.approx(0.94)
