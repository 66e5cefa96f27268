"""Disturbances of frames: what a picture, a depth map or a calibration suffers in the field, in fixed severities with fixed seeds.

A disturbance is one function, registered by name; an own one is the same ten lines:

    @disturbance("fog", (0.2, 0.4), "picture", "share of the light lost to grey")
    def fog(frame, severity, rng):
        return with_pictures(frame, lambda values: values * (1 - severity) + 0.8 * severity)

The random numbers of a frame depend on its name, the disturbance and the seed alone, so every severity and every system meets the same ones.
Targets and grid stay: it is the system's input that is wrong, not the world.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholescene.errors import InputError, unknown_name
from wholescene.structures import Frame, View

Array = NDArray[np.floating[Any]]
Touched = Literal["picture", "depth", "camera"]
Function = Callable[[Frame, float, np.random.Generator], Frame]

_CORRELATED = 40  # pixels over which smooth errors of depth keep their sign


@dataclass(frozen=True)
class Disturbance:
    """One row of the table.

    Attributes:
        name: with dashes.
        severities: in the order of the tables.
        touches: "picture", "depth" or "camera": what of a frame is changed.
        unit: what a severity says, in words.
        function: frame, severity and random numbers to a frame.
    """

    name: str
    severities: tuple[float, ...]
    touches: Touched
    unit: str
    function: Function

    def __call__(self, frame: Frame, severity: float, seed: int = 0) -> Frame:
        """The disturbed frame; the same whenever it is asked for."""
        digest = hashlib.sha256(f"{seed}|{self.name}|{frame.name}".encode()).digest()
        return self.function(frame, severity, np.random.default_rng(int.from_bytes(digest[:8], "little")))


DISTURBANCES: dict[str, Disturbance] = {}


def disturbance(name: str, severities: Sequence[float], touches: Touched, unit: str) -> Callable[[Function], Function]:
    """Register a function as the disturbance of that name."""

    def register(function: Function) -> Function:
        DISTURBANCES[name] = Disturbance(name, tuple(severities), touches, unit, function)
        return function

    return register


def suite(text: str) -> list[Disturbance]:
    """The disturbances that a text names: "all", everything that touches the "picture", "depth" or "camera", or names separated by commas.

    Raises:
        InputError: an unknown name, with the nearest.
    """
    found: list[Disturbance] = []
    for word in text.replace(",", " ").split():
        members = [d for d in DISTURBANCES.values() if word in ("all", d.touches, d.name)]
        if not members:
            raise unknown_name("disturbance", word, ("all", "picture", "depth", "camera", *DISTURBANCES))
        found += [d for d in members if d not in found]
    if not found:
        raise InputError(f"no disturbance is named in {text!r}; write for example all, picture, or noise,depth-holes")
    return found


class DisturbedFrames:
    """A dataset whose frames are all disturbed alike.

    Args:
        frames: a dataset.
        by: the disturbance.
        severity: of it.
        seed: of all random numbers.
    """

    def __init__(self, frames: Any, by: Disturbance, severity: float, seed: int = 0) -> None:
        self.frames, self.by, self.severity, self.seed = frames, by, severity, seed
        self.names, self.labels = frames.names, frames.labels
        self.revision = getattr(frames, "revision", "")

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.by(self.frames[index], self.severity, self.seed)


def with_pictures(frame: Frame, change: Callable[[Array], Array]) -> Frame:
    """The frame with all its pictures changed as floats 0..1 (H, W, 3); rounded and cut to bytes again."""

    def changed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        values = change(picture.astype(np.float32) / 255)
        return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)

    return replace(frame, views={name: View(changed(view.picture), view.camera) for name, view in frame.views.items()})


def with_depth(frame: Frame, change: Callable[[Array], Array]) -> Frame:
    """The frame with its depth map (H, W) metres changed; what is unknown stays so. A frame without one is given back."""
    if frame.depth is None:
        return frame
    changed = change(frame.depth.astype(np.float32))
    return replace(frame, depth=np.where(frame.depth > 0, np.maximum(changed, 0), 0).astype(np.float32))


# ---- pictures -------------------------------------------------------------------------------------------------------------------------


@disturbance("noise", (0.04, 0.08, 0.12, 0.18, 0.26), "picture", "standard deviation of values 0..1")
def noise(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """Gaussian noise in every pixel and channel."""
    return with_pictures(frame, lambda values: values + severity * rng.standard_normal(values.shape, np.float32))


@disturbance("brightness", (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3), "picture", "added to values 0..1")
def brightness(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """Lighter or darker."""
    return with_pictures(frame, lambda values: values + np.float32(severity))


@disturbance("contrast", (0.75, 0.5, 0.4), "picture", "times the distance from the mean")
def contrast(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """Flatter."""
    return with_pictures(frame, lambda values: values.mean() + np.float32(severity) * (values - values.mean()))


@disturbance("motion-blur", (5, 9, 15), "picture", "pixels")
def motion_blur(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """The camera moved sideways while the shutter was open."""
    width = int(severity)

    def blurred(values: Array) -> Array:
        padded = np.pad(values, ((0, 0), (width // 2 + 1, width - width // 2 - 1), (0, 0)), mode="edge")
        sums = np.cumsum(padded, axis=1, dtype=np.float64)
        return ((sums[:, width:] - sums[:, :-width]) / width).astype(np.float32)

    return with_pictures(frame, blurred)


@disturbance("occlusion", (0.05, 0.1, 0.2, 0.3), "picture", "share of the area")
def occlusion(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """One grey rectangle of the picture's own proportions hides a part of it."""
    down, right = rng.random(2)

    def hidden(values: Array) -> Array:
        height, width = values.shape[:2]
        h, w = round(height * severity**0.5), round(width * severity**0.5)
        top, left = round(down * (height - h)), round(right * (width - w))
        values[top : top + h, left : left + w] = 0.5
        return values

    return with_pictures(frame, hidden)


