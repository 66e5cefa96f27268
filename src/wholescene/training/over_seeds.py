"""Scores by steps and under disturbances over the seeds of a study: means, spreads, and whether a difference is larger than these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from wholescene.errors import InputError
from wholescene.training.anytime import AtSteps, score
from wholescene.training.robustness import Disturbed, Robustness
from wholescene.training.study import compare, with_spread

if TYPE_CHECKING:
    from PIL.Image import Image

Left = dict[tuple[str, float], list[float]]
Kind = Literal["IoU", "mIoU"]


def steps_table(runs: Sequence[Sequence[AtSteps]]) -> list[tuple[str, ...]]:
    """Rows of text: a header; a row a score (per cent), a column a number of steps: mean and spread over seeds; then for every later number of steps
    whether it differs from the first; the mean active share, the fewest seconds and the most memory.

    Args:
        runs: one a seed, each with the same numbers of steps.
    """
    columns = list(zip(*runs, strict=True))
    splits = list(runs[0][0].evaluation.scores)
    rows: list[tuple[str, ...]] = [("after so many steps", *(f"T={column[0].steps}" for column in columns))]
    for split in splits:
        for kind in ("IoU", "mIoU"):
            name = kind if split == "all" else f"{kind} {split}"
            values = [[score(result, kind, split) for result in column] for column in columns]
            rows.append((name, *map(with_spread, values)))
            rows.append((f"  against T={columns[0][0].steps}", "", *(compare(values[0], later) for later in values[1:])))
    active = [fmean(fmean(r.active) if r.active else 0.0 for r in column) for column in columns]
    rows.append(("active % a step", *(f"{100 * share:.1f}" for share in active)))
    rows.append(("s a frame", *(f"{min(r.seconds for r in column):.3f}" for column in columns)))
    rows.append(("peak MiB of the process", *(f"{max(r.peak for r in column) / 2**20:,.0f}" for column in columns)))
    return rows


def robustness_table(found: Mapping[str, Sequence[Robustness]], kind: Kind = "mIoU") -> list[tuple[str, ...]]:
    """Rows of text: a header; the clean score (per cent); then for every severity, and on average over each disturbance and over all, the share of
    the clean score that is left in per cent, mean and spread over seeds. A column each variant, or each of its numbers of steps; then whether these
    differ from the first column, and the most steps from the fewest of the same weights.

    Args:
        found: variant -> one suite a seed, all alike. What some variant was not put under, because it does not eat what is disturbed, is left out.
        kind: which score.

    Raises:
        InputError: no severity that all variants were put under.
    """
    columns = _columns(found, kind)
    names, shares = list(columns), [column.left for column in columns.values()]
    pairs = _pairs(columns)
    against = [f"{names[b]} against {names[a]}" if len(names) > 2 else f"against {names[a]}" for a, b in pairs]

    def cells(values: Sequence[Sequence[float]]) -> list[str]:
        return [*map(with_spread, values), *(compare(values[a], values[b]) for a, b in pairs)]

    rows: list[tuple[str, ...]] = [("disturbance", "severity", *names, *against)]
    rows.append((f"clean {kind}", "-", *cells([column.clean for column in columns.values()])))
    rows += [(name, f"{severity:g}", *cells([s[name, severity] for s in shares])) for name, severity in shares[0]]
    for name in (*dict.fromkeys(name for name, _ in shares[0]), ""):
        means = [[fmean(values) for values in zip(*(v for (n, _), v in s.items() if name in ("", n)), strict=True)] for s in shares]
        rows.append((f"mean of {name or 'all'}", "-", *cells(means)))
    return rows


def robustness_figure(found: Mapping[str, Sequence[Robustness]], title: str, kind: Kind = "mIoU") -> Image:
    """Share of the clean score against the severity, one chart a disturbance, one line a variant or number of its steps: the mean over seeds."""
    from wholescene.view.chart import Chart, draw_charts

    columns, first = _columns(found, kind), next(iter(found.values()))[0]
    some = next(iter(columns.values())).left
    charts = []
    for name in dict.fromkeys(name for name, _ in some):
        rows: list[Disturbed] = [row for row in first.rows if row.name == name and (name, row.severity) in some]
        series = {variant: [fmean(column.left[name, row.severity]) for row in rows] for variant, column in columns.items()}
        charts.append(Chart(name, [f"{row.severity:g}" for row in rows], rows[0].unit, series))
    seeds = ", ".join(f"{name}: {len(runs)}" for name, runs in found.items())
    said = first.provenance
    below = f"{kind}, share of the clean one; {said.get('frames', '')} frames, {said.get('date', '')}; seeds: {seeds}"
    return draw_charts(charts, title, below, base=1.0)


def left_of(runs: Sequence[Robustness], at: int = 0, kind: Kind = "mIoU") -> Left:
    """(disturbance, severity) -> what is left of the clean score, one a seed, 0 to about 1; NaN where the clean one is 0.

    Args:
        runs: one a seed; a severity that not all of them were put under is left out.
        at: which of their numbers of steps.
        kind: which score.
    """
    by_severity = [{(row.name, row.severity): run.left(row)[at][("IoU", "mIoU").index(kind)] for row in run.rows} for run in runs]
    return {key: [one[key] for one in by_severity] for key in by_severity[0] if all(key in one for one in by_severity)}


@dataclass(frozen=True)
class _Column:
    """Of a table: one variant, or one of its numbers of steps; its clean scores, one a seed."""

    variant: str
    clean: list[float]
    left: Left


def _columns(found: Mapping[str, Sequence[Robustness]], kind: Kind) -> dict[str, _Column]:
    """By their names, with the severities that all were put under: a mean over unlike ones would compare nothing."""
    columns = {}
    for name, runs in found.items():
        steps = runs[0].steps
        for at in sorted(range(len(steps)), key=lambda i: steps[i] or 0):
            clean = [(run.clean.miou if kind == "mIoU" else run.clean.iou)[at] for run in runs]
            columns[name if len(steps) == 1 else f"{name} T={steps[at]}"] = _Column(name, clean, left_of(runs, at, kind))
    common = [key for key in next(iter(columns.values())).left if all(key in column.left for column in columns.values())]
    if not common:
        raise InputError(f"{', '.join(found)} were put under no disturbance in common; score them with the same --disturb")
    return {name: replace(column, left={key: column.left[key] for key in common}) for name, column in columns.items()}


def _pairs(columns: Mapping[str, _Column]) -> list[tuple[int, int]]:
    """Numbers of columns to compare: all with the first, and the last of a variant with its first."""
    variants = [column.variant for column in columns.values()]
    own = [(variants.index(name), len(variants) - 1 - variants[::-1].index(name)) for name in dict.fromkeys(variants)]
    return list(dict.fromkeys([*((0, i) for i in range(1, len(variants))), *((a, b) for a, b in own if a < b)]))
