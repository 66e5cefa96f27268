"""`train`, `evaluate`, `study` and `submit`: experiments by recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from wholescene.commands.options import File, Folder, Switch, check_device, shown
from wholescene.commands.overrides import overrides_from
from wholescene.commands.printing import facts, show, table
from wholescene.errors import InputError, require
from wholescene.files import check_place

if TYPE_CHECKING:
    from wholescene.recipes import Recipe

Name = Annotated[str, shown("NAME|FILE")]


def train(
    recipe: Annotated[str | None, shown("RECIPE", allow_leading_hyphen=True)] = None,
    /,
    *fields: Annotated[str, shown("--FIELD VALUE", allow_leading_hyphen=True)],
    out: Folder | None = None,
    resume: Folder | None = None,
    list_: Annotated[bool, Parameter(name="--list", show_default=False)] = False,
) -> None:
    """Train a system by a recipe.

    Any field of the recipe may be changed by its dotted name. The folder of the run holds the whole recipe, checkpoints, logs, the weights
    (final.safetensors, best.safetensors) and their scores. A run that was stopped, or killed, goes on with --resume.

    Try: wholescene train monoscene-street-tiny --out runs/first

    Try: wholescene train monoscene-street-small --optimiser.lr 1e-4 --budget.minutes 30

    Try: wholescene train --resume runs/first

    Args:
        recipe: a name from --list, or a .yaml file; with --resume by default that of the run, with all that was changed in it.
        fields: fields to change: --optimiser.lr 1e-4 --data.root DIR
        out: folder of the run; runs/RECIPE by default.
        resume: go on from this run (or checkpoint file); with --out in another folder, and the old one stays as it is.
        list_: list the recipes of the package and their sources.
    """
    from wholescene import recipes

    if list_:
        table(("recipe", "source"), [(name, recipes.load(name).source) for name in recipes.names()])
        return
    if recipe is not None and recipe.startswith("-"):  # the first field, where no recipe is named
        fields, recipe = (recipe, *fields), None
    if resume is not None and not resume.exists():
        raise InputError(f"--resume {resume} does not exist; give the folder of a run")
    if recipe is None:
        recipe = _recipe_of(resume)
    chosen = recipes.load(recipe, overrides_from(fields))
    here = out if out is not None else resume if resume is not None and resume.is_dir() else Path("runs") / chosen.name
    require("lightning", "train")
    from wholescene.training.run import is_first_process
    from wholescene.training.run import train as run

    trained = run(chosen, here, resume=resume if resume is None or resume != here else True, say=print)
    if not is_first_process():
        return
    if trained.evaluation is not None:
        header, *rows = trained.evaluation.table()
        table(header, rows)
    facts(
        [
            *(trained.evaluation.provenance.items() if trained.evaluation is not None else ()),
            ("steps", f"{trained.steps:,} in {trained.minutes:.1f} minutes"),
            ("wrote", f"{trained.final} (best: {trained.best})"),
        ]
    )


def evaluate(
    recipe: Annotated[str, shown("RECIPE")],
    /,
    *,
    weights: Name,
    root: Folder | None = None,
    depth_source: Annotated[str | None, shown("S")] = None,
    limit: Annotated[int | None, shown("N")] = None,
    part: Literal["train", "val", "test"] = "val",
    device: Annotated[str, shown("D")] = "cpu",
    steps: Annotated[str | None, shown("N,N,...")] = None,
    disturb: Annotated[str | None, shown("SUITE")] = None,
    by: Literal["split", "axis"] = "split",
    beside: File | None = None,
    figure: File | None = None,
    out: File | None = None,
) -> None:
    """Score weights on a recipe's dataset.

    IoU, mIoU and every class, for all voxels and for what is visible, hidden, out of view, near and far; beside the numbers stand protocol,
    frames, data revision, weights, hardware, software and date. With --steps, after so many steps of refinement, with active share, time and
    memory. With --disturb, under every severity of the disturbances named, beside the clean score. With --by axis, recall, IoU and mIoU of every
    quarter along depth, width and height, and of groups of classes in the distant halves.

    Try: wholescene evaluate monoscene-street-mini --weights monoscene-street-small --limit 10

    Try: wholescene evaluate monoscene-street-mini --weights runs/mine/final.safetensors --disturb picture --figure robustness.png

    Try: wholescene evaluate monoscene-street-mini --weights runs/mine/final.safetensors --by axis --figure axes.png --out axes.json

    Args:
        recipe: a recipe's name or file; its dataset is scored on.
        weights: a name from `wholescene weights`, or a file.
        root: the dataset's folder, where the recipe does not say it.
        depth_source: where depth comes from, instead of what the recipe says: stereo, files:FOLDER[@UNIT], mono:WEIGHTS, iso:FILE
            or truth.
        limit: at most this many frames, spread evenly.
        part: which part of the dataset.
        device: cpu, cuda, cuda:1 or mps.
        steps: numbers of refinement steps, for weights of a system that refines: 0,1,2,3,5.
        disturb: all, picture, depth, camera, or names of disturbances separated by commas.
        by: split (visible, hidden, out of view, near, far) or axis.
        beside: with --by axis and --figure, what another run of it wrote with --out: the figure then compares the two bin by bin.
        figure: picture to draw the disturbed scores on, or the scores along the axes.
        out: also write everything as JSON.
    """
    from wholescene.data import open_dataset
    from wholescene.weights import load

    check_device(device)
    if by == "axis" and (steps is not None or disturb is not None):
        raise InputError("--by axis scores the clean frames after all steps; leave --steps and --disturb out, or --by axis")
    if by != "axis" and beside is not None:
        raise InputError(f"--beside {beside} belongs to --by axis, whose scores it is drawn with; give both, or neither")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit} is not a positive number of frames")
    for written in (out, figure):
        if written is not None:
            check_place(written)
    chosen = _recipe(recipe, root, depth_source)
    system = load(weights, device)
    dataset = open_dataset(chosen.data, part, system.needs)
    about = {"recipe": chosen.name, "part": f"{part} ({chosen.data.part(part)})"}
    if "depth" in system.needs:
        about["depth"] = chosen.data.depth or "the dataset's own"
    if steps is not None or disturb is not None:
        from wholescene.commands.scoring import score_specially

        score_specially(system, dataset, steps=steps, disturb=disturb, limit=limit, about=about, figure=figure, out=out)
        return
    if by == "axis":
        from wholescene.commands.axes import score_along_axes

        score_along_axes(system, dataset, limit=limit, about=about, figure=figure, out=out, beside=beside)
        return
    if figure is not None:
        raise InputError("--figure draws disturbed scores (--disturb) or scores along the axes (--by axis); give one of them")
    from wholescene.training.evaluate import evaluate as score

    found = score(system, dataset, frames=limit, about=about)
    show(found, out)


def study(
    file: Annotated[str | None, shown("STUDY")] = None,
    /,
    *,
    out: Folder | None = None,
    jobs: Annotated[int, shown("N")] = 1,
    report: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    costs: Switch = False,
    json: File | None = None,
    list_: Annotated[bool, Parameter(name="--list", show_default=False)] = False,
) -> None:
    """Train variants of a recipe and compare them.

    Every variant is trained at the same budget with each seed, and the table says whether a difference is larger than its spread. A study
    that was stopped goes on when it is started again on the same folder.

    Try: wholescene study monoscene-context-prior --out runs/context-prior

    Try: wholescene study rooms --costs

    Args:
        file: a name from --list, or a .yaml file.
        out: folder of the study; runs/STUDY by default.
        jobs: train so many runs at a time, each on one core.
        report: print the table of the finished runs and train nothing.
        costs: train nothing; measure parameters, multiply-adds, seconds and memory of every variant here, with the weights of runs that are
            done in its folder, else with fresh ones.
        json: with --costs, also write them as JSON.
        list_: list the studies of the package.
    """
    require("lightning", "train")
    from wholescene.training import study as studies

    if list_:
        loaded = [studies.load(name) for name in studies.names()]
        table(("study", "recipe", "variants"), [(s.name, s.recipe, ", ".join(s.variants)) for s in loaded])
        return
    if file is None:
        raise InputError("which study? `wholescene study --list` lists those of the package; an own one is a .yaml file")
    found = studies.load(file)
    folder = out if out is not None else Path("runs") / found.name
    if costs:
        if json is not None:
            check_place(json)
        from wholescene.commands.scoring import print_costs

        print_costs(found, folder, json)
        return
    if json is not None:
        raise InputError(f"--json {json} is for --costs; a study keeps its scores in results.json in its folder")
    outcome = studies.finished(found, folder) if report else studies.study(found, folder, jobs=jobs, say=print)
    header, *rows = outcome.table()
    table(header, rows)
    facts(outcome.provenance().items())


def submit(
    recipe: Annotated[str, shown("RECIPE")],
    /,
    *,
    weights: Name,
    out: Annotated[Path, shown("ZIP")],
    root: Folder | None = None,
    depth_source: Annotated[str | None, shown("S")] = None,
    device: Annotated[str, shown("D")] = "cpu",
) -> int:
    """Write the zip for a benchmark's server.

    The test frames are predicted one by one, and the zip is checked as the server checks it.

    Try: wholescene submit monoscene-semantic-kitti --weights mine.safetensors --root ~/data/semantic-kitti --out submission.zip

    Args:
        recipe: a recipe's name or file.
        weights: a name from `wholescene weights`, or a file.
        out: the zip to write.
        root: the dataset's folder, where the recipe does not say it.
        depth_source: as for evaluate.
        device: cpu, cuda, cuda:1 or mps.
    """
    from wholescene.data import open_dataset
    from wholescene.data.submission import check_submission, write_submission
    from wholescene.weights import load

    check_device(device)
    chosen = _recipe(recipe, root, depth_source)
    if chosen.data.dataset != "semantic-kitti":
        raise InputError(f"recipe {chosen.name} is on {chosen.data.dataset}, which has no server to submit to; SemanticKITTI has one")
    system = load(weights, device)
    dataset = open_dataset(chosen.data, "test", system.needs)

    def predictions() -> Iterator[tuple[str, str, Any]]:
        for index, name in enumerate(dataset.names):
            sequence, _, frame = name.partition("/")
            yield sequence, frame, system.predict(dataset[index]).labels

    count = write_submission(out, predictions())
    report = check_submission(out, chosen.data.root)
    print("\n".join(report.lines()))
    print(f"wrote {out}: {count:,} predictions")
    return 0 if report.ok else 1


def _recipe_of(run: Path | None) -> str:
    """The file in which a run (its folder, or one of its checkpoints) keeps its recipe."""
    if run is None:
        raise InputError("which recipe? `wholescene train --list` lists those of the package; an own one is a .yaml file")
    file = (run if run.is_dir() else run.parent.parent) / "recipe.yaml"
    if not file.is_file():
        raise InputError(
            f"--resume {run}: there is no {file} that says what was trained; name the recipe, as in `wholescene train RECIPE --resume {run}`"
        )
    return str(file)


def _recipe(name: str, root: Path | None, depth_source: str | None) -> Recipe:
    from wholescene import recipes

    if root is not None and not root.is_dir():
        raise InputError(f"--root {root} is not a folder; give the dataset's")
    given = {"data.root": None if root is None else str(root), "data.depth": depth_source}
    return recipes.load(name, {field: value for field, value in given.items() if value is not None})
