"""Static pictures of scenes: every exposed face of every voxel, drawn with NumPy and Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wholescene.errors import InputError
from wholescene.scene import Scene
from wholescene.view.faces import Faces, back_to_front, crowding, exposed_faces, in_world, normals
from wholescene.view.raster import edge_distance, paint
from wholescene.view.scores import scores_in_words
from wholescene.view.style import BACKGROUND, QUIET, TEXT, drawn_classes, font, inset, legend, lifted, light, present, what_was_guessed
from wholescene.view.viewpoint import Lines, Viewpoint, camera_lines, fitted, floor_outline, heading, through

_FINER = 2  # drawn larger by this factor, then averaged: smooth edges


def render(
    scene: Scene, size: tuple[int, int] = (1100, 600), view: str = "behind", marked: NDArray[np.bool_] | None = None, title: str | None = None
) -> Image.Image:
    """A picture of a scene, with a title, its provenance and a legend of the classes in it.

    Args:
        scene: what to draw; unknown voxels are not drawn, and no ceiling.
        size: (width, height) of the whole picture in pixels, from 200 x 150.
        view: "behind" (behind and above the camera, looking forward: left is left), "left", "right", "above", or "camera" (its own).
        marked: (X, Y, Z) bool, voxels to draw grey and hatched; None: those outside the camera's picture, where the camera is known.
        title: its first line; None: the scene's name.

    Raises:
        InputError: an unknown view, a scene without a camera for view "camera", or a mask of another shape.
    """
    width, height = _checked(size)
    scale = _text_size(width)
    hidden = out_of_view(scene) if marked is None else marked
    strip = legend(scene.label_set, present([scene]), width, _mark(scene, hidden, marked is None), scale)
    photo = None if view == "camera" else inset(scene, (0.26 * width, 0.2 * height))
    head = _headline(width - (photo.width if photo else 0), scene.name if title is None else title, what_was_guessed(scene), scale)
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    room = (width, max(60, height - head.height - strip.height))
    canvas.paste(draw(scene, room, view, hidden, box_of([scene])), (0, head.height))
    canvas.paste(head, (0, 0))
    canvas.paste(strip, (0, height - strip.height))
    if photo:
        canvas.paste(photo, (width - photo.width - scale, scale))
    return canvas


def render_comparison(
    prediction: Scene, truth: Scene, in_view: NDArray[np.bool_] | None = None, size: tuple[int, int] = (1500, 640), view: str = "behind"
) -> Image.Image:
    """A prediction and the truth beside each other from the same viewpoint, with their scores.

    Args:
        prediction: on the left.
        truth: on the right, on the same grid; its unknown voxels are neither drawn nor scored.
        in_view: (X, Y, Z) bool, voxels inside the camera's picture; the others are hatched; None: from the camera, where it is known.
        size: (width, height) of the whole picture in pixels.
        view: as for `render`.

    Raises:
        InputError: the two differ in grid shape or label set.
    """
    checked_pair(prediction, truth)
    width, height = _checked(size)
    scale = _text_size(width)
    both = [prediction, truth]
    outside = out_of_view(*both) if in_view is None else ~np.asarray(in_view, bool)
    strip = legend(prediction.label_set, present(both), width, _mark(prediction, outside, True), scale)
    left, right = width // 2, width - width // 2
    heads = [
        _headline(left, f"{prediction.name}: completed", what_was_guessed(prediction) or "prediction", scale),
        _headline(right, "truth", scores_in_words(prediction, truth, None if outside is None else ~outside), scale),
    ]
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    top = max(head.height for head in heads)
    box = box_of(both)
    for scene, head, x, wide in zip(both, heads, (0, left), (left, right), strict=True):
        canvas.paste(head, (x, 0))
        canvas.paste(draw(scene, (wide, max(60, height - top - strip.height)), view, outside, box), (x, top))
    canvas.paste(strip, (0, height - strip.height))
    if view != "camera" and (small := inset(prediction, (0.2 * width, 0.14 * height))):
        canvas.paste(small, (left - small.width // 2, top + scale // 2))
    return canvas


def checked_pair(prediction: Scene, truth: Scene) -> None:
    """Refuse two scenes that cannot be compared voxel by voxel.

    Raises:
        InputError: they differ in grid shape or class names.
    """
    if prediction.grid.shape != truth.grid.shape or prediction.label_set.names != truth.label_set.names:
        raise InputError(
            f"{prediction.name} ({prediction.grid.shape}, {prediction.label_set.name}) and {truth.name} ({truth.grid.shape}, "
            f"{truth.label_set.name}) cannot be compared; expected one grid shape and one label set"
        )


def out_of_view(scene: Scene, other: Scene | None = None) -> NDArray[np.bool_] | None:
    """(X, Y, Z) bool, voxels occupied in the scene (or in the other one) outside the picture of the scene's camera; None where that is not known."""
    if scene.camera is None or not scene.camera.pose_known:
        return None
    anything = scene.occupied if other is None else scene.occupied | other.occupied
    index = np.argwhere(anything)
    outside = np.zeros(scene.grid.shape, bool)
    outside[anything] = ~scene.camera.sees(in_world(index + 0.5, scene.grid))
    return outside


