"""Smaller things: lamps, plants, boxes, bins, pictures, mirrors, curtains, rugs, radiators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Plain, Surface, linear
from wholescene.worlds.places import Place
from wholescene.worlds.room_furniture import PATTERNS, cloth
from wholescene.worlds.room_materials import Canvas, Cloth
from wholescene.worlds.room_parts import BRIGHTS, CLOTHS, DARK, FLOOR, METAL, OBJECT, WHITE, WOODS, ball, bar, box, chance, drum, one_of
from wholescene.worlds.solids import Body

Array = NDArray[Any]


@dataclass(frozen=True)
class Lamp:
    """A light: where it shines from, how far across it is, and its colour and strength in linear light at one metre."""

    point: Array
    radius: float
    light: Array


@dataclass(frozen=True)
class Shade:
    """A lamp's shade or globe, which glows if the lamp is on."""

    colour: Colour
    glow: float

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        return np.broadcast_to(linear(self.colour), (len(surface.points), 3)).copy(), 0.02


WARM, NEUTRAL, COLD = np.array([1.0, 0.82, 0.6]), np.array([1.0, 0.93, 0.82]), np.array([0.92, 0.97, 1.0])


def ceiling_lamp(rng: np.random.Generator, place: Place, height: float, on: bool) -> tuple[list[Body], list[Lamp]]:
    """A globe, a flat disc, or a hanging shade below the ceiling at `height`; the place is on the floor below it."""
    tint = (WARM, NEUTRAL, COLD)[int(rng.choice(3, p=[0.45, 0.4, 0.15]))]
    skin = Shade((1.0, 0.96, 0.88), 2.5 if on else 0.0)
    kind = int(rng.integers(3))
    if kind == 0:
        bodies, drop = [drum(place, (0, 0, height - 0.1), 0.17, 0.09, OBJECT, skin, 1.15)], 0.16
    elif kind == 1:
        bodies, drop = [ball(place, (0, 0, height - 0.14), (0.15, 0.15, 0.12), OBJECT, skin)], 0.31
    else:
        drop = float(rng.uniform(0.4, 0.7)) if height > 2.5 else 0.3
        bodies = [
            bar(place, (0, 0, height - drop + 0.1), (0, 0, height), 0.008, OBJECT, DARK),
            drum(place, (0, 0, height - drop), 0.2, 0.16, OBJECT, skin, 0.5),
        ]
        drop += 0.05
    strength = float(rng.uniform(1.5, 3.2))
    return bodies, [Lamp(place.point(0, 0, height - drop), 0.1, strength * tint)] if on else []


def floor_lamp(rng: np.random.Generator, place: Place, on: bool) -> tuple[list[Body], list[Lamp]]:
    """A lamp on a tall stem, its middle at the place."""
    tall = float(rng.uniform(1.4, 1.75))
    skin = Shade(one_of(rng, ((1.0, 0.92, 0.75), (0.95, 0.9, 0.8), (0.9, 0.6, 0.4))), 1.6 if on else 0.0)
    bodies = [
        drum(place, (0, 0, 0), 0.14, 0.03, OBJECT, DARK),
        bar(place, (0, 0, 0), (0, 0, tall), 0.015, OBJECT, DARK if chance(rng, 0.6) else METAL),
        drum(place, (0, 0, tall - 0.12), 0.19, 0.26, OBJECT, skin, 0.7),
    ]
    return bodies, [Lamp(place.point(0, 0, tall + 0.2), 0.08, float(rng.uniform(0.5, 1.1)) * WARM)] if on else []


def table_lamp(rng: np.random.Generator, place: Place, height: float, on: bool) -> tuple[list[Body], list[Lamp]]:
    """A small lamp standing at `height`."""
    skin = Shade(one_of(rng, ((1.0, 0.9, 0.72), (0.95, 0.9, 0.82), (0.8, 0.3, 0.25))), 1.6 if on else 0.0)
    bodies = [
        drum(place, (0, 0, height), 0.06, 0.22, OBJECT, Plain(one_of(rng, BRIGHTS), 0.05, 1.0, 0.1), 0.5),
        drum(place, (0, 0, height + 0.2), 0.13, 0.2, OBJECT, skin, 0.65),
    ]
    return bodies, [Lamp(place.point(0, 0, height + 0.46), 0.06, float(rng.uniform(0.2, 0.5)) * WARM)] if on else []


