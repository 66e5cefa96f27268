"""The grid drawn into its picture: one look tells whether camera, pose and grid belong together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid

Array = NDArray[np.float64]

NEAR_M = 0.1  # lines are cut this far before the camera: behind it they have no picture
LATTICE = (70, 220, 255)
BOX = (255, 165, 40)
HORIZON = (255, 255, 255)

_SMOOTH_PIXELS = 2_500_000  # pictures up to this size are drawn at twice their size and reduced: Pillow draws no smooth lines


def draw_overlay(picture: NDArray[np.uint8] | Image.Image, camera: Camera, grid: VoxelGrid) -> Image.Image:
    """The picture with the grid's box, a lattice on the ground with distances, the horizon and a line of facts.

    The ground is z = 0 in a "ground" world and the bottom of the grid in others. Lattice lines stand every 5 m (every metre in grids below
    20 m) from the point below the camera, along the grid's own axes; labels give the distance from it along the axis that the camera looks along.

    Args:
        picture: (H, W, 3) uint8 or a PIL image, of the camera's size.
        camera: with a known pose.
        grid: in the camera's world.

    Returns:
        An RGB image of the same size.

    Raises:
        InputError: the sizes differ, or the camera has no pose.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if image.size != camera.size:
        sizes = f"the picture has {image.width} x {image.height} pixels but its camera says {camera.width} x {camera.height}"
        raise InputError(f"{sizes}; resize one of them")
    camera.require_pose()
    canvas = _Canvas(image.convert("RGB"), camera)
    lattice = Lattice.of(camera, grid)
    for start, end in lattice.lines():
        canvas.segment(start, end, LATTICE, 1.7, 225)
    for start, end in box_edges(grid):
        canvas.segment(start, end, BOX, 2.0, 235)
    horizon(canvas, camera)
    for distance, ends in lattice.rungs():
        canvas.label(ends, f"{distance:g} m")
    canvas.caption(_facts(camera, grid))
    return canvas.finished()


def box_edges(grid: VoxelGrid) -> list[tuple[Array, Array]]:
    """The 12 edges of the box, each two world points (3,) in metres."""
    corners = grid.corners()
    return [(corners[row], corners[row | 1 << axis]) for axis in range(3) for row in range(8) if not row >> axis & 1]


def clip_line(start: Array, end: Array, width: float, height: float) -> tuple[Array, Array] | None:
    """A segment of homogeneous pixels (3,), depth last, cut at the near plane and at the borders of the picture.

    Returns:
        Two pixels (2,), or None where nothing of it is in view.
    """
    # Each plane is a function that is linear along the segment and positive on the side that stays (Liang and Barsky 1984).
    planes = np.array([[0, 0, 1, -NEAR_M], [1, 0, 0.5, 0], [-1, 0, width - 0.5, 0], [0, 1, 0.5, 0], [0, -1, height - 0.5, 0]])
    at_start, at_end = planes @ np.append(start, 1.0), planes @ np.append(end, 1.0)
    first, last = 0.0, 1.0
    for a, b in zip(at_start, at_end, strict=True):
        if a < 0 and b < 0:
            return None
        if a < 0:
            first = max(first, a / (a - b))
        elif b < 0:
            last = min(last, a / (a - b))
    if first > last:
        return None
    cut = [start + share * (end - start) for share in (first, last)]
    return cut[0][:2] / cut[0][2], cut[1][:2] / cut[1][2]


