"""Laying out a street: what stands on the ground of its cross-section. Everything is drawn from one generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds import furniture, houses, people, plants, vehicles
from wholescene.worlds.places import Place
from wholescene.worlds.section import AHEAD, BEHIND, Layout, Side, begin, ground
from wholescene.worlds.solids import Body, Ellipsoid

Array = NDArray[Any]


def _build_houses(layout: Layout, side: Side) -> None:
    rng, plan, character = layout.rng, layout.plan, layout.character
    if character == "green" and rng.random() < 0.75:
        return
    s = BEHIND - rng.uniform(0, 10)
    if character == "avenue" and rng.random() < 0.35:
        s += 40
    while s < AHEAD:
        length = float(rng.uniform(8, 14) if character == "residential" else rng.uniform(10, 24))
        depth, storeys = float(rng.uniform(8, 11)), int(rng.choice([1, 2, 2, 3]) if character == "residential" else rng.integers(2, 5))
        front = side.line + side.frontage + (rng.uniform(-0.3, 2.0) * min(1.0, side.frontage / 3))
        middle, t = s + length / 2, side.sign * (front + depth / 2)
        gap = rng.uniform(3, 9) if character == "residential" else rng.choice([0.0, 0.0, 3.5, 8.0])
        if character == "avenue":
            gap += rng.uniform(4, 18)
        if not any(plan.crossed(x, t, 1.5) for x in np.linspace(s - 0.5, s + length + 0.5, 7)):
            place = plan.at(middle, t)
            roof = str(rng.choice(["gable", "cross", "hip", "flat"], p=[0.45, 0.25, 0.15, 0.15]))
            layout.bodies += houses.house(rng, place, length, depth, storeys, roof)
            layout.taken.append((middle, t, length / 2 + 0.3, depth / 2 + 0.3))
            if rng.random() < 0.3 and storeys > 1 and side.frontage > 1.5:
                layout.bodies += houses.balconies(rng, place, length, depth, storeys, side.sign)
            if gap > 5 and rng.random() < 0.5:
                spot = s + length + gap / 2
                if layout.take(spot, side.sign * (front + 2.8), 2.0, 3.0) and not plan.crossed(spot, t, 3.0):
                    layout.bodies += houses.garage(rng, plan.at(spot, side.sign * (front + 3.2)))
        if gap > 2 and character != "town" and rng.random() < 0.6:
            _divide(layout, side, s + length + gap / 2, side.frontage + rng.uniform(2, 8))
        s += length + gap


def _divide(layout: Layout, side: Side, s: float, length: float) -> None:
    """A fence or hedge between two properties, away from the street."""
    rng, plan = layout.rng, layout.plan
    t = side.sign * (side.line + 0.3)
    place = plan.at(s, t).turned(side.sign * math.pi / 2)
    if any(plan.crossed(s, side.sign * (side.line + part * length), 0.5) for part in (0.1, 0.5, 1.0)):
        return
    if rng.random() < 0.4:
        layout.bodies += plants.hedge(rng, place, length, rng.uniform(0.5, 1.0), rng.uniform(0.8, 2.2), plants.foliage(rng))
    else:
        kind = str(rng.choice(["slats", "rails", "wall"]))
        layout.bodies += furniture.fence(place, length, rng.uniform(0.8, 1.9), furniture.fence_material(rng, kind), 0.06)


def _enclose(layout: Layout, side: Side) -> None:
    """Fences, walls and hedges along the property line, in pieces that follow the bend."""
    rng, plan = layout.rng, layout.plan
    if layout.character == "town" or (layout.character == "green" and rng.random() < 0.5):
        return
    if layout.character == "green" and rng.random() < 0.45:
        t = side.sign * (plan.road[1] + 0.7)
        for s in np.arange(BEHIND, 70, 4.0):
            if not plan.crossed(s + 2, t * 1.5, 3):
                layout.bodies += furniture.guard_rail(plan.at(float(s), t), 4.02)
        return
    s = BEHIND
    while s < 75:
        stretch = rng.uniform(8, 26)
        kind = str(rng.choice(["slats", "rails", "wall", "brick", "hedge", "none"], p=[0.27, 0.09, 0.22, 0.10, 0.26, 0.06]))
        height = float(rng.uniform(0.6, 1.5) if kind in ("wall", "brick") else rng.uniform(0.8, 1.9))
        material = plants.foliage(rng, 0.0) if kind == "hedge" else furniture.fence_material(rng, kind) if kind != "none" else None
        thick = 0.04 if kind in ("slats", "rails") else 0.13
        width, base = float(rng.uniform(0.7, 1.5)), rng.random() < 0.35
        at = s
        while at < s + stretch and material is not None:
            piece = min(4.0, s + stretch - at)
            t = side.sign * (side.line + (0.15 if kind != "hedge" else width / 2 + 0.1))
            if not any(plan.crossed(x, t, 0.3) for x in (at, at + piece / 2, at + piece)):
                place = plan.at(at, t)
                reach = piece / math.cos(place.yaw) + 0.02
                if kind == "hedge":
                    layout.bodies += plants.hedge(rng, place, reach, width, height, material)
                    if base:
                        layout.bodies += furniture.fence(
                            plan.at(at, side.sign * (side.line + 0.05)), reach, 0.5, furniture.fence_material(rng, "wall"), 0.08
                        )
                else:
                    layout.bodies += furniture.fence(place, reach, height, material, thick)
            at += piece
        s += stretch + (rng.uniform(2.5, 4.5) if rng.random() < 0.7 else 0.0)


def _plant(layout: Layout, side: Side) -> None:
    rng, plan, character = layout.rng, layout.plan, layout.character
    verge = side.find("verge")
    if verge and verge[1] - verge[0] > 1.0 and rng.random() < 0.65:
        t = side.sign * (verge[0] + verge[1]) / 2
        height = rng.uniform(4.5, 9)
        for s in layout.steps(BEHIND, 95, 7, 15):
            if not plan.crossed(s, t, 2.5) and layout.take(s, t, 0.4, 0.4):
                layout.bodies += plants.tree(rng, plan.at(s, t), height * rng.uniform(0.8, 1.2), layout.autumn)
    elif side.find("walk") and character in ("town", "avenue") and rng.random() < 0.4:
        walk = side.find("walk")
        assert walk is not None
        for s in layout.steps(BEHIND, 95, 9, 16):
            t = side.sign * (walk[0] + 0.6)
            if not plan.crossed(s, t, 2.5) and layout.take(s, t, 0.3, 0.3):
                layout.bodies += plants.tree(rng, plan.at(s, t), rng.uniform(4.5, 8), layout.autumn)
    if character != "town":
        _plant_yard(layout, side)
    _plant_back(layout, side)


def _plant_yard(layout: Layout, side: Side) -> None:
    rng, plan = layout.rng, layout.plan
    wild = layout.character == "green"
    if rng.random() < (0.8 if wild else 0.25):
        start = side.line + rng.uniform(0.3, 3.0)
        for depth in (0.0, 3.2) if wild else (0.0,):
            s = BEHIND
            while s < 90:
                length, t = rng.uniform(8, 30), side.sign * (start + depth + rng.uniform(0.8, 1.8))
                if not plan.crossed(s + length / 2, t, length / 2 + 2) and rng.random() < 0.85:
                    layout.bodies += plants.thicket(rng, plan.at(s, t + side.sign * 1.2), length, 2.6, rng.uniform(1.5, 6.5), layout.autumn)
                s += length + rng.uniform(0, 6)
    low, high = (2.5, 7) if not wild else (3, 8)
    for s in layout.steps(BEHIND, 90, low, high):
        t = side.sign * (side.line + rng.uniform(1.0, max(side.frontage, 2.0) + (6 if wild else 0)))
        if plan.crossed(s, t, 2.0):
            continue
        if rng.random() < 0.5 and layout.take(s, t, 0.6, 0.6):
            layout.bodies += plants.tree(rng, plan.at(s, t), rng.uniform(3, 9.5), layout.autumn, bool(rng.random() < 0.2))
        elif layout.take(s, t, 0.8, 0.8):
            layout.bodies += plants.bush(rng, plan.at(s, t), rng.uniform(1.0, 2.6), rng.uniform(0.8, 2.4), layout.autumn)


def _plant_back(layout: Layout, side: Side) -> None:
    """Trees behind the houses and a line of woods or hills far away."""
    rng, plan = layout.rng, layout.plan
    back = side.line + side.frontage + (12 if layout.character != "green" else 8)
    for s in layout.steps(-6, 100, 5, 12):
        t = side.sign * (back + rng.uniform(0, 14))
        if not plan.crossed(s, t, 3) and layout.take(s, t, 1.5, 1.5):
            layout.bodies += plants.tree(rng, plan.at(s, t), rng.uniform(6, 13), layout.autumn, bool(rng.random() < 0.25))
    for s in layout.steps(100, 330, 5, 17):
        t = side.sign * (rng.uniform(8, 60) + 0.1 * s)
        place = plan.at(s, t)
        if rng.random() < 0.35 and layout.character != "green":
            layout.bodies += houses.house(rng, place, rng.uniform(8, 20), rng.uniform(8, 12), int(rng.integers(2, 4)), "gable")
        else:
            layout.bodies += plants.tree(rng, place, rng.uniform(7, 16), layout.autumn)


def _furnish(layout: Layout, side: Side) -> None:
    rng, plan = layout.rng, layout.plan
    edge = side.find("verge") or side.find("walk")
    inner = edge[0] if edge else plan.road[1]
    t = side.sign * (inner + 0.45)
    if rng.random() < 0.8:
        post = furniture.lamp if rng.random() < 0.8 else furniture.mast
        for s in layout.steps(-5, 110, 18, 34):
            if not plan.crossed(s, t, 0.6) and layout.take(s, t, 0.2, 0.2):
                layout.bodies += furniture.lamp(rng, plan.at(s, t), side.sign) if post is furniture.lamp else furniture.mast(rng, plan.at(s, t))
    signs = [c.s + e for c in plan.crossings for e in (c.edges[0] - 1.2, c.edges[-1] + 1.2)] + [float(s) for s in layout.steps(4, 70, 14, 45)]
    for s in signs:
        if rng.random() < 0.75 and not plan.crossed(s, t, 0.3) and layout.take(s, t, 0.2, 0.3):
            place = plan.at(s, t).turned(0.0 if side.sign < 0 or rng.random() < 0.4 else math.pi)
            kind = rng.random()
            lights = kind > 0.86 and any(abs(s - c.s) < 9 for c in plan.crossings)
            make = furniture.traffic_light if lights else furniture.street_name if kind > 0.72 else furniture.sign
            layout.bodies += make(rng, place.turned(rng.normal(0, 0.08)))
    if rng.random() < 0.25:
        for s in layout.steps(2, 55, 2.0, 12.0):
            if not plan.crossed(s, t, 0.3) and layout.take(s, t, 0.15, 0.15):
                layout.bodies += furniture.bollard(rng, plan.at(s, t))


def _park(layout: Layout, side: Side) -> None:
    """Parked vehicles: in the parking strip if there is one, else some at the kerb."""
    rng, plan = layout.rng, layout.plan
    strip = side.find("parking")
    density = rng.uniform(0.5, 1.0) if strip else rng.choice([0.0, 0.3, 0.9], p=[0.2, 0.35, 0.45]) * (layout.character != "green")
    across = bool(strip and strip[1] - strip[0] > 4)
    room = (strip[0] + strip[1]) / 2 if strip else plan.road[1] - 0.85
    for s in layout.steps(-6, 85, 2.7 if across else 5.4, 3.0 if across else 7.0):
        t = side.sign * room
        near_lane = abs(t - layout.lane) < 2.2
        if rng.random() > density or plan.crossed(s, t, 3) or (near_lane and not strip) or plan.crossed(s, t * 1.3, 4):
            continue
        half_length, half_width = (1.0, 2.4) if across else (2.5, 0.95)
        kind = rng.random()
        if kind > 0.93 and not across:
            half_length = 4.6
        if not layout.take(s, t, half_length, half_width):
            continue
        heading = (0.0 if side.sign < 0 or rng.random() < 0.25 else math.pi) + rng.normal(0, 0.02)
        if across:
            heading = side.sign * math.pi / 2 * rng.choice([-1, 1])
        place = plan.at(s, t).turned(heading)
        if half_length > 4:
            make = (vehicles.truck, vehicles.trailer, vehicles.bus)[int(rng.choice(3, p=[0.5, 0.35, 0.15]))]
            layout.bodies += make(rng, place)
        else:
            layout.bodies += vehicles.car(rng, place, bool(kind > 0.83))


def _drive(layout: Layout) -> None:
    """Moving vehicles: ahead in the own lane, towards the camera in the other, and from the side."""
    rng, plan = layout.rng, layout.plan
    right, left = plan.road
    if rng.random() < 0.4:
        s = rng.uniform(10, 48)
        if layout.take(s, layout.lane, 4.0, 1.2):
            place, kind = plan.at(s, layout.lane).turned(rng.normal(0, 0.015)), rng.random()
            make = vehicles.truck if kind > 0.9 else vehicles.bus if kind > 0.82 else people.motorcyclist if kind > 0.74 else None
            layout.bodies += make(rng, place) if make else vehicles.car(rng, place, bool(rng.random() < 0.15))
    for s in layout.steps(9, 100, 14, 60):
        t = left * rng.uniform(0.42, 0.55)
        if left - right > 5.0 and rng.random() < 0.4 and layout.take(s, t, 3.0, 1.05):
            place, kind = plan.at(s, t).turned(math.pi), rng.random()
            make = vehicles.truck if kind > 0.92 else vehicles.bus if kind > 0.88 else people.motorcyclist if kind > 0.82 else None
            layout.bodies += make(rng, place) if make else vehicles.car(rng, place, bool(rng.random() < 0.15))
    for crossing in plan.crossings:
        if rng.random() < 0.3:
            side = -1 if crossing.reach[0] < -100 else 1
            t, s = side * rng.uniform(right * -1 + 4, 20), crossing.s - side * 1.3
            if layout.take(s, t, 1.2, 2.6):
                layout.bodies += vehicles.car(rng, plan.at(s, t).turned(-side * math.pi / 2))


def _people(layout: Layout, side: Side) -> None:
    rng, plan = layout.rng, layout.plan
    walk = side.find("walk")
    crowd = {"residential": 0.5, "town": 0.85, "green": 0.25, "avenue": 0.5}[layout.character]
    if walk and rng.random() < crowd:
        for s in layout.steps(5, 60, 5, 30):
            t = side.sign * rng.uniform(walk[0] + 0.4, walk[1] - 0.3)
            if layout.take(s, t, 0.3, 0.3):
                layout.bodies += people.person(rng, plan.at(s, t).turned(rng.choice([0, math.pi]) + rng.normal(0, 0.3)))
    if rng.random() < 0.4:
        s, t = rng.uniform(7, 45), side.sign * (plan.road[1] - 0.7)
        if layout.take(s, t, 1.0, 0.4):
            rider = people.bicyclist if rng.random() < 0.75 else people.motorcyclist
            layout.bodies += rider(rng, plan.at(s, t).turned(0.0 if side.sign < 0 else math.pi))
    if walk and rng.random() < 0.35:
        s, t = rng.uniform(5, 45), side.sign * (walk[1] - 0.35)
        for i in range(int(rng.integers(1, 5))):
            if not plan.crossed(s + 0.7 * i, t) and layout.take(s + 0.7 * i, t, 0.15, 0.3):
                turned = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.1)
                layout.bodies += vehicles.bicycle(rng, plan.at(s + 0.7 * i, t).turned(turned))
    if walk and rng.random() < 0.22:
        s, t = rng.uniform(5, 45), side.sign * (walk[0] + 0.6)
        if not plan.crossed(s, t) and layout.take(s, t, 0.9, 0.4):
            layout.bodies += vehicles.motorcycle(rng, plan.at(s, t).turned(rng.normal(0, 0.5)))


def _clear(layout: Layout) -> None:
    """Drop what would stand in the way of the camera's car: the first metres of its lane."""

    def in_the_way(body: Body) -> bool:
        low, high = body.shape.bounds()
        return bool(high[0] > -3 and low[0] < 4.5 and high[1] > -1.4 and low[1] < 1.4 and low[2] < 2.6 and body.label_at is None)

    layout.bodies = [body for body in layout.bodies if not in_the_way(body)]


