"""People: walking, standing, riding bicycles and motorcycles."""

from __future__ import annotations

import math

import numpy as np

from wholescene.worlds.materials import Colour, Plain
from wholescene.worlds.places import Place
from wholescene.worlds.solids import Body, Box, Cylinder, Ellipsoid, upright
from wholescene.worlds.vehicles import bicycle, motorcycle

PERSON, BICYCLIST, MOTORCYCLIST = 6, 7, 8
_RANK = 60


def _cloth(rng: np.random.Generator) -> Plain:
    if rng.random() < 0.5:
        grey = rng.uniform(0.08, 0.8)
        return Plain((grey, grey, grey), 0.15, 1.5)
    colour: Colour = (rng.uniform(0.1, 0.8), rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.7))
    return Plain(colour, 0.15, 1.5)


def _skin(rng: np.random.Generator) -> Plain:
    tone = rng.uniform(0.35, 0.85)
    return Plain((tone, tone * 0.78, tone * 0.66), 0.05, 1.0)


def _limb(label: int, material: Plain, start: np.ndarray, end: np.ndarray, radius: float) -> Body:
    return Body(Cylinder.between(start, end, radius, 0.8, 7), label, material, thin=True, rank=_RANK)


def _upper(
    rng: np.random.Generator, place: Place, label: int, hip: tuple[float, float], neck: tuple[float, float], size: float, reach: tuple[float, float]
) -> list[Body]:
    """Torso, head and arms between a hip and a neck (ahead, up), with hands at `reach` (ahead, up)."""
    shirt, skin = _cloth(rng), _skin(rng)
    middle = ((hip[0] + neck[0]) / 2, (hip[1] + neck[1]) / 2)
    tilt = math.atan2(neck[0] - hip[0], neck[1] - hip[1])
    lean = upright(place.yaw) @ np.array([[math.cos(tilt), 0, math.sin(tilt)], [0, 1, 0], [-math.sin(tilt), 0, math.cos(tilt)]])
    tall = math.hypot(neck[0] - hip[0], neck[1] - hip[1])
    radii = np.array([0.14 * size, 0.22 * size, tall * 0.58])
    bodies = [
        Body(Ellipsoid(place.point(middle[0], 0, middle[1]), radii, lean, 6), label, shirt, rank=_RANK),
        Body(
            Ellipsoid(place.point(neck[0] + 0.04, 0, neck[1] + 0.17 * size), np.array([0.11, 0.09, 0.135]) * size, upright(place.yaw), 6),
            label,
            skin,
            rank=_RANK,
        ),
    ]
    hair = Plain((rng.uniform(0.05, 0.4),) * 3, 0.2, 0.5)
    cap = Ellipsoid(place.point(neck[0] + 0.02, 0, neck[1] + 0.21 * size), np.array([0.115, 0.1, 0.115]) * size, upright(place.yaw), 5)
    bodies.append(Body(cap, label, hair, rank=_RANK))
    for side in (-1, 1):
        shoulder = place.point(neck[0], side * 0.2 * size, neck[1] - 0.05)
        hand = place.point(reach[0] * (1 if side > 0 else rng.uniform(-0.6, 1.0) if reach[1] < neck[1] - 0.45 else 1), side * 0.24 * size, reach[1])
        bodies.append(_limb(label, shirt, shoulder, hand, 0.055 * size))
    return bodies


def person(rng: np.random.Generator, place: Place) -> list[Body]:
    """Somebody on foot, 1.1 to 1.9 m tall."""
    size = rng.uniform(0.92, 1.08) if rng.random() < 0.85 else rng.uniform(0.62, 0.85)
    hip, neck, stride = 0.92 * size, 1.46 * size, rng.uniform(0.0, 0.32) * size
    trousers = _cloth(rng)
    bodies = _upper(rng, place, PERSON, (0.0, hip), (0.03, neck), size, (0.2 * size, 0.85 * size))
    for side in (-1, 1):
        bodies.append(_limb(PERSON, trousers, place.point(0, side * 0.09, hip + 0.06), place.point(side * stride, side * 0.1, 0.05), 0.085 * size))
        bodies.append(
            Body(
                Box(place.point(side * stride + 0.06, side * 0.1, 0.05), np.array([0.13, 0.05, 0.05]), upright(place.yaw)),
                PERSON,
                _cloth(rng),
                rank=_RANK,
            )
        )
    return bodies


def bicyclist(rng: np.random.Generator, place: Place) -> list[Body]:
    """Somebody riding a bicycle: both are of class bicyclist, as SemanticKITTI has it."""
    trousers = _cloth(rng)
    bodies = bicycle(rng, place, BICYCLIST, _RANK) + _upper(rng, place, BICYCLIST, (-0.22, 0.95), (0.06, 1.45), 1.0, (0.36, 1.03))
    for side, pedal in ((-1, 0.14), (1, 0.45)):
        knee = place.point(0.18, side * 0.1, 0.62 + pedal * 0.4)
        bodies.append(_limb(BICYCLIST, trousers, place.point(-0.2, side * 0.09, 0.98), knee, 0.075))
        bodies.append(_limb(BICYCLIST, trousers, knee, place.point(0.0, side * 0.1, pedal), 0.055))
    return bodies


def motorcyclist(rng: np.random.Generator, place: Place) -> list[Body]:
    """Somebody riding a motorcycle, with a helmet."""
    leather = Plain((0.12, 0.12, 0.13), 0.1, 1.0, 0.05)
    bodies = motorcycle(rng, place, MOTORCYCLIST, _RANK) + _upper(rng, place, MOTORCYCLIST, (-0.32, 0.92), (-0.08, 1.42), 1.05, (0.4, 1.05))
    helmet = Ellipsoid(place.point(-0.03, 0, 1.62), np.array([0.16, 0.14, 0.16]), upright(place.yaw), 7)
    bodies.append(Body(helmet, MOTORCYCLIST, Plain((rng.uniform(0.1, 0.9),) * 3, 0.02, 1.0, 0.5), rank=_RANK))
    for side in (-1, 1):
        knee = place.point(0.12, side * 0.2, 0.78)
        bodies.append(_limb(MOTORCYCLIST, leather, place.point(-0.3, side * 0.12, 0.92), knee, 0.085))
        bodies.append(_limb(MOTORCYCLIST, leather, knee, place.point(-0.1, side * 0.2, 0.3), 0.065))
    return bodies
