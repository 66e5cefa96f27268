"""The ground of a street: strips along a bent centre line, crossings, kerbs, banks, and how all of it looks.

Street coordinates: s = x (metres ahead), t = y - bend(x) (metres left of the centre line). The shear keeps both directions of the map exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Surface, linear, mix
from wholescene.worlds.places import Place
from wholescene.worlds.solids import Mesh, cross
from wholescene.worlds.textures import noise, scatter

Array = NDArray[Any]

ROAD, PARKING, SIDEWALK, OTHER, TERRAIN = range(5)
LABELS = np.array([9, 10, 11, 12, 17], np.uint8)
_STRAIGHT_FROM = 70.0  # metres: beyond it a bend goes on as its tangent


@dataclass(frozen=True)
class Crossing:
    """A street across: at `s`, with `surfaces[i]` between `edges[i]` and `edges[i + 1]` (metres from s), for t in `reach`."""

    s: float
    edges: tuple[float, ...]
    surfaces: tuple[int, ...]
    reach: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """Where which ground is.

    Attributes:
        offset, slope, curve: the centre line y = offset + slope x + curve x^2 / 2, metres; beyond 70 m its tangent.
        rise: the ground's z = rise x^2 / 2, likewise.
        edges: n + 1 ascending t between which `surfaces` lie; the outer two are far away.
        surfaces: n kinds of ground.
        heights: metres of each kind above the road.
        bank: metres that soft ground rises for each metre beyond `bank_from`, on the right and on the left.
        bank_from: |t| from which it does.
        bumps: metres of amplitude of bumps in soft ground.
        phase: (2,) where the bumps lie.
        marking: metres of the gap between centre-line dashes, 0 for a solid line, negative for none.
        border: whether lines run along the road's edges.
        crossings: streets across.
    """

    offset: float
    slope: float
    curve: float
    rise: float
    edges: tuple[float, ...]
    surfaces: tuple[int, ...]
    heights: tuple[float, float, float, float, float]
    bank: tuple[float, float] = (0.0, 0.0)
    bank_from: float = 8.0
    bumps: float = 0.05
    phase: tuple[float, float] = (0.0, 0.0)
    marking: float = 4.0
    border: bool = False
    crossings: tuple[Crossing, ...] = field(default_factory=tuple)

    def bend(self, x: Array) -> Array:
        """y of the centre line."""
        near = np.clip(x, -_STRAIGHT_FROM, _STRAIGHT_FROM)
        return self.offset + self.slope * x + self.curve * near * (x - near / 2)

    def heading(self, x: float) -> float:
        """Direction of the centre line, radians."""
        return float(np.arctan(self.slope + self.curve * np.clip(x, -_STRAIGHT_FROM, _STRAIGHT_FROM)))

    @property
    def road(self) -> tuple[float, float]:
        """t of the carriageway's right and left edge."""
        kinds = np.asarray(self.surfaces) == ROAD
        first = int(np.argmax(kinds))
        last = len(kinds) - 1 - int(np.argmax(kinds[::-1]))
        return self.edges[first], self.edges[last + 1]

    def kind(self, x: Array, y: Array) -> Array:
        """Kind of ground at world x, y (broadcast), int8."""
        s, t = np.broadcast_arrays(x, y - self.bend(x))
        strip = np.clip(np.searchsorted(self.edges, t, side="right") - 1, 0, len(self.surfaces) - 1)
        kinds = np.array(np.asarray(self.surfaces, np.int8)[strip])
        for crossing in self.crossings:
            here = (s > crossing.s + crossing.edges[0]) & (s < crossing.s + crossing.edges[-1]) & (t > crossing.reach[0]) & (t < crossing.reach[1])
            here &= kinds != ROAD
            column = np.searchsorted(crossing.edges, s[here] - crossing.s, side="right") - 1
            kinds[here] = np.asarray(crossing.surfaces, np.int8)[np.clip(column, 0, len(crossing.surfaces) - 1)]
        return kinds

    def height(self, x: Array, y: Array) -> Array:
        """z of the ground at world x, y (broadcast), metres."""
        x, y = np.broadcast_arrays(x, y)
        kinds = self.kind(x, y)
        near = np.clip(x, -_STRAIGHT_FROM, _STRAIGHT_FROM)
        z = self.rise * near * (x - near / 2) + np.asarray(self.heights)[kinds]
        t = y - self.bend(x)
        beyond = np.clip(np.abs(t) - self.bank_from, 0, 12)
        waves = np.sin(x / 2.9 + self.phase[0]) * np.sin(y / 3.7 + self.phase[1]) + 0.6 * np.sin(x / 7.1 + y / 5.3 + self.phase[1])
        soft = kinds == TERRAIN
        return z + np.where(soft, np.where(t > 0, self.bank[1], self.bank[0]) * beyond + self.bumps * waves, 0.0)

    def labels(self, x: Array, y: Array) -> Array:
        """Classes at world x, y (broadcast)."""
        return LABELS[self.kind(x, y)]

    def at(self, s: float, t: float) -> Place:
        """The spot at street coordinates."""
        y = float(self.bend(np.asarray(s)) + t)
        return Place(s, y, float(self.height(np.array(s), np.array(y))), self.heading(s))

    def crossed(self, s: float, t: float, margin: float = 0.5) -> bool:
        """Whether a street across covers that spot."""
        return any(c.s + c.edges[0] - margin < s < c.s + c.edges[-1] + margin and c.reach[0] < t < c.reach[1] for c in self.crossings)


