"""Studies: named variants of one recipe, trained one after another at the same budget with several seeds, and one table of what came out.

A study is a YAML of its own:

    name: context-prior
    recipe: monoscene-street-mini
    seeds: [0, 1, 2]
    budget: {steps: 400, minutes: 4}
    variants:
      as it is: {}
      without the context prior: {system.fields.context_prior: false}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from wholescene import recipes
from wholescene.configuring import from_plain, to_plain
from wholescene.errors import InputError, unknown_name
from wholescene.files import read_bytes, write_text
from wholescene.recipes import Budget, Recipe
from wholescene.recipes.reading import read_yaml
from wholescene.systems import create
from wholescene.training.evaluate import Evaluation
from wholescene.training.jobs import side_by_side
from wholescene.training.run import FINAL, Datasets, Say, Trained, open_datasets, train

_FOLDER = Path(recipes.__file__).parent / "studies"
RESULTS = "results.json"
UNDECIDED = "undecided"
COLUMNS: dict[str, Callable[[Evaluation], float]] = {
    "mIoU": lambda found: found.miou,
    "IoU": lambda found: found.iou,
    "mIoU visible": lambda found: found.scores["visible"].miou,
    "mIoU hidden": lambda found: found.scores["hidden"].miou,
    "IoU visible": lambda found: found.scores["visible"].iou,
    "IoU hidden": lambda found: found.scores["hidden"].iou,
    "mIoU near": lambda found: found.scores["near"].miou,
    "mIoU far": lambda found: found.scores["far"].miou,
}


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        name: with dashes.
        recipe: name or file of the recipe that all variants change.
        variants: name -> what differs, by dotted name; the first one is what the others are compared with.
        seeds: each variant is trained with each.
        budget: of every run; None: the recipe's.
        changes: what differs from the recipe in all variants.
    """

    name: str
    recipe: str
    variants: dict[str, dict[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2)
    budget: Budget | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.variants or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"study {self.name}: give at least one variant and one seed, and no seed twice")
        if any("/" in name or name.startswith(".") for name in self.variants):
            raise InputError(f"study {self.name}: a variant's name becomes a folder; leave out '/' and a leading dot")
        fixed = {"name", "seed", *({"budget"} if self.budget is not None else ())}
        for changes in (self.changes, *self.variants.values()):
            for path in changes:
                if path.partition(".")[0] in fixed:
                    raise InputError(f"study {self.name}: {path} is the same in all runs, or the study's own to set; take it out of its changes")

    def recipe_of(self, variant: str, seed: int) -> Recipe:
        """The recipe of one run.

        Raises:
            InputError: a change of a field that does not exist.
        """
        fixed: dict[str, Any] = {"seed": seed, "name": f"{self.name}/{variant}"}
        if self.budget is not None:
            fixed["budget"] = to_plain(self.budget)
        return recipes.load(self.recipe, {**self.changes, **self.variants[variant], **fixed})

    def final_of(self, out: Path, variant: str, seed: int) -> Path:
        """Where the weights of a finished run lie in the study's folder; of one with stages, those of the last. They may not be there yet."""
        stages = self.recipe_of(variant, seed).stages
        folder = out / variant / f"seed-{seed}"
        return (folder / stages[-1].name if stages else folder) / FINAL


@dataclass(frozen=True)
class Runs:
    """The runs of one variant.

    Attributes:
        variant: its name.
        evaluations: one a seed.
        steps: of each.
    """

    variant: str
    evaluations: tuple[Evaluation, ...]
    steps: tuple[int, ...]

    def values(self, column: str) -> list[float]:
        """One score a seed, 0..1."""
        return [COLUMNS[column](found) for found in self.evaluations]


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        study: what was compared.
        runs: one entry a variant, in the study's order.
    """

    study: Study
    runs: tuple[Runs, ...]

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text: header, then a row a variant: mean and spread (standard deviation over seeds) in per cent, and against the first.

        A difference is undecided unless it is larger than the two spreads together, and always with one seed.
        """
        header = ("variant", "seeds", "steps", *COLUMNS, f"mIoU against {self.runs[0].variant}")
        return [header, *(self._row(runs) for runs in self.runs)]

    def provenance(self) -> dict[str, str]:
        """What all runs share."""
        first, *others = (evaluation.provenance for runs in self.runs for evaluation in runs.evaluations)
        shared = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
        return {**shared, "spread": "standard deviation over seeds"}

    def _row(self, runs: Runs) -> tuple[str, ...]:
        steps = f"{min(runs.steps)}" if len(set(runs.steps)) == 1 else f"{min(runs.steps)}..{max(runs.steps)}"
        verdict = "" if runs is self.runs[0] else compare(self.runs[0].values("mIoU"), runs.values("mIoU"))
        return (runs.variant, str(len(runs.evaluations)), steps, *(with_spread(runs.values(name)) for name in COLUMNS), verdict)


