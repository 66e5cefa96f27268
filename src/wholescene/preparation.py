"""From a picture as it was taken to the picture a system eats: the part of a model's preprocessing that moves pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.structures import Frame

FITS = ("none", "top-left", "focal", "resize")


@dataclass(frozen=True)
class Preparation:
    """How a system wants its pictures.

    Attributes:
        fit: "none"; "top-left" (cut to `size` from the top-left corner where the picture is larger, as MonoScene does with 1220x370);
            "resize" (stretch to `size`); "focal" (resize so that fx becomes `focal`, so that a pixel means the same angle on any camera).
        size: (width, height) for top-left and resize.
        focal: pixels, for focal.
        most_pixels: a focal resize never makes a picture of more pixels than this.
        mean, std: per channel, of values 0..1; applied on the device.
    """

    fit: str = "none"
    size: tuple[int, int] = (1220, 370)
    focal: float = 350.0
    most_pixels: int = 1_000_000
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


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
    return replace(frame, views=views, **maps)


def _fit(picture: NDArray[np.uint8], camera: Camera, preparation: Preparation) -> tuple[NDArray[np.uint8], Camera]:
    width, height = camera.size
    if preparation.fit == "top-left":
        w, h = min(width, preparation.size[0]), min(height, preparation.size[1])
        return picture[:h, :w], camera.cropped(0, 0, w, h)
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


def _fit_map(values: NDArray[np.float32], before: Camera, after: Camera) -> NDArray[np.float32]:
    """A depth map through the same affine, nearest pixel: depths are never mixed across an edge."""
    edit = after.affine @ np.linalg.inv(before.affine)
    u = np.rint((np.arange(after.width) - edit[0, 2]) / edit[0, 0]).astype(np.int64)
    v = np.rint((np.arange(after.height) - edit[1, 2]) / edit[1, 1]).astype(np.int64)
    return values[np.clip(v, 0, before.height - 1)[:, None], np.clip(u, 0, before.width - 1)]
