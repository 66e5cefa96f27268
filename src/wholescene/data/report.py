"""What a check found: findings in words, tables of numbers, and one answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

_SHOWN = 8  # names printed of a long list; all of them stay in the finding


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: "error" (frames cannot be read, or would be read wrongly), "warning" (look at it) or "note" (good to know).
        text: what, where, what was expected, what to do.
        names: the frames or files concerned, where there are many.
    """

    severity: Severity
    text: str
    names: tuple[str, ...] = ()

    def line(self) -> str:
        """One line, with the first few names."""
        shown = ", ".join(self.names[:_SHOWN])
        more = f" and {len(self.names) - _SHOWN:,} more" if len(self.names) > _SHOWN else ""
        count = f" ({len(self.names):,})" if len(self.names) > 1 else ""
        return f"{self.severity}: {self.text}{count}" + (f": {shown}{more}" if shown else "")


@dataclass(frozen=True)
class Table:
    """Numbers beside each other.

    Attributes:
        title: what they are.
        columns: names of the columns.
        rows: cells as text, a row as long as `columns`.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self) -> Iterator[str]:
        """Title and rows in aligned columns: the first to the left, the others to the right."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.columns))]
        yield self.title
        for row in table:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            yield "  " + "  ".join(cells).rstrip()


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    Attributes:
        title: what was checked, where.
        findings: errors first.
        tables: counts, shares, cameras.
        unusable: frames that cannot be trained or scored on (nothing known, missing or broken files): what `exclude` of a dataset takes.
    """

    title: str
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    unusable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(f.severity == "error" for f in self.findings)

    def lines(self) -> list[str]:
        """The whole report as text, without colours."""
        lines = [self.title]
        for table in self.tables:
            lines += ["", *table.lines()]
        counts = {s: sum(f.severity == s for f in self.findings) for s in ("error", "warning", "note")}
        lines += ["", *(f.line() for f in self.findings)]
        lines.append(", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in counts.items()) + (": usable" if self.ok else ": mend the errors first"))
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


class Findings:
    """Gathers findings: what is said of many frames in the same words becomes one finding with their names."""

    def __init__(self) -> None:
        self._names: dict[tuple[Severity, str], list[str]] = {}
        self._unusable: dict[str, None] = {}

    def add(self, severity: Severity, text: str, name: str = "", unusable: str = "") -> None:
        """Say it, of that file or frame, and if need be that a frame cannot be used."""
        names = self._names.setdefault((severity, text), [])
        if name:
            names.append(name)
        if unusable:
            self._unusable[unusable] = None

    def sorted(self) -> tuple[Finding, ...]:
        """Errors first, then warnings, then notes, each in the order found."""
        order = {"error": 0, "warning": 1, "note": 2}
        found = (Finding(severity, text, tuple(names)) for (severity, text), names in self._names.items())
        return tuple(sorted(found, key=lambda f: order[f.severity]))

    def unusable(self) -> tuple[str, ...]:
        """Names of frames that cannot be used, in the order found."""
        return tuple(self._unusable)
