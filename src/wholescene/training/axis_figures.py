"""Figures of scores along the axes: one system with all its scores, or several with one of them (like figures 2 and 5 of ScanSSC)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from PIL.Image import Image

from wholescene.errors import InputError
from wholescene.training.axiswise import AXES, QUARTERS, AxisEvaluation
from wholescene.view.plots import Panel, draw

_LABELS = {"depth": "metres from the near end", "width": "metres from the middle, positive to the left", "height": "metres from the bottom"}
_SCORES = (("recall", "recall"), ("iou", "IoU"), ("miou", "mIoU"))


def figure(found: AxisEvaluation) -> Image:
    """Recall, IoU and mIoU of every bin, before the share of the occupied voxels that lie there (figure 2)."""
    panels = []
    for axis in AXES:
        bins = found.bins[axis]
        lines = {name: [getattr(b, what) for b in bins] for what, name in _SCORES}
        panels.append(Panel(axis, found.positions[axis], _LABELS[axis], lines, [b.occupied for b in bins], QUARTERS))
    return draw(panels, "occupied voxels")


def comparison(found: Mapping[str, AxisEvaluation], what: Literal["recall", "iou", "miou"] = "miou") -> Image:
    """One score of several systems, bin by bin (figure 5).

    Raises:
        InputError: none given, or grids that differ.
    """
    first = next(iter(found.values()), None)
    if first is None or any(one.positions != first.positions for one in found.values()):
        raise InputError("a comparison along the axes wants evaluations on one grid; score all systems on the same recipe")
    panels = []
    for axis in AXES:
        lines = {name: [getattr(b, what) for b in one.bins[axis]] for name, one in found.items()}
        title = f"{dict(_SCORES)[what]} along {axis}"
        panels.append(Panel(title, first.positions[axis], _LABELS[axis], lines, [b.occupied for b in first.bins[axis]], QUARTERS))
    return draw(panels, "occupied voxels")
