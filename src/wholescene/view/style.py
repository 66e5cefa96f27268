"""How scenes look, in pictures and on the page alike: light, background, text, legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from wholescene.labels import EMPTY, UNKNOWN, LabelSet
from wholescene.scene import Scene

BACKGROUND = (27, 30, 34)
TEXT = (232, 234, 237)
QUIET = (160, 166, 175)
SUN = np.array([-0.38, 0.44, 0.81]) / np.linalg.norm([-0.38, 0.44, 0.81])  # towards the sun: behind, to the left, high


def light(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) how bright faces with unit normals (N, 3) are: the sun, and a sky that lights what looks up."""
    return 0.50 + 0.42 * np.maximum(0.0, normals @ SUN) + 0.14 * normals[:, 2]


def lifted(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 3) float32 colours as they are lit: a little lighter in the dark, so that a class near black still shows on the background."""
    return 26 + colours.astype(np.float32) * (229 / 255)


def font(size: float) -> Any:
    """Pillow's own typeface at that size in pixels; its fixed small one where Pillow was built without FreeType."""
    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError, OSError):
        return ImageFont.load_default()


def drawn_classes(scenes: Sequence[Scene]) -> NDArray[np.bool_]:
    """(256,) which labels are drawn: all but empty and unknown, and no ceiling, which would hide a room from above."""
    drawn = np.ones(256, bool)
    drawn[[EMPTY, UNKNOWN]] = False
    for scene in scenes:
        if "ceiling" in scene.label_set.names:
            drawn[scene.label_set.names.index("ceiling")] = False
    return drawn


def present(scenes: Sequence[Scene]) -> list[int]:
    """Classes that occur in any of the scenes, in the order of the label set."""
    counts = sum(np.bincount(scene.labels.ravel(), minlength=256) for scene in scenes)
    return [label for label in range(1, scenes[0].label_set.classes) if np.asarray(counts)[label]]


def what_was_guessed(scene: Scene) -> str:
    """The provenance in one line: system, weights, share of the grid in view, and what was guessed."""
    held = scene.provenance
    parts = [str(held[key]) for key in ("system", "weights") if held.get(key)]
    if isinstance(held.get("share_in_view"), int | float):
        parts.append(f"{held['share_in_view']:.0%} of the grid in view")
    guesses = held.get("guesses")
    if isinstance(guesses, list | tuple) and guesses:
        parts.append("guessed: " + ", ".join(str(guess) for guess in guesses))
    return " · ".join(parts)


def inset(scene: Scene, most: tuple[float, float]) -> Image.Image | None:
    """The picture that the scene was made from, fitted into (width, height) and framed; None where it has none."""
    if scene.picture is None or 0 in scene.picture.shape:
        return None
    small = Image.fromarray(scene.picture)
    zoom = min(most[0] / small.width, most[1] / small.height)
    small = small.resize((max(1, round(small.width * zoom)), max(1, round(small.height * zoom))), Image.Resampling.LANCZOS)
    return ImageOps.expand(small, 1, (200, 204, 210))


def hatched(size: int) -> Image.Image:
    """A swatch that looks like what is marked."""
    square = np.full((size, size, 3), 150.0)
    rows, columns = np.indices((size, size))
    square[(rows + columns) % 6 < 3] *= 0.55
    return Image.fromarray(square.astype(np.uint8))


def legend(label_set: LabelSet, labels: Sequence[int], width: int, mark: str = "", size: int = 15) -> Image.Image:
    """A strip `width` pixels wide with a swatch and a name for each label, and for the marked voxels if `mark` says what they are."""
    face = font(size)
    entries = [(label_set.names[label], Image.new("RGB", (size, size), label_set.colours[label])) for label in labels]
    if "ceiling" in label_set.names and label_set.names.index("ceiling") in labels:
        index = list(labels).index(label_set.names.index("ceiling"))
        entries[index] = ("ceiling (not drawn)", entries[index][1])
    if mark:
        entries.append((mark, hatched(size)))
    places, x, row = [], 0, 0
    line = round(size * 1.75)
    for name, _ in entries:
        needs = size * 2.3 + face.getlength(name)
        if x and x + needs > width - size:
            x, row = 0, row + 1
        places.append((x, row))
        x += round(needs)
    strip = Image.new("RGB", (width, (row + 1) * line + size // 2 if entries else 1), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for (name, swatch), (x, row) in zip(entries, places, strict=True):
        left, top = x + size, row * line + size // 4
        strip.paste(swatch, (left, top))
        draw.rectangle((left, top, left + size - 1, top + size - 1), outline=(110, 115, 122))
        draw.text((left + size * 1.4, top + size / 2), name, fill=TEXT, font=face, anchor="lm")
    return strip
