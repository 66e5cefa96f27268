"""What the variants of a study cost on this machine, in one go and without training: parameters, multiply-adds, seconds and memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from wholescene import recipes
from wholescene.data import open_dataset
from wholescene.data.collate import collate
from wholescene.errors import InputError, WholesceneError
from wholescene.files import write_text
from wholescene.ops.counting import MultiplyAdds
from wholescene.preparation import prepare
from wholescene.recipes import Recipe
from wholescene.structures import Batch
from wholescene.systems import create
from wholescene.systems.base import System
from wholescene.training.anytime import begin_peak, peak_of
from wholescene.training.data import TrainingFrames, collate_portion
from wholescene.training.evaluate import evaluating
from wholescene.training.optimising import freeze, freeze_statistics, make_optimiser
from wholescene.training.provenance import hardware, software, today
from wholescene.training.sampler import Draw
from wholescene.training.study import Study
from wholescene.weights import load

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """What one variant costs.

    Attributes:
        variant: its name.
        trained: whether its weights were those of a finished run; fresh ones otherwise.
        parameters: numbers that training changes.
        multiply_adds: of one frame's forward pass in its plain form; `ops.counting` says what counts. Where work depends on what is found
            (MonoMRN's masks), what it took on this frame.
        seconds: of that forward pass, without gradients; the fastest of all.
        memory: largest that it took beyond the weights and what the process held, bytes; 0 where that cannot be told.
        step_seconds: of a training step: forward, losses, backward, optimiser; the fastest of all.
        step_memory: likewise, with gradients and the optimiser's moments.
    """

    variant: str
    trained: bool
    parameters: int
    multiply_adds: float
    seconds: float
    memory: int
    step_seconds: float
    step_memory: int


@dataclass(frozen=True)
class Costs:
    """What all variants cost.

    Attributes:
        rows: one a variant, in the study's order.
        provenance: frame, machine, versions, date: name -> text.
    """

    rows: tuple[Cost, ...]
    provenance: dict[str, str]

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text: a header, then one row a variant: parameters in 10^6, multiply-adds in 10^9."""
        header = ("variant", "params (M)", "MACs (G)", "s a frame", "MiB a frame", "s a step", "MiB a step")
        return [header, *(self._row(row) for row in self.rows)]

    def save(self, path: str | Path) -> None:
        """As JSON, whole or not at all."""
        write_text(path, json.dumps({"costs": [asdict(row) for row in self.rows], "provenance": self.provenance}, indent=1))

    def _row(self, row: Cost) -> tuple[str, ...]:
        frame, step = (f"{taken / 2**20:,.0f}" if taken else "-" for taken in (row.memory, row.step_memory))
        work = f"{row.multiply_adds / 1e9:,.2f}"
        return (row.variant, f"{row.parameters / 1e6:,.3f}", work, f"{row.seconds:.3f}", frame, f"{row.step_seconds:.3f}", step)


def costs(study: Study, out: Path | None = None, *, repeats: int = 3, say: Say | None = None) -> Costs:
    """Measure every variant of a study on the first validation frames of its recipe, with the threads that torch has.

    Args:
        study: what is compared. Of a recipe with stages, the last one is measured.
        out: folder of the study; a finished run's weights are taken from it, since what a mask leaves out depends on them.
        repeats: how often each is timed, after once for warmth.
        say: takes a line for each variant that cannot be measured here.

    Raises:
        InputError: none can.
    """
    rows, told = list[Cost](), dict[str, str]()
    for variant in study.variants:
        try:
            row, told = _measured(study, variant, out, repeats)
            rows.append(row)
        except WholesceneError as error:
            if say is not None:
                say(f"{variant}: left out, {error}")
    if not rows:
        raise InputError(f"no variant of study {study.name} can be measured here; train one alone with `wholescene train {study.recipe}` to see why")
    trained = [row.variant for row in rows if row.trained]
    told |= {"weights": f"of finished runs: {', '.join(trained)}; others fresh" if trained else "fresh", "MACs": "multiply-adds of a frame"}
    whose = {"hardware": hardware(), "software": software(), "date": today()}
    return Costs(tuple(rows), {"study": study.name, **told, "measured": f"fastest of {repeats}, float32", **whose})


def _measured(study: Study, variant: str, out: Path | None, repeats: int) -> tuple[Cost, dict[str, str]]:
    found = None if out is None else next((file for seed in study.seeds if (file := study.final_of(out, variant, seed)).exists()), None)
    recipe = recipes.stages_of(study.recipe_of(variant, study.seeds[0]))[-1]
    torch.manual_seed(recipe.seed)
    system = create(recipe.system.name, recipe.system.config()) if found is None else load(found)
    frames = open_dataset(recipe.data, "val", system.needs, system.supervision)
    frame = prepare(frames[0], system.config.preparation)
    batch = collate([frame])
    with evaluating(system), MultiplyAdds() as counted:
        system(batch)
    parameters = sum(p.numel() for p in system.parameters())
    seconds, memory = _forward(system, batch, repeats)
    drawn = TrainingFrames(frames, system.config.preparation, recipe.data.augment, recipe.seed)
    portion = collate_portion([drawn[Draw(0, i % len(frames), 0.5)] for i in range(recipe.batch_size // recipe.accumulation)])
    step_seconds, step_memory = _step(system, recipe, portion.batch, repeats)
    row = Cost(variant, found is not None, parameters, counted.total, seconds, memory, step_seconds, step_memory)
    camera = frame.main.camera
    size = f"a picture of {camera.width} x {camera.height}, {' x '.join(map(str, frame.grid.shape))} voxels"
    return row, {"a frame": f"{frames.names[0]}: {size}", "a step": f"of {len(portion.batch)} frames"}


def _forward(system: System, batch: Batch, repeats: int) -> tuple[float, int]:
    """Seconds and bytes of predicting one frame."""
    with evaluating(system), torch.no_grad():
        system(batch)  # kernels are chosen, and tables of geometry made, once
        memory = _peak_beyond(lambda: system(batch), system.device)
        return min(_seconds(lambda: system(batch)) for _ in range(repeats)), memory


def _step(system: System, recipe: Recipe, batch: Batch, repeats: int) -> tuple[float, int]:
    """Seconds and bytes of one training step, or of the part of it that is computed at once."""
    system.train()
    freeze(system, recipe.frozen)
    freeze_statistics(system)
    optimiser = make_optimiser(system, recipe.optimiser)[0]

    def step() -> None:
        optimiser.zero_grad()
        terms = system.losses(system(batch), batch)
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        optimiser.step()

    memory = _peak_beyond(step, system.device)
    return min(_seconds(step) for _ in range(repeats)), memory


def _peak_beyond(work: Callable[[], object], device: torch.device) -> int:
    """Bytes that work takes at most beyond what is held before it."""
    begin_peak(device)
    before = peak_of(device)
    work()
    return max(0, peak_of(device) - before)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
