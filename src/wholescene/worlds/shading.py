"""Light, sky and the picture: what a camera sees of a world.

One sun with cast shadows, a sky that lights from above, the ground's own light from below, nearby surfaces that shut the sky out, haze with
distance, then a camera: exposure, white balance, a response curve, blur and noise. All in linear light until the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.worlds.casting import Caster, Hits
from wholescene.worlds.materials import Material, Surface
from wholescene.worlds.solids import Body
from wholescene.worlds.textures import noise

Array = NDArray[Any]


class Response(Protocol):
    """What a camera makes of light: see the fields of that name in `Light`."""

    @property
    def exposure(self) -> float: ...
    @property
    def balance(self) -> Array: ...
    @property
    def gamma(self) -> float: ...
    @property
    def contrast(self) -> float: ...
    @property
    def blur(self) -> float: ...
    @property
    def noise(self) -> float: ...


@dataclass(frozen=True)
class Light:
    """Weather and camera response, in linear light relative to a white surface in full sun.

    Attributes:
        sun: (3,) unit vector towards the sun.
        sunlight: (3,) colour and strength of the sun; near zero under cloud.
        zenith, horizon: (3,) sky colours, both as seen and as light.
        bounce: (3,) light from below.
        haze: share of light lost for each metre.
        clouds: 0 clear .. 1 covered.
        drift: (2,) where in the cloud tile the sky is.
        exposure: mean linear light of the picture below the horizon that the camera aims at.
        balance: (3,) white balance gains.
        gamma: exponent of the response is 1 / gamma.
        contrast: 0 none .. 1 strong S-shaped response.
        blur: share of each pixel that leaks to its four neighbours.
        noise: deviation of sensor noise, in grey levels of 255.
    """

    sun: Array
    sunlight: Array
    zenith: Array
    horizon: Array
    bounce: Array
    haze: float
    clouds: float
    drift: Array
    exposure: float
    balance: Array
    gamma: float
    contrast: float
    blur: float
    noise: float


def daylight(rng: np.random.Generator) -> Light:
    """Weather, hour and camera response of one picture, drawn at random."""
    height = np.radians(rng.uniform(14, 62))
    azimuth = rng.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    covered = rng.random() < 0.27
    strength = rng.uniform(0.0, 0.12) if covered else rng.uniform(0.6, 1.0)
    warm = np.clip(1.2 - np.sin(height), 0, 1)
    sunlight = strength * np.array([1.0, 1.0 - 0.10 * warm, 1.0 - 0.28 * warm])
    if covered:
        grey = rng.uniform(0.45, 0.75)
        zenith, horizon = grey * np.array([0.93, 0.97, 1.03]), grey * np.array([1.1, 1.1, 1.1])
    else:
        depth = rng.uniform(0.25, 1.0)
        zenith = np.array([0.55, 0.66, 0.8]) * (1 - depth) + np.array([0.10, 0.24, 0.62]) * depth
        horizon = np.array([0.75, 0.86, 0.95]) * rng.uniform(0.75, 1.15)
    ambient = rng.uniform(0.55, 1.0)
    return Light(
        sun=sun,
        sunlight=sunlight,
        zenith=zenith,
        horizon=horizon,
        bounce=ambient * rng.uniform(0.06, 0.14) * np.array([1.0, 0.97, 0.9]),
        haze=float(rng.choice([0.0006, 0.0015, 0.004], p=[0.5, 0.35, 0.15])),
        clouds=float(0.75 * rng.beta(1.0, 1.7)) if not covered else 1.0,
        drift=rng.uniform(0, 400, 2),
        exposure=float(rng.uniform(0.13, 0.27)),
        balance=np.array([rng.uniform(0.93, 1.08), 1.0, rng.uniform(0.93, 1.1)]),
        gamma=float(rng.uniform(1.9, 2.3)),
        contrast=float(rng.uniform(0.0, 0.55)),
        blur=float(rng.uniform(0.0, 0.12)),
        noise=float(rng.uniform(0.5, 2.5)),
    )


def sky(light: Light, directions: Array, detailed: bool = True) -> Array:
    """(N, 3) float32 sky seen along unit directions (N, 3); clouds and the sun's glow only where `detailed`."""
    up = np.clip(directions[:, 2], 0, 1).astype(np.float32)
    share = np.power(up, np.float32(0.55))[:, None]
    colour = (light.horizon * (1 - share) + light.zenith * share).astype(np.float32)
    if not detailed:
        return colour
    reach = 300.0 / np.maximum(up + 0.06, 0.03)
    puff = noise(directions[:, 0] * reach + light.drift[0] * 10, directions[:, 1] * reach + light.drift[1] * 10, 5200.0, 0.0, 1.25)
    cover = np.clip((puff - 1.6 + 2.6 * light.clouds) * 0.8, 0, 1)[:, None] * np.float32(0.85)
    white = (light.horizon * 0.55 + 0.5 * (0.2 + light.sunlight)) * (1.0 + 0.06 * puff[:, None])
    colour = colour * (1 - cover) + white.astype(np.float32) * cover
    glow = np.clip(directions @ light.sun.astype(np.float32), 0, 1)
    return colour + (light.sunlight * 1.0).astype(np.float32) * (0.35 * glow**12 + 4.0 * glow**900)[:, None]


