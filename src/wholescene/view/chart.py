"""Small line charts side by side, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from wholescene.view.plots import Colour, colours_of, draw_legend, draw_line
from wholescene.view.style import BACKGROUND, QUIET, TEXT, font

_ROOM = (300, 210)  # of a chart, with its words
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 30, 42


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: above it.
        marks: names of the points on the horizontal axis, evenly spaced.
        unit: below them.
        series: name -> one value a mark; NaN leaves a gap.
    """

    title: str
    marks: Sequence[str]
    unit: str
    series: Mapping[str, Sequence[float]]


def draw_charts(charts: Sequence[Chart], title: str, below: str = "", columns: int = 4, base: float | None = None) -> Image.Image:
    """All charts on one picture, with one vertical scale and one legend.

    Args:
        charts: at least one.
        title: of the whole.
        below: a line under it: what was measured on what.
        columns: charts a row.
        base: a value at which a line is drawn through all charts.
    """
    values = [v for chart in charts for series in chart.series.values() for v in series if math.isfinite(v)]
    low, high = min([*values, *([] if base is None else [base]), 0.0]), max([*values, *([] if base is None else [base]), 1e-9])
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    canvas = Image.new("RGB", (max(columns * _ROOM[0], 480), rows * _ROOM[1] + 86), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((14, 8), title, fill=TEXT, font=font(17))
    pen.text((14, 32), below, fill=QUIET, font=font(12))
    colours = colours_of(dict.fromkeys(name for chart in charts for name in chart.series))
    draw_legend(pen, colours, (14, 64), 12)
    for i, chart in enumerate(charts):
        corner = ((i % columns) * _ROOM[0], 80 + (i // columns) * _ROOM[1])
        _draw(pen, chart, corner, (low, high * 1.05), colours, base)
    return canvas


def _draw(
    pen: ImageDraw.ImageDraw, chart: Chart, corner: tuple[int, int], span: tuple[float, float], colours: Mapping[str, Colour],
    base: float | None,
) -> None:  # fmt: skip
    """One chart with its axes."""
    left, right = corner[0] + _LEFT, corner[0] + _ROOM[0] - _RIGHT
    top, bottom = corner[1] + _TOP, corner[1] + _ROOM[1] - _BOTTOM

    def height(value: float) -> float:
        return bottom - (value - span[0]) / (span[1] - span[0]) * (bottom - top)

    pen.text((left, corner[1] + 8), chart.title, fill=TEXT, font=font(13))
    for value in _ticks(*span):
        pen.line([(left, height(value)), (right, height(value))], fill=(60, 65, 72))
        text = f"{value:g}"
        pen.text((left - 6 - font(11).getlength(text), height(value) - 7), text, fill=QUIET, font=font(11))
    if base is not None:
        pen.line([(left, height(base)), (right, height(base))], fill=QUIET)
    places = [left + (i + 0.5) * (right - left) / len(chart.marks) for i in range(len(chart.marks))]
    for place, mark in zip(places, chart.marks, strict=True):
        pen.text((place - font(11).getlength(mark) / 2, bottom + 4), mark, fill=QUIET, font=font(11))
    pen.text((left, bottom + 19), chart.unit, fill=QUIET, font=font(11))
    for i, (name, series) in enumerate(chart.series.items()):
        points = [(place, height(value)) for place, value in zip(places, series, strict=True) if math.isfinite(value)]
        draw_line(pen, points, colours[name], 3 + 2 * (len(chart.series) - 1 - i))  # smaller dots on top: of equal lines both show


def _ticks(low: float, high: float) -> list[float]:
    """Round values within a span, about five.

    >>> _ticks(0.0, 1.1)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