@dataclass(frozen=True, eq=False)
class Ground:
    """The ground as a shape: a layer of `layer` metres below the plan's surface; what lies deeper was never seen by anybody."""

    plan: Plan
    layer: float = 0.1
    centre: Array = field(default_factory=lambda: np.zeros(3))
    rotation: Array = field(default_factory=lambda: np.eye(3))

    def bounds(self) -> tuple[Array, Array]:
        """See `Shape.bounds`; heights within 60 m."""
        x, y = np.meshgrid(np.linspace(-1, 60, 40), np.linspace(-60, 60, 60))
        z = self.plan.height(x, y)
        return np.array([-1e3, -1e3, z.min() - self.layer - 0.25]), np.array([1e3, 1e3, z.max() + 0.25])

    def inside(self, x: Array, y: Array, z: Array, margin: float = 0.0) -> Array:
        """See `Shape.inside`."""
        top = self.plan.height(x, y)
        return (z <= top + margin) & (z > top - self.layer - margin)

    def mesh(self) -> Mesh:
        """See `Shape.mesh`: lines in s and t, doubled where the kind of ground changes, so that kerbs are steps."""
        s = np.concatenate([np.arange(-45.0, 75.0, 1.5), np.geomspace(76.0, 420.0, 24)])
        steps = [c.s + e + d for c in self.plan.crossings for e in c.edges for d in (-0.01, 0.01)]
        s = np.unique(np.concatenate([s, steps]))
        far = np.geomspace(33.0, 320.0, 10)
        t = np.concatenate([-far, np.arange(-32.0, 32.5, 2.0), far])
        sides = [e + d for e in self.plan.edges[1:-1] for d in (-0.01, 0.01)]
        t = np.unique(np.concatenate([t, sides]))
        x = s[:, None] + 0 * t
        y = self.plan.bend(x) + t
        corners = np.stack([x, y, self.plan.height(x, y)], axis=-1)
        a, b, c, d = corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]
        faces = np.stack([np.stack([a, b, c], -2), np.stack([a, c, d], -2)], axis=2).reshape(-1, 3, 3)
        normals = cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = np.repeat(normals / np.maximum(length, 1e-12), 3, axis=0)
        return Mesh(faces.reshape(-1, 3), np.arange(len(faces) * 3).reshape(-1, 3), normals)


