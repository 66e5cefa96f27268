"""What commands print: tables and facts, with rich on a terminal and as plain aligned text in a file or a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on standard output.

    Args:
        columns: headings.
        rows: one sequence of cells a row; each is shown by `str`.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(header_style="bold")
        for i, column in enumerate(columns):
            drawn.add_column(column, justify="right" if _numeric(cells, i) else "left", no_wrap=i == 0, overflow="ellipsis" if i == 0 else "fold")
        for row in cells:
            drawn.add_row(*map(Text, row))
        Console().print(drawn)
        return
    print("\n".join(aligned([list(columns), *cells])))


def aligned(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Rows as lines with columns below each other; numbers (below the first row) to the right.

    >>> aligned([["name", "score", "note"], ["a", "7.25", "x"], ["long", "10.50", "y"]])
    ['name  score  note', 'a      7.25  x', 'long  10.50  y']
    """
    if not rows:
        return []
    columns = range(len(rows[0]))
    widths = [max(len(row[i]) for row in rows) for i in columns]
    right = [_numeric(rows[1:], i) for i in columns]
    return [gap.join(row[i].rjust(widths[i]) if right[i] else row[i].ljust(widths[i]) for i in columns).rstrip() for row in rows]


def _numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column holds numbers only (with commas, a spread, or a dash for none)."""
    return bool(rows) and all(re.fullmatch(r"[-+]?[\d,.]+( ± [\d.]+)?|-", row[column]) for row in rows)


def facts(pairs: Iterable[tuple[str, object]], indent: str = "  ") -> None:
    """Print name and value pairs, the values one below the other."""
    rows = [(indent + name, str(value)) for name, value in pairs]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value}".rstrip())


class Scored(Protocol):
    """What was measured: its table with a header, all that it depends on, and a file to keep both."""

    @property
    def provenance(self) -> Mapping[str, str]: ...
    def table(self) -> list[tuple[str, ...]]: ...
    def save(self, path: Path) -> None: ...


def show(found: Scored, out: Path | None) -> None:
    """Print what was measured, and keep it as JSON where a file is given."""
    header, *rows = found.table()
    table(header, rows)
    facts(found.provenance.items())
    if out is not None:
        found.save(out)
        print(f"wrote {out}")


def as_text(name: str) -> str:
    """A file name as text that any file may hold: on Linux names are bytes, and those that are not UTF-8 become question marks."""
    return name.encode(errors="replace").decode()


def warn(sentence: str) -> None:
    """One sentence on standard error that begins with `warning:`."""
    print(f"warning: {sentence}", file=sys.stderr, flush=True)


def percent(share: float) -> str:
    """A share 0..1 in words: whole per cents above ten, one decimal below.

    >>> percent(0.523), percent(0.031), percent(0.0001), percent(0.0)
    ('52 %', '3.1 %', 'below 0.1 %', '0 %')
    """
    if 0 < share < 0.0005:
        return "below 0.1 %"
    return f"{share:.0%}".replace("%", " %") if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def size_of(count: float) -> str:
    """A number of bytes in words.

    >>> size_of(2_500_000_000), size_of(4096)
    ('2.3 GiB', '4.0 KiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