def plant(rng: np.random.Generator, place: Place, tall: float) -> list[Body]:
    """A plant in its pot, of clumps of leaves around a stem."""
    pot = min(0.18, 0.25 * tall)
    green = Cloth(one_of(rng, ((0.18, 0.34, 0.14), (0.25, 0.4, 0.2), (0.3, 0.42, 0.16))), (0.35, 0.5, 0.25), "dots", 0.09, 0.5)
    bodies = [drum(place, (0, 0, 0), pot, 1.6 * pot, OBJECT, Plain(one_of(rng, ((0.6, 0.3, 0.2), (0.85, 0.85, 0.82), (0.2, 0.2, 0.22))), 0.08), 1.25)]
    bodies.append(bar(place, (0, 0, pot), (0, 0, 0.8 * tall), 0.02, OBJECT, Plain((0.3, 0.22, 0.12), 0.2)))
    for number in range(int(rng.integers(5, 10))):
        turn, up = float(rng.uniform(0, 6.3)), float(rng.uniform(0.5, 0.85)) * tall
        size = float(rng.uniform(0.1, 0.18)) * tall
        out = 0.0 if number == 0 else float(rng.uniform(0.4, 0.9)) * size  # each clump holds on to the stem
        bodies.append(ball(place, (out * float(np.cos(turn)), out * float(np.sin(turn)), up), (size, size, 0.8 * size), OBJECT, green))
    return bodies


def clutter(rng: np.random.Generator, place: Place) -> list[Body]:
    """A box, a bin, a bag or a stack on the floor, its middle at the place."""
    kind = rng.random()
    if kind < 0.35:
        size = rng.uniform(0.25, 0.5, 3)
        return [box(place, (0, 0, 0), (float(size[0]), float(size[1]), float(size[2])), OBJECT, Plain((0.6, 0.46, 0.31), 0.07, 2.0))]
    if kind < 0.6:
        return [drum(place, (0, 0, 0), 0.13, float(rng.uniform(0.25, 0.4)), OBJECT, DARK if chance(rng, 0.5) else METAL, 1.2)]
    if kind < 0.85:
        return [box(place, (0, 0, 0), (0.22, 0.36, float(rng.uniform(0.25, 0.42))), OBJECT, cloth(rng, 0.5), 0.5)]
    return [box(place.turned(float(rng.uniform(-0.3, 0.3))), (0, 0, 0.06 * n), (0.24, 0.3, 0.058), OBJECT, cloth(rng, 0.6)) for n in range(3)]


def hanging(rng: np.random.Generator, place: Place, up: float, half: tuple[float, float]) -> list[Body]:
    """A picture, poster, board or mirror on the wall at the place, its middle at height `up`."""
    frame = one_of(rng, (*WOODS, (0.1, 0.1, 0.1), (0.9, 0.9, 0.88)))
    kind = rng.random()
    if kind < 0.12:
        look: Any = Canvas(half, frame, ((0.42, 0.44, 0.46), (0.5, 0.52, 0.54), (0.6, 0.61, 0.62)))
    else:
        colours = tuple(one_of(rng, BRIGHTS if kind < 0.7 else CLOTHS) for _ in range(3))
        look = Canvas(half, frame, (colours[0], colours[1], colours[2]), 0.06 if kind > 0.45 else 0.0)
    return [box(place, (0.02, 0, up - half[1]), (0.03, 2 * half[0], 2 * half[1]), OBJECT, look)]


def curtains(rng: np.random.Generator, place: Place, width: float, top: float, bottom: float) -> list[Body]:
    """A curtain on each side of a window of that width, its wall at the place."""
    colour = one_of(rng, BRIGHTS if chance(rng, 0.35) else CLOTHS)
    look = Cloth(colour, tuple(float(0.75 * c) for c in colour), "stripes", 0.07, 0.05)  # type: ignore[arg-type]
    wide = float(rng.uniform(0.18, 0.34)) * max(width, 0.8)
    bodies = [bar(place, (0.1, -width / 2 - wide, top + 0.04), (0.1, width / 2 + wide, top + 0.04), 0.014, OBJECT, DARK)]
    for side in (-1, 1):
        aside = side * (width / 2 + wide * 0.25)
        bodies.append(box(place, (0.1, aside, bottom), (0.07, wide, top + 0.02 - bottom), OBJECT, look, 0.1))
    return bodies


def radiator(place: Place, width: float) -> list[Body]:
    """A radiator below a window."""
    return [box(place, (0.1, 0, 0.12), (0.1, width, 0.5), OBJECT, WHITE)]


def rug(rng: np.random.Generator, place: Place, size: tuple[float, float]) -> list[Body]:
    """A rug; NYUv2 counts it as floor."""
    look = Cloth(
        one_of(rng, BRIGHTS if chance(rng, 0.4) else CLOTHS), one_of(rng, CLOTHS), str(rng.choice(PATTERNS)), float(rng.uniform(0.12, 0.5)), 0.15
    )
    return [box(place, (0, 0, 0), (*size, 0.012), FLOOR, look)]
