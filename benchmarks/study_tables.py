"""Writes the tables of docs/studies.md from what the finished runs scored: benchmarks/studies/STUDY/results.json.

    python benchmarks/study_tables.py

A study's table stands between the two marks under its heading; what is written below the second one is left as it is.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from wholescene.training import study as studies

ROOT = Path(__file__).resolve().parents[1]
PAGE, KEPT = ROOT / "docs" / "studies.md", Path(__file__).resolve().parent / "studies"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
NOT_RUN = "*Result: not run yet.*"
COLUMNS = ("variant", "seeds", "mIoU", "IoU", "mIoU visible", "mIoU hidden", "IoU visible", "IoU hidden", "mIoU near", "mIoU far")


def written(name: str) -> str:
    """A study's table in Markdown, and what it was computed on; NOT_RUN where no run is finished."""
    if not (KEPT / name / studies.RESULTS).exists():
        return NOT_RUN
    outcome = studies.finished(studies.load(name), KEPT / name)
    header, *rows = outcome.table()
    picked = [header.index(column) for column in COLUMNS] + [len(header) - 1]
    lines = [[row[i] for i in picked] for row in (header, *rows)]
    lines[0] = [cell.replace("mIoU against", "against") for cell in lines[0]]
    table = ["| " + " | ".join(cells) + " |" for cells in lines]
    found = [one for runs in outcome.runs for one in runs.evaluations]
    where = Counter(re.sub(r", \d+ threads?", "", one.provenance["hardware"]) for one in found)
    steps = sorted({steps for runs in outcome.runs for steps in runs.steps})
    said = ", ".join(f"{count} on {machine}" for machine, count in where.most_common())
    dates = sorted({one.provenance["date"] for one in found})
    length = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    date = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    last = f"{len(found)} runs of {length} steps, {said}; {found[0].provenance['frames']} frames; {date}."
    return "\n".join((BEGIN, "", table[0], "|---" * len(picked) + "|", *table[1:], "", last, "", END))


def page(text: str) -> str:
    """The page with all tables as the results say."""
    for name in studies.names():
        heading = re.search(rf"^### {re.escape(name)}\n", text, re.MULTILINE)
        if heading is None:
            raise SystemExit(f"{PAGE} has no heading for study {name}; add one")
        following = re.search(r"^##", text[heading.end() :], re.MULTILINE)
        end = heading.end() + (following.start() if following else len(text))
        part = text[heading.end() : end]
        old = re.search(rf"{BEGIN}.*?{END}|{re.escape(NOT_RUN)}", part, re.DOTALL)
        if old is None:
            raise SystemExit(f"the part of {PAGE} on {name} has no place for its table; write {NOT_RUN!r} there")
        text = text[: heading.end()] + part[: old.start()] + written(name) + part[old.end() :] + text[end:]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
