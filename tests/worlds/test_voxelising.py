"""The voxel truth is the shapes' own inside test, by the rule written in `voxelising`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wholescene.grid import VoxelGrid
from wholescene.worlds.materials import Plain
from wholescene.worlds.solids import Body, Box, Cylinder, Ellipsoid, Prism, along, upright
from wholescene.worlds.voxelising import voxelise

GREY = Plain((0.5, 0.5, 0.5))
TILTED = upright(0.7) @ along(np.array([0.3, 0.1, 1.0]))
SHAPES = {
    "box": Box(np.array([0.1, 0.2, 0.0]), np.array([0.9, 0.5, 0.4]), TILTED),
    "upright box": Box(np.array([0.1, 0.2, 0.0]), np.array([0.9, 0.5, 0.4]), upright(0.4)),
    "ellipsoid": Ellipsoid(np.array([0.0, -0.3, 0.2]), np.array([0.8, 0.5, 0.4]), TILTED),
    "cylinder": Cylinder(np.array([0.2, 0.0, 0.1]), 0.4, 0.7, TILTED),
    "cone": Cylinder(np.array([0.2, 0.0, 0.1]), 0.7, 0.7, TILTED, top=0.2),
    "prism": Prism(np.array([0.0, 0.1, -0.5]), np.array([(-0.8, 0.0), (0.8, 0.0), (0.4, 0.9), (-0.5, 1.0)]), 0.6, upright(0.5), -0.2),
}


def said_one_point_at_a_time(shape: object, point: np.ndarray) -> bool:
    """The inside test written again in the shape's own frame, without arrays."""
    u, v, w = (float(c) for c in shape.rotation.T @ (point - shape.centre))
    if isinstance(shape, Box):
        return all(abs(c) <= h for c, h in zip((u, v, w), shape.half, strict=True))
    if isinstance(shape, Ellipsoid):
        return sum((c / r) ** 2 for c, r in zip((u, v, w), shape.radii, strict=True)) <= 1
    if isinstance(shape, Cylinder):
        share = (w + shape.half_length) / (2 * shape.half_length)
        return 0 <= share <= 1 and np.hypot(u, v) <= shape.radius * (1 - share + shape.top * share)
    inside, corners = abs(v) <= shape.half_width + shape.lean * w, list(shape.profile)
    for (x0, z0), (x1, z1) in zip(corners, corners[1:] + corners[:1], strict=True):
        inside = inside and (x1 - x0) * (w - z0) >= (z1 - z0) * (u - x0)
    return bool(inside)


@pytest.mark.parametrize("name", SHAPES)
def test_a_voxel_is_filled_if_one_of_its_eight_sample_points_is_inside(name: str) -> None:
    grid = VoxelGrid.from_corner((-1.3, -1.2, -1.1), (8, 8, 7), (0.3, 0.31, 0.33))
    labels = voxelise([Body(SHAPES[name], 3, GREY)], grid)
    corner, edges = grid.T_world_grid[:3, 3], np.array(grid.voxel_size)
    for index in itertools.product(range(8), range(8), range(7)):
        samples = [corner + (np.array(index) + np.array(part)) * edges for part in itertools.product((0.25, 0.75), repeat=3)]
        assert labels[index] == (3 if any(said_one_point_at_a_time(SHAPES[name], p) for p in samples) else 0), index
    assert 0 < (labels > 0).sum() < labels.size


@pytest.mark.parametrize("name", SHAPES)
def test_the_mesh_lies_on_the_border_of_the_inside_test_and_faces_outwards(name: str) -> None:
    shape = SHAPES[name]
    mesh = shape.mesh()
    corners = mesh.vertices[mesh.triangles]
    middle = corners.mean(axis=1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    middle, normals = middle[area > 1e-9], (normals / np.maximum(area, 1e-12)[:, None])[area > 1e-9]
    # A round shape's mesh cuts inside it by its facets' sagitta, so step further outwards than inwards.
    assert shape.inside(*(middle - 0.01 * normals).T).all()
    assert not shape.inside(*(middle + 0.09 * normals).T).any()


def test_the_bounds_hold_the_shape() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    points = rng.uniform(-3, 3, (20000, 3))
    for shape in SHAPES.values():
        low, high = shape.bounds()
        outside = np.any((points < low - 1e-9) | (points > high + 1e-9), axis=1)
        assert not shape.inside(*points[outside].T).any()
        assert shape.inside(*points[~outside].T).any()


def test_the_higher_rank_keeps_the_voxel_and_the_later_of_equals() -> None:
    grid = VoxelGrid.from_corner((0, 0, 0), (2, 2, 2), 0.2)
    everywhere = Box(np.zeros(3), np.full(3, 5.0))
    first, second, high = Body(everywhere, 1, GREY, rank=1), Body(everywhere, 2, GREY, rank=1), Body(everywhere, 3, GREY, rank=2)
    assert (voxelise([first, second], grid) == 2).all()
    assert (voxelise([high, first, second], grid) == 3).all()


def test_a_thin_pole_fills_an_unbroken_column_wherever_it_stands() -> None:
    grid = VoxelGrid.from_corner((0, 0, 0), (10, 10, 10), 0.2)
    rng = np.random.Generator(np.random.PCG64(1))
    for x, y in rng.uniform(0.3, 1.7, (25, 2)):
        pole = Cylinder.between(np.array([x, y, -1.0]), np.array([x + 0.2, y - 0.1, 3.0]), 0.025)
        assert (voxelise([Body(pole, 18, GREY, thin=True)], grid) == 18).any(axis=(0, 1)).all()
