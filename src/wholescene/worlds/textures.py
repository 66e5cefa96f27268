"""Noise that repeats: one tile of fractal noise with its averaged levels, looked up wherever a surface needs irregularity."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SIDE = 512
_LEVELS = 8


@functools.cache
def _tile(roughness: float) -> tuple[Array, Array, Array]:
    """A tile and its averaged levels, flattened: values, start of each level, side of each level. Mean 0, deviation 1 at the finest level."""
    rng = np.random.Generator(np.random.PCG64(int(1000 * roughness) + 7))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequency**roughness
    spectrum[0, 0] = 0.0
    level = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    level = (level / level.std()).astype(np.float32)
    values, starts, sides, start = [], [], [], 0
    for _ in range(_LEVELS):
        values.append(level.ravel())
        starts.append(start)
        sides.append(len(level))
        start += level.size
        level = (level[0::2, 0::2] + level[1::2, 0::2] + level[0::2, 1::2] + level[1::2, 1::2]) / 4
    return np.concatenate(values), np.array(starts, np.int32), np.array(sides, np.int32)


def noise(u: Array, v: Array, metres: float, footprint: Array | float = 0.0, roughness: float = 1.0) -> Array:
    """Noise of mean 0 and deviation 1 at surface coordinates.

    Args:
        u, v: (N,) metres on the surface.
        metres: edge length of a whole tile; its finest detail is 1/512 of it.
        footprint: (N,) metres that a pixel covers there; detail below it is averaged out, so that far surfaces do not flicker.
        roughness: exponent of the amplitude spectrum: 0 white, 1 clouds and stains, 1.6 smooth hills.

    Returns:
        (N,) float32.
    """
    values, starts, sides = _tile(roughness)
    texel = metres / SIDE
    level = np.log2(np.maximum(np.asarray(footprint, np.float32) / np.float32(texel), 1.0)).astype(np.int32)
    level = np.minimum(level, _LEVELS - 1)
    side = sides[level]
    scale = side * np.float32(1.0 / metres)
    column = np.floor(u * scale).astype(np.int32) & (side - 1)
    row = np.floor(v * scale).astype(np.int32) & (side - 1)
    return values[starts[level] + row * side + column]


def scatter(a: Array, b: Array | int = 0, seed: int = 0) -> Array:
    """(N,) float32 in [0, 1) that looks random but depends only on the integers `a`, `b` and the seed."""
    # By way of int64: a negative float cast to uint32 differs from machine to machine.
    first, second = (np.asarray(n).astype(np.int64).astype(np.uint32) for n in (a, b))
    h = first * np.uint32(0x9E3779B1) ^ second * np.uint32(0x85EBCA77)
    h = h ^ np.uint32((seed * 0xC2B2AE3D) & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = (h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    return ((h ^ (h >> np.uint32(15))) >> np.uint32(8)).astype(np.float32) * np.float32(1 / (1 << 24))
