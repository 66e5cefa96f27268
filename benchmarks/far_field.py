"""Does the far field gain? Scores the runs of a study along the axes and compares every variant with the first, quarter by quarter.

    wholescene study scanssc-scan --out runs/scanssc-scan
    python benchmarks/far_field.py scanssc-scan runs/scanssc-scan [--score miou|iou|recall] [--figure far_field.png]

Each run's scores are kept beside its weights (axes.json). A difference within the two spreads over seeds together is called undecided, as in a study.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from wholescene.commands.printing import table
from wholescene.data import open_dataset
from wholescene.training import study as studies
from wholescene.training.axis_figures import comparison
from wholescene.training.axiswise import AXES, QUARTERS, AxisEvaluation, evaluate_axes
from wholescene.weights import load


def scored(study: studies.Study, folder: Path, variant: str, seed: int) -> AxisEvaluation | None:
    """The scores of one run; None where it is not done."""
    run = folder / variant / f"seed-{seed}"
    if not (run / "final.safetensors").exists():
        return None
    if not (run / "axes.json").exists():
        recipe = study.recipe_of(variant, seed)
        system = load(run / "final.safetensors")
        evaluate_axes(system, open_dataset(recipe.data, "val", system.needs), about={"recipe": recipe.name}).save(run / "axes.json")
    return AxisEvaluation.load(run / "axes.json")


def values(runs: Sequence[AxisEvaluation], axis: str, quarter: int, score: str) -> list[float]:
    return [getattr(run.quarters[axis][quarter], score) for run in runs]


def said(shares: Sequence[float]) -> str:
    return f"{100 * fmean(shares):.2f}" + (f" ± {100 * stdev(shares):.2f}" if len(shares) > 1 else "")


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
        runs = [one for seed in study.seeds if (one := scored(study, asked.folder, variant, seed)) is not None]
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
            rows.append((variant, len(runs), *map(said, shares), *against))
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
