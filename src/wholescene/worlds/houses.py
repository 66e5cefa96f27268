"""Buildings: walls, roofs, chimneys, dormers, balconies, garages, halls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Facade, Plain, Tiles
from wholescene.worlds.places import Place
from wholescene.worlds.solids import Body, Box, Prism, upright

Array = NDArray[Any]
BUILDING = 13
_RANK = 10

_PLASTERS: tuple[Colour, ...] = (
    (0.93, 0.92, 0.88), (0.88, 0.84, 0.74), (0.87, 0.78, 0.58), (0.80, 0.66, 0.52), (0.72, 0.72, 0.70), (0.90, 0.80, 0.68), (0.66, 0.70, 0.66),
    (0.94, 0.94, 0.93), (0.83, 0.68, 0.58), (0.78, 0.80, 0.84), (0.90, 0.86, 0.66),
)  # fmt: skip
_BRICKS: tuple[Colour, ...] = ((0.52, 0.28, 0.21), (0.60, 0.38, 0.28), (0.47, 0.33, 0.28), (0.65, 0.55, 0.45))
_ROOFS: tuple[Colour, ...] = ((0.60, 0.27, 0.17), (0.50, 0.24, 0.17), (0.42, 0.20, 0.14), (0.33, 0.24, 0.21), (0.25, 0.25, 0.27), (0.66, 0.34, 0.22))


def _one_of(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    colour = np.clip(np.asarray(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.9, 1.06), 0, 1)
    return float(colour[0]), float(colour[1]), float(colour[2])


def facade(rng: np.random.Generator, half_height: float, storey: float) -> Facade:
    """A wall's looks, drawn at random."""
    brick = rng.random() < 0.22
    frame: Colour = (0.9, 0.9, 0.88) if rng.random() < 0.7 else (0.35, 0.24, 0.16)
    return Facade(
        _one_of(rng, _BRICKS if brick else _PLASTERS), frame, half_height, (float(rng.uniform(1.9, 3.6)), storey),
        (float(rng.uniform(0.8, 1.5)), float(rng.uniform(1.1, 1.6))), 0.5 if brick else 0.0, float(rng.uniform(0.05, 0.4)), bool(rng.random() < 0.4),
        int(rng.integers(1 << 30)),
    )  # fmt: skip


def house(rng: np.random.Generator, place: Place, length: float, depth: float, storeys: int, roof: str = "gable") -> list[Body]:
    """A building whose middle is at `place`.

    Args:
        length, depth: metres along and across the heading.
        roof: "gable" (ridge along the heading), "cross" (ridge across it), "hip" or "flat".
    """
    storey = rng.uniform(2.7, 3.1)
    walls = storeys * storey + rng.uniform(0.3, 0.8)
    turn, half = upright(place.yaw), walls / 2 + 0.3
    wall = facade(rng, half - 0.6, storey)
    bodies = [
        Body(
            Box(place.point(0, 0, walls / 2 - 0.3), np.array([length / 2, depth / 2, half]), turn),
            BUILDING,
            wall,
            rank=_RANK,
        )
    ]
    tiles = Tiles(_one_of(rng, _ROOFS), wall.colour, int(rng.integers(1 << 20)))
    if roof == "flat":
        edge = Box(place.point(0, 0, walls + 0.1), np.array([length / 2 + 0.15, depth / 2 + 0.15, 0.16]), turn)
        bodies.append(Body(edge, BUILDING, Plain((0.5, 0.5, 0.5), 0.15), rank=_RANK))
        return bodies
    span, along_ = (depth, length) if roof != "cross" else (length, depth)
    yaw = place.yaw + (math.pi / 2 if roof != "cross" else 0.0)
    over, pitch = rng.uniform(0.3, 0.7), math.radians(rng.uniform(28, 48))
    reach = span / 2 + over
    rise = reach * math.tan(pitch)
    eaves = walls - over * math.tan(pitch) * 0.6
    profile = np.array([(-reach, 0.0), (reach, 0.0), (reach, 0.16), (0.0, rise), (-reach, 0.16)])
    lean = -(0.8 * along_ / 2) / rise * 0.8 if roof == "hip" else 0.0
    bodies.append(Body(Prism(place.point(0, 0, eaves), profile, along_ / 2 + over * 0.8, upright(yaw), lean), BUILDING, tiles, rank=_RANK))
    if rng.random() < 0.7 and roof != "hip":
        ridge = place.turned(math.pi / 2 if roof != "cross" else 0.0)
        spot = ridge.point(rng.uniform(-0.2, 0.2) * span, rng.uniform(-0.35, 0.35) * along_, eaves + rise * 0.95)
        bodies.append(Body(Box(spot, np.array([0.3, 0.3, 0.75]), turn), BUILDING, Plain(_one_of(rng, _BRICKS), 0.2, 2.0), rank=_RANK))
    return bodies


def balconies(rng: np.random.Generator, place: Place, length: float, depth: float, storeys: int, side: int) -> list[Body]:
    """Balconies on the street's side of a house; `side` is +1 if the street lies on the right of the heading, else -1."""
    bodies, turn, material = [], upright(place.yaw), Plain(_one_of(rng, _PLASTERS), 0.08)
    for storey in range(1, storeys):
        for ahead in np.arange(-length / 2 + 2.2, length / 2 - 1.5, 4.4):
            if rng.random() < 0.55:
                spot = place.point(float(ahead), -side * (depth / 2 + 0.55), storey * 2.9 + 0.5)
                bodies.append(Body(Box(spot, np.array([1.3, 0.6, 0.5]), turn), BUILDING, material, rank=_RANK))
    return bodies


def garage(rng: np.random.Generator, place: Place) -> list[Body]:
    """A flat garage or shed, its door along local y's sides."""
    turn = upright(place.yaw)
    half = np.array([rng.uniform(1.6, 3.0), rng.uniform(2.5, 3.2), rng.uniform(1.2, 1.5)])
    door: Colour = (0.82, 0.82, 0.8) if rng.random() < 0.6 else (0.35, 0.27, 0.2)
    spot = place.point(0, 0, half[2] - 0.1)
    wall = Facade(
        _one_of(rng, _PLASTERS),
        door,
        float(half[2]),
        (float(2 * half[0]), 9.0),
        (float(1.5 * half[0]), 0.4),
        0.0,
        0.5,
        True,
        int(rng.integers(1 << 20)),
    )
    roof = Box(place.point(0, 0, 2 * half[2] - 0.05), np.array([half[0] + 0.12, half[1] + 0.12, 0.1]), turn)
    return [Body(Box(spot, half, turn), BUILDING, wall, rank=_RANK), Body(roof, BUILDING, Plain((0.4, 0.4, 0.4), 0.1), rank=_RANK)]
