"""Scores by steps and under disturbances over the seeds of a study: means, spreads, and whether a difference is larger than these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from wholescene.errors import InputError
from wholescene.training.anytime import AtSteps, score
from wholescene.training.robustness import Disturbed, Robustness
from wholescene.training.study import compare, with_spread

if TYPE_CHECKING:
    from PIL.Image import Image

Left = dict[tuple[str, float], list[float]]


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


def robustness_table(found: Mapping[str, Sequence[Robustness]]) -> list[tuple[str, ...]]:
    """Rows of text: a header; the clean mIoU (per cent); then for every severity, and on average over each disturbance and over all, the share of
    the clean mIoU that is left in per cent, mean and spread over seeds, and whether it differs from that of the first variant.

    Args:
        found: variant -> one suite a seed, all alike. What some variant was not put under, because it does not eat what is disturbed, is left out.

    Raises:
        InputError: no severity that all variants were put under.
    """
    names = list(found)
    clean = [[run.clean.miou[-1] for run in runs] for runs in found.values()]
    shares = _common(found)
    against = [f"against {names[0]}"] if len(names) == 2 else [f"{name} against {names[0]}" for name in names[1:]]
    rows: list[tuple[str, ...]] = [("disturbance", "severity", *names, *against), ("clean mIoU", "-", *_cells(clean))]
    rows += [(name, f"{severity:g}", *_cells([s[name, severity] for s in shares])) for name, severity in shares[0]]
    for name in (*dict.fromkeys(name for name, _ in shares[0]), ""):
        means = [[fmean(values) for values in zip(*(v for (n, _), v in s.items() if name in ("", n)), strict=True)] for s in shares]
        rows.append((f"mean of {name or 'all'}", "-", *_cells(means)))
    return rows


def robustness_figure(found: Mapping[str, Sequence[Robustness]], title: str) -> Image:
    """Share of the clean mIoU against the severity, one chart a disturbance, one line a variant: the mean over seeds."""
    from wholescene.view.chart import Chart, draw_charts

    shares, first = _common(found), next(iter(found.values()))[0]
    charts = []
    for name in dict.fromkeys(name for name, _ in shares[0]):
        rows: list[Disturbed] = [row for row in first.rows if row.name == name and (name, row.severity) in shares[0]]
        series = {variant: [fmean(s[name, row.severity]) for row in rows] for variant, s in zip(found, shares, strict=True)}
        charts.append(Chart(name, [f"{row.severity:g}" for row in rows], rows[0].unit, series))
    seeds = ", ".join(f"{name}: {len(runs)}" for name, runs in found.items())
    said = first.provenance
    below = f"mIoU, share of the clean one; {said.get('frames', '')} frames, {said.get('date', '')}; seeds: {seeds}"
    return draw_charts(charts, title, below, base=1.0)


def left_of(runs: Sequence[Robustness]) -> Left:
    """(disturbance, severity) -> what is left of the clean mIoU, after the most steps, one a seed, 0 to about 1; NaN where the clean one is 0."""
    return {(row.name, row.severity): [run.left(run.rows[i])[-1][1] for run in runs] for i, row in enumerate(runs[0].rows)}


def _common(found: Mapping[str, Sequence[Robustness]]) -> list[Left]:
    """`left_of` every variant, of the severities that all were put under: a mean over unlike ones would compare nothing."""
    shares = [left_of(runs) for runs in found.values()]
    common = [key for key in shares[0] if all(key in other for other in shares)]
    if not common:
        raise InputError(f"{', '.join(found)} were put under no disturbance in common; score them with the same --disturb")
    return [{key: one[key] for key in common} for one in shares]


def _cells(values: Sequence[Sequence[float]]) -> list[str]:
    return [*map(with_spread, values), *(compare(values[0], other) for other in values[1:])]