def _surface(hits: Hits, rows: Array, centres: Array, rotations: Array, pixel_angle: float) -> Surface:
    body = hits.body[rows]
    points, normals, turn = hits.points[rows], hits.normals[rows], rotations[body]
    local = np.einsum("nij,ni->nj", turn, points - centres[body])
    return Surface(
        points,
        local,
        normals,
        np.einsum("nij,ni->nj", turn, normals),
        body,
        hits.triangle[rows],
        hits.loose[rows],
        hits.distance[rows] * np.float32(1.4 * pixel_angle),
    )


def paint(bodies: Sequence[Body], hits: Hits, pixel_angle: float) -> tuple[Array, Array]:
    """Albedo (N, 3) and gloss (N,) of everything hit; one call for each material that is seen."""
    numbers: dict[int, int] = {}
    materials: list[Material] = []
    for body in bodies:
        if id(body.material) not in numbers:
            numbers[id(body.material)] = len(materials)
            materials.append(body.material)
    of_body = np.array([numbers[id(body.material)] for body in bodies])
    centres = np.array([body.shape.centre for body in bodies], np.float32)
    rotations = np.array([body.shape.rotation for body in bodies], np.float32)
    which = of_body[hits.body]
    order = np.argsort(which, kind="stable")
    albedo, gloss = np.empty((len(which), 3), np.float32), np.zeros(len(which), np.float32)
    seen, starts = np.unique(which[order], return_index=True)
    for number, rows in zip(seen, np.split(order, starts[1:]), strict=True):
        albedo[rows], gloss[rows] = materials[number].paint(_surface(hits, rows, centres, rotations, pixel_angle))
    return albedo, gloss


