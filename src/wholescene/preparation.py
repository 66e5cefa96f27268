"""From a picture as it was taken to the picture a system eats: the part of a model's preprocessing that moves pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.structures import Frame

_LONGEST_SIDE = 2**14
FITS = ("none", "top-left", "focal", "resize", "bottom")


@dataclass(frozen=True)
class Preparation:
    """How a system wants its pictures.

    Attributes:
        fit: "none"; "top-left" (cut to `size` from the top-left corner where the picture is larger, as MonoScene does with 1220x370);
            "resize" (stretch to `size`); "focal" (resize so that fx becomes `focal`, so that a pixel means the same angle on any camera);
            "bottom" (resize to the width of `size`, then keep its height at the bottom, black above and at the right where there is less; CGFormer).
        size: (width, height) for top-left, resize and bottom.
        focal: pixels, for focal.
        most_pixels: a focal resize never makes a picture of more pixels than this.
        corner_pixels: of "bottom": a resize by s takes pixel u to s u, as released code notes it, and not to s (u + 0.5) - 0.5, where it lies.
        mixed_depth: of "bottom": the depth input is resized bicubically, as in released code, which mixes depths across edges.
        mean, std: per channel, of values 0..1; applied on the device.
    """

    fit: str = "none"
    size: tuple[int, int] = (1220, 370)
    focal: float = 350.0
    most_pixels: int = 1_000_000
    corner_pixels: bool = False
    mixed_depth: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not all(1 <= side <= _LONGEST_SIDE for side in self.size) or not 0 < self.focal < math.inf or self.most_pixels < 1:
            raise InputError(
                f"pictures fitted to {self.size[0]:,} x {self.size[1]:,} pixels, a focal length of {self.focal:g} and at most {self.most_pixels:,} "
                f"pixels; expected positive numbers, and sides of at most {_LONGEST_SIDE:,}"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < s < math.inf for s in self.std):
            raise InputError(f"pictures normalised by mean {self.mean} and std {self.std}; expected finite numbers, and std above 0")


def prepare(frame: Frame, preparation: Preparation) -> Frame:
    """The frame with its main view (and what is aligned with it: depth, depth target) fitted.

    Raises:
        InputError: unknown fit, or a picture and camera that disagree in size.
    """
    if preparation.fit not in FITS:
        raise InputError(f"unknown picture fit {preparation.fit!r}; known: {', '.join(FITS)}")
    views = {}
    for name, view in frame.views.items():
        height, width = view.picture.shape[:2]
        if (width, height) != view.camera.size:
            raise InputError(
                f"{frame.name}: the {name} picture has {width} x {height} pixels but its camera says {view.camera.width} x {view.camera.height}"
            )
        picture, camera = _fit(view.picture, view.camera, preparation)
        views[name] = replace(view, picture=picture, camera=camera)
    target = views["main"].camera
    source = frame.main.camera
    maps: dict[str, Any] = {n: _fit_map(m, source, target) for n in ("depth", "depth_target") if (m := getattr(frame, n)) is not None}
    if preparation.fit == "bottom" and preparation.mixed_depth and frame.depth is not None:
        maps["depth"] = _fit_bottom(frame.depth, preparation.size)
    return replace(frame, views=views, **maps)


def _fit(picture: NDArray[np.uint8], camera: Camera, preparation: Preparation) -> tuple[NDArray[np.uint8], Camera]:
    width, height = camera.size
    if preparation.fit == "top-left":
        w, h = min(width, preparation.size[0]), min(height, preparation.size[1])
        return picture[:h, :w], camera.cropped(0, 0, w, h)
    if preparation.fit == "bottom":
        return _fit_bottom(picture, preparation.size), _bottom_camera(camera, preparation)
    if preparation.fit == "resize":
        size = preparation.size
    elif preparation.fit == "focal":
        scale = preparation.focal / abs(camera.intrinsics[0, 0])
        scale = min(scale, (preparation.most_pixels / (width * height)) ** 0.5)
        size = (max(32, round(width * scale)), max(32, round(height * scale)))
    else:
        return picture, camera
    if size == (width, height):
        return picture, camera
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)), camera.resized(size)


def _bottom(width: int, height: int, size: tuple[int, int]) -> tuple[float, tuple[int, int], int]:
    """Scale, size after the resize (truncated, as released), and the row of the resized picture that becomes the first; negative: rows above it."""
    scale = size[0] / width
    resized = (max(1, int(width * scale)), max(1, int(height * scale)))
    return scale, resized, resized[1] - size[1]


def _fit_bottom(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A picture (H, W, 3) uint8 or a depth map (H, W) float32, bicubic, cut or padded with zeros to (width, height)."""
    _, resized, top = _bottom(values.shape[1], values.shape[0], size)
    image = Image.fromarray(values).resize(resized, Image.Resampling.BICUBIC)
    return np.asarray(image.crop((0, top, size[0], top + size[1])))


def _bottom_camera(camera: Camera, preparation: Preparation) -> Camera:
    scale, resized, top = _bottom(*camera.size, preparation.size)
    if not preparation.corner_pixels:
        return camera.resized(resized).cropped(0, top, *preparation.size)
    affine = np.diag([scale, scale, 1.0]) @ camera.affine
    return replace(camera, affine=affine, now=resized).cropped(0, top, *preparation.size)


def _fit_map(values: NDArray[np.float32], before: Camera, after: Camera) -> NDArray[np.float32]:
    """A depth map through the same affine, nearest pixel: depths are never mixed across an edge; 0 where the picture was padded."""
    edit = after.affine @ np.linalg.inv(before.affine)
    u, u_inside = _sources(after.width, edit[0, 0], edit[0, 2], before.width)
    v, v_inside = _sources(after.height, edit[1, 1], edit[1, 2], before.height)
    return np.where(v_inside[:, None] & u_inside, values[v[:, None], u], np.float32(0))


def _sources(length: int, scale: float, shift: float, before: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Along one axis: the nearest pixel before the edit of each pixel after it, and whether it lay in the picture."""
    places = (np.arange(length) - shift) / scale
    inside = (places > -0.5 - 1e-6) & (places < before - 0.5 + 1e-6)
    return np.clip(np.rint(places).astype(np.int64), 0, before - 1), inside
