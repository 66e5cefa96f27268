"""Plants: trees of every habit, bushes, hedges, tufts. Their truth are solids; in pictures loose leaves roughen the outline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.worlds.materials import Colour, Leaves, Plain
from wholescene.worlds.places import Place
from wholescene.worlds.solids import Body, Box, Cylinder, Ellipsoid, Shape, cross, upright

Array = NDArray[Any]
VEGETATION, TRUNK = 15, 16
_RANK, _TRUNK_RANK = 20, 50
_MOST_LEAVES, _NEAR = 1100, 14.0  # leaves of a solid; three times as many within this many metres


def foliage(rng: np.random.Generator, autumn: float = 0.0) -> Leaves:
    """Leaf colours of one plant; `autumn` 0..1 turns some of them yellow or red."""
    hue = rng.uniform(0.0, 1.0)
    value = rng.uniform(0.26, 0.46)
    colour: Colour = (value * (0.62 + 0.3 * hue), value, value * rng.uniform(0.25, 0.6))
    young: Colour = (value * 1.45 * (0.75 + 0.35 * hue), value * 1.5, value * 0.6)
    if rng.random() < autumn:
        colour, young = (value * 1.25, value * 0.85, value * 0.3), (value * 2.0, value * 1.35, value * 0.4)
    return Leaves(colour, young, float(rng.uniform(0.3, 0.6)))


def leafy(rng: np.random.Generator, shape: Shape, material: Leaves, size: float, cover: float = 1.0, rank: int = _RANK) -> Body:
    """A solid of vegetation with loose leaves on its surface, as many as cover it, `size` metres each."""
    mesh = shape.mesh()
    corners = mesh.vertices[mesh.triangles]
    across = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.sqrt(np.einsum("nc,nc->n", across, across))
    most = _MOST_LEAVES * (3 if 0 < shape.centre[0] < _NEAR and abs(shape.centre[1]) < _NEAR else 1)
    size = max(size, math.sqrt(0.8 * cover * area.sum() / most))
    count = max(int(0.8 * cover * area.sum() / size**2), 6)
    which = np.minimum(np.searchsorted(np.cumsum(area), rng.random(count) * area.sum()), len(area) - 1)
    root, part = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - part), root * part], axis=1)
    spots = np.einsum("nk,nkc->nc", weights, corners[which])
    normals = np.einsum("nk,nkc->nc", weights, mesh.normals[mesh.triangles[which]])
    spots = spots + normals * (size * rng.uniform(-0.3, 1.1, (count, 1)))
    spread = size * rng.uniform(0.6, 1.5, (count, 1, 1))
    leaves = spots[:, None] + spread * rng.uniform(-0.75, 0.75, (count, 3, 3))
    bent = normals + 0.75 * rng.standard_normal((count, 3))
    bent /= np.sqrt(np.einsum("nc,nc->n", bent, bent))[:, None]
    return Body(shape, VEGETATION, material, rank=rank, leaves=leaves, leaf_normals=bent, skin=mesh)


def _leaf_size(place: Place) -> float:
    """Leaves as large as they must be to be seen from the origin: fewer of them far away, and where no camera looks."""
    if place.x < -2 or abs(place.y) > 1.3 * place.x + 7:
        return 0.5
    return float(np.clip(0.007 * math.hypot(place.x, place.y), 0.09, 1.2))


def tree(rng: np.random.Generator, place: Place, height: float, autumn: float = 0.0, conifer: bool = False) -> list[Body]:
    """A tree `height` metres tall: a trunk and clumps of ellipsoids, or stacked cones."""
    material, size = foliage(rng, autumn), _leaf_size(place)
    tone = rng.uniform(0.22, 0.42)
    bark = Plain((tone, tone * 0.85, tone * 0.7), 0.3, 1.5)
    radius = float(np.clip(0.028 * height * rng.uniform(0.7, 1.4), 0.07, 0.4))
    clear = float(rng.uniform(0.06, 0.12) if conifer else rng.uniform(0.22, 0.38)) * height
    foot = place.point(0, 0, -0.1)
    lean = np.array([*(rng.normal(0, 0.03, 2) * height), 0.0])
    top = place.point(0, 0, clear + 0.35 * (height - clear)) + lean
    bodies = [Body(Cylinder.between(foot, top, radius, 0.6, 7), TRUNK, bark, thin=True, rank=_TRUNK_RANK)]
    if conifer:
        layers, wide = int(rng.integers(3, 6)), height * rng.uniform(0.16, 0.26)
        for i in range(layers):
            low, tall = clear + (height - clear) * i / (layers + 0.6), (height - clear) * 1.5 / layers
            cone = Cylinder(place.point(0, 0, low + tall / 2), wide * (1 - i / (layers + 0.5)), tall / 2, top=0.12, sectors=9)
            bodies.append(leafy(rng, cone, material, size))
        return bodies
    spread = height * rng.uniform(0.2, 0.36)
    middle, tall = (clear + height) / 2, (height - clear) / 2
    away = math.hypot(place.x, place.y)
    count = int(rng.integers(7, 13)) if away < 35 else int(rng.integers(5, 8)) if away < 70 else 3
    for i in range(count):
        turn, out = 2.4 * i + rng.uniform(0, 1.2), spread * rng.uniform(0.25, 0.75) * (i > 0)
        up = middle + tall * rng.uniform(-0.6, 0.62) * (i > 0)
        round_ = spread * rng.uniform(0.30, 0.58) * (1.5 if i == 0 else 1.0)
        radii = np.array([round_, round_ * rng.uniform(0.8, 1.2), min(tall, round_ * rng.uniform(0.7, 1.15)) * (1.2 if i == 0 else 1.0)])
        centre = place.point(out * math.cos(turn), out * math.sin(turn), up) + lean
        bodies.append(leafy(rng, Ellipsoid(centre, radii, upright(rng.uniform(0, math.pi)), 5), material, size))
    for _ in range(int(rng.integers(1, 4))):
        turn = rng.uniform(0, 2 * math.pi)
        start = place.point(0, 0, clear * rng.uniform(0.8, 1.1)) + lean * 0.6
        end = place.point(0.5 * spread * math.cos(turn), 0.5 * spread * math.sin(turn), middle) + lean
        bodies.append(Body(Cylinder.between(start, end, radius * 0.45, 0.5, 5), TRUNK, bark, thin=True, rank=_TRUNK_RANK))
    return bodies


def bush(rng: np.random.Generator, place: Place, width: float, height: float, autumn: float = 0.0) -> list[Body]:
    """A bush of a few clumps."""
    material, size = foliage(rng, autumn), min(_leaf_size(place), 0.5)
    bodies = []
    for _ in range(int(rng.integers(2, 5))):
        radii = np.array([width * rng.uniform(0.3, 0.55), width * rng.uniform(0.3, 0.55), height * rng.uniform(0.4, 0.6)])
        ahead, left = rng.uniform(-0.35, 0.35, 2) * width
        bodies.append(leafy(rng, Ellipsoid(place.point(ahead, left, radii[2] * 0.8), radii, upright(rng.uniform(0, 3)), 5), material, size))
    return bodies


def hedge(rng: np.random.Generator, place: Place, length: float, width: float, height: float, material: Leaves) -> list[Body]:
    """A clipped hedge along the place's heading, starting there."""
    centre = place.point(length / 2, 0, height / 2 - 0.1)
    box = Box(centre, np.array([length / 2, width / 2, height / 2 + 0.1]), upright(place.yaw))
    return [leafy(rng, box, material, min(_leaf_size(place), 0.35), 1.2)]


