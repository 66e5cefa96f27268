"""What stands along a street: lamp posts, masts, signs, traffic lights, bollards, fences, walls, guard rails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Facade, Panel, Plain, Slats, Surface
from wholescene.worlds.places import Place
from wholescene.worlds.solids import Body, Box, Cylinder, Prism, Shape, upright

Array = NDArray[Any]
FENCE, POLE, SIGN = 14, 18, 19
_FENCE_RANK, _POLE_RANK, _SIGN_RANK = 30, 50, 70


def _bar(start: Array, end: Array, radius: float, material: Plain, top: float = 1.0) -> Body:
    return Body(Cylinder.between(start, end, radius, top, 8), POLE, material, thin=True, rank=_POLE_RANK)


def lamp(rng: np.random.Generator, place: Place, side: int) -> list[Body]:
    """A lamp post; its arm reaches over the road. `side` is +1 on the left of the road, -1 on the right."""
    height, grey = rng.uniform(4.2, 9.0), rng.uniform(0.22, 0.6)
    metal = Plain((grey * rng.uniform(0.85, 1), grey, grey * rng.uniform(0.85, 1)), 0.08, 2.0, 0.08)
    bodies = [_bar(place.point(0, 0, -0.1), place.point(0, 0, height), rng.uniform(0.05, 0.085), metal, 0.6)]
    if height > 5.5:
        out = rng.uniform(0.8, 2.0)
        bodies.append(_bar(place.point(0, 0, height), place.point(0, -side * out, height + 0.25), 0.04, metal))
        bodies.append(_bar(place.point(0, -side * out, height + 0.25), place.point(0, -side * (out + 0.6), height + 0.25), 0.09, metal))
    else:
        bodies.append(_bar(place.point(0, 0, height), place.point(0, 0, height + 0.5), 0.2, Plain((0.8, 0.8, 0.78), 0.05, 1.0, 0.2)))
    return bodies


def mast(rng: np.random.Generator, place: Place) -> list[Body]:
    """A wooden or concrete mast."""
    tone = rng.uniform(0.28, 0.55)
    wood = Plain((tone, tone * 0.88, tone * 0.76), 0.2, 1.5)
    top = place.point(0, 0, rng.uniform(6.5, 9.5))
    return [_bar(place.point(0, 0, -0.1), top, rng.uniform(0.1, 0.15), wood, 0.7), _bar(top + [0, -0.9, -0.4], top + [0, 0.9, -0.4], 0.05, wood)]


def sign(rng: np.random.Generator, place: Place) -> list[Body]:
    """A traffic sign on a post; it faces against the heading."""
    steel = Plain((0.55, 0.56, 0.57), 0.06, 1.0, 0.1)
    height = rng.uniform(2.1, 2.9)
    bodies = [_bar(place.point(0, 0, -0.1), place.point(0, 0, height + 0.3), 0.035, steel)]
    red, white, blue, yellow = (0.72, 0.06, 0.08), (0.93, 0.93, 0.92), (0.04, 0.18, 0.55), (0.92, 0.75, 0.1)
    choices: list[tuple[Colour, Colour, Colour, bool]] = [
        (white, red, (0.1, 0.1, 0.1), True),
        (red, red, white, True),
        (blue, white, white, True),
        (blue, white, white, False),
        (yellow, white, yellow, False),
        (white, (0.2, 0.2, 0.2), (0.1, 0.1, 0.1), False),
    ]
    for level in range(1 + int(rng.random() < 0.25)):
        colour, border, emblem, round_ = choices[int(rng.integers(len(choices)))]
        half = rng.uniform(0.24, 0.34)
        spot = place.point(-0.05, 0, height - half - level * 0.75)
        face = Panel(colour, border, half, emblem, round_)
        if rng.random() < 0.25:
            bodies += _triangle(place, height - level * 0.75, half * 1.15, bool(rng.random() < 0.5))
            continue
        if round_:
            turn = upright(place.yaw) @ np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
            bodies.append(Body(Cylinder(spot, half, 0.02, turn, sectors=16), SIGN, _Disc(face), thin=True, rank=_SIGN_RANK))
        else:
            wide = half * rng.choice([1.0, 1.0, 1.8])
            bodies.append(Body(Box(spot, np.array([0.02, wide, half]), upright(place.yaw)), SIGN, face, thin=True, rank=_SIGN_RANK))
    return bodies


def _triangle(place: Place, top: float, half: float, pointing_down: bool) -> list[Body]:
    """A warning or give-way sign: a white triangle on a larger red one, its upper end at `top`."""
    bodies, turn = [], upright(place.yaw - np.pi / 2)
    for scale, ahead, colour in ((1.0, -0.04, (0.72, 0.06, 0.08)), (0.68, -0.06, (0.93, 0.93, 0.92))):
        wide, flip = half * scale, -1.0 if pointing_down else 1.0
        corners = np.array([(-wide, -0.58 * wide * flip), (wide, -0.58 * wide * flip), (0.0, 1.15 * wide * flip)])[:: int(flip)]
        shape = Prism(place.point(ahead, 0, top - 1.1 * half), corners, 0.012, turn)
        bodies.append(Body(shape, SIGN, Plain(colour, 0.03, 2.0, 0.05), thin=True, rank=_SIGN_RANK))
    return bodies


@dataclass(frozen=True)
class _Disc:
    """A panel on the lid of a cylinder: local z is across the board."""

    panel: Panel

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        order = [2, 1, 0]
        return self.panel.paint(replace(surface, local=surface.local[:, order], local_normals=surface.local_normals[:, order]))


def street_name(rng: np.random.Generator, place: Place) -> list[Body]:
    """A street's name or direction board on a post."""
    steel = Plain((0.5, 0.5, 0.5), 0.06, 1.0, 0.1)
    face = Panel((0.04, 0.15, 0.5) if rng.random() < 0.6 else (0.92, 0.8, 0.15), (0.9, 0.9, 0.9), 0.5, (0.92, 0.92, 0.92), False)
    board = Box(place.point(0, 0, 2.5), np.array([0.02, rng.uniform(0.4, 0.8), rng.uniform(0.12, 0.3)]), upright(place.yaw + rng.uniform(-0.3, 0.3)))
    return [_bar(place.point(0, 0, -0.1), place.point(0, 0, 2.8), 0.04, steel), Body(board, SIGN, face, thin=True, rank=_SIGN_RANK)]