# ---- depth ----------------------------------------------------------------------------------------------------------------------------


@disturbance("depth-scale", (0.9, 0.95, 1.05, 1.1), "depth", "times the depth")
def depth_scale(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """All depths are wrong by one factor, as those of monocular networks are."""
    return with_depth(frame, lambda metres: metres * np.float32(severity))


@disturbance("depth-noise", (0.02, 0.05, 0.1, 0.2), "depth", "standard deviation, share of the depth")
def depth_noise(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """Every pixel is wrong on its own."""
    return with_depth(frame, lambda metres: metres * (1 + severity * rng.standard_normal(metres.shape, np.float32)))


@disturbance("depth-waves", (0.02, 0.05, 0.1, 0.2), "depth", "share of the depth, smooth over 40 px")
def depth_waves(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """Neighbouring pixels are wrong alike."""

    def wavy(metres: Array) -> Array:
        height, width = metres.shape
        coarse = rng.standard_normal((height // _CORRELATED + 3, width // _CORRELATED + 3), np.float32)
        whole = Image.fromarray(coarse).resize((coarse.shape[1] * _CORRELATED, coarse.shape[0] * _CORRELATED), Image.Resampling.BICUBIC)
        smooth = np.asarray(whole)[_CORRELATED:, _CORRELATED:][:height, :width]  # a knot every so many pixels, the picture inside the outermost ones
        return metres * (1 + severity * smooth / max(float(smooth.std()), 1e-6))

    return with_depth(frame, wavy)


@disturbance("depth-holes", (0.05, 0.1, 0.2), "depth", "share of the blocks of 16 pixels")
def depth_holes(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """Square blocks are unknown."""

    def holed(metres: Array) -> Array:
        blocks = rng.random((metres.shape[0] // 16 + 1, metres.shape[1] // 16 + 1)) < severity
        return np.where(np.kron(blocks, np.ones((16, 16), bool))[: metres.shape[0], : metres.shape[1]], np.float32(0), metres)

    return with_depth(frame, holed)


# ---- calibration ----------------------------------------------------------------------------------------------------------------------


@disturbance("focal-length", (0.95, 0.98, 1.02, 1.05), "camera", "times the focal length")
def focal_length(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """The calibration says another focal length than the lens has."""
    camera = frame.main.camera
    K = camera.K.copy()
    K[0, 0], K[1, 1] = K[0, 0] * severity, K[1, 1] * severity
    return frame.with_main(frame.main.picture, replace(camera, K=K))


@disturbance("pitch", (-2.0, -1.0, 1.0, 2.0), "camera", "degrees, positive down")
def pitch(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
    """The calibration says that the camera looks farther down (or up) than it does."""
    angle = np.deg2rad(severity)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    camera = frame.main.camera
    return frame.with_main(frame.main.picture, camera.posed(turn @ camera.T_cam_world, camera.world))
