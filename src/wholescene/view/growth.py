"""How refinement's mask grows: for every step the active voxels on the picture, and the answer after it, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wholescene.scene import Scene
from wholescene.view.render import box_of, draw
from wholescene.view.style import BACKGROUND, QUIET, TEXT, font, legend, present

_STAYED, _ENTERED, _LEFT = (90, 170, 255), (110, 235, 110), (255, 95, 85)
_WIDTH = 460  # of a column
_PLAN = 200  # height of the plan from above


@dataclass(frozen=True)
class Stage:
    """One step of refinement.

    Attributes:
        scene: the answer after it.
        active: (x, y, z) bool, the voxels it worked on, on a grid of the scene's box that may be coarser; None for the coarse answer.
    """

    scene: Scene
    active: NDArray[np.bool_] | None


def draw_growth(stages: Sequence[Stage], title: str, below: str = "") -> Image.Image:
    """One column a step: its active voxels on the picture and from above (green: new in this step, blue: active before, red: no longer), and the
    answer after it.

    Args:
        stages: the coarse answer first.
        title: of the whole.
        below: a line under it.
    """
    scenes = [stage.scene for stage in stages]
    box = box_of(scenes)
    masks = [stage.active for stage in stages]
    columns = []
    for i, stage in enumerate(stages):
        before = masks[i - 1] if i > 1 else None
        columns.append(_column(i, stage, before, box))
    strip = legend(scenes[0].label_set, present(scenes), _WIDTH * len(columns))
    tallest = max(column.height for column in columns)
    canvas = Image.new("RGB", (_WIDTH * len(columns), 58 + tallest + strip.height), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((14, 8), title, fill=TEXT, font=font(18))
    x = 14.0
    for words, colour in ((below, QUIET), ("new in this step", _ENTERED), ("active before, too", _STAYED), ("no longer active", _LEFT)):
        pen.text((x, 34), words, fill=colour, font=font(13))
        x += font(13).getlength(words) + 22
    for i, column in enumerate(columns):
        canvas.paste(column, (i * _WIDTH, 58))
    canvas.paste(strip, (0, 58 + tallest))
    return canvas


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below one another, on the ground of our drawings."""
    canvas = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)), BACKGROUND)
    top = 0
    for one in pictures:
        canvas.paste(one, (0, top))
        top += one.height
    return canvas


def _column(step: int, stage: Stage, before: NDArray[np.bool_] | None, box: NDArray[np.float64]) -> Image.Image:
    picture = _on_picture(stage, before)
    plan = _from_above(stage, before)
    answer = draw(stage.scene, (_WIDTH, 260), "behind", None, box)
    parts = [part for part in (picture, plan or Image.new("RGB", (_WIDTH - 10, _PLAN), BACKGROUND), answer) if part is not None]
    column = Image.new("RGB", (_WIDTH, 30 + sum(part.height + 6 for part in parts)), BACKGROUND)
    share = "coarse answer" if stage.active is None else f"step {step}: {stage.active.mean():.1%} of the voxels active"
    ImageDraw.Draw(column).text((10, 6), f"{share}, {int(stage.scene.occupied.sum()):,} occupied after it", fill=TEXT, font=font(13))
    top = 30
    for part in parts:
        column.paste(part, ((_WIDTH - part.width) // 2, top))
        top += part.height + 6
    return column


def _states(active: NDArray[np.bool_], before: NDArray[np.bool_] | None) -> list[tuple[NDArray[np.bool_], tuple[int, int, int]]]:
    """Voxels that left, that stayed and that came, each with its colour; in the first step all came before."""
    if before is None:
        return [(active, _STAYED)]
    return [(before & ~active, _LEFT), (active & before, _STAYED), (active & ~before, _ENTERED)]


def _on_picture(stage: Stage, before: NDArray[np.bool_] | None) -> Image.Image | None:
    """The picture with a dot where the centre of a voxel falls, far ones first."""
    scene = stage.scene
    if scene.picture is None or scene.camera is None:
        return None
    scale = (_WIDTH - 10) / scene.camera.width
    size = (_WIDTH - 10, max(1, round(scene.camera.height * scale)))
    image = Image.fromarray(scene.picture).resize(size, Image.Resampling.BILINEAR)
    if stage.active is None:
        return image
    image = Image.blend(image, Image.new("RGB", size, (20, 22, 26)), 0.45)
    pen = ImageDraw.Draw(image)
    x, y, z = (n // m for n, m in zip(scene.grid.shape, stage.active.shape, strict=True))
    grid = scene.grid.coarser((x, y, z))
    dots = []
    for mask, colour in _states(stage.active, before):
        centres = grid.centres()[mask]
        pixels, depth = scene.camera.project(centres)
        dots += [(float(z), float(u) * scale, float(v) * scale, colour) for (u, v), z in zip(pixels[depth > 0.5], depth[depth > 0.5], strict=True)]
    for z, u, v, colour in sorted(dots, key=lambda dot: -dot[0]):
        reach = float(np.clip(6 / z, 0.5, 2.5))
        pen.ellipse([u - reach, v - reach, u + reach, v + reach], fill=colour)
    return image


def _from_above(stage: Stage, before: NDArray[np.bool_] | None) -> Image.Image | None:
    """A plan, forward to the right and left up: brighter where more voxels of a column are active."""
    if stage.active is None:
        return None
    grid, frame = stage.scene.grid, Image.new("RGB", (_WIDTH - 10, _PLAN), BACKGROUND)
    height = stage.active.shape[grid.up]
    shown: NDArray[np.float64] = np.zeros((*(n for axis, n in enumerate(stage.active.shape) if axis != grid.up), 3))
    for mask, colour in _states(stage.active, before):
        share = np.minimum(mask.sum(grid.up) / height * 3, 1.0)[..., None]
        shown = np.where(share > 0, np.maximum(shown, (0.35 + 0.65 * share) * np.asarray(colour)), shown)
    if grid.forward > grid.left:
        shown = shown.swapaxes(0, 1)
    plan = Image.fromarray(np.rint(shown.swapaxes(0, 1)[::-1]).astype(np.uint8))
    factor = min(frame.width / plan.width, frame.height / plan.height)
    plan = plan.resize((max(1, round(plan.width * factor)), max(1, round(plan.height * factor))), Image.Resampling.NEAREST)
    frame.paste(plan, ((frame.width - plan.width) // 2, 0))
    return frame
