"""`data check` and `doctor`: is what is here what is needed?"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated

from wholescene.commands.options import shown
from wholescene.commands.printing import facts


def check(root: Annotated[Path, shown("ROOT")], /, *, dataset: Annotated[str, shown("NAME")] = "semantic-kitti") -> int:
    """Check a dataset before a training run does.

    Says what is there, what is missing and where it comes from, what is damaged, and which revision it is.

    Try: wholescene data check ~/data/semantic-kitti

    Args:
        root: the dataset's folder.
        dataset: which layout to expect.
    """
    from wholescene.data.check import check as look

    report = look(root, dataset)
    print("\n".join(report.lines()))
    return 0 if report.ok else 2


def doctor(*, data: Annotated[tuple[Path, ...], shown("DIR", show_default=False)] = ()) -> int:
    """Say what this machine and installation have.

    Versions, extras, processor, accelerators, weights and data folders: put it into a bug report. The exit code is 1 if something should
    be mended.

    Try: wholescene doctor --data ~/data/semantic-kitti

    Args:
        data: dataset folders to look into; may be given more than once.
    """
    from wholescene.doctor import examine

    found = examine(data)
    for group, rows in groupby(found, key=lambda f: f.group):
        print(group)
        facts((f.name, f.value + ("   <- mend this" if f.wrong else "")) for f in rows)
    wrong = sum(f.wrong for f in found)
    print("all well" if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} to mend")
    return 1 if wrong else 0
