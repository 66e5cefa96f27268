"""Ray casting: all bodies of a world in one Embree scene (extra `worlds`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import require
from wholescene.worlds.solids import Body

Array = NDArray[Any]


@dataclass(frozen=True)
class Hits:
    """What N rays met, one row for each ray that met something.

    Attributes:
        ray: (N,) int, the number of the ray.
        t: (N,) float32, where on the ray, in lengths of its direction.
        points: (N, 3) float32, world metres.
        normals: (N, 3) float32 unit, smooth, turned towards the ray's origin.
        body: (N,) int32, which body.
        triangle: (N,) int32, which triangle.
        loose: (N,) bool, whether it is a loose leaf and no part of the solid's own surface.
        distance: (N,) float32, metres from the ray's origin.
    """

    ray: Array
    t: Array
    points: Array
    normals: Array
    body: Array
    triangle: Array
    loose: Array
    distance: Array

    def take(self, rows: Array) -> Hits:
        """Some of the rows."""
        return Hits(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class Caster:
    """Casts rays at bodies. Results depend on nothing but the bodies and the rays.

    Raises:
        MissingExtraError: Embree is not installed; install the extra `worlds`.
    """

    def __init__(self, bodies: Sequence[Body]) -> None:
        scenes = require("embreex.rtcore_scene", extra="worlds")
        builders = require("embreex.mesh_construction", extra="worlds")
        meshes = [body.mesh() for body in bodies]
        starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
        self._vertices = np.concatenate([m.vertices for m in meshes]).astype(np.float32)
        self._triangles = np.concatenate([m.triangles + s for m, s in zip(meshes, starts, strict=True)]).astype(np.int32)
        self._normals = np.concatenate([m.normals for m in meshes]).astype(np.float32)
        self.body_of_triangle = np.repeat(np.arange(len(bodies), dtype=np.int32), [len(m.triangles) for m in meshes])
        leaves = [0 if body.leaves is None else len(body.leaves) for body in bodies]
        kinds = [(n, len(m.triangles) - n) for n, m in zip(leaves, meshes, strict=True)]
        self._loose = np.repeat(np.tile([False, True], len(bodies)), [n for few, own in kinds for n in (own, few)])
        self._scene = scenes.EmbreeScene()
        builders.TriangleMesh(self._scene, self._vertices, self._triangles)

    @property
    def triangles(self) -> int:
        """How many triangles there are."""
        return len(self._triangles)

    def distances(self, origin: Array, directions: Array) -> Array:
        """(N,) float32: how far one origin (3,) sees along directions (N, 3), in lengths of the direction; infinite where nothing is met."""
        origins = np.broadcast_to(np.asarray(origin, np.float32), directions.shape)
        found = self._scene.run(np.ascontiguousarray(origins), np.ascontiguousarray(directions, np.float32), query="DISTANCE")
        return np.where(found > 1e30, np.float32(np.inf), found)

    def blocked(self, origins: Array, directions: Array, reach: float = 1e30) -> Array:
        """(N,) bool: whether anything lies within `reach` lengths of the directions (N, 3) from the origins (N, 3)."""
        found = self._scene.run(
            np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32),
            dists=np.full(len(origins), reach, np.float32), query="OCCLUDED",
        )  # fmt: skip
        return found == 0

    def nearest(self, origin: Array, directions: Array) -> Hits:
        """What rays from one origin (3,) along directions (N, 3) meet first."""
        origin = np.asarray(origin, np.float32)
        directions = np.ascontiguousarray(directions, np.float32)
        found = self._scene.run(np.ascontiguousarray(np.broadcast_to(origin, directions.shape)), directions, output=True)
        ray = np.flatnonzero(found["primID"] >= 0)
        triangle, t = found["primID"][ray], found["tfar"][ray]
        u, v, towards = found["u"][ray, None], found["v"][ray, None], directions[ray]
        corners = self._triangles[triangle]
        normals = (1 - u - v) * self._normals[corners[:, 0]] + u * self._normals[corners[:, 1]] + v * self._normals[corners[:, 2]]
        away = np.einsum("nc,nc->n", normals, towards) > 0
        normals[away] *= -1
        normals /= np.maximum(np.sqrt(np.einsum("nc,nc->n", normals, normals)), 1e-6)[:, None]
        distance = t * np.sqrt(np.einsum("nc,nc->n", towards, towards))
        return Hits(ray, t, origin + t[:, None] * towards, normals, self.body_of_triangle[triangle], triangle, self._loose[triangle], distance)
