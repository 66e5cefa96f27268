"""Vehicles: cars, trucks, buses, bicycles, motorcycles. Each stands at a place and looks along its heading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Plain, Surface, linear
from wholescene.worlds.places import Place
from wholescene.worlds.solids import Body, Box, Cylinder, Prism, upright
from wholescene.worlds.textures import noise

Array = NDArray[Any]
CAR, BICYCLE, MOTORCYCLE, TRUCK, OTHER_VEHICLE = 1, 2, 3, 4, 5
_RANK = 40
_RUBBER = Plain((0.09, 0.09, 0.09), 0.1, 1.0)
_RIM = Plain((0.62, 0.62, 0.64), 0.15, 0.6, 0.2)
_DARK = Plain((0.07, 0.07, 0.08), 0.1, 2.0)
_ACROSS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # local z of a wheel lies along the axle


def paint_colour(rng: np.random.Generator) -> Colour:
    """What cars are painted in: mostly greys, some colours."""
    if rng.random() < 0.66:
        grey = float(rng.choice([0.05, 0.12, 0.3, 0.5, 0.66, 0.86]))
        return grey, grey, min(1.0, grey * rng.uniform(1.0, 1.08))
    choices = [
        (0.45, 0.05, 0.05),
        (0.08, 0.12, 0.38),
        (0.10, 0.22, 0.45),
        (0.07, 0.22, 0.14),
        (0.55, 0.45, 0.2),
        (0.6, 0.12, 0.08),
        (0.45, 0.38, 0.3),
    ]
    colour = choices[int(rng.integers(len(choices)))]
    return float(colour[0]), float(colour[1]), float(colour[2])


@dataclass(frozen=True)
class Coachwork:
    """The lower body of a vehicle: paint, sills, door lines, lights and number plates.

    Attributes:
        colour: paint.
        half: half length and half width, metres.
        low, high: local z of the sill and of the waistline, metres.
        wheels, arch: local x of the wheels and radius of the arches, metres.
    """

    colour: Colour
    half: tuple[float, float]
    low: float
    high: float
    wheels: tuple[float, ...] = ()
    arch: float = 0.0

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        x, y, z = surface.local.T
        albedo = np.broadcast_to(linear(self.colour), (len(x), 3)) * (1 + 0.02 * noise(x, z + y, 4.0, surface.footprint, 1.3)[:, None])
        gloss = np.full(len(x), 0.28, np.float32)
        side, tip = np.abs(surface.local_normals[:, 1]) > 0.6, np.abs(surface.local_normals[:, 0]) > 0.55
        up = (z - self.low) / (self.high - self.low)
        seam = side & (
            (np.abs(x - 0.12 * self.half[0]) < 0.012) | (np.abs(x + 0.38 * self.half[0]) < 0.012) | (np.abs(x - 0.52 * self.half[0]) < 0.012)
        )
        albedo[seam | (side & (np.abs(up - 0.55) < 0.02))] *= np.float32(0.35)
        sill = up < 0.13
        for wheel in self.wheels:
            sill |= side & (np.hypot(x - wheel, z - 0.3) < self.arch)
        lamp = tip & (np.abs(y) > 0.64 * self.half[1]) & (up > 0.58) & (up < 0.8)
        albedo[lamp & (x > 0)] = linear((0.86, 0.88, 0.9))
        albedo[lamp & (x < 0)] = linear((0.62, 0.04, 0.04))
        grille = tip & (x > 0) & (np.abs(y) < 0.5 * self.half[1]) & (up > 0.3) & (up < 0.55)
        albedo[grille | sill] = linear((0.06, 0.06, 0.06))
        plate = tip & (np.abs(y) < 0.26) & (up > 0.3) & (up < 0.45)
        albedo[plate] = linear((0.86, 0.86, 0.84))
        gloss[sill | grille | plate] = 0.03
        return albedo, gloss


@dataclass(frozen=True)
class Cabin:
    """The glazed upper part of a vehicle: roof in paint, windows with pillars.

    Attributes:
        colour: roof and pillars.
        bottom, top: local z of the windows' edges, metres.
        pillars: local x of the pillars at the sides, metres.
        tint: brightness of the glass.
        roofed: False for glass up to the top (a windscreen band).
    """

    colour: Colour
    bottom: float
    top: float
    pillars: tuple[float, ...]
    tint: float = 0.03
    width: float = 0.06

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        x, _, z = surface.local.T
        albedo = np.broadcast_to(linear(self.colour), (len(x), 3)).copy()
        side = np.abs(surface.local_normals[:, 1]) > 0.6
        glass = (z > self.bottom) & (z < self.top) & (surface.local_normals[:, 2] < 0.9)
        for pillar in self.pillars:
            glass &= ~(side & (np.abs(x - pillar) < self.width))
        albedo[glass] = self.tint * np.array([0.9, 1.0, 1.0], np.float32)
        return albedo, np.where(glass, np.float32(0.5), np.float32(0.4))


def _wheels(place: Place, spots: tuple[float, ...], half_width: float, radius: float, label: int, rank: int = _RANK) -> list[Body]:
    bodies, turn = [], upright(place.yaw) @ _ACROSS
    for ahead in spots:
        for side in (-1, 1):
            hub = place.point(ahead, side * (half_width - 0.1), radius)
            bodies.append(Body(Cylinder(hub, radius, 0.11, turn, sectors=14), label, _RUBBER, rank=rank))
            rim = place.point(ahead, side * (half_width - 0.02), radius)
            bodies.append(Body(Cylinder(rim, radius * 0.62, 0.035, turn, sectors=12), label, _RIM, rank=rank))
    return bodies


def car(rng: np.random.Generator, place: Place, van: bool = False) -> list[Body]:
    """A passenger car (hatchback, saloon, estate or van), about 3.6 to 4.9 m long."""
    length, width = (rng.uniform(4.6, 5.3), rng.uniform(1.85, 2.0)) if van else (rng.uniform(3.6, 4.8), rng.uniform(1.62, 1.82))
    height = rng.uniform(1.85, 2.3) if van else rng.uniform(1.38, 1.58)
    colour, turn = paint_colour(rng), upright(place.yaw)
    a, w, low, waist = length / 2, width / 2, 0.2, height * (0.5 if van else rng.uniform(0.56, 0.62))
    nose = waist * rng.uniform(0.78, 0.92)
    tail = waist * rng.uniform(0.92, 1.0)
    body = [
        (-a + 0.08, low),
        (a - 0.12, low),
        (a, low + 0.2),
        (a - 0.04, nose - 0.1),
        (a - 0.22, nose),
        (0.30 * a, waist),
        (-a + 0.2, tail),
        (-a, tail - 0.16),
        (-a + 0.02, low + 0.2),
    ]
    shape = Prism(place.point(0, 0, 0), np.array(body), w + 0.02, turn, -0.02)
    bodies = [Body(shape, CAR, Coachwork(colour, (a, w), low, waist, (0.62 * a, -0.60 * a), 0.39), rank=_RANK, softness=0.22)]
    saloon = a > 2.15 and not van and rng.random() < 0.6
    front = 0.30 * a if not van else 0.62 * a
    windscreen = rng.uniform(0.5, 0.68) * min(1.0, a / 2.1)
    back = -0.55 * a if saloon else -a + 0.12
    rear = 0.35 if saloon else rng.uniform(0.15, 0.4)
    roof = [
        (back, waist - 0.05),
        (front, waist - 0.05),
        (front - windscreen * 0.8, height - 0.06),
        (front - windscreen - 0.2, height),
        (back + rear + 0.25, height),
        (back + rear, height - 0.06),
    ]
    hold = max(0.05, (w - 0.02) + 0.22 * waist)
    cabin = Prism(place.point(0, 0, 0), np.array(roof), hold, turn, -0.22)
    pillars = (front - windscreen * 0.55, -0.12 * a, back + rear * 0.5 + 0.28)
    bodies.append(Body(cabin, CAR, Cabin(colour, waist + 0.02, height - 0.13, pillars, float(rng.uniform(0.01, 0.05))), rank=_RANK, softness=0.15))
    radius = rng.uniform(0.28, 0.33)
    bodies += _wheels(place, (0.62 * a, -0.60 * a), w + 0.03, radius, CAR)
    for side in (-1, 1):
        mirror = Box(place.point(front - 0.15, side * (w + 0.08), waist + 0.06), np.array([0.06, 0.1, 0.07]), turn)
        bodies.append(Body(mirror, CAR, Plain(colour, 0.02, 1.0, 0.3), rank=_RANK))
    return bodies


def truck(rng: np.random.Generator, place: Place) -> list[Body]:
    """A lorry: cab, load, wheels; 6 to 9 m long."""
    length, width, height = rng.uniform(6, 9), 2.3, rng.uniform(2.8, 3.6)
    turn, colour = upright(place.yaw), paint_colour(rng)
    load = (0.85, 0.85, 0.83) if rng.random() < 0.6 else paint_colour(rng)
    a, w = length / 2, width / 2
    cab = [(a - 1.9, 0.5), (a, 0.5), (a, 1.5), (a - 0.25, 2.45), (a - 1.9, 2.5)]
    bodies = [
        Body(
            Prism(place.point(0, 0, 0), np.array(cab), w - 0.05, turn),
            TRUCK,
            Cabin(colour, 1.45, 2.3, (a - 1.2, a - 1.8), 0.03, 0.3),
            rank=_RANK,
            softness=0.1,
        ),
        Body(
            Box(place.point(-1.05, 0, (height + 0.95) / 2), np.array([a - 1.05, w, (height - 0.95) / 2]), turn),
            TRUCK,
            Plain(load, 0.07, 5.0, 0.05),
            rank=_RANK,
        ),
        Body(Box(place.point(0, 0, 0.72), np.array([a - 0.1, w - 0.45, 0.25]), turn), TRUCK, _DARK, rank=_RANK),
    ]
    return bodies + _wheels(place, (a - 1.1, -a + 1.2, -a + 2.3), w, 0.48, TRUCK)


def bus(rng: np.random.Generator, place: Place) -> list[Body]:
    """A bus (class other-vehicle): a long box with a band of windows."""
    length, width, height = rng.uniform(9, 12), 2.5, rng.uniform(2.9, 3.2)
    turn, colour = upright(place.yaw), paint_colour(rng)
    a, w = length / 2, width / 2
    pillars = tuple(np.arange(-a + 0.3, a, 1.6).tolist())
    hull = [(-a, 0.35), (a, 0.35), (a, height - 0.3), (a - 0.2, height), (-a + 0.1, height), (-a, height - 0.15)]
    body = Body(
        Prism(place.point(0, 0, 0), np.array(hull), w, turn), OTHER_VEHICLE, Cabin(colour, 1.25, 2.45, pillars, 0.03, 0.07), rank=_RANK, softness=0.05
    )
    return [body, *_wheels(place, (a - 2.3, -a + 2.8), w, 0.5, OTHER_VEHICLE)]


def trailer(rng: np.random.Generator, place: Place) -> list[Body]:
    """A trailer or caravan without its car (class other-vehicle)."""
    caravan = rng.random() < 0.5
    length, height = (rng.uniform(4, 5.5), 2.3) if caravan else (rng.uniform(2.2, 3.2), rng.uniform(0.9, 1.7))
    turn, a = upright(place.yaw), length / 2
    material: Any = Cabin((0.88, 0.88, 0.85), 1.2, 1.8, (-a, 0.0, a), 0.04, 0.5) if caravan else Plain((0.6, 0.45, 0.1), 0.15, 3.0)
    hull = [(-a, 0.4), (a, 0.4), (a - 0.15, height - 0.3), (a - 0.5, height), (-a + 0.2, height), (-a, height - 0.3)]
    body = Body(Prism(place.point(0, 0, 0), np.array(hull), 1.0, turn), OTHER_VEHICLE, material, rank=_RANK)
    bar = Body(Cylinder.between(place.point(a, 0, 0.45), place.point(a + 1.0, 0, 0.45), 0.05), OTHER_VEHICLE, _DARK, thin=True, rank=_RANK)
    return [body, bar, *_wheels(place, (0.0,), 1.0, 0.3, OTHER_VEHICLE)]


def bicycle(rng: np.random.Generator, place: Place, label: int = BICYCLE, rank: int = 55) -> list[Body]:
    """A bicycle of thin tubes and two wheels."""
    tubes = Plain(paint_colour(rng), 0.05, 1.0, 0.2)
    turn = upright(place.yaw) @ _ACROSS
    bodies = []
    for ahead in (-0.52, 0.52):
        bodies.append(Body(Cylinder(place.point(ahead, 0, 0.33), 0.33, 0.018, turn, sectors=14), label, Spokes(), thin=True, rank=rank))
    joints = {"rear": (-0.52, 0.33), "crank": (-0.08, 0.3), "seat": (-0.22, 0.88), "head": (0.38, 0.85), "front": (0.52, 0.33), "grip": (0.36, 1.0)}
    pairs = [("rear", "crank"), ("rear", "seat"), ("crank", "seat"), ("crank", "head"), ("seat", "head"), ("front", "grip")]
    for a, b in pairs:
        start, end = (place.point(joints[j][0], 0, joints[j][1]) for j in (a, b))
        bodies.append(Body(Cylinder.between(start, end, 0.022, 1.0, 5), label, tubes, thin=True, rank=rank))
    bar = Cylinder.between(place.point(0.36, -0.28, 1.0), place.point(0.36, 0.28, 1.0), 0.02, 1.0, 5)
    saddle = Box(place.point(-0.24, 0, 0.92), np.array([0.13, 0.07, 0.035]), upright(place.yaw))
    return [*bodies, Body(bar, label, _DARK, thin=True, rank=rank), Body(saddle, label, _DARK, thin=True, rank=rank)]


@dataclass(frozen=True)
class Spokes:
    """A wheel seen through: a dark tyre, and a bright or dark inside of spokes."""

    def paint(self, surface: Surface) -> tuple[Array, Array | float]:
        """See `Material`."""
        x, y = surface.local[:, 0], surface.local[:, 1]
        albedo = np.full((len(x), 3), 0.01, np.float32)
        inside = np.hypot(x, y) < 0.29
        ray = (np.arctan2(y, x) * (12 / math.pi)) % 1.0 < 0.3
        albedo[inside] = 0.12
        albedo[inside & ray] = 0.35
        return albedo, 0.02


def motorcycle(rng: np.random.Generator, place: Place, label: int = MOTORCYCLE, rank: int = 55) -> list[Body]:
    """A motorcycle or scooter."""
    colour = paint_colour(rng)
    skin, turn, flat = Plain(colour, 0.05, 1.0, 0.35), upright(place.yaw) @ _ACROSS, upright(place.yaw)
    bodies = [Body(Cylinder(place.point(x, 0, 0.31), 0.31, 0.07, turn, sectors=12), label, _RUBBER, rank=rank) for x in (-0.68, 0.70)]
    hull = [(-0.55, 0.35), (0.35, 0.3), (0.5, 0.75), (0.15, 0.95), (-0.35, 0.78), (-0.85, 0.86), (-0.9, 0.75)]
    convex = [hull[0], hull[1], hull[2], hull[3], (-0.8, 0.85), (-0.85, 0.7)]
    bodies.append(Body(Prism(place.point(0, 0, 0), np.array(convex), 0.17, flat), label, skin, rank=rank, softness=0.3))
    bodies.append(Body(Box(place.point(-0.35, 0, 0.88), np.array([0.4, 0.13, 0.06]), flat), label, _DARK, rank=rank))
    bodies.append(Body(Cylinder.between(place.point(0.7, 0, 0.31), place.point(0.42, 0, 1.05), 0.05, 1.0, 6), label, _RIM, thin=True, rank=rank))
    bodies.append(
        Body(Cylinder.between(place.point(0.42, -0.36, 1.05), place.point(0.42, 0.36, 1.05), 0.025, 1.0, 5), label, _DARK, thin=True, rank=rank)
    )
    return bodies