@dataclass(frozen=True)
class GroundPaint:
    """Asphalt with markings, paving, grass: a material that asks the plan what is where."""

    plan: Plan
    asphalt: Colour
    paving: Colour
    grass: Colour
    dry: Colour
    other: Colour
    patches: float
    slab: float
    seed: int

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        x, y, foot = surface.points[:, 0].astype(np.float64), surface.points[:, 1].astype(np.float64), surface.footprint * 2
        t = (y - self.plan.bend(x)).astype(np.float32)
        kinds = self.plan.kind(x, y)
        x, y = x.astype(np.float32), y.astype(np.float32)
        grain = noise(x, y, 4.0, foot, 0.15)
        stain = noise(x, y, 34.0, foot, 1.15)
        albedo = np.empty((len(x), 3), np.float32)
        gloss = np.zeros(len(x), np.float32)
        for kind, pick in ((k, np.flatnonzero(kinds == k)) for k in range(5)):
            if not len(pick):
                continue
            args = x[pick], y[pick], t[pick], foot[pick], grain[pick], stain[pick]
            albedo[pick] = (self._road, self._parking, self._paved, self._other, self._grass)[kind](*args)
        gloss[kinds == ROAD] = 0.05
        upright = np.abs(surface.normals[:, 2]) < 0.5
        albedo[upright] = linear((0.55, 0.54, 0.52)) * (1 + 0.15 * grain[upright, None])
        return np.maximum(albedo, 0.004), gloss

    def _road(self, x: Array, y: Array, t: Array, foot: Array, grain: Array, stain: Array) -> Array:
        right, left = self.plan.road
        middle = (right + left) / 2
        tone = 0.16 * grain + 0.09 * stain + 0.06 * noise(x * 0.15, t, 9.0, foot, 0.9)
        lane = (left - right) / 4
        tone = tone - 0.05 * np.exp(-(((np.abs(t - middle) - lane) / 0.5) ** 2))
        mend = noise(x + 70, y, 130.0, foot, 1.5) > 1.15
        tone = np.where(mend & (self.patches > 0.5), tone - 0.22, tone)
        crack = np.abs(noise(x, y + 9, 60.0, foot, 1.5)) < 0.02
        tone = np.where(crack, tone - 0.25 * self.patches, tone)
        seam = np.abs(t - middle - 0.15) < 0.03
        tone = np.where(seam & (self.patches > 0.3), tone - 0.3, tone)
        albedo = linear(self.asphalt) * np.maximum(1 + tone, 0.2)[:, None].astype(np.float32)
        worn = np.clip(0.75 + 0.35 * noise(x, t, 7.0, foot, 0.5), 0.15, 1)
        line = np.zeros(len(x), bool)
        if self.plan.marking >= 0:
            dash = (x % (3.0 + self.plan.marking) < 3.0) if self.plan.marking > 0 else np.ones(len(x), bool)
            line |= (np.abs(t - middle) < 0.07) & dash
        if self.plan.border:
            line |= (np.abs(t - right - 0.25) < 0.06) | (np.abs(t - left + 0.25) < 0.06)
        gutter = (t - right < 0.3) | (left - t < 0.3)
        albedo[gutter] *= np.float32(0.9)
        for crossing in self.plan.crossings:
            beside = np.abs(x - crossing.s)
            line &= beside > crossing.edges[-1]
            stop = (x > crossing.s + crossing.edges[0] - 0.9) & (x < crossing.s + crossing.edges[0] - 0.5)
            line |= stop & (t < middle - 0.1) & (t > right + 0.2) & (self.plan.marking >= 0)
            stripes = (x > crossing.s + crossing.edges[-1] + 0.6) & (x < crossing.s + crossing.edges[-1] + 3.6)
            line |= stripes & (t % 1.0 < 0.5) & (self.seed % 3 == 0)
        share = (worn * line).astype(np.float32)
        return mix(albedo, linear((0.88, 0.88, 0.86)), share)

    def _slabs(self, x: Array, t: Array, foot: Array, size: float) -> Array:
        fade = np.clip(1.4 - 4 * foot / size, 0, 1)
        row, column = np.floor(x / size), np.floor(t / size)
        joint = ((x / size - row) < 0.05) | ((t / size - column) < 0.05)
        each = scatter(row.astype(np.int64) + 999, column.astype(np.int64) + 999, self.seed) - 0.5
        return fade * (0.16 * each - 0.28 * joint)

    def _parking(self, x: Array, y: Array, t: Array, foot: Array, grain: Array, stain: Array) -> Array:
        tone = 0.13 * grain + 0.10 * stain + self._slabs(x, t, foot, 0.22) * (self.seed % 2)
        albedo = linear(self.asphalt) * np.float32(0.92) if self.seed % 2 == 0 else linear(self.paving) * np.float32(0.8)
        albedo = albedo * np.maximum(1 + tone, 0.2)[:, None].astype(np.float32)
        line = (x % 5.5 < 0.12) & (self.seed % 4 == 0)
        return mix(albedo, linear((0.85, 0.85, 0.85)), 0.7 * line.astype(np.float32))

    def _paved(self, x: Array, y: Array, t: Array, foot: Array, grain: Array, stain: Array) -> Array:
        slabs = self._slabs(x, t, foot, self.slab) if self.slab > 0 else 0.0
        tone = 0.11 * grain + 0.09 * stain + slabs
        return linear(self.paving) * np.maximum(1 + tone, 0.2)[:, None].astype(np.float32)

    def _other(self, x: Array, y: Array, t: Array, foot: Array, grain: Array, stain: Array) -> Array:
        return linear(self.other) * np.maximum(1 + 0.22 * grain + 0.15 * stain, 0.2)[:, None].astype(np.float32)

    def _grass(self, x: Array, y: Array, t: Array, foot: Array, grain: Array, stain: Array) -> Array:
        blades = noise(x * 1.3, y, 2.2, foot, 0.2)
        share = np.clip(0.35 + 0.35 * noise(x, y, 60.0, foot, 1.2) + 0.1 * grain, 0, 1)
        albedo = mix(linear(self.grass), linear(self.dry), share)
        return albedo * np.maximum(1 + 0.30 * blades + 0.14 * grain + 0.12 * stain, 0.15)[:, None].astype(np.float32)