def compare(base: Sequence[float], other: Sequence[float]) -> str:
    """The difference of two means in per cent, or that it is undecided: its size is within the two spreads together, or there is one seed only.

    >>> compare([0.10, 0.11], [0.20, 0.21]), compare([0.10, 0.14], [0.12, 0.16]), compare([0.1], [0.9])
    ('+10.00', 'undecided (+2.00)', 'undecided (+80.00)')
    """
    difference = fmean(other) - fmean(base)
    said = f"{100 * difference:+.2f}"
    if min(len(base), len(other)) < 2 or abs(difference) <= stdev(base) + stdev(other):
        return f"{UNDECIDED} ({said})"
    return said


def names() -> list[str]:
    """Studies that the package carries."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name_or_path: str | Path) -> Study:
    """A study by name, or from a YAML file; every run's recipe is checked.

    Raises:
        InputError: an unknown name or field, a file that is not strict YAML, a variant that changes what does not exist.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(text)
    elif text in names():
        path = _FOLDER / f"{text}.yaml"
    else:
        raise unknown_name("study", text, names(), "wholescene study --list")
    plain = read_yaml(path, "study")
    found = from_plain(Study, plain, f"study {text}")
    for variant in found.variants:
        found.recipe_of(variant, found.seeds[0])
    return found


def study(name_or_path: str | Path | Study, out: str | Path, *, datasets: Datasets | None = None, jobs: int = 1, say: Say | None = None) -> Outcome:
    """Train every variant with every seed; called again on the same folder it goes on where it was stopped.

    Seeds come first, then variants, so that a study that is stopped early has compared all variants with the seeds it got to.

    Args:
        name_or_path: a study, or the name or file of one.
        out: its folder; each run has one in it, `VARIANT/seed-N`, and `results.json` holds what the finished ones scored. That file alone,
            copied into another folder, is enough to go on elsewhere.
        datasets: train and val, instead of the recipe's.
        jobs: runs at a time, each on one core; see `jobs.side_by_side`.
        say: called with lines to print.

    Raises:
        InputError: as `load` and `train`; a folder that holds another study's run under the same name; no positive number of jobs.
    """
    if jobs < 1:
        raise InputError(f"{jobs} runs at a time make no study; give a positive number")
    found = name_or_path if isinstance(name_or_path, Study) else load(name_or_path)
    speak: Say = say or (lambda line: None)
    shared, results = _Shared(datasets, speak), Results(Path(out) / RESULTS)
    todo = [(found.recipe_of(variant, seed), Path(out) / variant / f"seed-{seed}") for seed in found.seeds for variant in found.variants]
    todo = [(recipe, folder) for recipe, folder in todo if results.of(recipe) is None]
    for recipe, folder in todo:
        _check_same(recipe, folder)
    if min(jobs, len(todo)) > 1:
        for recipe, trained in side_by_side(todo, shared.of, min(jobs, len(todo)), speak, partial(_train, Path(out))):
            results.add(recipe, trained)
        return results.outcome(found)
    for recipe, folder in todo:
        speak(f"{folder.parent.name}, seed {recipe.seed}")
        results.add(recipe, _train(Path(out), recipe, folder, resume=True, datasets=shared.of(recipe), say=speak))
    return results.outcome(found)


def _train(out: Path, recipe: Recipe, folder: Path, **more: Any) -> Trained:
    """One run; what variants have in common before their last stages is trained once a seed."""
    oldest_first = sorted(out.glob(f"*/seed-*/*/{FINAL}"), key=lambda weights: weights.stat().st_mtime)  # a resumed run finds the one it found before
    return train(recipe, folder, finished=[weights.parent for weights in oldest_first], **more)