def _hills(layout: Layout) -> list[Body]:
    """Wooded hills on the horizon, sometimes."""
    rng, bodies = layout.rng, []
    if rng.random() < 0.5:
        material = plants.foliage(rng, 0.0)
        for _ in range(int(rng.integers(2, 6))):
            centre = np.array([rng.uniform(350, 420), rng.uniform(-350, 350), -5.0])
            bodies.append(
                Body(Ellipsoid(centre, np.array([60.0, rng.uniform(80, 220), rng.uniform(12, 45)]), rings=12), plants.VEGETATION, material, rank=20)
            )
    return bodies


def lay_out(rng: np.random.Generator, layer: float = 0.1) -> Layout:
    """A whole street.

    Args:
        rng: everything is drawn from it, in a fixed order.
        layer: metres of ground that count as its surface when voxelised.

    Returns:
        The layout; its bodies' first is the ground. The camera's car stands at s = 0 in the lane `lane`, that is at the world's origin.
    """
    layout = begin(rng)
    for side in layout.sides:
        _build_houses(layout, side)
    for side in layout.sides:
        _park(layout, side)
    _drive(layout)
    for step in (_enclose, _furnish, _people, _plant):
        for side in layout.sides:
            step(layout, side)
    layout.bodies += _hills(layout)
    _clear(layout)
    layout.bodies.insert(0, ground(layout, layer))
    return layout


def drive_on(layout: Layout, ahead: list[float], height: float) -> list[Place]:
    """Where a sensor `height` metres above the ground is when the car has driven on along its lane."""
    places = []
    for s in ahead:
        place = layout.plan.at(s, layout.lane)
        places.append(place._replace(z=place.z + height))
    return places
