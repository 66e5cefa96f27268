"""What one query looks at: its places on the picture, and the scene from above and from the side (as figure 5 of Symphonies shows it)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wholescene.grid import VoxelGrid
from wholescene.labels import EMPTY, UNKNOWN, LabelSet
from wholescene.view.style import BACKGROUND, QUIET, TEXT, font

Array = NDArray[np.floating]

_WIDE, _GAP, _LINE = 1200, 16, 26
_HEAT = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float64)  # dark to bright
_POINT = (90, 255, 200)


def draw_attention(
    picture: NDArray[np.uint8],
    point: tuple[float, float],
    pixels: Array,
    pixel_weights: Array,
    grid: VoxelGrid,
    heard: Array,
    voxels: Array,
    voxel_weights: Array,
    labels: NDArray[np.uint8],
    label_set: LabelSet,
    caption: str,
) -> Image.Image:
    """One picture: the photo with what the query reads of it, and the scene seen from above and from its right side.

    Args:
        picture: (H, W, 3) uint8.
        point: (u, v) pixel that the query belongs to.
        pixels, pixel_weights: (n, 2) pixels that it reads and (n,) how much each counts.
        grid: of the scene, of the shape of `heard`.
        heard: (X, Y, Z) how much attention each voxel pays to the query.
        voxels, voxel_weights: (m, 3) places in voxels of `grid` that it reads and (m,) how much each counts.
        labels: (X', Y', Z') uint8 what is in the scene, on a grid of the same box.
        label_set: of the labels.
        caption: a line below.
    """
    photo = _photo(picture, point, pixels, pixel_weights)
    above, classes, side = scene_panels(grid, heard, voxels, voxel_weights, labels, label_set)
    half = ((_WIDE - _GAP) // 2, round(_WIDE * 0.45))
    above, classes, side = _fitted(above, half), _fitted(classes, half), _fitted(side, (_WIDE, round(_WIDE * 0.2)))
    below = photo.height + _LINE + above.height + _LINE
    whole = Image.new("RGB", (_WIDE, below + side.height + 2 * _LINE), BACKGROUND)
    whole.paste(photo, (0, 0))
    draw, face = ImageDraw.Draw(whole), font(15)
    places = {
        "attention to the query above the usual, from above (ahead is up)": (above, 0, photo.height + _LINE),
        "what was predicted, from above": (classes, (_WIDE + _GAP) // 2, photo.height + _LINE),
        "attention to the query above the usual, from the side (ahead is right)": (side, 0, below),
    }
    for title, (panel, left, top) in places.items():
        draw.text((left + 4, top - _LINE / 2), title, fill=QUIET, font=face, anchor="lm")
        whole.paste(panel, (left, top))
    draw.text((4, whole.height - _LINE), caption, fill=TEXT, font=face, anchor="lm")
    return whole


def scene_panels(
    grid: VoxelGrid, heard: Array, voxels: Array, voxel_weights: Array, labels: NDArray[np.uint8], label_set: LabelSet
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The attention from above (ahead up, left left), the classes from above, and the attention from the side (ahead right, up up); arguments as
    for `draw_attention`."""
    order = (grid.forward, grid.left, grid.up)
    extent, labels, heat = grid.extent[list(order)], labels.transpose(order), _above_the_usual(heard).transpose(order)
    colours = label_set.palette()[labels]
    grey = np.repeat(colours.mean(-1, keepdims=True) * 0.45, 3, -1).astype(np.uint8)
    reads, nothing = (voxels[:, order], voxel_weights), (np.zeros((0, 3)), np.zeros(0))
    above = _along(2, extent, heat, grey, labels, *reads).transpose(Image.Transpose.ROTATE_180)
    classes = _along(2, extent, np.zeros_like(heat), colours, labels, *nothing).transpose(Image.Transpose.ROTATE_180)
    return above, classes, _along(1, extent, heat, grey, labels, *reads).transpose(Image.Transpose.ROTATE_90)


def _photo(picture: NDArray[np.uint8], point: tuple[float, float], pixels: Array, weights: Array) -> Image.Image:
    """The photo, darkened where nothing is read, with a dot a place and a cross at the query's own point."""
    zoom = _WIDE / picture.shape[1]
    size = (_WIDE, max(1, round(picture.shape[0] * zoom)))
    image = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR), np.float64)
    heat = spread(pixels * zoom, weights, (size[1], size[0]), sigma=0.02 * _WIDE)
    lit = Image.fromarray((image * (0.45 + 0.55 * heat[..., None])).astype(np.uint8))
    lit = Image.blend(lit, Image.fromarray(heat_colours(heat)), 0.25)
    draw = ImageDraw.Draw(lit)
    strongest = float(weights.max()) if len(weights) else 1.0
    for (u, v), weight in zip(pixels * zoom, weights, strict=True):
        radius = 1.5 + 6 * np.sqrt(weight / strongest)
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), outline=(255, 255, 255))
    u, v = (c * zoom for c in point)
    for ends in (((u - 12, v), (u + 12, v)), ((u, v - 12), (u, v + 12))):
        draw.line(ends, fill=_POINT, width=3)
    return lit


