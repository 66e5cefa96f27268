"""Finding parity cases, reading what they say of their inputs, and asserting on what `forge.compare` answers.

def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: case.system == "MonoScene"), ids=str)

def test_taps(case):
    check(forge.compare(case.folder, {...}, whole=True), {"*.gradient": 1e-4, "*": 1e-5}, skip={"img": "compared by the picture tests"})

The answers lie in `expected.npz`, packed with LZMA by `packing.py` (a zip all the same); what it rounded or thinned, a case's README says.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import forge
import numpy as np
import pytest

_FORGED = {"bits": forge.bits, "uniform": forge.uniform, "picture": forge.picture, "depth": forge.depth, "labels": forge.labels}
_MOST_ELEMENTS = 2**28


@dataclass(frozen=True)
class Case:
    """One folder of released numbers: what `case.json` says, and the tap names that `expected.npz` holds."""

    folder: Path
    facts: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Case:
        return cls(folder, json.loads((folder / "case.json").read_text()))

    @property
    def system(self) -> str:
        return self.facts.get("system", "")

    @property
    def setting(self) -> str:
        return self.facts.get("setting", "")

    @property
    def inputs(self) -> dict[str, Any]:
        return self.facts.get("inputs", {})

    @property
    def tolerances(self) -> dict[str, Any]:
        return self.facts.get("tolerances", {})

    def taps(self, prefix: str = "") -> list[str]:
        return [tap for tap in forge.taps(self.folder) if tap.startswith(prefix)]

    def tap(self, name: str) -> np.ndarray:
        """A tap that is held whole."""
        with np.load(self.folder / "expected.npz", allow_pickle=False) as held:
            assert f"{name}.index" not in held.files, f"{self.folder / 'expected.npz'}: {name} is sampled, so it cannot be an input"
            return held[f"{name}.values"].reshape(tuple(held[f"{name}.shape"]))

    def __str__(self) -> str:
        return self.folder.name


def find_cases(config: pytest.Config, predicate: Callable[[Case], bool]) -> list[Case]:
    """The cases that `--cases` names (each a case or a folder of cases; default: the folders beside this file) and that satisfy `predicate`."""
    cases = []
    for place in config.getoption("cases", default=None) or [str(Path(__file__).parent)]:
        folder = Path(place).expanduser().resolve()
        found = [folder] if (folder / "case.json").is_file() else sorted(file.parent for file in folder.glob("*/case.json"))
        if not found:
            raise pytest.UsageError(f"--cases {place}: no case.json in it or in the folders right under it; name a case or a folder of cases")
        cases += [case for case in map(Case.read, found) if predicate(case)]
    return cases


def check(
    rows: Sequence[Mapping[str, Any]],
    tolerances: Mapping[str, float],
    skip: Mapping[str, str] | None = None,
    moved: Mapping[str, int] | None = None,
) -> None:
    """Assert on the rows of `forge.compare`: every tap within its tolerance, or left out by name with a reason.

    `tolerances`, `skip` and `moved` have patterns as keys (`*`, `?`), of which the first that matches a tap counts. A float tap's worst difference
    and its statistics must be within the tolerance, over the largest held value. Of an integer tap at most that share of elements may differ; with
    tolerance 0 the statistics and the histogram must agree too, else `moved` (default: tolerance x compared elements) bounds how many elements
    changed their value.
    A reason in `skip` that fits no missing tap is an error, so that the list of what is not compared stays true.
    """
    skip, moved = skip or {}, moved or {}
    faults, used = [], set()
    for row in rows:
        tap = row["tap"]
        reason = _first(skip, tap)
        if row.get("error") == "not given" and reason is not None:
            used.add(reason)
            continue
        fault = row.get("error") or _fault(row, tolerances, moved)
        if fault:
            faults.append(f"{tap}: {fault}")
    faults += [f"{pattern}: listed as not compared ({skip[pattern]}), but no missing tap fits" for pattern in skip if pattern not in used]
    assert any("error" not in row for row in rows), "nothing was compared"
    assert not faults, f"{len(faults)} of {len(rows)} taps, in the order given:\n" + "\n".join(faults)


def forge_call(text: str) -> np.ndarray:
    """The array that a forge expression of a `case.json` stands for, such as `uniform("a name", (2, 3), -4, 4)`; `forge.` may stand before it.

    The text is parsed, never evaluated: one call of a known generator with literal arguments, or ValueError.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("no call")
        name = call.func.attr if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "forge" else ast.unparse(call.func)
        generator = _FORGED[name]
        positional = [ast.literal_eval(argument) for argument in call.args]
        named = {str(argument.arg): ast.literal_eval(argument.value) for argument in call.keywords}
    except (SyntaxError, KeyError, ValueError) as error:
        raise ValueError(f"not one call of {', '.join(_FORGED)} with literal arguments: {text!r}") from error
    sizes = [size for value in positional[1:] for size in (value if isinstance(value, tuple) else (value,)) if isinstance(size, int) and size > 1]
    if math.prod(sizes) > 255 * _MOST_ELEMENTS:
        raise ValueError(f"asks for more than {_MOST_ELEMENTS} elements: {text!r}")
    return generator(*positional, **named)


def _first(patterns: Mapping[str, Any], tap: str) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(tap, pattern)), None)


def _fault(row: Mapping[str, Any], tolerances: Mapping[str, float], moved: Mapping[str, int]) -> str | None:
    """What is wrong with one compared row, or None."""
    pattern = _first(tolerances, row["tap"])
    if pattern is None:
        return f"no tolerance fits; known: {', '.join(tolerances)}"
    tolerance = tolerances[pattern]
    if "worst" in row:
        if max(row["worst"], row["off"]) <= tolerance:
            return None
        return f"worst {row['worst']:.3g}, statistics off by {row['off']:.3g} of {row['scale']:.3g}, allowed {tolerance:g}"
    if row["differ"] > tolerance:
        return f"{row['differ']:.3g} of {row['compared']} elements differ, allowed {tolerance:g}"
    if tolerance == 0:
        whole = f"statistics off by {row['off']:.3g}, {row.get('moved', 0)} elements moved in the histogram"
        return None if row["off"] <= 1e-9 and not row.get("moved") else f"the samples agree, the whole does not: {whole}"
    key = _first(moved, row["tap"])
    most = moved[key] if key is not None else math.ceil(tolerance * row["compared"])
    return None if row.get("moved", 0) <= most else f"{row['moved']} elements moved in the histogram, allowed {most}"
