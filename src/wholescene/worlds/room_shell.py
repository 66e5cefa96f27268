"""The shell of a room: floor, ceiling, four walls with doors and windows, and the sheet that a room is laid out on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Plain
from wholescene.worlds.places import Place
from wholescene.worlds.room_furniture import cloth
from wholescene.worlds.room_materials import Boards, Outdoors, Painted, Tiled, Wood
from wholescene.worlds.room_parts import CEILING, FLOOR, OBJECT, WALL, WHITE, WINDOW, WOODS, box, chance, one_of
from wholescene.worlds.room_things import Lamp
from wholescene.worlds.solids import Body

Array = NDArray[Any]

THICK = 0.12  # metres, of walls; floor and ceiling have as much that counts
_PAINTS: tuple[Colour, ...] = (
    (0.90, 0.88, 0.83), (0.86, 0.82, 0.72), (0.80, 0.82, 0.84), (0.84, 0.74, 0.60), (0.72, 0.78, 0.72), (0.92, 0.91, 0.89), (0.62, 0.70, 0.76),
    (0.78, 0.60, 0.50), (0.88, 0.84, 0.60), (0.70, 0.66, 0.62), (0.93, 0.92, 0.90),
)  # fmt: skip


class Rect(NamedTuple):
    """A footprint in room coordinates, metres."""

    u0: float
    v0: float
    u1: float
    v1: float

    def meets(self, other: Rect, margin: float = 0.0) -> bool:
        """Whether the two come nearer than `margin`."""
        return (
            self.u0 < other.u1 + margin and other.u0 < self.u1 + margin and self.v0 < other.v1 + margin and other.v0 < self.v1 + margin
        )  # fmt: skip


class Opening(NamedTuple):
    """A door or window in a wall: from `t0` to `t1` along it (metres left of its middle, seen into the room), from height `z0` to `z1`."""

    kind: str
    t0: float
    t1: float
    z0: float
    z1: float


class Pane(NamedTuple):
    """Daylight: the middle of a pane, the unit vector into the room, one along it, half its width and height, and the light (3,) it gives."""

    middle: Array
    inward: Array
    along: Array
    half: tuple[float, float]
    light: Array


@dataclass
class Wall:
    """One of four walls.

    Attributes:
        length: metres.
        middle: (u, v) of its inner face's middle in room coordinates.
        angle: of the direction into the room, radians in room coordinates.
        openings: its doors and windows.
        taken: (t0, t1, height) of what stands before it.
    """

    length: float
    middle: tuple[float, float]
    angle: float
    openings: list[Opening] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def footprint(self, t: float, depth: float, width: float) -> Rect:
        """What a piece of that depth and width covers whose back's middle is at `t`."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        u, v = self.middle[0] - s * t, self.middle[1] + c * t
        corners = [(u + c * d - s * w, v + s * d + c * w) for d in (0.0, depth) for w in (-width / 2, width / 2)]
        return Rect(*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist())

    def clear(self, t0: float, t1: float, z0: float, z1: float, margin: float = 0.1) -> bool:
        """Whether that part of the wall has no opening."""
        return not any(t0 < o.t1 + margin and o.t0 < t1 + margin and z0 < o.z1 and o.z0 < z1 for o in self.openings)


@dataclass
class Room:
    """A room being laid out. Room coordinates (u, v) run along its walls from one corner of its floor.

    Attributes:
        rng: everything is drawn from it, in a fixed order.
        character: what it is for.
        size: (length, depth, height) inside, metres.
        corner: where (0, 0) is in the world and which way u runs; the camera's foot is the world's origin and it looks along world x.
        walls: the four.
        bodies, lamps, panes: what is there already, and what gives light.
        taken: footprints.
        day: whether there is daylight.
    """

    rng: np.random.Generator
    character: str
    size: tuple[float, float, float]
    corner: Place
    walls: tuple[Wall, Wall, Wall, Wall]
    day: bool
    bodies: list[Body] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    panes: list[Pane] = field(default_factory=list)
    taken: list[Rect] = field(default_factory=list)

    def at(self, wall: Wall, t: float) -> Place:
        """The spot on the floor at the wall, facing into the room."""
        u, v = wall.middle[0] - math.sin(wall.angle) * t, wall.middle[1] + math.cos(wall.angle) * t
        return self.corner.moved(u, v).turned(wall.angle)

    def spot(self, u: float, v: float, angle: float = 0.0) -> Place:
        """A spot on the floor, facing along `angle` in room coordinates."""
        return self.corner.moved(u, v).turned(angle)

    def free(self, rect: Rect, margin: float = 0.05) -> bool:
        """Whether a footprint lies in the room and nobody stands there."""
        length, depth, _ = self.size
        inside = rect.u0 > -0.01 and rect.v0 > -0.01 and rect.u1 < length + 0.01 and rect.v1 < depth + 0.01
        return inside and not any(rect.meets(other, margin) for other in self.taken)

    def within(self, points: Array, margin: float) -> NDArray[np.bool_]:
        """(...) which world points (..., 3) lie in the room, its shell of `margin` metres included."""
        c, s = math.cos(self.corner.yaw), math.sin(self.corner.yaw)
        x, y, z = points[..., 0] - self.corner.x, points[..., 1] - self.corner.y, points[..., 2]
        length, depth, height = self.size
        u, v = c * x + s * y, c * y - s * x
        return np.asarray(
            (u > -margin) & (u < length + margin) & (v > -margin) & (v < depth + margin) & (z > -margin) & (z < height + margin)
        )  # fmt: skip


