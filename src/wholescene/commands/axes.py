"""`evaluate --by axis`: scores along depth, width and height."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wholescene.commands.printing import facts, table
from wholescene.commands.reporting import PICTURE_SUFFIXES, save_picture
from wholescene.errors import InputError

if TYPE_CHECKING:
    from wholescene.data import Dataset
    from wholescene.systems.base import System


def score_along_axes(
    system: System, dataset: Dataset, *, limit: int | None, about: dict[str, str], figure: Path | None, out: Path | None, beside: Path | None = None
) -> None:
    """Print (and write, and draw) the scores of every quarter and of the distant halves.

    Args:
        system: on its device.
        dataset: of the recipe's part.
        limit, figure, out, beside: as `wholescene evaluate` takes them.
        about: more provenance.

    Raises:
        InputError: a figure that is no picture, or what stands beside it on another grid or without a figure.
    """
    from wholescene.training.axis_figures import comparison
    from wholescene.training.axis_figures import figure as drawn
    from wholescene.training.axiswise import AxisEvaluation, evaluate_axes

    if figure is not None and figure.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"cannot draw {figure}: give a name that ends in one of {', '.join(PICTURE_SUFFIXES)}")
    if beside is not None and figure is None:
        raise InputError(f"--beside {beside} is drawn beside these scores, and no --figure PICTURE is given")
    other = AxisEvaluation.load(beside) if beside is not None else None
    found = evaluate_axes(system, dataset, frames=limit, about=about)
    for rows in (found.table(), found.group_table()):
        if rows:
            table(rows[0], rows[1:])
    facts([("IoU, mIoU of the whole", f"{100 * found.iou:.2f}, {100 * found.miou:.2f}"), *found.provenance.items()])
    if out is not None:  # first: whatever is wrong with the picture, the scores are kept
        found.save(out)
        print(f"wrote {out}")
    if figure is not None:
        pair = {} if other is None else {found.provenance["weights"]: found, f"{other.provenance.get('weights', 'the other')} (beside)": other}
        save_picture(comparison(pair) if pair else drawn(found), figure)
        print(f"wrote {figure}")
