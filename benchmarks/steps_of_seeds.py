"""What does each step of refinement bring? Scores the runs of one variant of a study after several numbers of steps.

    wholescene study monomrn-parts --out runs/monomrn-parts
    python benchmarks/steps_of_seeds.py monomrn-parts runs/monomrn-parts distance-attention [--steps 0,1,2,3,5] [--limit N]

Each run's scores are kept beside its weights (steps-*.json). A difference from the first number of steps that is within the two spreads over seeds
together is called undecided, as in a study.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from seeds_of import scored

from wholescene.commands.printing import facts, table
from wholescene.files import write_text
from wholescene.systems.base import System
from wholescene.training import anytime
from wholescene.training import study as studies
from wholescene.training.data import Remembered
from wholescene.training.over_seeds import steps_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("folder", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--steps", default="0,1,2,3,5")
    parser.add_argument("--limit", type=int, help="at most so many frames, spread evenly")
    asked = parser.parse_args()
    steps = anytime.parse_steps(asked.steps)

    def score(system: System, frames: Remembered, file: Path, name: str) -> None:
        found = anytime.by_steps(system, frames, steps, frames=asked.limit, about={"recipe": name})
        write_text(file, json.dumps(anytime.as_dict(found), indent=1))

    def read(file: Path) -> list[anytime.AtSteps]:
        return anytime.of_dict(json.loads(file.read_text()), str(file))

    kept = f"steps-{'-'.join(map(str, steps))}{f'-of-{asked.limit}' if asked.limit else ''}.json"
    runs = list(scored(studies.load(asked.study), asked.folder, asked.variant, kept, score, read))
    if not runs:
        raise SystemExit(f"no finished run of {asked.variant} in {asked.folder}; train it with: wholescene study {asked.study} --out {asked.folder}")
    header, *rows = steps_table(runs)
    table(header, rows)
    facts([("seeds", len(runs)), *((k, v) for k, v in runs[0][-1].evaluation.provenance.items() if k not in ("steps", "weights"))])


if __name__ == "__main__":
    main()
