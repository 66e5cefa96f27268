"""What one sits, lies and eats on: beds, sofas, chairs, tables, desks. A place stands at the back of a piece; its heading is the front."""

from __future__ import annotations

from typing import Any

import numpy as np

from wholescene.worlds.materials import Plain
from wholescene.worlds.places import Place
from wholescene.worlds.room_materials import Cloth, Screen, Wood
from wholescene.worlds.room_parts import (
    BED,
    BRIGHTS,
    CHAIR,
    CLOTHS,
    DARK,
    METAL,
    OBJECT,
    SOFA,
    TABLE,
    TV,
    WHITE,
    WOODS,
    bar,
    box,
    chance,
    drum,
    legs,
    one_of,
)
from wholescene.worlds.solids import Body

PATTERNS = ("plain", "plain", "plain", "stripes", "checks", "dots")


def wood(rng: np.random.Generator) -> Wood:
    """A wood or a lacquer."""
    colour = one_of(rng, WOODS)
    return Wood(colour, 0.02 if min(colour) > 0.6 or max(colour) < 0.2 else float(rng.uniform(0.06, 0.2)))


def cloth(rng: np.random.Generator, bright: float = 0.2) -> Cloth:
    """Some cloth; bright with that probability."""
    colour = one_of(rng, BRIGHTS if chance(rng, bright) else CLOTHS)
    return Cloth(colour, one_of(rng, CLOTHS), str(rng.choice(PATTERNS)), float(rng.uniform(0.06, 0.3)), float(rng.uniform(0.05, 0.15)))


def bed(rng: np.random.Generator, place: Place, width: float) -> list[Body]:
    """A bed, its head at the place: frame, mattress, blanket, pillows (which NYUv2 counts as objects), perhaps a footboard."""
    length, low, high = float(rng.uniform(1.95, 2.1)), float(rng.uniform(0.2, 0.32)), float(rng.uniform(0.45, 0.62))
    frame, sheet = wood(rng), Cloth((0.9, 0.89, 0.86), nap=0.04)
    blanket = cloth(rng, 0.45)
    bodies = [
        box(place, (length / 2, 0, 0.05), (length, width, low - 0.05), BED, frame),
        box(place, (length / 2 + 0.02, 0, low), (length - 0.04, width - 0.04, high - low - 0.06), BED, sheet, 0.25),
    ]
    start = float(rng.uniform(0.3, 0.75))
    middle, long = (start + length + 0.03) / 2, length + 0.03 - start
    drop = float(rng.uniform(0.1, high - 0.06))
    bodies.append(box(place, (middle, 0, high - 0.06 - drop), (long, width + 0.05, drop + 0.08), BED, blanket, 0.18))
    if chance(rng, 0.7):
        bodies.append(box(place, (start + 0.1, 0, high + 0.01), (0.35, width + 0.06, 0.04), BED, sheet, 0.3))
    if chance(rng, 0.85):
        bodies.append(box(place, (0.03, 0, 0), (0.06, width + 0.08, float(rng.uniform(0.75, 1.25))), BED, frame))
    if chance(rng, 0.3):
        bodies.append(box(place, (length + 0.05, 0, 0), (0.05, width + 0.06, float(rng.uniform(0.5, 0.8))), BED, frame))
    count = 1 if width < 1.2 else 2
    for number in range(count):
        aside = 0.0 if count == 1 else (number - 0.5) * width * 0.5
        spot = place.moved(0.28, aside).turned(float(rng.uniform(-0.15, 0.15)))
        pillow = sheet if chance(rng, 0.6) else cloth(rng, 0.5)
        bodies.append(box(spot, (0, 0, high - 0.05), (0.36, min(0.62, 0.8 * width / count), 0.13), OBJECT, pillow, 0.5))
    if chance(rng, 0.25):
        thing = place.moved(float(rng.uniform(0.9, length - 0.3)), float(rng.uniform(-0.3, 0.3)) * width).turned(float(rng.uniform(0, 3)))
        bodies.append(box(thing, (0, 0, high), (0.45, 0.35, float(rng.uniform(0.06, 0.2))), OBJECT, cloth(rng, 0.6), 0.4))
    return bodies


