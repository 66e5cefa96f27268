"""What stands along walls and holds things: cupboards, shelves, chests, kitchens, and televisions on their stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wholescene.worlds.materials import Plain
from wholescene.worlds.places import Place
from wholescene.worlds.room_furniture import wood
from wholescene.worlds.room_materials import Screen, Spines, Tiled, Wood
from wholescene.worlds.room_parts import BRIGHTS, DARK, FURNITURE, METAL, OBJECT, TV, WHITE, WOODS, box, chance, drum, one_of
from wholescene.worlds.solids import Body


def cupboard(
    rng: np.random.Generator, place: Place, size: tuple[float, float, float], fronts: tuple[int, int], look: Wood | None = None
) -> list[Body]:
    """A closed piece of (depth, width, height) with (columns, rows) of doors or drawers, its back at the place."""
    depth, width, height = size
    look = look or wood(rng)
    front = replace(
        look, fronts=fronts, half=(width / 2, (height - 0.06) / 2), knobs=one_of(rng, ((0.2, 0.2, 0.2), (0.6, 0.6, 0.58), (0.45, 0.33, 0.15)))
    )
    bodies = [
        box(place, (depth / 2, 0, 0.06), (depth, width, height - 0.06), FURNITURE, front),
        box(place, (depth / 2 - 0.02, 0, 0), (depth - 0.06, width - 0.04, 0.06), FURNITURE, DARK),
        box(place, (depth / 2 + 0.01, 0, height - 0.025), (depth + 0.02, width + 0.02, 0.03), FURNITURE, look),
    ]
    if height < 1.3:
        for _ in range(int(rng.integers(0, 4))):
            spot = place.moved(float(rng.uniform(0.12, depth - 0.12)), float(rng.uniform(-0.4, 0.4)) * width).turned(float(rng.uniform(0, 3)))
            bodies.append(small_thing(rng, spot, height))
    elif chance(rng, 0.35):
        spot = place.moved(depth / 2, float(rng.uniform(-0.25, 0.25)) * width)
        bodies.append(box(spot, (0, 0, height), (0.3, 0.4, float(rng.uniform(0.15, 0.3))), OBJECT, Plain((0.6, 0.47, 0.33), 0.08)))
    return bodies


def small_thing(rng: np.random.Generator, spot: Place, height: float) -> Body:
    """A vase, a box, books or a frame standing at that height."""
    skin = Plain(one_of(rng, BRIGHTS), 0.04, 1.0, 0.08)
    kind = rng.random()
    if kind < 0.35:
        return drum(spot, (0, 0, height), float(rng.uniform(0.04, 0.08)), float(rng.uniform(0.12, 0.35)), OBJECT, skin, float(rng.uniform(0.5, 1.3)))
    if kind < 0.7:
        return box(spot, (0, 0, height), (0.16, 0.24, float(rng.uniform(0.04, 0.2))), OBJECT, skin)
    return box(spot, (0, 0, height), (0.03, 0.2, float(rng.uniform(0.15, 0.28))), OBJECT, skin)


def bookshelf(rng: np.random.Generator, place: Place, width: float, height: float) -> list[Body]:
    """Open shelves, their back at the place: back panel, sides and boards are furniture, books and boxes on them objects."""
    depth, look = float(rng.uniform(0.26, 0.36)), wood(rng)
    bodies = [box(place, (0.01, 0, 0), (0.02, width, height), FURNITURE, look)]
    for side in (-1, 1):
        bodies.append(box(place, (depth / 2, side * (width / 2 - 0.012), 0), (depth, 0.025, height), FURNITURE, look))
    count = max(2, round(height / float(rng.uniform(0.32, 0.42))))
    step = (height - 0.03) / count
    for number in range(count + 1):
        bodies.append(box(place, (depth / 2, 0, number * step), (depth, width - 0.03, 0.025), FURNITURE, look))
    for number in range(count):
        at, end, up = -width / 2 + 0.03, width / 2 - 0.03, number * step + 0.025
        while at < end - 0.08:
            long = min(float(rng.uniform(0.12, 0.55)), end - at)
            tall = float(rng.uniform(0.6, 0.92)) * (step - 0.04)
            if chance(rng, 0.72):
                look_ = Spines(int(rng.integers(1 << 20)))
                bodies.append(box(place, (depth * 0.45, at + long / 2, up), (depth * 0.75, long, tall), OBJECT, look_))
            elif chance(rng, 0.5):
                bodies.append(small_thing(rng, place.moved(depth * 0.5, at + long / 2), up))
            at += long + float(rng.choice([0.01, 0.01, 0.12]))
    return bodies


def television(rng: np.random.Generator, place: Place, width: float) -> list[Body]:
    """A flat television on a low stand."""
    depth, height, look = 0.42, float(rng.uniform(0.4, 0.6)), wood(rng)
    stand = cupboard(rng, place, (depth, width, height), (int(rng.integers(2, 4)), 1), look)[:3]
    half = (float(rng.uniform(0.38, min(0.72, width / 2))), 0.0)
    half = (half[0], half[0] * 0.57)
    spot = place.moved(0.2, float(rng.uniform(-0.1, 0.1)))
    face = Screen(half, 1.0 if chance(rng, 0.35) else 0.0, (one_of(rng, BRIGHTS), one_of(rng, BRIGHTS)))
    set_ = [
        box(spot, (0, 0, height + 0.06), (0.06, 2 * half[0], 2 * half[1]), TV, face),
        box(spot, (0, 0, height), (0.22, 0.6 * half[0], 0.02), TV, DARK),
        box(spot, (-0.02, 0, height), (0.04, 0.12, 0.1), TV, DARK),
    ]
    if chance(rng, 0.5):
        side = float(rng.choice([-1, 1])) * (width / 2 - 0.16)
        set_.append(box(place, (0.22, side, height), (0.25, 0.2, float(rng.uniform(0.1, 0.35))), OBJECT, DARK))
    return stand + set_


def kitchen(rng: np.random.Generator, place: Place, width: float) -> list[Body]:
    """A row of kitchen units along a wall: lower and upper cupboards, worktop, splashback, hob or sink, and a refrigerator (an object) at one end."""
    look = Wood(one_of(rng, (*WOODS, (0.85, 0.85, 0.82), (0.9, 0.9, 0.88))), 0.05)
    stone = Plain(one_of(rng, ((0.25, 0.25, 0.27), (0.7, 0.68, 0.64), (0.5, 0.4, 0.3))), 0.1, 1.0, 0.12)
    cold, end = float(rng.uniform(0.6, 0.72)), float(rng.choice([-1, 1]))
    units = width - cold if width > 1.9 else width
    middle = place.moved(0, -end * (width - units) / 2)
    columns = max(2, round(units / 0.5))
    lower = replace(look, fronts=(columns, 1), half=(units / 2, 0.4))
    bodies = [
        box(middle, (0.3, 0, 0.08), (0.58, units, 0.8), FURNITURE, lower),
        box(middle, (0.27, 0, 0), (0.5, units, 0.08), FURNITURE, DARK),
        box(middle, (0.31, 0, 0.88), (0.62, units, 0.04), FURNITURE, stone),
        box(middle, (0.005, 0, 0.92), (0.01, units, 0.52), FURNITURE, Tiled(one_of(rng, ((0.9, 0.89, 0.85), (0.75, 0.8, 0.8))), 0.12)),
    ]
    upper = replace(look, fronts=(columns, 1), half=(units / 2, 0.35))
    bodies.append(box(middle, (0.17, 0, 1.44), (0.34, units, 0.7), FURNITURE, upper))
    if units < width:
        spot = place.moved(0, end * (width - cold) / 2)
        bodies += [
            box(spot, (0.32, 0, 0.02), (0.64, cold - 0.02, float(rng.uniform(1.5, 1.85))), OBJECT, WHITE if chance(rng, 0.6) else METAL),
            box(spot, (0.655, -end * 0.22, 0.9), (0.03, 0.03, 0.4), OBJECT, METAL),
        ]
    bodies.append(box(middle, (0.32, float(rng.uniform(-0.2, 0.2)) * units, 0.915), (0.45, 0.52, 0.012), OBJECT, DARK if chance(rng, 0.5) else METAL))
    for _ in range(int(rng.integers(1, 6))):
        bodies.append(small_thing(rng, middle.moved(float(rng.uniform(0.12, 0.45)), float(rng.uniform(-0.45, 0.45)) * units), 0.92))
    return bodies