def finished(found: Study, out: str | Path) -> Outcome:
    """What the finished runs of a study say so far; nothing is trained.

    Args:
        found: the study.
        out: its folder, of which only `results.json` is read.

    Raises:
        InputError: no run is finished there.
    """
    outcome = Results(Path(out) / RESULTS).outcome(found)
    if not outcome.runs:
        raise InputError(f"{Path(out) / RESULTS} holds no finished run of study {found.name} as it is now; train it first, or give its folder")
    return outcome


class Results:
    """What the finished runs of a study scored, in one small file: enough for the table, and to go on on another machine without the runs' folders.

    Args:
        path: the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: dict[str, Any] = {}
        if path.exists():
            content = read_bytes(path, 2**26, "file of results")
            try:
                kept = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path} holds no results of a study: it is no JSON, or was cut short ({error}); remove it to train anew") from error
            if not isinstance(kept, dict) or not all(_is_result(one) for one in kept.values()):
                raise InputError(f"{path} holds no results of a study; expected a mapping of finished runs; remove it to train anew")
            self.kept = kept

    def of(self, recipe: Recipe) -> tuple[Evaluation, int] | None:
        """Scores and steps of the run of exactly this recipe, whatever machine it is for; None if it is not finished."""
        found = self.kept.get(key_of(recipe))
        return None if found is None else (Evaluation.of_dict(found["evaluation"], str(self.path)), int(found["steps"]))

    def add(self, recipe: Recipe, trained: Trained) -> None:
        """Keep a finished run.

        Raises:
            InputError: it makes no volume.
        """
        if trained.evaluation is None:
            raise InputError(f"{recipe.name} ends without a volume, so there is no score to compare; let its last stage be a whole system")
        about = {"variant": recipe.name, "seed": recipe.seed, "steps": trained.steps, "minutes": round(trained.minutes, 2)}
        self.kept[key_of(recipe)] = {**about, "evaluation": trained.evaluation.as_dict()}
        write_text(self.path, json.dumps(self.kept, indent=1))

    def outcome(self, found: Study) -> Outcome:
        """The finished runs of a study."""
        runs = []
        for variant in found.variants:
            done = [one for seed in found.seeds if (one := self.of(found.recipe_of(variant, seed))) is not None]
            runs.append(Runs(variant, tuple(scores for scores, _ in done), tuple(steps for _, steps in done)))
        return Outcome(found, tuple(run for run in runs if run.evaluations))


def _is_result(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("steps"), int) and isinstance(one.get("evaluation"), dict)


def key_of(recipe: Recipe) -> str:
    """What a run's results are kept under: 16 hexadecimal digits of all that they depend on in its recipe."""
    plain = {name: value for name, value in to_plain(recipe).items() if name not in ("trainer", "workers", "checkpoint_every")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


class _Shared:
    """Remembered frames for all runs whose data are the same, so that they are made once a study."""

    def __init__(self, given: Datasets | None, say: Say) -> None:
        self.given, self.say = given, say
        self.made: dict[str, Datasets] = {}

    def of(self, recipe: Recipe) -> Datasets | None:
        """None: the run opens its own."""
        if self.given is not None or not recipe.remember:
            return self.given
        systems = [create(stage.system.name, stage.system.config()) for stage in recipes.stages_of(recipe)]
        key = repr((to_plain(recipe.data), sorted(set().union(*(system.needs | system.supervision for system in systems)))))
        if key not in self.made:
            self.made[key] = open_datasets(recipe, systems, self.say)
        return self.made[key]


def _check_same(recipe: Recipe, folder: Path) -> None:
    written = folder / "recipe.yaml"
    if written.exists() and recipes.load(written) != recipe:
        raise InputError(f"{folder} holds a run of another recipe; choose another folder, or remove it to train that variant again")


def with_spread(values: Sequence[float]) -> str:
    """The mean in per cent, with the standard deviation where there are several."""
    mean = f"{100 * fmean(values):.2f}"
    return f"{mean} ± {100 * stdev(values):.2f}" if len(values) > 1 else mean
