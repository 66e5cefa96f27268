"""How rooms look: boards, tiles, carpet, wallpaper, cloth, wood, what a window shows, screens, pictures, book spines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Surface, linear, mix
from wholescene.worlds.textures import noise, scatter

Array = NDArray[Any]


def _toned(colour: Colour | Array, tone: Array) -> Array:
    """(N, 3) float32: a colour made lighter or darker by shares (N,)."""
    return (linear(colour) * np.maximum(1 + tone, 0.05)[:, None]).astype(np.float32)


def _fade(footprint: Array, detail: float) -> Array:
    """(N,) how much of a detail of that size, metres, a pixel still shows."""
    return np.clip(1.5 - footprint / detail, 0, 1)


def _unrolled(surface: Surface) -> tuple[Array, Array]:
    """(N,) two coordinates on each face of a box, metres: along the face, and up it (or across it where it lies flat)."""
    along, up = surface.facing()
    flat = np.abs(surface.local_normals[:, 2]) > 0.7
    return np.where(flat, surface.local[:, 0], along), np.where(flat, surface.local[:, 1], up)


@dataclass(frozen=True)
class Painted:
    """A wall: paint, or paper with stripes; white skirting at its foot.

    Attributes:
        colour: of the paint.
        stripe: metres from stripe to stripe of a paper, 0 for paint.
        contrast: how much darker a stripe is.
        skirting: metres of white at the foot.
    """

    colour: Colour
    stripe: float = 0.0
    contrast: float = 0.1
    skirting: float = 0.08

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = surface.facing()
        height = surface.points[:, 2]
        tone = 0.02 * noise(u, v, 3.0, surface.footprint, 0.6) + 0.03 * noise(u, v, 9.0, surface.footprint, 1.4)
        if self.stripe:
            tone = tone - self.contrast * _fade(surface.footprint, self.stripe) * ((u / self.stripe) % 1.0 < 0.5)
        albedo = _toned(self.colour, tone)
        foot = height < self.skirting
        albedo[foot] = _toned((0.88, 0.87, 0.84), np.where(height[foot] > self.skirting - 0.012, -0.25, 0.0))
        return albedo, 0.01


@dataclass(frozen=True)
class Boards:
    """A wooden floor of boards along local x."""

    colour: Colour
    width: float = 0.12
    length: float = 1.4
    gloss: float = 0.12
    seed: int = 0

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = surface.local[:, 0], surface.local[:, 1]
        row = np.floor(v / self.width)
        shifted = u / self.length + scatter(row.astype(np.int64) + 700, 3, self.seed)
        column = np.floor(shifted)
        each = scatter(row.astype(np.int64) + 700, column.astype(np.int64) + 700, self.seed) - 0.5
        joint = (v / self.width - row < 0.03) | ((shifted - column) * self.length < 0.006)
        fade = _fade(surface.footprint, 0.5 * self.width)
        grain = noise(u * 0.25 + 3 * each, v * 4, 2.0, surface.footprint, 0.9)
        return _toned(self.colour, fade * (0.3 * each - 0.4 * joint) + 0.09 * grain), self.gloss


@dataclass(frozen=True)
class Tiled:
    """Square tiles with joints."""

    colour: Colour
    side: float = 0.3
    joint: float = -0.3
    chequer: float = 0.0
    gloss: float = 0.15
    seed: int = 0

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = _unrolled(surface)
        i, j = np.floor(u / self.side), np.floor(v / self.side)
        line = (u / self.side - i < 0.02) | (v / self.side - j < 0.02)
        each = scatter(i.astype(np.int64) + 800, j.astype(np.int64) + 800, self.seed) - 0.5
        tone = self.joint * line * _fade(surface.footprint, 0.02) + 0.06 * each - self.chequer * ((i + j) % 2)
        return _toned(self.colour, tone + 0.04 * noise(u, v, 2.0, surface.footprint, 1.2)), self.gloss


@dataclass(frozen=True)
class Cloth:
    """Carpet, upholstery, bedding: a nap, and if wanted a pattern.

    Attributes:
        colour, other: of the cloth and of its pattern.
        pattern: "plain", "stripes", "checks" or "dots".
        pitch: metres from one mark of the pattern to the next.
        nap: how uneven it is.
    """

    colour: Colour
    other: Colour = (0.9, 0.9, 0.88)
    pattern: str = "plain"
    pitch: float = 0.2
    nap: float = 0.1

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = _unrolled(surface)
        tone = self.nap * noise(u, v, 0.9, surface.footprint, 0.3) + 0.05 * noise(u + 5, v, 4.0, surface.footprint, 1.3)
        albedo = _toned(self.colour, tone)
        across, along = (u / self.pitch) % 1.0, (v / self.pitch) % 1.0
        marks = {
            "stripes": (across < 0.4).astype(np.float32),
            "checks": 0.5 * (across < 0.5) + 0.5 * (along < 0.5),
            "dots": (np.hypot(across - 0.5, along - 0.5) < 0.25).astype(np.float32),
        }
        if self.pattern in marks:
            share = marks[self.pattern] * _fade(surface.footprint, 0.5 * self.pitch)
            albedo = mix(albedo, _toned(self.other, tone), share.astype(np.float32))
        return albedo, 0.0


@dataclass(frozen=True)
class Wood:
    """Veneer, solid wood or lacquer, with fronts of doors and drawers drawn on the face that looks along local +x.

    Attributes:
        colour: of the wood.
        grain: how strongly its figure shows; 0 for lacquer.
        fronts: (columns, rows) of doors or drawers; (0, 0) for none.
        half: half the width and half the height of the face, metres.
        knobs: colour of the handles.
    """

    colour: Colour
    grain: float = 0.12
    fronts: tuple[int, int] = (0, 0)
    half: tuple[float, float] = (0.5, 0.5)
    knobs: Colour = (0.25, 0.24, 0.22)
    gloss: float = 0.05

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = _unrolled(surface)
        figure = noise(u * 3 + 0.3 * surface.body, v * 0.35, 1.6, surface.footprint, 0.9)
        albedo = _toned(self.colour, self.grain * figure)
        if self.fronts == (0, 0):
            return albedo, self.gloss
        face = surface.local_normals[:, 0] > 0.7
        columns, rows = self.fronts
        across = (surface.local[:, 1] + self.half[0]) / (2 * self.half[0]) * columns
        up = (surface.local[:, 2] + self.half[1]) / (2 * self.half[1]) * rows
        width, height = 2 * self.half[0] / columns, 2 * self.half[1] / rows
        aside, above = np.abs(across % 1.0 - 0.5) * width, np.abs(up % 1.0 - 0.5) * height
        gap = face & ((aside > width / 2 - 0.006) | (above > height / 2 - 0.006))
        albedo[gap] *= np.float32(0.25)
        if rows >= columns:
            knob = face & (aside < min(0.06, width / 4)) & (above < 0.012)
        else:
            inner = np.where(np.floor(across) % 2 == 0, 1 - across % 1.0, across % 1.0) * width
            knob = face & (np.abs(inner - 0.05) < 0.012) & (above < min(0.08, height / 4))
        albedo[knob] = linear(self.knobs)
        return albedo, self.gloss


@dataclass(frozen=True)
class Outdoors:
    """What a pane shows: sky above, something green or built below, or a drawn blind. It glows by itself.

    Attributes:
        glow: light that leaves white, relative to a white wall in a well-lit room.
        sky, below: colours.
        horizon: height of the horizon above the pane's middle, metres.
        blind: share of the pane that a blind covers from above.
        half: half the pane's height, metres.
    """

    glow: float
    sky: Colour = (0.8, 0.88, 0.97)
    below: Colour = (0.35, 0.45, 0.3)
    horizon: float = -0.2
    blind: float = 0.0
    half: float = 0.6

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        u, v = surface.facing()
        edge = self.horizon + 0.1 * noise(u, 0 * v, 4.0, surface.footprint, 1.7)
        albedo = np.broadcast_to(linear(self.sky), (len(u), 3)).copy()
        under = v < edge
        albedo[under] = _toned(self.below, 0.3 * noise(u, v, 1.5, surface.footprint, 0.9))[under]
        drawn = v > self.half * (1 - 2 * self.blind)
        slats = 0.12 * ((v / 0.05) % 1.0 < 0.25) * _fade(surface.footprint, 0.02)
        albedo[drawn] = 0.55 * _toned((0.95, 0.93, 0.88), -slats)[drawn]
        return albedo, 0.05


@dataclass(frozen=True)
class Screen:
    """A screen whose face looks along local +x, in a dark rim; it glows if it is on."""

    half: tuple[float, float]
    glow: float = 0.0
    colours: tuple[Colour, Colour] = ((0.2, 0.35, 0.6), (0.8, 0.75, 0.6))

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        y, z = surface.local[:, 1], surface.local[:, 2]
        face = surface.local_normals[:, 0] > 0.7
        inside = face & (np.abs(y) < self.half[0] - 0.02) & (np.abs(z) < self.half[1] - 0.02)
        albedo = np.full((len(y), 3), 0.006 if self.glow else 0.012, np.float32)
        if self.glow:
            share = np.clip(0.5 + 0.5 * noise(y, z, 1.3, surface.footprint, 1.2), 0, 1).astype(np.float32)
            albedo[inside] = mix(linear(self.colours[0]), linear(self.colours[1]), share)[inside]
        return albedo, np.where(inside, np.float32(0.25), np.float32(0.08))


@dataclass(frozen=True)
class Canvas:
    """A picture or poster in a frame; its face looks along local +x."""

    half: tuple[float, float]
    frame: Colour
    colours: tuple[Colour, Colour, Colour]
    mount: float = 0.0

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        y, z = surface.local[:, 1], surface.local[:, 2]
        low, middle, high = (linear(c) for c in self.colours)
        shape = noise(y + 0.7 * surface.body, z, 1.1, surface.footprint, 1.3)
        albedo = mix(low, middle, np.clip(0.5 + 0.8 * shape, 0, 1).astype(np.float32))
        albedo[z > 0.25 * self.half[1] + 0.1 * shape] = high
        rim = np.maximum(np.abs(y) - self.half[0], np.abs(z) - self.half[1])
        albedo[rim > -0.025 - self.mount] = linear((0.92, 0.91, 0.88))
        albedo[(rim > -0.025) | (surface.local_normals[:, 0] < 0.7)] = linear(self.frame)
        return albedo, 0.06


@dataclass(frozen=True)
class Spines:
    """Books in a row along local y, their spines towards local +x."""

    seed: int

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        y = surface.local[:, 1] + 8
        book = np.floor(y / 0.035 + 0.6 * scatter(np.floor(y / 0.07), 1, self.seed))
        key = book.astype(np.int64)
        hue = np.stack([scatter(key, n, self.seed) for n in (2, 3, 4)], axis=1)
        grey = scatter(key, 5, self.seed)[:, None]
        albedo = np.power(0.12 + 0.7 * (0.35 * hue + 0.65 * grey), np.float32(2.2)).astype(np.float32)
        band = (np.abs(surface.local[:, 2] - 0.03) < 0.02) & (scatter(key, 6, self.seed) < 0.5)
        albedo[band] = 0.6 * albedo[band] + 0.3
        return albedo, 0.02