def sofa(rng: np.random.Generator, place: Place, width: float) -> list[Body]:
    """A sofa, or an armchair if it is narrow; cushions on it are objects."""
    depth, seat, back = 0.9, float(rng.uniform(0.38, 0.46)), float(rng.uniform(0.72, 0.92))
    skin: Any = (
        cloth(rng, 0.12) if chance(rng, 0.75) else Plain(one_of(rng, ((0.2, 0.13, 0.09), (0.12, 0.11, 0.11), (0.45, 0.3, 0.2))), 0.05, 1.5, 0.12)
    )
    arm = float(rng.uniform(0.14, 0.24))
    bodies = [
        box(place, (depth / 2, 0, 0.06), (depth, width, seat - 0.2), SOFA, skin, 0.08),
        box(place, (0.13, 0, 0.06), (0.26, width, back - 0.06), SOFA, skin, 0.25),
    ]
    for side in (-1, 1):
        bodies.append(box(place, (depth / 2, side * (width - arm) / 2, 0.06), (depth, arm, seat + 0.12), SOFA, skin, 0.25))
    places = max(1, round((width - 2 * arm) / 0.7))
    wide = (width - 2 * arm) / places
    for number in range(places):
        aside = (number - (places - 1) / 2) * wide
        bodies.append(box(place, (0.57, aside, seat - 0.15), (0.64, wide - 0.015, 0.17), SOFA, skin, 0.2))
        bodies.append(box(place, (0.3, aside, seat), (0.18, wide - 0.02, back - seat + 0.02), SOFA, skin, 0.35))
        if chance(rng, 0.35):
            spot = place.moved(0.45, aside + float(rng.uniform(-0.1, 0.1))).turned(float(rng.uniform(-0.4, 0.4)))
            bodies.append(box(spot, (0, 0, seat + 0.02), (0.16, 0.42, 0.38), OBJECT, cloth(rng, 0.6), 0.5))
    return bodies


def chair(rng: np.random.Generator, place: Place, material: Any) -> list[Body]:
    """A dining chair; the place is its middle, the heading the way one sits."""
    wide, seat, back = 0.42, 0.46, float(rng.uniform(0.82, 1.0))
    bodies = legs(place, (wide, wide), seat - 0.03, 0.035, CHAIR, material)
    pad: Any = cloth(rng, 0.3) if chance(rng, 0.5) else material
    bodies.append(box(place, (0, 0, seat - 0.04), (wide, wide, 0.06), CHAIR, pad, 0.1))
    rear = -wide / 2 + 0.02
    for side in (-1, 1):
        bodies.append(box(place, (rear, side * (wide / 2 - 0.02), seat), (0.03, 0.035, back - seat), CHAIR, material))
    if chance(rng, 0.5):
        bodies.append(box(place, (rear, 0, seat + 0.12), (0.035, wide - 0.04, back - seat - 0.1), CHAIR, pad, 0.1))
    else:
        for up in np.linspace(seat + 0.14, back - 0.07, 3):
            bodies.append(box(place, (rear, 0, float(up)), (0.025, wide - 0.04, 0.06), CHAIR, material))
    return bodies


def office_chair(rng: np.random.Generator, place: Place) -> list[Body]:
    """A swivel chair on a star of five feet."""
    skin = Cloth(one_of(rng, ((0.1, 0.1, 0.11), (0.15, 0.17, 0.25), (0.3, 0.1, 0.1), (0.2, 0.25, 0.22), (0.35, 0.35, 0.36))), nap=0.08)
    seat = float(rng.uniform(0.44, 0.52))
    bodies = [bar(place, (0, 0, 0.08), (0, 0, seat - 0.06), 0.03, CHAIR, DARK)]
    for turn in np.arange(5) * 2 * np.pi / 5:
        bodies.append(bar(place, (0, 0, 0.1), (0.3 * float(np.cos(turn)), 0.3 * float(np.sin(turn)), 0.05), 0.022, CHAIR, DARK))
    bodies.append(box(place, (0, 0, seat - 0.06), (0.48, 0.5, 0.09), CHAIR, skin, 0.3))
    bodies.append(box(place, (-0.25, 0, seat + 0.12), (0.07, 0.44, float(rng.uniform(0.38, 0.6))), CHAIR, skin, 0.35))
    bodies.append(box(place, (-0.24, 0, seat - 0.06), (0.03, 0.06, 0.25), CHAIR, DARK))
    if chance(rng, 0.6):
        for side in (-0.27, 0.27):
            bodies.append(box(place, (0, side, seat + 0.17), (0.26, 0.05, 0.03), CHAIR, DARK))
            bodies.append(box(place, (-0.05, side, seat - 0.03), (0.04, 0.03, 0.21), CHAIR, DARK))
    return bodies


def table(rng: np.random.Generator, place: Place, size: tuple[float, float], height: float, material: Any, round_: bool = False) -> list[Body]:
    """A table of (depth, width) whose middle is the place."""
    if round_:
        radius = min(size) / 2
        foot = drum(place, (0, 0, 0), radius * 0.55, 0.03, TABLE, material)
        return [
            foot,
            bar(place, (0, 0, 0), (0, 0, height - 0.03), 0.045, TABLE, material),
            drum(place, (0, 0, height - 0.035), radius, 0.035, TABLE, material),
        ]
    top = float(rng.uniform(0.025, 0.05))
    bodies = [box(place, (0, 0, height - top), (*size, top), TABLE, material)]
    thick = float(rng.uniform(0.04, 0.08))
    bodies += legs(place, (size[0] - 0.06, size[1] - 0.06), height - top, thick, TABLE, METAL if chance(rng, 0.2) else material)
    if height > 0.6:
        for side in (-1, 1):
            bodies.append(box(place, (side * (size[0] / 2 - 0.08), 0, height - top - 0.08), (0.025, size[1] - 0.16, 0.08), TABLE, material))
    elif chance(rng, 0.4):
        bodies.append(box(place, (0, 0, 0.14), (size[0] - 0.1, size[1] - 0.1, 0.025), TABLE, material))
    return bodies


