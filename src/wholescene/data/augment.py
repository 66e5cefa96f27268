"""Augmentation of training frames, as MonoScene and its family do it: colour jitter, and a mirror image of picture and projection.

The volume is never mirrored: a mirrored camera (u -> width - 1 - u) projects the same voxels into the mirrored picture, whatever grid and pose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from wholescene.data.config import Augmentation
from wholescene.errors import InputError
from wholescene.structures import Frame, View

_ENHANCERS: tuple[Callable[[Image.Image], Any], ...] = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one frame in one epoch: the same wherever and in whatever order it is loaded."""
    return np.random.default_rng((seed, epoch, index))


def augment(frame: Frame, augmentation: Augmentation, rng: np.random.Generator) -> Frame:
    """The frame jittered, then mirrored with the probability given; the same numbers are drawn whether or not either is switched on."""
    varied = jitter(frame, rng, augmentation.jitter)
    varied = mirror(varied) if rng.random() < augmentation.mirror else varied
    return flip(varied, *(bool(draw < augmentation.flip) for draw in rng.random(2)))


def jitter(frame: Frame, rng: np.random.Generator, strength: float = 0.4) -> Frame:
    """Brightness, contrast and saturation changed in a random order, each by a factor drawn evenly from [1 - strength, 1 + strength].

    Every step is `base + factor * (picture - base)`, clipped to 0..255 and cut down to whole numbers (Pillow's enhancers), where the base is
    black for brightness, the rounded mean of the grey picture for contrast, and the grey picture (0.299 R + 0.587 G + 0.114 B) for saturation.
    All views get the same order and factors, so that a stereo pair still matches.

    Args:
        frame: of any views.
        rng: three factors and an order are drawn from it.
        strength: 0 (unchanged) to 1.
    """
    order = rng.permutation(3)
    factors = rng.uniform(1 - strength, 1 + strength, size=3)
    if strength == 0:
        return frame
    views = {name: View(_enhanced(view.picture, order, factors), view.camera) for name, view in frame.views.items()}
    return replace(frame, views=views)


def mirror(frame: Frame) -> Frame:
    """The frame with all pictures, their cameras and the depth maps mirrored left to right; grid, points and targets stay as they are."""
    views = {name: View(_flipped(view.picture), view.camera.mirror()) for name, view in frame.views.items()}
    maps: dict[str, Any] = {name: np.ascontiguousarray(m[:, ::-1]) for name in ("depth", "depth_target") if (m := getattr(frame, name)) is not None}
    return replace(frame, views=views, **maps)


def flip(frame: Frame, forward: bool, left: bool) -> Frame:
    """The frame with its volumes (occupancy, proposals, targets) turned round along the grid's forward or left axis; the grid stays where it is.

    Raises:
        InputError: a frame with depth or points, which would no longer fit the volume.
    """
    axes = [axis for axis, chosen in ((frame.grid.forward, forward), (frame.grid.left, left)) if chosen]
    if not axes:
        return frame
    if frame.depth is not None or frame.points is not None:
        raise InputError(f"{frame.name}: the volume cannot be flipped beside a depth map or points that stay as they are; set augment.flip to 0")
    volumes: dict[str, Any] = {n: _turned(v, axes) for n in ("occupancy", "proposals") if (v := getattr(frame, n)) is not None}
    return replace(frame, **volumes, targets={scale: _turned(labels, axes) for scale, labels in frame.targets.items()})


def _turned(volume: NDArray[Any], axes: list[int]) -> NDArray[Any]:
    return np.ascontiguousarray(np.flip(volume, tuple(axes)))


def _enhanced(picture: NDArray[np.uint8], order: NDArray[np.int64], factors: NDArray[np.float64]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    for step in order:
        image = _ENHANCERS[step](image).enhance(float(factors[step]))
    return np.asarray(image)


def _flipped(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[:, ::-1])