def thicket(rng: np.random.Generator, place: Place, length: float, depth: float, height: float, autumn: float = 0.0) -> list[Body]:
    """Wild growth along a side: overlapping clumps from the ground up."""
    bodies, along_ = [], 0.0
    material = foliage(rng, autumn)
    while along_ < length:
        round_ = rng.uniform(0.6, 1.3) * depth / 2
        tall = height * rng.uniform(0.35, 1.1)
        centre = place.point(along_, rng.uniform(-0.2, 0.2) * depth, tall * 0.42)
        spot = Place(float(centre[0]), float(centre[1]), float(centre[2]), place.yaw)
        if rng.random() < 0.3:
            material = foliage(rng, autumn)
        for _ in range(int(rng.integers(0, 3)) if math.hypot(spot.x, spot.y) < 50 else 0):
            knob, ahead = round_ * rng.uniform(0.35, 0.65), rng.uniform(-0.8, 0.8) * round_
            top = place.point(along_ + ahead, rng.uniform(-0.5, 0.5) * depth, tall * rng.uniform(0.35, 1.0))
            bodies.append(leafy(rng, Ellipsoid(top, np.array([knob, knob, knob * rng.uniform(0.8, 1.4)]), rings=4), material, _leaf_size(spot)))
        radii = np.array([round_ * rng.uniform(0.8, 1.3), round_, tall * 0.58])
        bodies.append(leafy(rng, Ellipsoid(centre, radii, upright(rng.uniform(0, 3)), 5), material, _leaf_size(spot), 0.9))
        along_ += round_ * rng.uniform(0.9, 1.6)
    return bodies