class Lattice:
    """The ground under a grid, in lines of equal distance from the camera's foot.

    Attributes:
        step: metres between lines.
        foot: (2,) the point below the camera in the footprint's coordinates, metres along the two ground axes from the grid's corner.
    """

    def __init__(self, corner: Array, along: Array, across: Array, lengths: tuple[float, float], foot: Array) -> None:
        self.corner, self.along, self.across, self.lengths, self.foot = corner, along, across, lengths, foot
        self.step = 5.0 if max(lengths) >= 20 else 1.0

    @classmethod
    def of(cls, camera: Camera, grid: VoxelGrid) -> Lattice:
        """The lattice whose `along` is the ground axis of the grid that the camera looks along most."""
        axes = grid.T_world_grid[:3, :3].T  # row i: array axis i in the world
        up = grid.up
        gaze = camera.T_cam_world[2, :3]
        ground = sorted((a for a in range(3) if a != up), key=lambda a: -abs(axes[a] @ gaze))
        origin = np.array(grid.T_world_grid[:3, 3])
        upwards = axes[up] if axes[up][2] > 0 else -axes[up]
        if axes[up][2] < 0:
            origin = origin + axes[up] * grid.extent[up]
        if camera.world == "ground":
            origin = origin - upwards * (origin[2] / upwards[2])
        # An axis that runs against the gaze is turned round, so that distances grow away from the camera.
        along = axes[ground[0]]
        if along @ gaze < 0:
            origin, along = origin + along * grid.extent[ground[0]], -along
        across = axes[ground[1]]
        offset = camera.position - origin
        return cls(origin, along, across, (grid.extent[ground[0]], grid.extent[ground[1]]), np.array([offset @ along, offset @ across]))

    def point(self, a: float, b: float) -> Array:
        """(3,) world point at a metres along and b metres across from the corner."""
        return np.asarray(self.corner + a * self.along + b * self.across)

    def _ticks(self, axis: int) -> list[float]:
        """Coordinates of the lines within the footprint, at multiples of the step from the foot."""
        low, high = (math.floor((x - self.foot[axis]) / self.step) for x in (0.0, self.lengths[axis]))
        ticks = (self.foot[axis] + k * self.step for k in range(low, high + 2))
        return [t for t in ticks if -1e-6 <= t <= self.lengths[axis] + 1e-6]

    def lines(self) -> list[tuple[Array, Array]]:
        """World segments of both directions."""
        rungs = [(self.point(a, 0), self.point(a, self.lengths[1])) for a in self._ticks(0)]
        rails = [(self.point(0, b), self.point(self.lengths[0], b)) for b in self._ticks(1)]
        return rungs + rails

    def rungs(self) -> list[tuple[float, tuple[Array, Array]]]:
        """(distance, ends): the lines across the gaze before the camera, nearest first."""
        ahead = [(a - self.foot[0], a) for a in self._ticks(0) if a - self.foot[0] > 0.5 * self.step]
        return [(round(d, 3), (self.point(a, 0), self.point(a, self.lengths[1]))) for d, a in ahead]


def horizon_line(camera: Camera) -> Array:
    """(3,) a, b, c of the line a u + b v + c = 0 in pixels on which all level directions vanish; positive above the horizon."""
    up = camera.T_cam_world[:3, 2]
    return np.asarray(np.linalg.solve(camera.intrinsics.T, up))


def horizon(canvas: _Canvas, camera: Camera) -> None:
    """Draw the horizon, dashed, where it crosses the picture."""
    a, b, c = horizon_line(camera)
    if abs(b) > 1e-12 and abs(a) <= abs(b) * 20:
        ends = [np.array([u, -(a * u + c) / b, 1.0]) for u in (-0.5, camera.width - 0.5)]
    elif abs(a) > 1e-12:
        ends = [np.array([-(b * v + c) / a, v, 1.0]) for v in (-0.5, camera.height - 0.5)]
    else:  # looking straight up or down: it is nowhere
        return
    found = clip_line(ends[0], ends[1], camera.width, camera.height)
    if found is None:
        return
    dashes = max(2, round(float(np.hypot(*(found[1] - found[0]))) / 16 / canvas.unit))
    steps = np.linspace(0, 1, 2 * dashes)[:, None] * (found[1] - found[0]) + found[0]
    for first, second in zip(steps[::2], steps[1::2], strict=True):
        canvas.line(first, second, HORIZON, 1.2, 200)
    canvas.text(found[1] + (-4, -3), "horizon", HORIZON, "rs")