def traffic_light(rng: np.random.Generator, place: Place) -> list[Body]:
    """A traffic light (class pole, as its mast; SemanticKITTI's traffic-sign is the board only)."""
    grey = Plain((0.3, 0.32, 0.3), 0.05, 1.0, 0.05)
    box = Box(place.point(-0.1, 0, 2.75), np.array([0.12, 0.15, 0.45]), upright(place.yaw))
    lamp_ = Box(place.point(-0.23, 0, 2.75 + float(rng.choice([-0.28, 0.28]))), np.array([0.01, 0.09, 0.09]), upright(place.yaw))
    glow = Plain((0.1, 0.9, 0.5) if rng.random() < 0.5 else (0.95, 0.15, 0.1), 0.0)
    return [
        _bar(place.point(0, 0, -0.1), place.point(0, 0, 3.2), 0.06, grey),
        Body(box, POLE, Plain((0.06, 0.07, 0.06), 0.05), rank=_POLE_RANK),
        Body(lamp_, POLE, glow, rank=_POLE_RANK),
    ]


def bollard(rng: np.random.Generator, place: Place) -> list[Body]:
    """A short post or a reflector post."""
    white = rng.random() < 0.5
    return [
        _bar(
            place.point(0, 0, -0.1), place.point(0, 0, rng.uniform(0.8, 1.05)), 0.06, Plain((0.9, 0.9, 0.9) if white else (0.25, 0.22, 0.2), 0.1, 1.0)
        )
    ]


def fence_material(rng: np.random.Generator, kind: str) -> Any:
    """The looks of a fence: "slats", "rails", "wall" or "brick"."""
    if kind == "wall":
        tone = rng.uniform(0.5, 0.9)
        return Plain((tone, tone * 0.97, tone * 0.9), 0.12, 4.0)
    if kind == "brick":
        return Facade((0.5, 0.3, 0.23), half_height=2.0, blind=1.0, brick=0.5)
    woods: list[Colour] = [(0.42, 0.30, 0.20), (0.55, 0.43, 0.30), (0.85, 0.85, 0.83), (0.2, 0.25, 0.2), (0.28, 0.28, 0.3)]
    wood = woods[int(rng.integers(len(woods)))]
    return Slats(wood, float(rng.uniform(0.1, 0.18)), float(rng.uniform(0.15, 0.5)), kind == "rails")


def fence(place: Place, length: float, height: float, material: Any, thick: float = 0.06, lifted: float = 0.0) -> list[Body]:
    """A straight piece of fence along the heading, starting at `place`."""
    spot = place.point(length / 2, 0, lifted + (height - lifted) / 2)
    half = np.array([length / 2, thick, (height - lifted) / 2])
    return [Body(Box(spot, half, upright(place.yaw)), FENCE, material, thin=True, rank=_FENCE_RANK)]


def guard_rail(place: Place, length: float) -> list[Body]:
    """A crash barrier: a steel band on posts."""
    steel = Plain((0.66, 0.68, 0.7), 0.04, 5.0, 0.2)
    band = Box(place.point(length / 2, 0, 0.6), np.array([length / 2, 0.04, 0.16]), upright(place.yaw))
    posts = [Cylinder.between(place.point(float(x), 0.06, -0.1), place.point(float(x), 0.06, 0.7), 0.05, 1.0, 5) for x in np.arange(0.5, length, 2.0)]
    shapes: list[Shape] = [band, *posts]
    return [Body(shape, FENCE, steel, thin=True, rank=_FENCE_RANK) for shape in shapes]
