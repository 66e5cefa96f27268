"""Does a variant withstand disturbances better? Scores the runs of two or more variants of a study under every severity.

    wholescene study monomrn-parts --out runs/monomrn-parts
    python benchmarks/robustness_of_seeds.py monomrn-parts runs/monomrn-parts coarse distance-attention [--steps 0,3] [--disturb all]
        [--limit 8] [--score IoU] [--figure robustness.png]

Shares of the clean mIoU (or IoU) in per cent; of a system that refines, after each number of steps by the same weights. A difference within the two
spreads over seeds together is called undecided, as in a study. Each run's scores are kept beside its weights (robustness-*.json). The whole suite
scores every frame some fifty times: --limit takes fewer.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from seeds_of import scored

from wholescene.commands.printing import facts, table
from wholescene.data.disturb import suite
from wholescene.systems.base import System
from wholescene.systems.refine.system import Refining
from wholescene.training import study as studies
from wholescene.training.anytime import parse_steps
from wholescene.training.data import Remembered
from wholescene.training.over_seeds import robustness_figure, robustness_table
from wholescene.training.robustness import Robustness, robustness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("folder", type=Path)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--steps", default="0,3", help="of systems that refine")
    parser.add_argument("--disturb", default="all")
    parser.add_argument("--score", choices=("mIoU", "IoU"), default="mIoU")
    parser.add_argument("--limit", type=int, help="at most so many frames, spread evenly")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()

    def score(system: System, frames: Remembered, file: Path, name: str) -> None:
        begun = time.perf_counter()
        taken = steps if isinstance(system, Refining) else (None,)
        found = robustness(system, frames, suite(asked.disturb), steps=taken, frames=asked.limit, about={"recipe": name})
        found.save(file)
        print(f"{name}: {len(taken) * (len(found.rows) + 1)} scorings in {time.perf_counter() - begun:.0f} s", flush=True)

    steps = parse_steps(asked.steps)
    kept = f"robustness-{asked.disturb.replace(',', '-')}-T{'-'.join(map(str, steps))}{f'-of-{asked.limit}' if asked.limit else ''}.json"
    study = studies.load(asked.study)
    found = {name: list(scored(study, asked.folder, name, kept, score, Robustness.load)) for name in asked.variants}
    lacking = [name for name, runs in found.items() if not runs]
    if lacking:
        raise SystemExit(f"no finished run of {lacking[0]} in {asked.folder}; train it with: wholescene study {asked.study} --out {asked.folder}")
    header, *rows = robustness_table(found, asked.score)
    table(header, rows)
    shared = {k: v for k, v in found[asked.variants[0]][0].provenance.items() if k not in ("weights", "recipe", "system", "steps")}
    facts([("seeds", ", ".join(f"{name}: {len(runs)}" for name, runs in found.items())), *shared.items()])
    if asked.figure is not None:
        robustness_figure(found, f"{study.name} under disturbances", asked.score).save(asked.figure)
        print(f"wrote {asked.figure}")


if __name__ == "__main__":
    main()