class _Canvas:
    """A transparent layer over the picture, in the picture's pixels: lines with dark rims, and words over all of them."""

    def __init__(self, image: Image.Image, camera: Camera) -> None:
        self.image, self.camera = image, camera
        self.scale = 2 if image.width * image.height <= _SMOOTH_PIXELS else 1
        self.unit = max(0.8, max(image.size) / 1280)  # line widths and letters grow with the picture
        self.layer = Image.new("RGBA", (image.width * self.scale, image.height * self.scale))
        self.draw = ImageDraw.Draw(self.layer)
        self.font = ImageFont.load_default(size=round(15 * self.unit * self.scale))
        self.strokes: list[tuple[list[tuple[float, float]], tuple[int, int, int, int], int]] = []
        self.words: list[tuple[tuple[float, float], str, tuple[int, int, int], str]] = []
        self.plates: list[tuple[float, float, float, float]] = []

    def pixels(self, point: Array) -> Array:
        """(3,) homogeneous pixels of a world point, depth last."""
        local = self.camera.T_cam_world[:3, :3] @ point + self.camera.T_cam_world[:3, 3]
        return np.asarray(self.camera.matrix @ np.append(local, 1.0))

    def _at(self, pixel: Any) -> tuple[float, float]:
        return (float(pixel[0]) + 0.5) * self.scale - 0.5, (float(pixel[1]) + 0.5) * self.scale - 0.5

    def line(self, start: Array, end: Array, colour: tuple[int, int, int], width: float, alpha: int) -> None:
        """A line between two pixels (2,)."""
        self.strokes.append(([self._at(start), self._at(end)], (*colour, alpha), max(1, round(width * self.unit * self.scale))))

    def segment(self, start: Array, end: Array, colour: tuple[int, int, int], width: float, alpha: int) -> None:
        """What is in view of a segment between two world points."""
        found = clip_line(self.pixels(start), self.pixels(end), self.camera.width, self.camera.height)
        if found is not None:
            self.line(*found, colour, width, alpha)

    def text(self, pixel: Any, words: str, colour: tuple[int, int, int], anchor: str) -> bool:
        """Words at a pixel, on a dark plate; left out where other words stand already."""
        at = self._at(pixel)
        left, top, right, bottom = self.draw.textbbox(at, words, font=self.font, anchor=anchor)
        pad = 2 * self.unit * self.scale
        plate = (left - pad, top - pad, right + pad, bottom + pad)
        outside = plate[0] < 0 or plate[1] < 0 or plate[2] > self.layer.width or plate[3] > self.layer.height
        if outside or any(plate[0] < r and plate[2] > x and plate[1] < b and plate[3] > y for x, y, r, b in self.plates):
            return False
        self.plates.append(plate)
        self.words.append((at, words, colour, anchor))
        return True

    def label(self, ends: tuple[Array, Array], words: str) -> None:
        """Words in the middle of what is in view of a segment between two world points."""
        found = clip_line(self.pixels(ends[0]), self.pixels(ends[1]), self.camera.width, self.camera.height)
        if found is not None:
            self.text((found[0] + found[1]) / 2, words, LATTICE, "mm")

    def caption(self, sentences: Sequence[str]) -> None:
        """Sentences in the top left corner, as many to a line as fit."""
        room = (self.camera.width - 12) * self.scale
        lines: list[str] = []
        for sentence in sentences:
            longer = f"{lines[-1]}; {sentence}" if lines else sentence
            if lines and self.font.getlength(longer) <= room:
                lines[-1] = longer
            else:
                lines.append(sentence)
        height = sum(self.font.getmetrics()) if isinstance(self.font, ImageFont.FreeTypeFont) else 12 * self.scale
        for number, line in enumerate(lines):
            while self.font.getlength(line) > room and len(line) > 4:
                line = line[:-4].rstrip() + "..."
            at = (6.0 * self.scale, 4 * self.scale + number * height * 1.25)
            self.plates.append(self.draw.textbbox(at, line, font=self.font))
            self.words.append((at, line, (255, 255, 255), "la"))

    def finished(self) -> Image.Image:
        """The picture under the layer."""
        for points, colour, width in self.strokes:  # all rims first, or one line's rim would cut the next line
            self.draw.line(points, fill=(0, 0, 0, colour[3] // 3), width=width + self.scale)
        for points, colour, width in self.strokes:
            self.draw.line(points, fill=colour, width=width)
        for plate in self.plates:
            self.draw.rectangle(plate, fill=(0, 0, 0, 150))
        for at, words, ink, anchor in self.words:
            self.draw.text(at, words, font=self.font, fill=(*ink, 255), anchor=anchor)
        layer = self.layer if self.scale == 1 else self.layer.reduce(self.scale)
        return Image.alpha_composite(self.image.convert("RGBA"), layer).convert("RGB")


def _facts(camera: Camera, grid: VoxelGrid) -> list[str]:
    size = " x ".join(f"{n:g}" for n in np.round(grid.extent, 3))
    intrinsics = camera.intrinsics
    facts = [f"{grid.share_in_view(camera):.1%} of the grid ({size} m) in view", f"f {abs(intrinsics[0, 0]):.0f} px, camera from {camera.source}"]
    facts += [f"guessed: {', '.join(camera.guesses)}"] if camera.guesses else []
    facts += ["lattice at the bottom of the grid"] if camera.world != "ground" else []
    return [*facts, *camera.notes]