def box_of(scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """(8, 3) world corners of the slab that holds the whole ground plan of the grid, and in height whatever is occupied in any of the scenes."""
    grid = scenes[0].grid
    solid = np.any([scene.occupied for scene in scenes], axis=0)
    levels = np.flatnonzero(solid.any(tuple(axis for axis in range(3) if axis != grid.up)))
    ends = np.array([[0, 0, 0], grid.shape])
    if levels.size:
        ends[:, grid.up] = levels[0], levels[-1] + 1
    lattice = np.array([[ends[(row >> axis) & 1, axis] for axis in range(3)] for row in range(8)])
    return in_world(lattice, grid)


def draw(scene: Scene, size: tuple[int, int], view: str, marked: NDArray[np.bool_] | None, box: NDArray[np.float64]) -> Image.Image:
    """The voxels of a scene alone, without text, in a picture of (width, height) that shows the world box (8, 3)."""
    fine = (size[0] * _FINER, size[1] * _FINER)
    viewpoint = _viewpoint(scene, view, box, fine)
    solid = drawn_classes([scene])[scene.labels]
    faces = back_to_front(exposed_faces(solid), scene.grid, viewpoint.eye)
    quads, depth = viewpoint.project(faces.corners(scene.grid))
    before = depth.min(1) > 0.25 * min(scene.grid.voxel_size)
    faces, quads = faces[before], quads[before]
    seen = paint(quads, fine)
    image = Image.new("RGB", fine, BACKGROUND)
    if view != "camera":
        _lines(image, viewpoint, floor_outline(scene.grid, float(box[:, 2].min())), (84, 90, 99))
    pixels = np.asarray(image).copy()
    hit = np.flatnonzero(seen.ravel() >= 0)
    pixels.reshape(-1, 3)[hit] = _shaded(scene, solid, faces, quads, seen.ravel()[hit], hit, fine[0], marked)
    image = Image.fromarray(pixels)
    if view != "camera":
        _lines(image, viewpoint, camera_lines(scene.camera, 0.08 * float(scene.grid.extent.max())), (255, 255, 255))
    return image.resize(size, Image.Resampling.BOX)


def _shaded(
    scene: Scene, solid: NDArray[np.bool_], faces: Faces, quads: NDArray[np.float64], owner: NDArray[np.int32], pixel: NDArray[np.int64],
    width: int, marked: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:  # fmt: skip
    """(P, 3) colours of the pixels `pixel` (flat) that show the faces `owner`."""
    index = tuple(faces.voxels.T)
    bright = light(normals(scene.grid))[faces.directions] * (1 - 0.055 * crowding(solid, faces))
    colours = lifted(scene.label_set.palette()[scene.labels[index]])
    y, x = np.divmod(pixel, width)
    colour = colours[owner] * bright.astype(np.float32)[owner, None]
    large = np.clip(np.minimum(*(quads.max(1) - quads.min(1)).T) / _FINER / 6 - 1, 0, 1)  # small faces have no edge worth drawing
    wide = np.flatnonzero(large[owner] > 0)
    near = edge_distance(quads[owner[wide]], np.stack([x[wide], y[wide]], -1) + 0.5)
    colour[wide] *= (1 - 0.28 * large[owner[wide]] * np.clip(1.5 - near / _FINER, 0, 1))[:, None]
    if marked is not None:
        dim = np.flatnonzero(marked[index][owner])
        grey = colour[dim] @ np.array([0.3, 0.59, 0.11], np.float32)
        stripe = np.where((x[dim] + y[dim]) % (6 * _FINER) < 3 * _FINER, 0.5, 0.72)
        colour[dim] = (0.45 * colour[dim] + 0.55 * grey[:, None] + 16) * stripe[:, None]
    return np.clip(colour, 0, 255).astype(np.uint8)


def _viewpoint(scene: Scene, view: str, box: NDArray[np.float64], size: tuple[int, int]) -> Viewpoint:
    if view != "camera":
        return fitted(view, box, size, heading(scene.camera))
    if scene.camera is None or not scene.camera.pose_known:
        raise InputError(f'{scene.name} has no camera with a known pose, so it has no view "camera"; take "behind" or "above"')
    return through(scene.camera, size)


def _lines(image: Image.Image, viewpoint: Viewpoint, pairs: Lines, colour: tuple[int, int, int]) -> None:
    pen = ImageDraw.Draw(image)
    for start, end in pairs:
        pixels, depth = viewpoint.project(np.stack([start, end]))
        if depth.min() > 1e-6:
            pen.line([tuple(p) for p in pixels.tolist()], fill=colour, width=_FINER)


def _headline(width: int, title: str, below: str, scale: int) -> Image.Image:
    head = Image.new("RGB", (width, round(scale * 3.4)), BACKGROUND)
    pen = ImageDraw.Draw(head)
    pen.text((scale, scale * 0.7), _shortened(title, width - 2 * scale, scale * 1.25), fill=TEXT, font=font(scale * 1.25))
    pen.text((scale, scale * 2.25), _shortened(below, width - 2 * scale, scale * 0.9), fill=QUIET, font=font(scale * 0.9))
    return head


def _shortened(text: str, width: float, size: float) -> str:
    text = " ".join(text[:500].split())
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _mark(scene: Scene, hidden: NDArray[np.bool_] | None, out: bool) -> str:
    """What the hatching means, in words; empty where nothing is hatched."""
    if hidden is None:
        return ""
    if hidden.shape != scene.grid.shape:
        raise InputError(f"{scene.name}: the marked voxels have the shape {hidden.shape}; expected the grid's {scene.grid.shape}")
    if not (hidden & scene.occupied).any():
        return ""
    return "outside the camera's picture" if out else "marked"


def _text_size(width: int) -> int:
    return int(np.clip(width / 76, 11, 18))


def _checked(size: tuple[int, int]) -> tuple[int, int]:
    width, height = int(size[0]), int(size[1])
    if not (200 <= width <= 8000 and 150 <= height <= 8000):
        raise InputError(f"a picture of {width} x {height} pixels; expected 200 x 150 to 8000 x 8000")
    return width, height