def _above_the_usual(heard: Array) -> Array:
    """0..1: how much more attention than the middle one of those that pay any."""
    paid = heard[heard > 0]
    usual, most = (float(np.median(paid)), float(paid.max())) if paid.size else (0.0, 1.0)
    return np.clip((heard - usual) / max(most - usual, 1e-12), 0, 1)


def _along(
    axis: int, extent: Array, heat: Array, colours: NDArray[np.uint8], labels: NDArray[np.uint8], voxels: Array, weights: Array
) -> Image.Image:
    """The scene along an axis, of volumes whose axes are forward, left and up: the strongest attention on each line, over what stands there. Rows
    and columns of the image run along the two other axes."""
    rest = [a for a in range(3) if a != axis]
    occupied = (labels != EMPTY) & (labels != UNKNOWN)
    last = labels.shape[axis] - 1 - np.flip(occupied, axis).argmax(axis)  # the nearest to who looks against the axis
    seen = np.take_along_axis(colours, np.expand_dims(last, (axis, 3)), axis).squeeze(axis) * occupied.any(axis)[..., None]
    strongest = heat.max(axis)
    finer = [n // m for n, m in zip(seen.shape, strongest.shape, strict=False)]
    fine = np.kron(strongest, np.ones(finer))
    image = np.clip((1 - fine[..., None]) * seen + fine[..., None] * heat_colours(fine), 0, 255).astype(np.uint8)
    edges = [extent[a] / n for a, n in zip(rest, image.shape, strict=False)]
    zoom = max(1, round(480 / max(image.shape)))
    steps = (zoom, max(1, round(zoom * edges[1] / edges[0])))
    drawn = Image.fromarray(np.kron(image, np.ones((*steps, 1), np.uint8)))
    draw = ImageDraw.Draw(drawn)
    for place, weight in zip(voxels[:, rest] * finer * steps, weights, strict=True):
        radius = 1.5 + 5 * np.sqrt(weight / weights.max())
        draw.ellipse((place[1] - radius, place[0] - radius, place[1] + radius, place[0] + radius), outline=_POINT)
    return drawn


def spread(places: Array, weights: Array, size: tuple[int, int], sigma: float) -> NDArray[np.float64]:
    """(h, w) in 0..1: a bell curve of that width in pixels around each place (n, 2) (x, y), as high as its weight; summed, over the largest sum."""
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    total = np.zeros(size)
    for (x, y), weight in zip(places, weights, strict=True):
        total += weight * np.exp(-((rows - y) ** 2) / (2 * sigma**2)) * np.exp(-((columns - x) ** 2) / (2 * sigma**2))
    return total / total.max() if total.max() > 0 else total


def heat_colours(heat: Array) -> NDArray[np.uint8]:
    """(..., 3) colours of values in 0..1."""
    place = np.clip(heat, 0, 1) * (len(_HEAT) - 1)
    return np.stack([np.interp(place, np.arange(len(_HEAT)), _HEAT[:, c]) for c in range(3)], -1).astype(np.uint8)


def _fitted(image: Image.Image, most: tuple[int, int]) -> Image.Image:
    zoom = min(most[0] / image.width, most[1] / image.height)
    return image.resize((max(1, round(image.width * zoom)), max(1, round(image.height * zoom))), Image.Resampling.BILINEAR)
