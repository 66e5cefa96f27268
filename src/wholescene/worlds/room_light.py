"""Light in rooms, and the picture: lamps and windows with soft shadows, light that walls throw back, a hand-held camera's response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.worlds.casting import Caster, Hits
from wholescene.worlds.room_shell import Pane
from wholescene.worlds.room_things import Lamp
from wholescene.worlds.shading import averaged, depth_map, develop, evened, openness, paint, pixel_rays
from wholescene.worlds.solids import Body

Array = NDArray[Any]


@dataclass(frozen=True)
class Snapshot:
    """How a camera answers light; fields as in `shading.Light`, and how much of the light that falls on things comes from other things.

    Attributes:
        thrown_back: of the mean light, times what an average surface reflects.
    """

    exposure: float
    balance: Array
    gamma: float
    contrast: float
    blur: float
    noise: float
    thrown_back: float


def snapshot(rng: np.random.Generator) -> Snapshot:
    """A response, drawn at random."""
    return Snapshot(
        exposure=float(rng.uniform(0.14, 0.3)),
        balance=np.array([rng.uniform(0.88, 1.08), 1.0, rng.uniform(0.92, 1.2)]),
        gamma=float(rng.uniform(1.9, 2.3)),
        contrast=float(rng.uniform(0.0, 0.45)),
        blur=float(rng.uniform(0.0, 0.14)),
        noise=float(rng.uniform(0.8, 3.5)),
        thrown_back=float(rng.uniform(0.75, 1.25)),
    )


@dataclass(frozen=True)
class _Faces:
    """Which rays hit which flat face, as a picture: what soft shadows are evened out over."""

    size: tuple[int, int]
    marks: Array

    @classmethod
    def of(cls, hits: Hits, size: tuple[int, int]) -> _Faces:
        marks = np.full(size[0] * size[1], -1, np.int32)
        marks[hits.ray] = hits.body * 3 + np.argmax(np.abs(hits.normals), axis=1).astype(np.int32)
        return cls(size, marks.reshape(size[1], size[0]))

    def even_out(self, values: Array, ray: Array) -> Array:
        """(N,) values of hits, averaged with those of their neighbours on the same face."""
        flat = np.ones(self.marks.size, np.float32)
        flat[ray] = values
        picture = flat.reshape(self.marks.shape)
        for step in (1, 2, 4, 1):  # the last takes away the lattice that the wide ones leave
            picture = evened(picture, self.marks, step)
        return picture.reshape(-1)[ray]


def _arriving(caster: Caster, hits: Hits, source: Array, reach: float) -> tuple[Array, Array, Array]:
    """Cosine (N,) at the points hit, distance squared (N,) and unit directions (N, 3) to the source's points (N, 3); 0 where it is hidden."""
    towards = source - hits.points
    squared = np.einsum("nc,nc->n", towards, towards)
    cosine = np.einsum("nc,nc->n", towards, hits.normals) / np.sqrt(np.maximum(squared, 1e-6))
    lit = np.flatnonzero(cosine > 0.01)
    hidden = caster.blocked(hits.points[lit] + np.float32(0.01) * hits.normals[lit], towards[lit], reach)
    cosine = np.clip(cosine, 0, 1)
    cosine[lit[hidden]] = 0
    return cosine, squared, towards / np.sqrt(np.maximum(squared, 1e-6))[:, None]


def falling(caster: Caster, hits: Hits, lamps: Sequence[Lamp], panes: Sequence[Pane], size: tuple[int, int], rng: np.random.Generator) -> Array:
    """(N, 3) float32 light that falls on the points hit straight from lamps and panes.

    Every ray asks for one random point of each source; what comes is evened out over the face that it hit.

    Args:
        size: (columns, rows) of the rays that the hits stem from, row by row.
    """
    faces, total = _Faces.of(hits, size), np.zeros((len(hits.ray), 3), np.float32)
    for lamp in lamps:
        shifts = rng.standard_normal((len(hits.ray), 3), dtype=np.float32)
        shifts *= np.float32(lamp.radius) / np.maximum(np.linalg.norm(shifts, axis=1, keepdims=True), 1e-6)
        cosine, squared, _ = _arriving(caster, hits, lamp.point.astype(np.float32) + shifts, 0.98)
        share = faces.even_out((cosine / np.maximum(squared, 0.09)).astype(np.float32), hits.ray)
        total += share[:, None] * lamp.light.astype(np.float32)
    for pane in panes:
        aside, up = rng.uniform(-1, 1, (2, len(hits.ray))).astype(np.float32)
        points = pane.middle + pane.half[0] * aside[:, None] * pane.along + pane.half[1] * up[:, None] * np.array([0, 0, 1.0])
        cosine, squared, towards = _arriving(caster, hits, points.astype(np.float32), 0.97)
        leaving = np.clip(-(towards @ pane.inward.astype(np.float32)), 0, 1)
        area = np.float32(4 * pane.half[0] * pane.half[1] / np.pi)
        share = faces.even_out((cosine * leaving * area / np.maximum(squared, 0.04)).astype(np.float32), hits.ray)
        total += share[:, None] * pane.light.astype(np.float32)
    return total


def glow_of(bodies: Sequence[Body]) -> Array:
    """(B,) float32 how much each body's material shines by itself."""
    return np.array([getattr(body.material, "glow", 0.0) for body in bodies], np.float32)


def render(
    caster: Caster,
    bodies: Sequence[Body],
    lamps: Sequence[Lamp],
    panes: Sequence[Pane],
    camera: Camera,
    response: Snapshot,
    rng: np.random.Generator,
    across: int = 1,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], Hits]:
    """The picture a camera takes in a room.

    Args:
        caster: of exactly these bodies.
        across: rays along each side of a pixel (2: four rays a pixel).

    Returns:
        (H, W, 3) uint8 picture; (H, W) float32 metres along the optical axis through pixel centres, 0 where nothing is met; what the rays hit.
    """
    rays = pixel_rays(camera, across)
    height, width = rays.shape[:2]
    hits = caster.nearest(camera.position, rays.reshape(-1, 3))
    albedo, gloss = paint(bodies, hits, 1.0 / abs(float(camera.intrinsics[0, 0])) / across)
    direct = falling(caster, hits, lamps, panes, (width, height), rng)
    open_ = openness(caster, hits, (width, height), rng, reach=0.9)
    # What surfaces throw back, as if all of the room saw all of it: the mean of what leaves them, summed over all further reflections.
    back = np.minimum(albedo.mean(axis=0), 0.75)
    around = response.thrown_back * (albedo * direct).mean(axis=0) / (1 - back) + 0.01
    leaving = albedo * (direct + (0.25 + 0.75 * open_)[:, None] * around)
    unit = rays.reshape(-1, 3)[hits.ray]
    cosine = np.abs(np.einsum("nc,nc->n", unit, hits.normals)) / np.sqrt(np.einsum("nc,nc->n", unit, unit))
    leaving += (gloss * (0.15 + 0.85 * np.power(1 - np.clip(cosine, 0, 1), 3)) * open_)[:, None] * around
    glow = glow_of(bodies)[hits.body]
    shining = np.flatnonzero(glow > 0)
    middle = float(leaving.mean())
    leaving /= np.float32(3 * max(middle, 1e-4))
    leaving[shining] = glow[shining, None] * albedo[shining] + 0.15 * leaving[shining]
    radiance = np.zeros((height * width, 3), np.float32)
    radiance[hits.ray] = leaving
    return develop(response, averaged(radiance, camera, across), rng), depth_map(caster, camera, hits, across), hits