def four_walls(length: float, depth: float) -> tuple[Wall, Wall, Wall, Wall]:
    """The walls of a room, counter-clockwise."""
    return (
        Wall(length, (length / 2, 0.0), math.pi / 2), Wall(depth, (length, depth / 2), math.pi),
        Wall(length, (length / 2, depth), -math.pi / 2), Wall(depth, (0.0, depth / 2), 0.0),
    )  # fmt: skip


def cut_openings(room: Room) -> None:
    """A door or two, and windows on one or two walls."""
    rng, height = room.rng, room.size[2]
    order = [int(n) for n in rng.permutation(4)]
    for wall in (room.walls[n] for n in order[: int(rng.choice([1, 1, 2]))]):
        width = float(rng.uniform(0.78, 0.95))
        t = float(rng.uniform(-1, 1)) * (wall.length / 2 - width / 2 - 0.15)
        wall.openings.append(Opening("door", t - width / 2, t + width / 2, 0.0, float(rng.uniform(1.98, 2.1))))
        room.taken.append(wall.footprint(t, 0.85, width))
    for wall in (room.walls[n] for n in order[::-1][: int(rng.choice([0, 1, 1, 2], p=[0.12, 0.44, 0.22, 0.22]))]):
        sill, top = float(rng.choice([0.45, 0.75, 0.9, 1.0])), min(height - 0.2, float(rng.uniform(1.9, 2.3)))
        for _ in range(int(rng.choice([1, 1, 2]))):
            width = float(rng.uniform(0.7, min(2.2, wall.length - 0.8)))
            t = float(rng.uniform(-1, 1)) * (wall.length / 2 - width / 2 - 0.25)
            if wall.clear(t - width / 2, t + width / 2, 0, height, 0.35):
                wall.openings.append(Opening("window", t - width / 2, t + width / 2, sill, top))


def _pieces(wall: Wall, height: float) -> list[tuple[float, float, float, float]]:
    """(t0, t1, z0, z1) of the wall around its openings."""
    pieces, at = [], -wall.length / 2 - THICK
    for opening in sorted(wall.openings, key=lambda o: o.t0):
        pieces += [(at, opening.t0, 0.0, height), (opening.t0, opening.t1, opening.z1, height)]
        if opening.z0 > 0:
            pieces.append((opening.t0, opening.t1, 0.0, opening.z0))
        at = opening.t1
    return [*pieces, (at, wall.length / 2 + THICK, 0.0, height)]


def _door(room: Room, wall: Wall, opening: Opening) -> list[Body]:
    place, rng = room.at(wall, (opening.t0 + opening.t1) / 2), room.rng
    width, top = opening.t1 - opening.t0, opening.z1
    frame = WHITE if chance(rng, 0.6) else Wood(one_of(rng, WOODS))
    leaf = Wood(one_of(rng, (*WOODS, (0.88, 0.87, 0.84))), 0.08, (1, int(rng.integers(1, 4))), (width / 2, top / 2))
    leaf = replace(leaf, knobs=leaf.colour, grain=0.02 if min(leaf.colour) > 0.6 else 0.08)
    bodies = [
        box(place, (-0.07, 0, 0), (0.05, width, top), OBJECT, leaf),
        box(place, (0.0, 0, top), (0.05, width + 0.14, 0.07), OBJECT, frame),
        box(place, (-0.02, float(rng.choice([-1, 1])) * (width / 2 - 0.08), 1.0), (0.06, 0.1, 0.03), OBJECT, Plain((0.6, 0.58, 0.5), 0.02, 1.0, 0.3)),
    ]
    return bodies + [box(place, (0.0, side * (width / 2 + 0.035), 0), (0.05, 0.07, top), OBJECT, frame) for side in (-1, 1)]


