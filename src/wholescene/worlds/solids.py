"""Solids: analytic shapes that answer "is this point inside?" exactly and give a mesh for the ray caster.

A shape lives in its own local frame (metres) and has a pose: `centre` and `rotation` (columns: local axes in the world). All shapes share
three methods: `bounds`, `inside` and `mesh`. `inside` takes open (broadcastable) coordinate arrays, so that an upright box on a grid costs
a plane and a line of tests instead of a volume of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Mesh(NamedTuple):
    """Triangles: `vertices` (V, 3) metres, `triangles` (T, 3) int, `normals` (V, 3) unit, one for each vertex."""

    vertices: Array
    triangles: Array
    normals: Array


class Shape(Protocol):
    """What every solid can do."""

    @property
    def centre(self) -> Array:
        """(3,) origin of the local frame in the world."""
        ...

    @property
    def rotation(self) -> Array:
        """(3, 3) local to world."""
        ...

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper corner (3,) of an axis-aligned box around it, world metres."""
        ...

    def inside(self, x: Array, y: Array, z: Array, margin: float = 0.0) -> Array:
        """Whether world points lie in the shape grown by `margin` metres; open arrays broadcast."""
        ...

    def mesh(self) -> Mesh:
        """Its surface in the world."""
        ...


def upright(yaw: float) -> Array:
    """(3, 3) rotation about z by `yaw` radians, counter-clockwise seen from above."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def along(direction: Array) -> Array:
    """(3, 3) rotation whose third column is the unit vector of `direction`: a frame for a cylinder between two points."""
    z = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    helper = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def cross(a: Array, b: Array) -> Array:
    """(N, 3) vector products of rows; several times as fast as NumPy's for few rows."""
    x, y, z = a[:, 0], a[:, 1], a[:, 2]
    u, v, w = b[:, 0], b[:, 1], b[:, 2]
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=1)


def _local(shape: Shape, x: Array, y: Array, z: Array) -> list[Array]:
    """World to local coordinates; terms with a zero coefficient are left out, so that open arrays stay thin."""
    offsets = (x - shape.centre[0], y - shape.centre[1], z - shape.centre[2])
    axes = []
    for column in shape.rotation.T:
        terms = [c * o for c, o in zip(column, offsets, strict=True) if abs(c) > 1e-9]
        axes.append(functools.reduce(np.add, terms))
    return axes


def _posed(shape: Shape, unit: Mesh, scale: Array) -> Mesh:
    """A unit mesh scaled along the local axes and moved into the world."""
    normals = unit.normals / scale
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh((unit.vertices * scale) @ shape.rotation.T + shape.centre, unit.triangles, normals @ shape.rotation.T)


def _flat(faces: list[Array]) -> Mesh:
    """Planar convex faces (each (n, 3), counter-clockwise from outside) as triangle fans with flat normals."""
    vertices, triangles, normals, start = [], [], [], 0
    for face in faces:
        normal = np.cross(face[1] - face[0], face[2] - face[0])
        length = np.linalg.norm(normal)
        if length < 1e-12:
            continue
        count = len(face)
        vertices.append(face)
        normals.append(np.repeat((normal / length)[None], count, axis=0))
        triangles.append(np.array([(0, i, i + 1) for i in range(1, count - 1)]) + start)
        start += count
    return Mesh(np.concatenate(vertices), np.concatenate(triangles), np.concatenate(normals))


@functools.cache
def _unit_box() -> Mesh:
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            ring = [(-1, -1), (1, -1), (1, 1), (-1, 1)] if sign > 0 else [(-1, -1), (-1, 1), (1, 1), (1, -1)]
            face = np.zeros((4, 3))
            face[:, axis] = sign
            face[:, [u, v]] = ring
            faces.append(face)
    return _flat(faces)


@functools.cache
def _unit_sphere(rings: int) -> Mesh:
    sectors = 2 * rings
    polar = np.pi * np.arange(rings + 1) / rings
    round_ = 2 * np.pi * np.arange(sectors + 1) / sectors
    a, b = np.meshgrid(polar, round_, indexing="ij")
    points = np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)], axis=-1).reshape(-1, 3)
    i, j = (n.ravel() for n in np.meshgrid(np.arange(rings), np.arange(sectors), indexing="ij"))
    low = i * (sectors + 1) + j
    high = low + sectors + 1
    triangles = np.concatenate([np.stack([low, high, high + 1], 1)[i < rings], np.stack([low, high + 1, low + 1], 1)[i > 0]])
    return Mesh(points, triangles, points.copy())


