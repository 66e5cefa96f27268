"""Does the far field gain? Scores the runs of a study along the axes and compares every variant with the first, quarter by quarter.

    wholescene study scanssc-scan --out runs/scanssc-scan
    python benchmarks/far_field.py scanssc-scan runs/scanssc-scan [--score miou|iou|recall] [--figure far_field.png]

Each run's scores are kept beside its weights (axes-KEY.json, KEY that of its recipe). A difference within the two
spreads over seeds together is called undecided, as in a study.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seeds_of import scored

from wholescene.commands.printing import table
from wholescene.systems.base import System
from wholescene.training import study as studies
from wholescene.training.axis_figures import comparison
from wholescene.training.axiswise import AXES, QUARTERS, AxisEvaluation, evaluate_axes
from wholescene.training.data import Remembered


def score(system: System, frames: Remembered, file: Path, name: str) -> None:
    evaluate_axes(system, frames, about={"recipe": name}).save(file)


def values(runs: Sequence[AxisEvaluation], axis: str, quarter: int, score: str) -> list[float]:
    return [getattr(run.quarters[axis][quarter], score) for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--score", choices=("miou", "iou", "recall"), default="miou")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    study = studies.load(asked.study)
    found: dict[str, list[AxisEvaluation]] = {}
    for variant in study.variants:
        runs = list(scored(study, asked.folder, variant, "axes.json", score, AxisEvaluation.load))
        if runs:
            found[variant] = runs
    if not found:
        raise SystemExit(f"no finished run of {study.name} in {asked.folder}; train it with: wholescene study {asked.study} --out {asked.folder}")
    base = next(iter(found))
    for axis in AXES:
        rows = []
        for variant, runs in found.items():
            shares = [values(runs, axis, quarter, asked.score) for quarter in range(len(QUARTERS))]
            against: list[Any] = ["" for _ in shares]
            if variant != base:
                against = [studies.compare(values(found[base], axis, i, asked.score), own) for i, own in enumerate(shares)]
            rows.append((variant, len(runs), *map(studies.with_spread, shares), *against))
        print(f"{asked.score} in % along {axis}")
        table(("variant", "seeds", *QUARTERS, *(f"{name} against {base}" for name in QUARTERS)), rows)
    first = found[base][0]
    for name in ("dataset", "frames", "protocol", "rule for absent classes", "hardware", "software", "date"):
        print(f"{name}: {first.provenance.get(name, '')}")
    if asked.figure is not None:
        comparison({variant: runs[0] for variant, runs in found.items()}, asked.score).save(asked.figure)
        print(f"wrote {asked.figure} (the first seed of each)")


if __name__ == "__main__":
    main()
