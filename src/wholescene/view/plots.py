"""Line plots side by side as one picture: scores along the axes of a volume (like figures 2 and 5 of ScanSSC)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from wholescene.view.style import BACKGROUND, QUIET, TEXT, font

Colour = tuple[int, int, int]
LINES: tuple[Colour, ...] = ((90, 170, 255), (255, 170, 60), (110, 220, 120), (255, 100, 120), (190, 140, 255), (120, 220, 220))
_FILL = (58, 63, 70)
_SIZE, _LEFT, _RIGHT, _TOP, _BOTTOM = (560, 360), 52, 14, 44, 42
_LEGEND = 34


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        title: above it.
        x: (n,) places of the bins, rising.
        x_label: below it.
        lines: name -> (n,) values.
        background: (n,) shares, drawn as filled steps scaled to their largest; empty for none.
        parts: names of equal parts of the x axis, marked by dotted lines.
    """

    title: str
    x: Sequence[float]
    x_label: str
    lines: Mapping[str, Sequence[float]]
    background: Sequence[float] = ()
    parts: Sequence[str] = field(default=())


def draw(panels: Sequence[Panel], background: str = "") -> Image.Image:
    """The panels side by side, each line in its own colour, with one legend; `background` says what the filled steps are.

    All panels hold the same names of lines; values start at 0 and each panel's scale ends at the next tenth above its largest.
    """
    width, height = _SIZE
    whole = Image.new("RGB", (width * len(panels), height + _LEGEND), BACKGROUND)
    names = list(panels[0].lines) if panels else []
    for i, panel in enumerate(panels):
        whole.paste(_drawn(panel), (i * width, 0))
    _legend(whole, names, background, height)
    return whole


def _drawn(panel: Panel) -> Image.Image:
    picture = Image.new("RGB", _SIZE, BACKGROUND)
    pen, face = ImageDraw.Draw(picture), font(14)
    largest = max((max(values, default=0.0) for values in panel.lines.values()), default=0.0)
    top = max(0.1, float(np.ceil(largest * 10 - 1e-9)) / 10)
    x = np.asarray(panel.x, np.float64)
    step = float(np.diff(x).mean()) if len(x) > 1 else 1.0
    start, stop = float(x[0]) - step / 2, float(x[-1]) + step / 2

    def place(value: float, share: float) -> tuple[float, float]:
        right, bottom = _SIZE[0] - _RIGHT, _SIZE[1] - _BOTTOM
        return _LEFT + (value - start) / (stop - start) * (right - _LEFT), bottom - share * (bottom - _TOP)

    _fill(pen, panel, place, step)
    for tick in np.linspace(0, top, 6):
        at = place(start, tick / top)
        pen.line([at, place(stop, tick / top)], fill=_FILL)
        pen.text((at[0] - 6, at[1]), f"{tick:.2f}", fill=QUIET, font=font(11), anchor="rm")
    for i, name in enumerate(panel.parts):
        left, right = (start + (stop - start) * (i + j) / len(panel.parts) for j in (0, 1))
        if i:
            _dotted(pen, place(left, 0), place(left, 1))
        pen.text((place((left + right) / 2, 1)[0], _TOP - 4), name, fill=QUIET, font=font(12), anchor="mb")
    for tick in np.linspace(start, stop, 5):
        pen.text((place(tick, 0)[0], _SIZE[1] - _BOTTOM + 4), f"{round(float(tick), 6) + 0.0:.4g}", fill=QUIET, font=font(11), anchor="mt")
    for values, colour in zip(panel.lines.values(), colours_of(panel.lines).values(), strict=True):
        points = [place(float(a), float(v) / top) for a, v in zip(x, values, strict=True)]
        draw_line(pen, points, colour, 2 if len(points) <= 64 else 0)
    pen.text((_SIZE[0] / 2, 8), panel.title, fill=TEXT, font=font(16), anchor="mt")
    pen.text((_SIZE[0] / 2, _SIZE[1] - 6), panel.x_label, fill=TEXT, font=face, anchor="mb")
    return picture


def _fill(pen: ImageDraw.ImageDraw, panel: Panel, place: object, step: float) -> None:
    largest = max(panel.background, default=0.0)
    if not largest:
        return
    for value, share in zip(panel.x, panel.background, strict=True):
        left, right = place(value - step / 2, share / largest), place(value + step / 2, 0)  # type: ignore[operator]  # the panel's own scale
        pen.rectangle((left[0], left[1], max(left[0], right[0] - 0.5), right[1]), fill=_FILL)


def _dotted(pen: ImageDraw.ImageDraw, low: tuple[float, float], high: tuple[float, float]) -> None:
    for y in np.arange(high[1], low[1], 6):
        pen.line([(low[0], y), (low[0], min(y + 3, low[1]))], fill=QUIET)


def _legend(whole: Image.Image, names: Sequence[str], background: str, top: int) -> None:
    draw_legend(ImageDraw.Draw(whole), {**colours_of(names), **({background: _FILL} if background else {})}, (20, top + 15), 14)


def colours_of(names: Iterable[str]) -> dict[str, Colour]:
    """A colour for each line."""
    return {name: LINES[i % len(LINES)] for i, name in enumerate(names)}


def draw_line(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: Colour, dot: int) -> None:
    """A line through the points, with dots of that radius on them."""
    pen.line(points, fill=colour, width=2)
    for x, y in points if dot else ():
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=colour)


def draw_legend(pen: ImageDraw.ImageDraw, entries: Mapping[str, Colour], start: tuple[float, float], size: int) -> None:
    """Bars and their names in one row.

    Args:
        entries: name -> colour.
        start: left end of the row, and its middle.
        size: of the letters, pixels.
    """
    x, y = start
    for name, colour in entries.items():
        pen.rectangle((x, y - 3, x + 22, y + 3), fill=colour)
        pen.text((x + 28, y), name, fill=TEXT, font=font(size), anchor="lm")
        x += 52 + font(size).getlength(name)