def openness(caster: Caster, hits: Hits, size: tuple[int, int], rng: np.random.Generator, rays: int = 4, reach: float = 1.8) -> Array:
    """(N,) float32, how much of the hemisphere above each point is free within `reach` metres, from a few random rays.

    Rays start at one pixel of each block of 2 x 2; the others take over its value, evened out among neighbouring blocks of the same face.

    Args:
        size: (columns, rows) of the rays that the hits stem from, row by row.
    """
    columns, rows = size
    v, u = np.divmod(hits.ray, columns)
    some = np.flatnonzero((v % 2 == 0) & (u % 2 == 0) & (hits.distance < 70))
    normals = hits.normals[some]
    origins = hits.points[some] + 0.02 * normals
    free = np.zeros(len(some), np.float32)
    for _ in range(rays):
        directions = rng.standard_normal((len(some), 3), dtype=np.float32)
        directions /= np.sqrt(np.einsum("nc,nc->n", directions, directions))[:, None]
        free += ~caster.blocked(origins, directions + normals, reach)  # cosine-weighted about the normal
    blocks = np.ones(((rows + 1) // 2, (columns + 1) // 2), np.float32)
    faces = np.full(blocks.shape, -1, np.int32)
    blocks[v[some] // 2, u[some] // 2] = free / rays
    facing = np.argmax(np.abs(normals), axis=1).astype(np.int32)
    faces[v[some] // 2, u[some] // 2] = hits.body[some] * 3 + facing
    for step in (1, 2):
        blocks = evened(blocks, faces, step)
    return blocks[v // 2, u // 2]


def evened(values: Array, faces: Array, step: int) -> Array:
    """Means over 3 x 3 cells `step` apart, of those that lie on the same face (Dammertz et al. 2010's a-trous filter with a hard edge test)."""
    rows, columns = values.shape
    wide, marks = np.pad(values, step), np.pad(faces, step, constant_values=-2)
    total, count = np.zeros_like(values), np.zeros_like(values)
    for i in range(3):
        for j in range(3):
            here = (slice(i * step, i * step + rows), slice(j * step, j * step + columns))
            same = marks[here] == faces
            total += wide[here] * same
            count += same
    return total / count


def lit(light: Light, hits: Hits, towards: Array, albedo: Array, gloss: Array, shadow: Array, open_: Array) -> Array:
    """(N, 3) float32 light that leaves the points hit towards the camera.

    Args:
        towards: (N, 3) unit viewing directions, from the camera.
        shadow: (N,) bool, whether the sun is hidden.
        open_: (N,) share of the sky that nearby things leave free.
    """
    normals = hits.normals
    facing = np.clip(normals @ light.sun.astype(np.float32), 0, 1) * ~shadow
    up = (0.5 + 0.5 * normals[:, 2])[:, None]
    dome = (0.6 * light.zenith + 0.4 * light.horizon).astype(np.float32) * np.float32(0.42)
    falling = facing[:, None] * light.sunlight.astype(np.float32) + open_[:, None] * (dome * up + light.bounce.astype(np.float32) * (1 - up))
    leaving = albedo * falling
    shiny = np.flatnonzero(gloss > 0.015)
    if len(shiny):
        view, normal = towards[shiny], normals[shiny]
        cosine = -np.einsum("nc,nc->n", view, normal)
        mirrored = view + 2 * cosine[:, None] * normal
        share = gloss[shiny] * (0.25 + 0.75 * np.power(np.clip(1 - cosine, 0, 1), 3))
        above = np.clip(mirrored[:, 2] * 6 + 0.4, 0.12, 1)[:, None] * open_[shiny, None]
        leaving[shiny] += share[:, None] * sky(light, mirrored, detailed=False) * above
        glint = np.clip(mirrored @ light.sun.astype(np.float32), 0, 1) ** 180 * ~shadow[shiny] * gloss[shiny]
        leaving[shiny] += 2.5 * glint[:, None] * light.sunlight.astype(np.float32)
    return leaving


def develop(light: Response, radiance: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Linear light (H, W, 3) to an 8-bit picture: exposure, white balance, blur, response, noise."""
    # Automatic exposure, as street cameras have it: measured below the horizon, so that a bright sky may burn out.
    metered = float(np.minimum(radiance[len(radiance) // 3 :], 1.2).mean())
    image = radiance * (np.clip(light.exposure / max(metered, 1e-3), 0.5, 4.0) * light.balance).astype(np.float32)
    if light.blur > 0.01:
        edge = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        around = edge[:-2, 1:-1] + edge[2:, 1:-1] + edge[1:-1, :-2] + edge[1:-1, 2:]
        image = (1 - 4 * light.blur * 0.5) * image + light.blur * 0.5 * around
    image = np.power(np.clip(image, 0, 1), np.float32(1 / light.gamma))
    image += light.contrast * (image * image * (3 - 2 * image) - image)
    image = 255 * image + light.noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def pixel_rays(camera: Camera, across: int = 1) -> Array:
    """(H * across, W * across, 3) float32 ray directions in the world with unit length along the optical axis, `across`^2 for each pixel."""
    ticks = [(np.arange(n * across) + 0.5) / across - 0.5 for n in (camera.width, camera.height)]
    u, v = np.meshgrid(*ticks)
    plane = np.linalg.inv(camera.intrinsics) @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    return (plane.T @ camera.T_cam_world[:3, :3]).reshape(*u.shape, 3).astype(np.float32)


def averaged(radiance: Array, camera: Camera, across: int) -> Array:
    """Light (H * across * W * across, 3) of the rays of a pixel, averaged to (H, W, 3); no ray counts more than four times full white."""
    return np.minimum(radiance, 4.0).reshape(camera.height, across, camera.width, across, 3).mean(axis=(1, 3))


def depth_map(caster: Caster, camera: Camera, hits: Hits, across: int) -> Array:
    """(H, W) float32 metres along the optical axis through pixel centres, 0 where nothing is met.

    Args:
        hits: of the picture's rays, `across` along each side of a pixel; they say the depth where every pixel has one ray, through its centre.
    """
    depth = np.zeros(camera.height * camera.width, np.float32)
    if across == 1:
        depth[hits.ray] = hits.t
    else:
        found = caster.distances(camera.position, pixel_rays(camera).reshape(-1, 3))
        depth = np.where(np.isfinite(found), found, 0).astype(np.float32)
    return depth.reshape(camera.height, camera.width)


def render(
    caster: Caster, bodies: Sequence[Body], camera: Camera, light: Light, rng: np.random.Generator, across: int = 1
) -> tuple[NDArray[np.uint8], NDArray[np.float32], Hits]:
    """The picture a camera takes.

    Args:
        caster: of exactly these bodies.
        across: rays along each side of a pixel (2: four rays a pixel).

    Returns:
        (H, W, 3) uint8 picture; (H, W) float32 metres along the optical axis through pixel centres, 0 where the sky is; what the rays hit.
    """
    rays = pixel_rays(camera, across)
    height, width = rays.shape[:2]
    rays = rays.reshape(-1, 3)
    hits = caster.nearest(camera.position, rays)
    unit = rays / np.sqrt(np.einsum("nc,nc->n", rays, rays))[:, None]
    pixel_angle = 1.0 / abs(float(camera.intrinsics[0, 0])) / across
    albedo, gloss = paint(bodies, hits, pixel_angle)
    shadow = np.ones(len(hits.ray), bool)
    sunny = np.flatnonzero(hits.normals @ light.sun.astype(np.float32) > 0)
    if light.sunlight.max() > 0.02:
        origins = hits.points[sunny] + 0.015 * hits.normals[sunny]
        shadow[sunny] = caster.blocked(origins, np.broadcast_to(light.sun.astype(np.float32), origins.shape))
    open_ = openness(caster, hits, (width, height), rng)
    towards = unit[hits.ray]
    leaving = lit(light, hits, towards, albedo, gloss, shadow, open_)
    fade = np.exp(-light.haze * hits.distance)[:, None]
    leaving = leaving * fade + (1 - fade) * light.horizon.astype(np.float32) * np.float32(0.85)
    radiance = np.empty((height * width, 3), np.float32)
    missed = np.ones(height * width, bool)
    missed[hits.ray] = False
    radiance[hits.ray] = leaving
    radiance[missed] = sky(light, unit[missed])
    return develop(light, averaged(radiance, camera, across), rng), depth_map(caster, camera, hits, across), hits
