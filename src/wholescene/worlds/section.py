"""The cross-section of a street: its character, strips, bend and crossings, drawn at random, and the sheet that the rest is laid out on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from wholescene.worlds.pavement import OTHER, PARKING, ROAD, SIDEWALK, TERRAIN, Crossing, Ground, GroundPaint, Plan
from wholescene.worlds.solids import Body

CHARACTERS = ("residential", "town", "green", "avenue")
_SHARES = (0.48, 0.14, 0.22, 0.16)
BEHIND, AHEAD = -14.0, 110.0  # metres along the street between which things stand


@dataclass
class Side:
    """One side of the street, from the carriageway outwards, in distances |t| from the centre line.

    Attributes:
        sign: +1 left, -1 right.
        strips: (role, kind of ground, inner, outer), metres.
        line: |t| of the property line.
        frontage: metres from the property line to the houses.
    """

    sign: int
    strips: list[tuple[str, int, float, float]]
    line: float
    frontage: float

    def find(self, role: str) -> tuple[float, float] | None:
        """(inner, outer) of the first strip of that role."""
        return next(((inner, outer) for name, _, inner, outer in self.strips if name == role), None)


@dataclass
class Layout:
    """A street being laid out.

    Attributes:
        plan: its ground.
        lane: t at which the camera's car drives.
        bodies: what stands there already.
        taken: (s, t, half length, half width) of footprints that others must keep clear of.
    """

    rng: np.random.Generator
    character: str
    plan: Plan
    sides: tuple[Side, Side]
    lane: float
    autumn: float
    bodies: list[Body] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def free(self, s: float, t: float, half_length: float, half_width: float, margin: float = 0.4) -> bool:
        """Whether nobody stands there."""
        return not any(abs(s - a) < half_length + c + margin and abs(t - b) < half_width + d + margin for a, b, c, d in self.taken)

    def take(self, s: float, t: float, half_length: float, half_width: float) -> bool:
        """Claim a footprint if it is free."""
        if not self.free(s, t, half_length, half_width):
            return False
        self.taken.append((s, t, half_length, half_width))
        return True

    def steps(self, start: float, end: float, low: float, high: float) -> Iterator[float]:
        """s from start to end in random steps."""
        s = start + self.rng.uniform(0, low)
        while s < end:
            yield s
            s += self.rng.uniform(low, high)


def _side(rng: np.random.Generator, sign: int, character: str, road: float) -> Side:
    strips: list[tuple[str, int, float, float]] = []
    at = road

    def add(role: str, kind: int, width: float) -> None:
        nonlocal at
        strips.append((role, kind, at, at + width))
        at += width

    walks = {"residential": 0.85, "town": 1.0, "green": 0.4, "avenue": 0.95}[character]
    if rng.random() < {"residential": 0.4, "town": 0.65, "green": 0.05, "avenue": 0.35}[character]:
        add("parking", PARKING, rng.uniform(1.9, 2.4) if rng.random() < 0.85 else rng.uniform(4.5, 5.2))
    if rng.random() < {"residential": 0.25, "town": 0.1, "green": 0.9, "avenue": 0.6}[character]:
        add("verge", TERRAIN, rng.uniform(0.8, 2.5) if character != "green" else rng.uniform(1.5, 4.5))
    if rng.random() < walks:
        add("walk", SIDEWALK, rng.uniform(1.8, 4.2) if character != "town" else rng.uniform(2.5, 5.5))
    line, frontage = (
        at,
        float(rng.uniform(1.2, 7.0) if character == "residential" else rng.uniform(0.0, 0.6) if character == "town" else rng.uniform(5, 14)),
    )
    kind = TERRAIN
    if character == "residential" and rng.random() < 0.5:
        kind = SIDEWALK if rng.random() < 0.85 else OTHER
    if character == "town":
        kind = SIDEWALK
    add("yard", kind, max(frontage + (1.0 if character == "town" else 4.0), 0.5))
    strips.append(("back", TERRAIN if rng.random() < 0.96 else OTHER, at, 400.0))
    return Side(sign, strips, line, frontage)


def _crossings(rng: np.random.Generator, character: str, road: float) -> tuple[Crossing, ...]:
    crossings: list[Crossing] = []
    count = int(rng.choice([0, 1, 2], p=[0.28, 0.5, 0.22])) if character != "green" else int(rng.random() < 0.25)
    for s in np.sort(rng.uniform(8, 60, count)):
        half, walk = rng.uniform(2.4, 4.2), rng.uniform(1.3, 2.4)
        if character == "green":
            edges, surfaces = [-half, half], [ROAD if rng.random() < 0.6 else OTHER]
        else:
            edges, surfaces = [-half - walk, -half, half, half + walk], [SIDEWALK, ROAD, SIDEWALK]
        arms = rng.choice(3)
        reach = ((-400.0, road), (-road, 400.0), (-400.0, 400.0))[arms]
        crossings.append(Crossing(float(s), tuple(float(e) for e in edges), tuple(surfaces), reach))
    return tuple(c for i, c in enumerate(crossings) if i == 0 or c.s - crossings[i - 1].s > 16)


def begin(rng: np.random.Generator) -> Layout:
    """Draw the character, the cross-section, the bend and the crossings."""
    character = str(rng.choice(CHARACTERS, p=_SHARES))
    half = float(
        {"residential": rng.uniform(2.8, 4.3), "town": rng.uniform(3.2, 5.2), "green": rng.uniform(3.2, 5.2), "avenue": rng.uniform(4.0, 8.0)}[
            character
        ]
    )
    right, left = (_side(rng, sign, character, half) for sign in (-1, 1))
    edges = [-outer for _, _, _, outer in reversed(right.strips)] + [-half, half] + [outer for _, _, _, outer in left.strips]
    surfaces = [kind for _, kind, _, _ in reversed(right.strips)] + [ROAD] + [kind for _, kind, _, _ in left.strips]
    lane = -half * rng.uniform(0.3, 0.6)
    bent = rng.random()
    curve = rng.normal(0, 0.0012) if bent < 0.6 else rng.uniform(-0.011, 0.011)
    kerb = float(rng.uniform(0.04, 0.16))
    bank = tuple(rng.uniform(-0.12, 0.3, 2)) if character == "green" else tuple(rng.uniform(-0.02, 0.05, 2))
    plan = Plan(
        offset=-lane,
        slope=math.tan(math.radians(rng.normal(0, 1.6))),
        curve=float(curve),
        rise=float(np.clip(rng.normal(1e-4, 2.2e-4), -1.4e-4, 7e-4))  # a road that falls more leaves the grid
        if rng.random() < 0.6
        else 0.0,
        edges=tuple(float(e) for e in edges),
        surfaces=tuple(surfaces),
        heights=(0.0, 0.02 * float(rng.random()), kerb, kerb * 0.5, kerb + float(rng.uniform(-0.05, 0.06))),
        bank=(float(bank[0]), float(bank[1])),
        bank_from=half + 2.5,
        bumps=float(rng.uniform(0.01, 0.07)),
        phase=(float(rng.uniform(0, 6)), float(rng.uniform(0, 6))),
        marking=float(
            {"residential": rng.choice([-1.0, -1.0, 3.0]), "town": rng.choice([-1.0, 3.0, 6.0])}.get(
                character, rng.choice([0.0, 3.0, 6.0, 9.0, -1.0])
            )
        ),
        border=bool(rng.random() < {"residential": 0.08, "town": 0.15}.get(character, 0.6)),
        crossings=_crossings(rng, character, half),
    )
    autumn = float(rng.choice([0.0, 0.08, 0.45], p=[0.5, 0.35, 0.15]))
    return Layout(rng, character, plan, (right, left), lane, autumn)


def ground(layout: Layout, layer: float) -> Body:
    """The ground as a body, `layer` metres of it, in colours drawn at random."""
    rng = layout.rng
    tone, pave, green = rng.uniform(0.36, 0.58), rng.uniform(0.48, 0.70), rng.uniform(0.30, 0.48)
    paint = GroundPaint(
        layout.plan,
        (tone, tone * rng.uniform(0.97, 1.0), tone * rng.uniform(0.95, 1.03)),
        (pave, pave * rng.uniform(0.95, 1.0), pave * rng.uniform(0.88, 1.0)),
        (green * rng.uniform(0.75, 1.0), green * 1.08, green * rng.uniform(0.35, 0.6)),
        (green * 1.35, green * 1.25, green * 0.75),
        (tone * 1.2, tone * 1.12, tone),
        float(rng.random()),
        float(rng.choice([0.0, 0.25, 0.4, 0.8])),
        int(rng.integers(1 << 20)),
    )
    return Body(Ground(layout.plan, layer), None, paint, rank=0, label_at=layout.plan.labels)