def _window(room: Room, wall: Wall, opening: Opening, light: Array, look: Outdoors) -> list[Body]:
    place, rng = room.at(wall, (opening.t0 + opening.t1) / 2), room.rng
    width, tall = opening.t1 - opening.t0, opening.z1 - opening.z0
    frame = WHITE if chance(rng, 0.75) else Wood(one_of(rng, WOODS))
    look = replace(look, half=tall / 2, horizon=1.3 - (opening.z0 + opening.z1) / 2 + float(rng.uniform(-0.1, 0.3)))
    bodies = [box(place, (-0.1, 0, opening.z0), (0.03, width, tall), WINDOW, look)]
    rim = 0.06
    for up in (opening.z0, opening.z1 - rim):
        bodies.append(box(place, (-0.06, 0, up), (0.06, width, rim), WINDOW, frame))
    panels = max(1, round(width / float(rng.uniform(0.6, 1.1))))
    for t in np.linspace(-width / 2 + rim / 2, width / 2 - rim / 2, panels + 1):
        bodies.append(box(place, (-0.06, float(t), opening.z0), (0.06, rim, tall), WINDOW, frame))
    if chance(rng, 0.3):
        bodies.append(box(place, (-0.06, 0, opening.z0 + tall / 2), (0.05, width, 0.04), WINDOW, frame))
    bodies.append(box(place, (0.02, 0, opening.z0 - 0.03), (0.24, width + 0.1, 0.03), WINDOW, frame))
    if room.day:
        inward, along = place.point(1, 0, 0) - place.point(0, 0, 0), place.point(0, 1, 0) - place.point(0, 0, 0)
        room.panes.append(Pane(place.point(-0.03, 0, (opening.z0 + opening.z1) / 2), inward, along, (width / 2, tall / 2), light * (1 - look.blind)))
    return bodies


def build_shell(room: Room) -> None:
    """Floor, ceiling, walls, doors and windows, in that order."""
    rng, (length, depth, height) = room.rng, room.size
    paint = one_of(rng, _PAINTS)
    room.bodies.append(box(room.corner, (length / 2, depth / 2, -THICK), (length + 2 * THICK, depth + 2 * THICK, THICK), FLOOR, _flooring(room)))
    white = Plain((0.92, 0.91, 0.89), 0.02, 6.0)
    room.bodies.append(box(room.corner, (length / 2, depth / 2, height), (length + 2 * THICK, depth + 2 * THICK, THICK), CEILING, white))
    stripe, one = float(rng.uniform(0.08, 0.3)) if chance(rng, 0.15) else 0.0, Painted(paint)
    accent = Painted(one_of(rng, _PAINTS), stripe, float(rng.uniform(0.05, 0.2))) if chance(rng, 0.35) else one
    overcast, blind = chance(rng, 0.4), float(rng.uniform(0.15, 0.9)) if chance(rng, 0.3) else 0.0
    sky: Colour = (0.9, 0.92, 0.95) if overcast else (0.66, 0.8, 0.97)
    greens: tuple[Colour, ...] = ((0.3, 0.42, 0.25), (0.45, 0.42, 0.38), (0.6, 0.5, 0.42), (0.25, 0.35, 0.22))
    look = Outdoors(float(rng.uniform(2.2, 4.5)), sky, one_of(rng, greens), blind=blind)
    if not room.day:
        look = Outdoors(0.3, (0.1, 0.12, 0.2), (0.06, 0.06, 0.06), blind=blind)
    light = float(rng.uniform(3.0, 7.0)) * np.array([0.92, 0.97, 1.05] if overcast else [1.0, 0.98, 0.96])
    for number, wall in enumerate(room.walls):
        for t0, t1, z0, z1 in _pieces(wall, height):
            place = room.at(wall, (t0 + t1) / 2)
            if t1 - t0 > 1e-3 and z1 - z0 > 1e-3:
                room.bodies.append(box(place, (-THICK / 2, 0, z0), (THICK, t1 - t0, z1 - z0), WALL, accent if number == 0 else one))
        for opening in wall.openings:
            room.bodies += _door(room, wall, opening) if opening.kind == "door" else _window(room, wall, opening, light, look)


def _flooring(room: Room) -> Any:
    rng = room.rng
    kind = rng.random()
    if room.character == "kitchen" or kind < 0.12:
        colour = one_of(rng, ((0.75, 0.7, 0.62), (0.6, 0.58, 0.55), (0.85, 0.83, 0.8), (0.5, 0.38, 0.3)))
        return Tiled(colour, float(rng.uniform(0.2, 0.5)), -0.25, 0.2 if chance(rng, 0.2) else 0.0, 0.16, int(rng.integers(1 << 20)))
    if kind < 0.6:
        colour = one_of(rng, ((0.55, 0.36, 0.2), (0.68, 0.5, 0.32), (0.42, 0.27, 0.16), (0.75, 0.6, 0.42), (0.5, 0.42, 0.36)))
        return Boards(colour, float(rng.uniform(0.07, 0.2)), float(rng.uniform(0.9, 2.0)), float(rng.uniform(0.05, 0.2)), int(rng.integers(1 << 20)))
    carpet = cloth(rng, 0.1)
    return replace(carpet, pattern="plain", nap=0.14)
