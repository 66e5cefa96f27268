"""What room things are made of: boxes, bars and round bodies in the frame of a place, with NYUv2's classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Plain
from wholescene.worlds.places import Place
from wholescene.worlds.solids import Body, Box, Cylinder, Ellipsoid, upright

Array = NDArray[Any]

CEILING, FLOOR, WALL, WINDOW, CHAIR, BED, SOFA, TABLE, TV, FURNITURE, OBJECT = range(1, 12)
# Which class keeps a voxel that several touch: what is smaller or stands in front of the other.
RANKS = {FLOOR: 1, CEILING: 1, WALL: 2, WINDOW: 4, FURNITURE: 10, BED: 12, SOFA: 12, TABLE: 12, CHAIR: 14, OBJECT: 16, TV: 18}
_THIN = 0.09  # metres: what is narrower than about a voxel is voxelised with a margin

WOODS: tuple[Colour, ...] = (
    (0.48, 0.31, 0.18), (0.36, 0.22, 0.13), (0.62, 0.45, 0.28), (0.72, 0.57, 0.38), (0.24, 0.15, 0.10), (0.88, 0.86, 0.82), (0.80, 0.78, 0.74),
    (0.16, 0.15, 0.15), (0.55, 0.36, 0.24), (0.68, 0.52, 0.34),
)  # fmt: skip
CLOTHS: tuple[Colour, ...] = (
    (0.55, 0.52, 0.48), (0.32, 0.30, 0.30), (0.62, 0.55, 0.45), (0.25, 0.30, 0.42), (0.45, 0.20, 0.18), (0.30, 0.38, 0.30), (0.74, 0.70, 0.62),
    (0.40, 0.33, 0.27), (0.20, 0.20, 0.23), (0.66, 0.60, 0.55), (0.52, 0.40, 0.30), (0.35, 0.42, 0.50),
)  # fmt: skip
BRIGHTS: tuple[Colour, ...] = (
    (0.75, 0.15, 0.15), (0.15, 0.35, 0.65), (0.85, 0.65, 0.15), (0.20, 0.50, 0.30), (0.60, 0.30, 0.55), (0.90, 0.88, 0.82), (0.85, 0.45, 0.20),
    (0.12, 0.12, 0.14), (0.55, 0.70, 0.75), (0.78, 0.55, 0.55),
)  # fmt: skip
METAL = Plain((0.55, 0.55, 0.56), 0.03, 1.0, 0.2)
DARK = Plain((0.07, 0.07, 0.08), 0.05, 1.0, 0.08)
WHITE = Plain((0.9, 0.89, 0.87), 0.03, 2.0, 0.06)


def one_of(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of some colours, a little lighter or darker."""
    red, green, blue = np.clip(np.asarray(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.85, 1.1), 0, 1).tolist()
    return red, green, blue


def chance(rng: np.random.Generator, share: float) -> bool:
    """True with that probability."""
    return bool(rng.random() < share)


def box(place: Place, at: tuple[float, float, float], size: tuple[float, float, float], label: int, material: Any, softness: float = 0.0) -> Body:
    """An upright box.

    Args:
        place: whose frame it is given in: x ahead, y left, z up.
        at: the middle of its bottom face, metres.
        size: along x, y, z, metres.
    """
    half = np.array(size) / 2
    shape = Box(place.point(at[0], at[1], at[2] + float(half[2])), half, upright(place.yaw))
    return Body(shape, label, material, thin=min(size) < _THIN, rank=RANKS[label], softness=softness)


def bar(place: Place, start: tuple[float, float, float], end: tuple[float, float, float], radius: float, label: int, material: Any) -> Body:
    """A round bar between two points of a place's frame."""
    shape = Cylinder.between(place.point(*start), place.point(*end), radius, 1.0, 8)
    return Body(shape, label, material, thin=2 * radius < _THIN, rank=RANKS[label])


def drum(place: Place, at: tuple[float, float, float], radius: float, height: float, label: int, material: Any, top: float = 1.0) -> Body:
    """An upright round body whose bottom's middle is `at`; its upper radius is `top` times the lower one."""
    shape = Cylinder(place.point(at[0], at[1], at[2] + height / 2), radius, height / 2, top=top, sectors=16)
    return Body(shape, label, material, thin=min(2 * radius, height) < _THIN, rank=RANKS[label])


def ball(place: Place, at: tuple[float, float, float], radii: tuple[float, float, float], label: int, material: Any) -> Body:
    """An upright ellipsoid around `at`."""
    shape = Ellipsoid(place.point(*at), np.array(radii), upright(place.yaw), 8)
    return Body(shape, label, material, thin=2 * min(radii) < _THIN, rank=RANKS[label])


def legs(place: Place, size: tuple[float, float], height: float, thick: float, label: int, material: Any) -> list[Body]:
    """Four legs under a top of (depth, width), up to `height`."""
    x, y = size[0] / 2 - thick, size[1] / 2 - thick
    return [box(place, (sx * x, sy * y, 0.0), (thick, thick, height), label, material) for sx in (-1, 1) for sy in (-1, 1)]
