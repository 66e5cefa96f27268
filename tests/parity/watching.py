"""Comparing a system's inner values with a case while it runs, tap by tap, so that none has to be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import forge
import numpy as np
import torch
from torch import Tensor, nn

from cases import Case, check
from wholescene.checkpoints.native import fill
from wholescene.checkpoints.table import Converted, NameTable
from wholescene.systems.base import System
from wholescene.systems.config import SystemConfig
from wholescene.weights import WEIGHTS, fingerprint

SAMPLES_EQUAL = 1e-9  # tolerance of labels: none of the sampled ones may differ, and of the whole as many as the histogram's bound says

# tap -> (module, "input" or "output"[, what of it])
Places = Mapping[str, tuple[str, str] | tuple[str, str, Callable[[Tensor], Tensor]]]


@dataclass
class Watch:
    """Rows of `forge.compare` for the taps seen so far."""

    case: Case
    rows: list[dict[str, Any]] = field(default_factory=list)

    def compare(self, tap: str, value: Tensor) -> None:
        """One tap, at once."""
        value = value.detach()
        (row,) = forge.compare(self.case.folder, {tap: (value.float() if value.is_floating_point() else value).numpy()})
        if row.get("worst", 0) > 1e-4:
            row["near"] = self._near(tap, value, 1e-3 * row["scale"])
        self.rows.append(row)

    def _near(self, tap: str, value: Tensor, most: float) -> float:
        """The share of a tap's samples that differ by at most so much."""
        with np.load(self.case.folder / "expected.npz", allow_pickle=False) as held:
            flat, want = value.float().numpy().reshape(-1), held[f"{tap}.values"]
            have = flat[held[f"{tap}.index"]] if f"{tap}.index" in held.files else flat
        return float(np.mean(np.abs(have - want.reshape(-1)) <= most))

    @contextmanager
    def hooked(self, system: nn.Module, places: Places) -> Iterator[None]:
        """Inside the block, what passes the places is compared under their taps."""
        handles = [self._hook(system.get_submodule(path), tap, what, *more) for tap, (path, what, *more) in places.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, module: nn.Module, tap: str, what: str, of: Callable[[Tensor], Tensor] = lambda value: value) -> Any:
        if what == "input":
            return module.register_forward_pre_hook(lambda module, args: self.compare(tap, of(args[0])))
        return module.register_forward_hook(lambda module, args, out: self.compare(tap, of(out)))

    def check(self, tolerances: Mapping[str, float], skip: Mapping[str, str] | None = None, moved: Mapping[str, int] | None = None) -> None:
        """Assert that every tap of the case was seen, and within its tolerance."""
        seen = {row["tap"] for row in self.rows}
        missing = [{"tap": tap, "error": "not given"} for tap in self.case.taps() if tap not in seen]
        check(self.rows + missing, tolerances, skip, moved)


def forged_into(case: Case, table: NameTable, make: Callable[[], System]) -> tuple[System, Converted]:
    """A system in eval with the case's forged weights, through the table of released names."""
    with torch.device("meta"):
        system = make()
    forged = forge.weights(forge.read_keys(case.folder / "keys.tsv"), **forge.recipe(case.folder))
    state = {name: torch.from_numpy(array) for name, array in forged.items()}
    converted = table.convert(state, system.state_dict(), str(case))
    fill(system, converted.live, str(case))
    return system.eval(), converted


C = TypeVar("C", bound=SystemConfig)


def counted(config: C, case: Case, last: str) -> C:
    """The config with as many classes as the case's file has rows in the tensor whose name ends with `last`."""
    rows = next(shape[0] for name, shape, _ in forge.read_keys(case.folder / "keys.tsv") if name.endswith(last))
    return with_classes(config, rows)


def with_classes(config: C, classes: int) -> C:
    """The config with so many classes, whatever its label set says."""
    if classes == config.classes:
        return config
    kind = type(type(config).__name__, (type(config),), {"classes": property(lambda self: classes)})
    sized: C = kind(**{f.name: getattr(config, f.name) for f in fields(config)})
    return sized


def check_fingerprint(case: Case) -> None:
    """Assert that a case of this repository has exactly the names and shapes of a released file that the table of weights lists."""
    if case.folder.parent != Path(__file__).parent:
        return  # a case from elsewhere may have other classes than any released file
    keys = forge.read_keys(case.folder / "keys.tsv")
    assert fingerprint((name, shape) for name, shape, _ in keys) in {card.fingerprint for card in WEIGHTS.values()}


def check_inverse(case: Case, table: NameTable, converted: Converted) -> None:
    """Assert that the table gives back the released state, name by name, in its order, with as many parameters as the case says."""
    given_back = given_back_of(case, table, converted)
    buffers = ("num_batches_tracked", "running_mean", "running_var")
    computed = set(case.facts.get("not_forged", ()))
    total = sum(t.numel() for name, t in given_back.items() if name not in computed and not name.endswith(buffers))
    assert total == case.facts["parameters"]


def check_trainable(case: Case, table: NameTable, converted: Converted, system: nn.Module) -> None:
    """Assert that the table gives back the released state, and that as many parameters train as the case says."""
    given_back_of(case, table, converted)
    assert sum(p.numel() for p in system.parameters()) == case.facts["trainable"]


def given_back_of(case: Case, table: NameTable, converted: Converted) -> Mapping[str, Tensor]:
    """What the table gives back of the released state; every name once, in its order and shape."""
    keys = forge.read_keys(case.folder / "keys.tsv")
    given_back = table.restore(converted.live, converted.dead, converted.order)
    assert [(name, tuple(t.shape)) for name, t in given_back.items()] == [(name, shape) for name, shape, _ in keys]
    check_fingerprint(case)
    return given_back
