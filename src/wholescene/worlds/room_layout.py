"""Laying out a room: what stands where, by what the room is for. Everything is drawn from one generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from wholescene.worlds.places import Place
from wholescene.worlds.room_furniture import bed, chair, desk, office_chair, on_table, sofa, table, wood
from wholescene.worlds.room_parts import chance
from wholescene.worlds.room_shell import Rect, Room, Wall, build_shell, cut_openings, four_walls
from wholescene.worlds.room_storage import bookshelf, cupboard, kitchen, television
from wholescene.worlds.room_things import Lamp, ceiling_lamp, clutter, curtains, floor_lamp, hanging, plant, radiator, rug, table_lamp
from wholescene.worlds.solids import Body

CHARACTERS = ("bedroom", "living room", "office", "kitchen")
_SHARES = (0.32, 0.28, 0.2, 0.2)
Make = Callable[[Place], list[Body]]


def _in_view(place: Place) -> bool:
    """Whether a spot lies about where the camera, which looks along world x, sees it within the grid."""
    return 0.9 < place.x < 5.8 and abs(place.y) < 0.55 * place.x + 0.3


def _along(room: Room, make: Make, depth: float, width: float, tall: float, gap: float = 0.02) -> tuple[Wall, float] | None:
    """Put a piece with its back to a wall, rather where the camera sees it; where it was put, or None if there was no room."""
    rng, best = room.rng, None
    for _ in range(36):
        wall = room.walls[int(rng.integers(4))]
        reach = wall.length / 2 - width / 2 - 0.03
        t, luck = float(rng.uniform(-1, 1)) * max(reach, 0.0), float(rng.random())
        if chance(rng, 0.3):
            t = math.copysign(max(reach, 0.0), t)  # into a corner
        if reach < 0 or not wall.clear(t - width / 2, t + width / 2, 0.0, tall, 0.02):
            continue
        if not room.free(wall.footprint(t, depth + gap, width)):
            continue
        score = luck + 1.5 * _in_view(room.at(wall, t).moved(depth / 2, 0))
        if best is None or score > best[0]:
            best = (score, wall, t)
    if best is None:
        return None
    _, wall, t = best
    room.taken.append(wall.footprint(t, depth + gap, width))
    wall.taken.append((t - width / 2, t + width / 2, tall))
    room.bodies += make(room.at(wall, t).moved(gap, 0))
    return wall, t


def _standing(room: Room, make: Make, size: tuple[float, float], margin: float = 0.05, turned: bool = True) -> Rect | None:
    """Put a piece of (depth, width) anywhere on the floor, rather where the camera sees it; its footprint, or None."""
    rng, best = room.rng, None
    for _ in range(36):
        angle = float(rng.integers(4)) * math.pi / 2
        half = (size[0] / 2, size[1] / 2) if abs(math.cos(angle)) > 0.5 else (size[1] / 2, size[0] / 2)
        u, v, luck = float(rng.uniform(0, room.size[0])), float(rng.uniform(0, room.size[1])), float(rng.random())
        rect = Rect(u - half[0], v - half[1], u + half[0], v + half[1])
        if not room.free(rect, margin):
            continue
        score = luck + 1.5 * _in_view(room.spot(u, v))
        if best is None or score > best[0]:
            best = (score, rect, u, v, angle)
    if best is None:
        return None
    _, rect, u, v, angle = best
    room.taken.append(rect)
    room.bodies += make(room.spot(u, v, angle + (float(rng.uniform(-0.12, 0.12)) if turned else 0.0)))
    return rect


def _bed(room: Room) -> None:
    rng = room.rng
    width = float(rng.choice([0.95, 1.2, 1.4, 1.6, 1.8]))
    found = _along(room, lambda place: bed(rng, place, width), 2.1, width + 0.06, 1.1)
    if found is None:
        return
    wall, t = found
    for side in (-1, 1):
        aside = t + side * (width / 2 + 0.3)
        rect = wall.footprint(aside, 0.42, 0.42)
        if chance(rng, 0.7) and room.free(rect, 0.0) and wall.clear(aside - 0.22, aside + 0.22, 0, 0.55, 0.0):
            room.taken.append(rect)
            high, place = float(rng.uniform(0.42, 0.6)), room.at(wall, aside).moved(0.02, 0)
            room.bodies += cupboard(rng, place, (0.38, 0.42, high), (1, int(rng.integers(1, 4))))[:3]
            if chance(rng, 0.65):
                _light(room, *table_lamp(rng, place.moved(0.2, 0), high, chance(rng, 0.3 if room.day else 0.8)))
    if chance(rng, 0.4):
        size = (float(rng.uniform(1.0, 1.6)), width + float(rng.uniform(0.6, 1.2)))
        room.bodies += rug(rng, room.at(wall, t).moved(1.8, 0), size)


def _light(room: Room, bodies: list[Body], lamps: list[Lamp]) -> None:
    room.bodies += bodies
    room.lamps += lamps


def _sofa(room: Room) -> None:
    rng = room.rng
    width = float(rng.choice([1.5, 1.9, 2.2]))
    found = _along(room, lambda place: sofa(rng, place, width), 0.92, width, 0.9)
    if found is None or not chance(rng, 0.8):
        return
    wall, t = found
    size = (float(rng.uniform(0.5, 0.7)), float(rng.uniform(0.8, 1.2)))
    middle = 0.92 + 0.38 + size[0] / 2
    rect = wall.footprint(t, middle + size[0] / 2, size[1])
    inner = wall.footprint(t, 0.95, size[1])
    table_only = Rect(*_without(rect, inner))
    place = room.at(wall, t).moved(middle, 0)
    if chance(rng, 0.6):
        room.bodies += rug(rng, place, (float(rng.uniform(1.2, 1.8)), float(rng.uniform(1.6, 2.4))))
    if room.free(table_only, 0.02):
        room.taken.append(table_only)
        height = float(rng.uniform(0.36, 0.48))
        room.bodies += table(rng, place, size, height, wood(rng), chance(rng, 0.2)) + on_table(rng, place, size, height, 3)


def _without(rect: Rect, inner: Rect) -> tuple[float, float, float, float]:
    """The part of a rectangle beyond an inner one that shares three of its sides."""
    u0, v0, u1, v1 = rect
    if abs(inner.u1 - u1) > 1e-6:
        u0 = inner.u1
    elif abs(inner.u0 - u0) > 1e-6:
        u1 = inner.u0
    elif abs(inner.v1 - v1) > 1e-6:
        v0 = inner.v1
    else:
        v1 = inner.v0
    return u0, v0, u1, v1


def _dining(room: Room) -> None:
    rng = room.rng
    size = (float(rng.uniform(0.75, 0.95)), float(rng.choice([0.9, 1.2, 1.6])))
    round_ = size[1] < 1.0 and chance(rng, 0.6)
    look, seats = wood(rng), wood(rng)
    out = float(rng.uniform(0.05, 0.3))

    def make(place: Place) -> list[Body]:
        bodies = table(rng, place, size, 0.74, look, round_) + on_table(rng, place, size, 0.74)
        spots = [(side * (size[0] / 2 + out), t, -side) for side in (-1, 1) for t in ((0.0,) if size[1] < 1.1 else (-size[1] / 4, size[1] / 4))]
        for ahead, left, towards in spots:
            if chance(rng, 0.85):
                facing = 0.0 if towards > 0 else math.pi
                bodies += chair(rng, place.moved(ahead, left).turned(facing + float(rng.uniform(-0.25, 0.25))), seats)
        for side in (-1, 1):
            if chance(rng, 0.4):
                facing = -side * math.pi / 2
                bodies += chair(rng, place.moved(0, side * (size[1] / 2 + out)).turned(facing + float(rng.uniform(-0.25, 0.25))), seats)
        return bodies

    _standing(room, make, (size[0] + 1.0, size[1] + 0.8), 0.0)


def _desk(room: Room) -> None:
    rng = room.rng
    width = float(rng.uniform(1.1, 1.7))
    found = _along(room, lambda place: desk(rng, place, width), 0.75, width, 1.2)
    if found is None or not chance(rng, 0.9):
        return
    wall, t = found
    place = room.at(wall, t + float(rng.uniform(-0.2, 0.2))).moved(float(rng.uniform(0.85, 1.2)), 0).turned(math.pi + float(rng.uniform(-0.7, 0.7)))
    if room.character == "office" or chance(rng, 0.5):
        room.bodies += office_chair(rng, place)
    else:
        room.bodies += chair(rng, place, wood(rng))
    room.taken.append(wall.footprint(t, 1.4, 0.7))


def _cupboard(room: Room, low: bool) -> None:
    rng = room.rng
    if low:
        size = (float(rng.uniform(0.38, 0.5)), float(rng.uniform(0.7, 1.6)), float(rng.uniform(0.7, 1.1)))
        fronts = (int(rng.integers(1, 4)), int(rng.integers(1, 5)))
    else:
        size = (float(rng.uniform(0.5, 0.62)), float(rng.uniform(0.9, 2.0)), float(rng.uniform(1.8, min(2.2, room.size[2] - 0.15))))
        fronts = (max(2, round(size[1] / 0.5)), 1)
    _along(room, lambda place: cupboard(rng, place, size, fronts), size[0], size[1], size[2])


def _bookshelf(room: Room) -> None:
    rng = room.rng
    width, height = float(rng.uniform(0.6, 1.5)), float(rng.choice([0.9, 1.5, 1.9, 2.1]))
    _along(room, lambda place: bookshelf(rng, place, width, min(height, room.size[2] - 0.1)), 0.36, width, height)


def _television(room: Room) -> None:
    rng = room.rng
    width = float(rng.uniform(1.0, 1.7))
    _along(room, lambda place: television(rng, place, width), 0.45, width, 1.2)


def _kitchen(room: Room) -> None:
    rng = room.rng
    width = float(rng.uniform(1.6, min(3.6, max(room.size[:2]) - 0.4)))
    _along(room, lambda place: kitchen(rng, place, width), 0.68, width, 2.14)


def _armchair(room: Room) -> None:
    rng = room.rng
    width = float(rng.uniform(0.8, 0.95))
    _standing(room, lambda place: sofa(rng, place.moved(-0.45, 0), width), (0.95, 0.95))


def _side_table(room: Room) -> None:
    rng = room.rng
    size, height = (float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.4, 1.1))), float(rng.uniform(0.5, 0.76))

    def make(place: Place) -> list[Body]:
        middle = place.moved(size[0] / 2, 0)
        return table(rng, middle, size, height, wood(rng)) + on_table(rng, middle, size, height)

    _along(room, make, size[0], size[1], height + 0.3)


def _chair(room: Room) -> None:
    rng = room.rng
    _standing(room, lambda place: chair(rng, place, wood(rng)), (0.5, 0.5))


def _floor_lamp(room: Room) -> None:
    rng, on = room.rng, chance(room.rng, 0.35 if room.day else 0.85)

    def make(place: Place) -> list[Body]:
        bodies, lamps = floor_lamp(rng, place.moved(0.22, 0), on)
        room.lamps.extend(lamps)
        return bodies

    _along(room, make, 0.42, 0.42, 1.8)


def _plant(room: Room) -> None:
    rng, tall = room.rng, float(room.rng.uniform(0.6, 1.6))
    _along(room, lambda place: plant(rng, place.moved(0.25, 0), tall), 0.5, 0.5, tall)


def _clutter(room: Room) -> None:
    rng = room.rng
    if chance(rng, 0.7):
        _along(room, lambda place: clutter(rng, place.moved(0.25, 0)), 0.5, 0.5, 0.5)
    else:
        _standing(room, lambda place: clutter(rng, place), (0.5, 0.5))


def _wardrobe(room: Room) -> None:
    _cupboard(room, False)


def _chest(room: Room) -> None:
    _cupboard(room, True)


# What a room holds: a step, and how likely it is, in this order.
_FURNISHING: dict[str, tuple[tuple[Callable[[Room], None], float], ...]] = {
    "bedroom": (
        (_bed, 1.0), (_wardrobe, 0.85), (_chest, 0.8), (_bookshelf, 0.5), (_desk, 0.45), (_wardrobe, 0.35), (_television, 0.35), (_armchair, 0.25),
        (_chest, 0.5), (_chair, 0.4), (_side_table, 0.35), (_bed, 0.12),
    ),
    "living room": (
        (_sofa, 1.0), (_television, 0.75), (_bookshelf, 0.7), (_wardrobe, 0.3), (_sofa, 0.25), (_dining, 0.4), (_armchair, 0.45), (_chest, 0.7),
        (_side_table, 0.5), (_bookshelf, 0.5), (_chest, 0.4), (_desk, 0.15),
    ),
    "office": (
        (_desk, 1.0), (_desk, 0.7), (_bookshelf, 0.85), (_wardrobe, 0.6), (_chest, 0.6), (_dining, 0.35), (_desk, 0.35), (_bookshelf, 0.6),
        (_wardrobe, 0.35), (_side_table, 0.3), (_sofa, 0.12), (_television, 0.12),
    ),
    "kitchen": (
        (_kitchen, 1.0), (_dining, 0.85), (_wardrobe, 0.5), (_chest, 0.6), (_kitchen, 0.35), (_side_table, 0.35), (_bookshelf, 0.3),
        (_television, 0.15), (_chair, 0.3), (_chest, 0.4),
    ),
}  # fmt: skip


def _dress_walls(room: Room) -> None:
    """Curtains and radiators at windows, pictures and boards where nothing tall stands."""
    rng = room.rng
    draped, heated = chance(rng, 0.6), chance(rng, 0.4)
    for wall in room.walls:
        for opening in (o for o in wall.openings if o.kind == "window"):
            t, width = (opening.t0 + opening.t1) / 2, opening.t1 - opening.t0
            if draped:
                low = 0.04 if chance(rng, 0.6) else max(0.1, opening.z0 - 0.15)
                room.bodies += curtains(rng, room.at(wall, t), width, opening.z1, low)
            if heated and room.free(wall.footprint(t, 0.2, 0.8 * width), 0.0):
                room.bodies += radiator(room.at(wall, t), 0.8 * width)
        for _ in range(int(rng.integers(0, 4))):
            half = (float(rng.uniform(0.14, 0.55)), float(rng.uniform(0.14, 0.42)))
            t, up = float(rng.uniform(-1, 1)) * max(0.0, wall.length / 2 - half[0] - 0.1), float(rng.uniform(1.4, 1.75))
            t0, t1 = t - half[0], t + half[0]
            if wall.clear(t0, t1, up - half[1], up + half[1], 0.3) and not any(
                t0 < b + 0.05 and a < t1 + 0.05 and tall > up - half[1] - 0.03 for a, b, tall in wall.taken
            ):
                room.bodies += hanging(rng, room.at(wall, t), up, half)
                wall.taken.append((t0, t1, 3.0))


def stand(rng: np.random.Generator, length: float, depth: float) -> tuple[float, float, float]:
    """Where a person with a camera stands in a room, near a wall, and which way the camera looks: u, v, heading."""
    wall = four_walls(length, depth)[int(rng.integers(4))]
    t, back = float(rng.uniform(-0.42, 0.42)) * wall.length, float(rng.uniform(0.3, 0.8))
    u = wall.middle[0] - math.sin(wall.angle) * t + math.cos(wall.angle) * back
    v = wall.middle[1] + math.cos(wall.angle) * t + math.sin(wall.angle) * back
    goal = (length * float(rng.uniform(0.3, 0.7)), depth * float(rng.uniform(0.3, 0.7)))
    return u, v, math.atan2(goal[1] - v, goal[0] - u) + float(rng.uniform(-0.2, 0.2))


def lay_out(rng: np.random.Generator) -> Room:
    """A whole room.

    Args:
        rng: everything is drawn from it, in a fixed order.

    Returns:
        The room. The camera's foot is the world's origin and it looks along world x; nothing stands where it is.
    """
    character = CHARACTERS[int(rng.choice(4, p=_SHARES))]
    length, depth = float(rng.uniform(3.2, 6.2)), float(rng.uniform(3.0, 5.4))
    height = float(rng.uniform(2.35, 2.75)) if chance(rng, 0.75) else float(rng.uniform(2.75, 3.1))
    u, v, heading = stand(rng, length, depth)
    c, s = math.cos(heading), math.sin(heading)
    corner = Place(-c * u - s * v, s * u - c * v, 0.0, -heading)
    room = Room(rng, character, (length, depth, height), corner, four_walls(length, depth), day=chance(rng, 0.72))
    for ahead in (0.0, 0.5, 0.9, 1.3):
        a, b = u + c * ahead, v + s * ahead
        room.taken.append(Rect(a - 0.33, b - 0.33, a + 0.33, b + 0.33))
    cut_openings(room)
    build_shell(room)
    for step, share in _FURNISHING[character]:
        if chance(rng, share):
            step(room)
    for step, most in ((_floor_lamp, 1), (_plant, 2), (_clutter, 5)):
        for _ in range(int(rng.integers(0, most + 1))):
            step(room)
    _dress_walls(room)
    _hang_lamps(room)
    return room


def _hang_lamps(room: Room) -> None:
    """One or two lamps on the ceiling; on at night, and often by day."""
    rng, (length, depth, height) = room.rng, room.size
    on = (not room.lamps and not room.panes) or chance(rng, 0.45 if room.day else 0.85)
    spots = (
        [(0.5, 0.5)] if max(length, depth) < 4.5 or chance(rng, 0.6) else ([(0.3, 0.5), (0.7, 0.5)] if length > depth else [(0.5, 0.3), (0.5, 0.7)])
    )
    for a, b in spots:
        _light(room, *ceiling_lamp(rng, room.spot(a * length, b * depth), height, on))
