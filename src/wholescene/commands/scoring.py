"""`evaluate` by the number of refinement steps, and under disturbances; what the variants of a study cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from wholescene.commands.printing import facts, show, table, warn
from wholescene.commands.reporting import PICTURE_SUFFIXES, save_picture
from wholescene.errors import InputError
from wholescene.files import write_text

if TYPE_CHECKING:
    from wholescene.data import Dataset
    from wholescene.systems.base import System
    from wholescene.training.study import Study


def score_specially(
    system: System,
    dataset: Dataset,
    *,
    steps: str | None,
    disturb: str | None,
    limit: int | None,
    about: dict[str, str],
    figure: Path | None,
    out: Path | None,
) -> None:
    """Print (and write) scores by steps, or under disturbances, or under disturbances by steps.

    Args:
        system: on its device.
        dataset: of the recipe's part.
        steps, disturb, limit, figure, out: as `wholescene evaluate` takes them.
        about: more provenance.

    Raises:
        InputError: numbers or names that cannot be read, or a figure that is no picture.
    """
    from wholescene.data.disturb import suite
    from wholescene.training import anytime
    from wholescene.training.data import Remembered
    from wholescene.training.evaluate import spread
    from wholescene.training.robustness import robustness

    numbers = anytime.parse_steps(steps) if steps is not None else None
    if figure is not None and disturb is None:
        raise InputError(f"cannot draw {figure}: --figure draws disturbed scores, and none are asked for; give --disturb")
    if figure is not None and figure.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"cannot draw {figure}: a figure is a picture; let its name end in {', '.join(PICTURE_SUFFIXES)}")
    kept = Remembered(dataset)  # every frame is scored many times
    if len(spread(len(dataset), limit)) > 500:
        kept = dataset  # type: ignore[assignment]  # too many to remember
    if disturb is None:
        assert numbers is not None
        results = anytime.by_steps(system, kept, numbers, frames=limit, about=about)
        header, *rows = anytime.table(results)
        table(header, rows)
        said = results[-1].evaluation.provenance
        facts({**said, "system": system.name, "steps": ", ".join(str(r.steps) for r in results)}.items())
        for doubt in anytime.doubts(results):
            warn(doubt)
        if out is not None:
            write_text(out, json.dumps(anytime.as_dict(results), indent=1))
            print(f"wrote {out}")
        return
    found = robustness(system, kept, suite(disturb), steps=numbers or (None,), frames=limit, about=about, say=print)
    show(found, out)  # first: whatever is wrong with the picture, the scores are kept
    for doubt in found.doubts():
        warn(doubt)
    if figure is not None:
        save_picture(found.figure(f"{system.name} under disturbances: {about.get('recipe', '')}"), figure)
        print(f"wrote {figure}")


def print_costs(study: Study, folder: Path, out: Path | None) -> None:
    """Measure what the variants of a study cost, and print (and write) it.

    Args:
        study: what is compared.
        folder: of its runs, if there are any.
        out: JSON to write.
    """
    from wholescene.training.costs import costs

    found = costs(study, folder, say=warn)
    show(found, out)
