"""Materials: what a surface looks like before light falls on it.

A material has one method, `paint(surface) -> (albedo, gloss)`: albedo (N, 3) float32 in linear light, gloss (N,) or a number, the share of
the sky that is mirrored at a steep angle. Colours are given as in a picture (sRGB, 0..1) and made linear once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.textures import noise, scatter

Array = NDArray[Any]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """Points of one material.

    Attributes:
        points: (N, 3) world metres.
        local: (N, 3) metres in the body's own frame.
        normals: (N, 3) unit, world.
        local_normals: (N, 3) unit, in the body's frame.
        body, triangle: (N,) int, which.
        loose: (N,) bool, whether it is a loose leaf.
        footprint: (N,) metres that a pixel covers.
    """

    points: Array
    local: Array
    normals: Array
    local_normals: Array
    body: Array
    triangle: Array
    loose: Array
    footprint: Array

    def facing(self) -> tuple[Array, Array]:
        """(N,) metres along and up the face of a wall, whichever way it faces."""
        sideways = np.abs(self.local_normals[:, 0]) > np.abs(self.local_normals[:, 1])
        return np.where(sideways, self.local[:, 1], self.local[:, 0]), self.local[:, 2]


class Material(Protocol):
    """See the module."""

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """Albedo (N, 3) and gloss."""
        ...


def linear(colour: Colour | Array) -> Array:
    """sRGB-like 0..1 to linear light, float32."""
    return np.power(np.asarray(colour, np.float32), np.float32(2.2))


def mix(low: Array, high: Array, share: Array) -> Array:
    """(N, 3): from one colour to another by a share (N,) in 0..1."""
    return low + (high - low) * share[:, None]


def _varied(albedo: Array, amount: Array | float) -> Array:
    """Brightness times 1 + amount, never negative."""
    return albedo * np.maximum(1 + amount, 0.05)[:, None].astype(np.float32)


@dataclass(frozen=True)
class Plain:
    """One colour with stains: plaster, metal, cloth, plastic, bark."""

    colour: Colour
    stains: float = 0.1
    metres: float = 6.0
    gloss: float = 0.0

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = surface.facing()
        flat = np.abs(surface.local_normals[:, 2]) > 0.7
        v = np.where(flat, surface.local[:, 1], v)
        grain = noise(u + 0.37 * surface.body, v, self.metres, surface.footprint)
        return _varied(np.broadcast_to(linear(self.colour), (len(u), 3)), self.stains * grain), self.gloss


@dataclass(frozen=True)
class Leaves:
    """Foliage: each leaf its own shade, warmer where light comes through."""

    colour: Colour
    young: Colour
    spread: float = 0.35

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        leaf = scatter(surface.triangle // 2, 0, 3)
        u = surface.points[:, 0] + 0.7 * surface.points[:, 2]
        v = surface.points[:, 1] - 0.6 * surface.points[:, 2]
        fine = noise(u, v, 5.0, surface.footprint, 0.4)
        clump = noise(u, v, 24.0, surface.footprint, 1.2)
        albedo = mix(linear(self.colour), linear(self.young), np.clip(0.5 * leaf + 0.2 * clump + 0.1 * fine, 0, 1))
        inner = np.where(surface.loose, 0.12, -0.38)  # between the leaves one sees the shaded inside
        return _varied(albedo, self.spread * (leaf - 0.5) * 1.4 + 0.28 * fine + inner), 0.01


@dataclass(frozen=True)
class Facade:
    """A wall with rows of windows.

    Attributes:
        colour, frame: wall and window frames.
        half_height: half the wall's height, metres: where the ground is in the local frame.
        cell: metres from window to window, sideways and upwards.
        window: width and height of a window, metres.
        brick: how strongly courses of brick show, 0 for plaster.
        blind: share of cells without a window.
        lintels: whether windows have lighter surrounds.
        seed: which windows have curtains, which cells are blind.
    """

    colour: Colour
    frame: Colour = (0.85, 0.85, 0.83)
    half_height: float = 3.0
    cell: tuple[float, float] = (2.8, 2.9)
    window: tuple[float, float] = (1.2, 1.4)
    brick: float = 0.0
    blind: float = 0.15
    lintels: bool = False
    seed: int = 0

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, z = surface.facing()
        v = z + self.half_height
        albedo = self._wall(u, v, surface.footprint)
        gloss = np.zeros(len(u), np.float32)
        column, row = np.floor(u / self.cell[0]), np.floor(v / self.cell[1])
        across, up = np.abs(u - (column + 0.5) * self.cell[0]), v - row * self.cell[1] - 0.9
        side = np.where(np.abs(surface.local_normals[:, 0]) > np.abs(surface.local_normals[:, 1]), 7, 0) + (surface.local_normals[:, :2].sum(1) > 0)
        key = (column.astype(np.int64) * 31 + row.astype(np.int64) * 977 + side * 7919).astype(np.int64)
        luck = scatter(key, surface.body, self.seed)
        wall = np.abs(surface.local_normals[:, 2]) < 0.5
        has = wall & (luck >= self.blind) & (v < 2 * self.half_height - 0.25)
        half, tall = self.window[0] / 2, self.window[1]
        door = has & (row == 0) & (scatter(key, 5, self.seed) < 0.22)
        up = np.where(door, up + 0.85, up)
        tall_here = np.where(door, 2.1, tall)
        hole = has & (across < half) & (up > 0) & (up < tall_here)
        rim = has & (across < half + 0.16) & (up > -0.16) & (up < tall_here + 0.16) & ~hole
        if self.lintels:
            albedo[rim] = linear(self.frame) * 0.8
        sash = hole & ((across > half - 0.09) | (up < 0.09) | (up > tall_here - 0.09) | ((across < 0.04) & ~door))
        curtain = scatter(key, 11, self.seed)
        dark = np.float32(0.012) + np.float32(0.30) * (curtain > 0.62)[:, None] * np.clip(curtain, 0, 1)[:, None] * np.array(
            [1, 0.97, 0.9], np.float32
        )
        albedo[hole] = np.broadcast_to(dark, albedo.shape)[hole]
        leaf = hole & door
        albedo[leaf] = mix(linear((0.25, 0.14, 0.08)), linear((0.55, 0.55, 0.55)), curtain[leaf])
        albedo[sash] = linear(self.frame) * 0.75
        gloss[hole & ~sash & ~door] = 0.55
        shutter = has & ~door & (scatter(np.zeros_like(key), surface.body, self.seed + 3) < 0.3) & (across > half + 0.02) & (across < half + 0.42)
        shutter &= (up > 0) & (up < tall)
        albedo[shutter] = linear((0.30, 0.20, 0.13)) if self.seed % 2 else linear((0.22, 0.33, 0.24))
        return albedo, gloss

    def _wall(self, u: Array, v: Array, footprint: Array) -> Array:
        albedo = np.broadcast_to(linear(self.colour), (len(u), 3))
        stain = 0.07 * noise(u, v, 14.0, footprint, 1.2) + 0.05 * noise(u, v, 1.5, footprint, 0.3)
        if self.brick:
            course = np.floor(v / 0.085)
            stagger = u + 0.12 * (course % 2)
            joint = (v / 0.085 - course < 0.17) | ((stagger / 0.25) % 1.0 < 0.06)
            each = scatter(np.floor(stagger / 0.25), course, 1) - 0.5
            fade = np.clip(0.03 / np.maximum(footprint, 1e-4), 0, 1)
            stain = stain + self.brick * fade * (0.5 * each + np.where(joint, 0.35, 0.0))
        albedo = _varied(albedo, stain - 0.35 * np.exp(-np.maximum(v, 0) / 0.35))
        plinth = v < 0.45
        albedo[plinth] = albedo[plinth] * np.float32(0.6)
        return albedo


@dataclass(frozen=True)
class Tiles:
    """Roof tiles in rows; gables are of the wall's colour."""

    colour: Colour
    gable: Colour = (0.78, 0.74, 0.66)
    seed: int = 0

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = surface.local[:, 1], surface.local[:, 2] * 1.3
        fade = np.clip(0.12 / np.maximum(surface.footprint, 1e-4), 0, 1)
        row, column = np.floor(v / 0.3), np.floor(u / 0.25)
        line = ((v / 0.3 - row < 0.25) * -0.45 + ((u / 0.25 - column) < 0.2) * -0.2) * fade
        each = (scatter(row.astype(np.int64) + 500, column.astype(np.int64) + 500, self.seed) - 0.5) * 0.45 * fade
        stain = 0.15 * noise(u, v, 9.0, surface.footprint, 1.1)
        gable = np.abs(surface.local_normals[:, 1]) > 0.7
        albedo = _varied(np.broadcast_to(linear(self.colour), (len(u), 3)), line + each + stain)
        albedo[gable] = linear(self.gable) * np.float32(0.95)
        return albedo, 0.02