@functools.cache
def _unit_cone(top: float, sectors: int) -> Mesh:
    """Radius 1 at z = -1, `top` at z = 1, with both lids; the side is smooth."""
    turn = 2 * np.pi * np.arange(sectors) / sectors
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    low = np.column_stack([ring, np.full(sectors, -1.0)])
    high = np.column_stack([top * ring, np.full(sectors, 1.0)])
    i, j = np.arange(sectors), (np.arange(sectors) + 1) % sectors
    side = np.concatenate([np.stack([i, j, sectors + j], 1), np.stack([i, sectors + j, sectors + i], 1)])
    slant = np.column_stack([ring, np.full(sectors, (1.0 - top) / 2)])
    slant /= np.linalg.norm(slant, axis=1, keepdims=True)
    lids = _flat([low[::-1], high] if top > 0 else [low[::-1]])
    vertices = np.concatenate([low, high, lids.vertices])
    return Mesh(vertices, np.concatenate([side, lids.triangles + 2 * sectors]), np.concatenate([slant, slant, lids.normals]))


@dataclass(frozen=True, eq=False)
class Box:
    """A box with half edges `half` (3,) along its local axes."""

    centre: Array
    half: Array
    rotation: Array = field(default_factory=lambda: np.eye(3))

    def bounds(self) -> tuple[Array, Array]:
        """See `Shape.bounds`."""
        reach = np.abs(self.rotation) @ self.half
        return self.centre - reach, self.centre + reach

    def inside(self, x: Array, y: Array, z: Array, margin: float = 0.0) -> Array:
        """See `Shape.inside`."""
        u, v, w = _local(self, x, y, z)
        a, b, c = np.asarray(self.half) + margin
        return (np.abs(u) <= a) & (np.abs(v) <= b) & (np.abs(w) <= c)

    def mesh(self) -> Mesh:
        """See `Shape.mesh`."""
        return _posed(self, _unit_box(), np.asarray(self.half))


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid with half axes `radii` (3,); `rings` is how fine its mesh is."""

    centre: Array
    radii: Array
    rotation: Array = field(default_factory=lambda: np.eye(3))
    rings: int = 6

    def bounds(self) -> tuple[Array, Array]:
        """See `Shape.bounds`."""
        reach = np.sqrt((self.rotation**2) @ (np.asarray(self.radii) ** 2))
        return self.centre - reach, self.centre + reach

    def inside(self, x: Array, y: Array, z: Array, margin: float = 0.0) -> Array:
        """See `Shape.inside`."""
        a, b, c = np.asarray(self.radii) + margin
        u, v, w = _local(self, x, y, z)
        return (u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2 <= 1.0

    def mesh(self) -> Mesh:
        """See `Shape.mesh`."""
        return _posed(self, _unit_sphere(self.rings), np.asarray(self.radii))


@dataclass(frozen=True, eq=False)
class Cylinder:
    """A round bar along local z: `radius` at its lower end, `top * radius` at its upper end (1: a cylinder, 0: a cone)."""

    centre: Array
    radius: float
    half_length: float
    rotation: Array = field(default_factory=lambda: np.eye(3))
    top: float = 1.0
    sectors: int = 10

    @classmethod
    def between(cls, start: Array, end: Array, radius: float, top: float = 1.0, sectors: int = 8) -> Cylinder:
        """From one point to another (world metres)."""
        start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        return cls((start + end) / 2, radius, float(np.linalg.norm(end - start)) / 2, along(end - start), top, sectors)

    def bounds(self) -> tuple[Array, Array]:
        """See `Shape.bounds`."""
        axis = self.rotation[:, 2]
        reach = np.abs(axis) * self.half_length + max(1.0, self.top) * self.radius * np.sqrt(np.maximum(0.0, 1 - axis**2))
        return self.centre - reach, self.centre + reach

    def inside(self, x: Array, y: Array, z: Array, margin: float = 0.0) -> Array:
        """See `Shape.inside`."""
        u, v, w = _local(self, x, y, z)
        radius: Any = self.radius + margin
        if self.top != 1.0:
            share = np.clip((w / self.half_length + 1) / 2, 0, 1)
            radius = self.radius * (1 + (self.top - 1) * share) + margin
        return (u**2 + v**2 <= radius**2) & (np.abs(w) <= self.half_length + margin)

    def mesh(self) -> Mesh:
        """See `Shape.mesh`."""
        return _posed(self, _unit_cone(self.top, self.sectors), np.array([self.radius, self.radius, self.half_length]))


@dataclass(frozen=True, eq=False)
class Prism:
    """A convex profile in local (x, z), extruded along local y to both sides; the sides may lean.

    Attributes:
        profile: (n, 2) corners (x, z), counter-clockwise seen from -y (so x right, z up).
        half_width: half the extent along y at local z = 0.
        lean: what the half width changes for each metre of z (negative: narrower on top).
    """

    centre: Array
    profile: Array
    half_width: float
    rotation: Array = field(default_factory=lambda: np.eye(3))
    lean: float = 0.0

    def _ends(self) -> tuple[Array, Array]:
        profile = np.asarray(self.profile, dtype=np.float64)
        width = np.maximum(self.half_width + self.lean * profile[:, 1], 0.0)
        near = np.column_stack([profile[:, 0], -width, profile[:, 1]])
        far = np.column_stack([profile[:, 0], width, profile[:, 1]])
        return near, far

    def bounds(self) -> tuple[Array, Array]:
        """See `Shape.bounds`."""
        corners = np.concatenate(self._ends()) @ self.rotation.T + self.centre
        return corners.min(axis=0), corners.max(axis=0)

    def inside(self, x: Array, y: Array, z: Array, margin: float = 0.0) -> Array:
        """See `Shape.inside`."""
        u, v, w = _local(self, x, y, z)
        within = np.abs(v) <= np.maximum(self.half_width + self.lean * w, 0.0) + margin
        for (x0, z0), (x1, z1) in zip(self.profile, np.roll(self.profile, -1, axis=0), strict=True):
            length = math.hypot(x1 - x0, z1 - z0)
            within = within & ((x1 - x0) * (w - z0) - (z1 - z0) * (u - x0) >= -margin * length)
        return within

    def mesh(self) -> Mesh:
        """See `Shape.mesh`."""
        near, far = self._ends()
        count = len(near)
        sides = [np.stack([near[(i + 1) % count], near[i], far[i], far[(i + 1) % count]]) for i in range(count)]
        return _posed(self, _flat([near, far[::-1], *sides]), np.ones(3))


@dataclass(frozen=True, eq=False)
class Body:
    """A solid with a class and a material: one thing of a world.

    Attributes:
        shape: its solid.
        label: its class; None where `label_at` says it point by point (the ground).
        material: how its surface looks; anything with `paint` (see `materials`).
        thin: narrower than a voxel: voxelised with a margin of half a sample step, so that it never falls between sample points.
        rank: on a voxel that several bodies touch, the highest rank wins, and the later one of equal ranks.
        softness: 0..1, how far the normals of flat faces are bent outwards, so that a box shades like a rounded body.
        leaves: (n, 3, 3) loose triangles that belong to the surface in pictures and to nothing in the truth.
        leaf_normals: (n, 3) their shading normals.
        skin: the shape's mesh, if it is known already.
        label_at: (x, y) -> classes, for bodies with several classes.
    """

    shape: Shape
    label: int | None
    material: Any
    thin: bool = False
    rank: int = 0
    softness: float = 0.0
    leaves: Array | None = None
    leaf_normals: Array | None = None
    skin: Mesh | None = None
    label_at: Callable[[Array, Array], Array] | None = None

    def mesh(self) -> Mesh:
        """The shape's mesh, softened, and the leaves."""
        mesh = self.shape.mesh() if self.skin is None else self.skin
        if self.softness:
            out = mesh.vertices - np.asarray(self.shape.centre)
            out = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
            bent = mesh.normals * (1 - self.softness) + out * self.softness
            mesh = mesh._replace(normals=bent / np.maximum(np.linalg.norm(bent, axis=1, keepdims=True), 1e-9))
        if self.leaves is None or not len(self.leaves):
            return mesh
        assert self.leaf_normals is not None
        count, start = len(self.leaves), len(mesh.vertices)
        return Mesh(
            np.concatenate([mesh.vertices, self.leaves.reshape(-1, 3)]),
            np.concatenate([mesh.triangles, np.arange(start, start + 3 * count).reshape(-1, 3)]),
            np.concatenate([mesh.normals, np.repeat(self.leaf_normals, 3, axis=0)]),
        )