def desk(rng: np.random.Generator, place: Place, width: float) -> list[Body]:
    """A desk with its back at the place, a drawer block, and what stands on it: a screen or laptop (class tvs), keyboard, papers."""
    depth, height, material = float(rng.uniform(0.6, 0.75)), 0.74, wood(rng)
    bodies = [box(place, (depth / 2, 0, height - 0.035), (depth, width, 0.035), TABLE, material)]
    for side in (-1, 1):
        bodies.append(box(place, (depth / 2, side * (width / 2 - 0.02), 0), (depth - 0.06, 0.03, height - 0.035), TABLE, material))
    bodies.append(box(place, (0.04, 0, 0.3), (0.02, width - 0.06, 0.4), TABLE, material))
    if chance(rng, 0.6):
        block = 0.38
        front = Wood(material.colour, material.grain, (1, 3), (block / 2, 0.28))
        bodies.append(box(place, (depth / 2, (width / 2 - 0.24) * rng.choice([-1, 1]), 0.08), (depth - 0.1, block, 0.56), TABLE, front))
    return bodies + on_desk(rng, place, depth, width, height)


def on_desk(rng: np.random.Generator, place: Place, depth: float, width: float, height: float) -> list[Body]:
    """Screens, keyboard, papers and a cup on a desk."""
    bodies: list[Body] = []
    for number in range(int(rng.choice([0, 1, 1, 2]))):
        half = (float(rng.uniform(0.22, 0.3)), float(rng.uniform(0.14, 0.18)))
        aside = float(rng.uniform(-0.15, 0.15)) if number == 0 else 0.5 * float(rng.choice([-1, 1]))
        spot = place.moved(0.2, np.clip(aside, half[0] - width / 2, width / 2 - half[0])).turned(float(rng.uniform(-0.25, 0.25)))
        face = Screen(half, 0.7 if chance(rng, 0.5) else 0.0, (one_of(rng, BRIGHTS), one_of(rng, BRIGHTS)))
        bodies.append(box(spot, (0, 0, height + 0.1), (0.045, 2 * half[0], 2 * half[1]), TV, face))
        bodies.append(box(spot, (-0.03, 0, height), (0.16, 0.2, 0.015), TV, DARK))
        bodies.append(box(spot, (-0.03, 0, height), (0.03, 0.06, 0.2), TV, DARK))
        bodies.append(box(spot, (0.27, 0, height), (0.15, 0.42, 0.025), OBJECT, DARK))
    for _ in range(int(rng.integers(0, 5))):
        spot = place.moved(float(rng.uniform(0.15, depth - 0.15)), float(rng.uniform(-0.42, 0.42)) * width).turned(float(rng.uniform(0, 3)))
        kind = rng.random()
        if kind < 0.5:
            bodies.append(
                box(spot, (0, 0, height), (0.29, 0.21, float(rng.uniform(0.01, 0.09))), OBJECT, WHITE if chance(rng, 0.6) else _bright(rng))
            )
        elif kind < 0.8:
            bodies.append(drum(spot, (0, 0, height), 0.04, 0.1, OBJECT, _bright(rng)))
        else:
            bodies.append(box(spot, (0, 0, height), (0.2, 0.25, float(rng.uniform(0.12, 0.3))), OBJECT, _bright(rng)))
    return bodies


def on_table(rng: np.random.Generator, place: Place, size: tuple[float, float], height: float, most: int = 4) -> list[Body]:
    """Bowls, bottles, books, a cloth on a table whose middle is the place."""
    bodies: list[Body] = []
    for _ in range(int(rng.integers(0, most + 1))):
        spot = place.moved(float(rng.uniform(-0.36, 0.36)) * size[0], float(rng.uniform(-0.4, 0.4)) * size[1]).turned(float(rng.uniform(0, 3)))
        kind = rng.random()
        if kind < 0.25:
            bodies.append(drum(spot, (0, 0, height), 0.09, 0.09, OBJECT, _bright(rng), 1.5))
        elif kind < 0.5:
            bodies.append(drum(spot, (0, 0, height), 0.04, float(rng.uniform(0.1, 0.3)), OBJECT, _bright(rng), 0.7))
        elif kind < 0.85:
            bodies.append(box(spot, (0, 0, height), (0.26, 0.2, float(rng.uniform(0.02, 0.12))), OBJECT, _bright(rng)))
        else:
            bodies.append(box(spot, (0, 0, height), (0.3, 0.3, 0.25), OBJECT, Plain((0.62, 0.48, 0.33), 0.06)))
    return bodies


def _bright(rng: np.random.Generator) -> Plain:
    return Plain(one_of(rng, BRIGHTS), 0.04, 1.0, 0.06)
