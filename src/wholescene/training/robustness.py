"""Robustness analysis (as in MonoMRN): how scores fall when the input is disturbed: a fixed, seeded suite, beside the clean input, for any system."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholescene.data import Dataset
from wholescene.data.disturb import Disturbance, DisturbedFrames
from wholescene.errors import InputError
from wholescene.files import read_bytes, write_text
from wholescene.systems.base import System
from wholescene.training.anytime import taking
from wholescene.training.evaluate import evaluate

if TYPE_CHECKING:
    from PIL.Image import Image

Say = Callable[[str], None]
CLEAN = "clean"
_LEAST = 0.02  # mIoU below which a share of it is noise


@dataclass(frozen=True)
class Disturbed:
    """Scores under one severity of one disturbance.

    Attributes:
        name, severity, unit: of the disturbance; "clean" and 1 without one.
        iou, miou: one for each number of steps, 0..1.
    """

    name: str
    severity: float
    unit: str
    iou: tuple[float, ...]
    miou: tuple[float, ...]


@dataclass(frozen=True)
class Robustness:
    """What a suite found.

    Attributes:
        steps: the numbers of refinement steps that were scored; (None,) for a system as it is.
        clean: without a disturbance.
        rows: one for every severity of every disturbance.
        provenance: of the clean scores, with the suite's seed.
    """

    steps: tuple[int | None, ...]
    clean: Disturbed
    rows: tuple[Disturbed, ...]
    provenance: dict[str, str] = field(default_factory=dict)

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text: a header; then scores in per cent, and in brackets what is left of the clean ones; then means over each disturbance.

        With several numbers of steps a last column says how much more the most leave of the clean mIoU than the fewest do.
        """
        header = ["disturbance", "severity", *(f"{name}{self._of(T)}" for T in self.steps for name in ("IoU", "mIoU"))]
        if len(self.steps) > 1:
            fewest, most = self._ends
            header.append(f"left at{self._of(self.steps[most])} less{self._of(self.steps[fewest])}")
        return [tuple(header), *(self._row(row) for row in (self.clean, *self.rows)), *self._means()]

    def left(self, row: Disturbed) -> list[tuple[float, float]]:
        """(IoU, mIoU) relative to the clean ones, for each number of steps; NaN where the clean score is 0."""
        clean = zip(self.clean.iou, self.clean.miou, strict=True)
        return [(_share(a, c), _share(b, d)) for a, b, (c, d) in zip(row.iou, row.miou, clean, strict=True)]

    def doubts(self) -> list[str]:
        """What a reader of the shares has to know, in sentences: that they are shares of next to nothing."""
        if min(self.clean.miou) >= _LEAST:
            return []
        return [f"the clean mIoU is {100 * min(self.clean.miou):.2f} %: shares of so little say nothing; train these weights longer"]

    def figure(self, title: str) -> Image:
        """mIoU relative to clean against the severity, one chart a disturbance, one line for each number of steps."""
        from wholescene.view.chart import Chart, draw_charts

        charts = []
        for name in dict.fromkeys(row.name for row in self.rows):
            rows = [row for row in self.rows if row.name == name]
            series = {self._of(T).strip() or "mIoU": [self.left(row)[i][1] for row in rows] for i, T in enumerate(self.steps)}
            charts.append(Chart(name, [f"{row.severity:g}" for row in rows], rows[0].unit, series))
        said = self.provenance
        return draw_charts(charts, title, f"mIoU, share of the clean one; {said.get('frames', '')} frames, {said.get('date', '')}", base=1.0)

    def save(self, path: str | Path) -> None:
        """As JSON, whole or not at all."""
        rows = [{"name": r.name, "severity": r.severity, "unit": r.unit, "iou": r.iou, "miou": r.miou} for r in (self.clean, *self.rows)]
        write_text(path, json.dumps({"steps": self.steps, "rows": rows, "provenance": self.provenance}, indent=1))

    @classmethod
    def load(cls, path: str | Path) -> Robustness:
        """The inverse of `save`.

        Raises:
            InputError: the file is missing or holds no suite.
        """
        try:
            plain = json.loads(read_bytes(path, 2**24, "saved suite"))
            clean, *rows = [Disturbed(r["name"], r["severity"], r["unit"], tuple(r["iou"]), tuple(r["miou"])) for r in plain["rows"]]
            return cls(tuple(plain["steps"]), clean, tuple(rows), plain["provenance"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} holds no scores under disturbances ({error!r}); remove it to score again") from error

    def _row(self, row: Disturbed) -> tuple[str, ...]:
        left = self.left(row)
        cells = [(f"{100 * a:.2f} ({c:.2f})", f"{100 * b:.2f} ({d:.2f})") for a, b, (c, d) in zip(row.iou, row.miou, left, strict=True)]
        severity = "-" if row.name == CLEAN else f"{row.severity:g}"
        return (row.name, severity, *(cell for pair in cells for cell in pair), *self._gain([value for _, value in left]))

    def _means(self) -> list[tuple[str, ...]]:
        found = []
        for name in (*dict.fromkeys(row.name for row in self.rows), ""):
            left = [self.left(row) for row in self.rows if not name or row.name == name]
            cells = [f"{sum(one[i][k] for one in left) / len(left):.3f}" for i in range(len(self.steps)) for k in (0, 1)]
            gain = self._gain([sum(one[i][1] for one in left) / len(left) for i in range(len(self.steps))])
            found.append((f"mean of {name or 'all'}", "left", *cells, *gain))
        return found

    @property
    def _ends(self) -> tuple[int, int]:
        """Where the fewest and the most steps stand."""
        order = sorted(range(len(self.steps)), key=lambda i: self.steps[i] or 0)
        return order[0], order[-1]

    def _gain(self, left: Sequence[float]) -> tuple[str, ...]:
        """A cell, where there is something to compare."""
        fewest, most = self._ends
        return (f"{left[most] - left[fewest]:+.3f}",) if fewest != most else ()

    def _of(self, steps: int | None) -> str:
        return "" if steps is None else f" T={steps}"


def robustness(
    system: System,
    dataset: Dataset,
    disturbances: Sequence[Disturbance],
    *,
    steps: Sequence[int | None] = (None,),
    seed: int = 0,
    say: Say | None = None,
    **loading: Any,
) -> Robustness:
    """Score a system under every severity of every disturbance that touches what it eats.

    Args:
        system: on the device to use.
        dataset: frames with targets; best one that remembers them, for each is used many times. Their depth is that of the clean picture.
        disturbances: of `data.disturb.suite`; those of what a system does not eat are left out.
        steps: numbers of refinement steps to compare; (None,) for a system as it is.
        seed: of all random numbers.
        say: takes lines of progress.
        loading: frames, batch_size, workers, precision as for `evaluate`.

    Raises:
        InputError: steps of a system that does not refine, or nothing left to disturb.
    """
    speak: Say = say or (lambda line: None)
    eaten = {"picture": system.looks_at_picture, "depth": "depth" in system.needs, "camera": system.looks_at_picture or "depth" in system.needs}
    felt = [d for d in disturbances if eaten[d.touches]]
    for one in disturbances:
        if one not in felt:
            speak(f"{one.name}: left out, {system.name} eats no {one.touches}")
    if not felt:
        raise InputError(f"none of the disturbances touches what {system.name} eats; choose others with --disturb")
    provenance: dict[str, str] = {}

    def scored(frames: Dataset, name: str, severity: float, unit: str) -> Disturbed:
        found = []
        for T in steps:
            if T is None:
                found.append(evaluate(system, frames, splits=False, **loading))
            else:
                with taking(system, T):
                    found.append(evaluate(system, frames, splits=False, **loading))
        about = {} if steps == (None,) else {"system": system.name, "steps": ", ".join(map(str, steps))}
        provenance.update({} if provenance else {**found[0].provenance, **about, "seed of the disturbances": str(seed)})
        return Disturbed(name, severity, unit, tuple(f.iou for f in found), tuple(f.miou for f in found))

    clean = scored(dataset, CLEAN, 1.0, "")
    rows = []
    for one in felt:
        for severity in one.severities:
            rows.append(scored(DisturbedFrames(dataset, one, severity, seed), one.name, severity, one.unit))
            speak(f"{one.name} {severity:g}: mIoU {', '.join(f'{100 * value:.2f}' for value in rows[-1].miou)}")
    return Robustness(tuple(steps), clean, tuple(rows), provenance)


def _share(value: float, clean: float) -> float:
    return value / clean if clean > 0 else float("nan")