@dataclass(frozen=True)
class Slats:
    """A fence of upright or level slats; between them one sees the dark."""

    colour: Colour
    pitch: float = 0.14
    gap: float = 0.35
    level: bool = False

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = surface.facing()
        along = v if self.level else u
        cell = np.floor(along / self.pitch)
        fade = np.clip(1.4 - 5 * surface.footprint / self.pitch, 0, 1)
        hole = (along / self.pitch - cell < self.gap) & (np.abs(surface.local_normals[:, 2]) < 0.7)
        shade = np.where(hole, -0.9 * fade - 0.9 * self.gap * (1 - fade), -0.9 * self.gap * (1 - fade))
        each = 0.25 * (scatter(cell.astype(np.int64) + 900, surface.body, 2) - 0.5)
        return _varied(np.broadcast_to(linear(self.colour), (len(u), 3)), shade + each + 0.1 * noise(u, v, 3.0, surface.footprint)), 0.0


@dataclass(frozen=True)
class Panel:
    """A flat board with a border and a bar or ring: traffic signs."""

    colour: Colour
    border: Colour
    half: float
    emblem: Colour = (0.1, 0.1, 0.1)
    round: bool = True

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        # The board is thin along local x; its face is local y, z.
        y, z = surface.local[:, 1], surface.local[:, 2]
        reach = np.hypot(y, z) if self.round else np.maximum(np.abs(y), np.abs(z))
        albedo = np.broadcast_to(linear(self.colour), (len(y), 3)).copy()
        albedo[reach > 0.74 * self.half] = linear(self.border)
        albedo[(np.abs(y) < 0.45 * self.half) & (np.abs(z) < 0.13 * self.half)] = linear(self.emblem)
        albedo[np.abs(surface.local_normals[:, 0]) < 0.6] = linear((0.5, 0.5, 0.5))
        return albedo, 0.05
