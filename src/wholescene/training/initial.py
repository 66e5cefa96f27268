"""What the parts of a system start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from wholescene.checkpoints.converting import part_state
from wholescene.checkpoints.reading import read_foreign
from wholescene.errors import InputError
from wholescene.recipes.recipe import Initial
from wholescene.systems.base import System
from wholescene.weights import WEIGHTS

LITE0 = "lite0-package"


def initialise(system: System, initial: Sequence[Initial]) -> list[str]:
    """Fill parts of a system with weights, one after another.

    A part with a method `load_timm` (a backbone) takes a timm weight file; any other takes a state of exactly its own names and shapes, or a file
    of a format that is known for it (MaskDINO's for Symphonies' trunk).

    Returns:
        one sentence for each part.

    Raises:
        InputError: a part that does not exist, a source that cannot be read, weights that do not fit, or a coarse system that is to stay frozen
            and starts from nothing.
    """
    filled: set[str] = set()
    said = [_fill(system, one, filled) for one in initial]
    if getattr(system, "frozen", False):  # under refinement
        left = [name for name, _ in system.named_parameters() if not name.startswith("refine.") and name not in filled]
        if left:
            raise InputError(
                f"refine: coarse: frozen keeps {system.name} as it is, but nothing gives {left[0]} its weights ({len(left)} of its parameters are "
                "fresh); train it first, as a stage before or with init_from, or let it train too (coarse: joint)"
            )
    return said


def _fill(system: System, one: Initial, filled: set[str]) -> str:
    """Fill one part, add the names that it filled, and say what it starts from."""
    part, prefix = _part(system, one.part), f"{one.part}." if one.part else ""
    what = one.part or "the whole system"
    state = _system_state(one.source) if one.part == "" else _part_state(one.source, one.part)
    take: Any = getattr(part, "load_timm", None)
    if take is not None:
        take(state)
        filled.update(prefix + name for name in part.state_dict())
        return f"{what} starts from {one.source}"
    state = dict(part_state(state, part.state_dict(), f"init_from: {one.source}"))
    state = {name: value for name, value in state.items() if prefix + name not in system.progress}
    own = {name: tuple(value.shape) for name, value in part.state_dict().items() if prefix + name not in system.progress}
    if one.shared:
        state = {name: value for name, value in state.items() if name in own}
        own = {name: shape for name, shape in own.items() if name in state}
        if not own:
            raise InputError(f"init_from: {one.source} and {what} of {system.name} share no name, so nothing would start from it; is it another?")
    given = {name: tuple(value.shape) for name, value in state.items()}
    wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
    if wrong:
        raise InputError(
            f"init_from: {one.source} does not fit {what}: {len(wrong)} of {len(own)} names or shapes differ, first {wrong[0]} "
            f"({given.get(wrong[0], 'not in the file')} in the file, {own.get(wrong[0], 'not there')} in the system); is it another size?"
        )
    part.load_state_dict(state, strict=False)  # all that must agree was compared above
    filled.update(prefix + name for name in own)
    return f"{what} starts from {one.source}" + (f" ({len(own)} of {len(part.state_dict())} entries; the rest is fresh)" if one.shared else "")


def _part(system: System, name: str) -> nn.Module:
    try:
        return system.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(n for n, _ in system.named_children())
        raise InputError(f"init_from: {system.name} has no part {name!r}; it has {known}, and parts of those by dotted name") from error


def _system_state(source: str) -> dict[str, Tensor]:
    from wholescene.weights import load

    return load(source).state_dict()


def _part_state(source: str, part: str) -> dict[str, Tensor]:
    """The state of a part: the file's; or, of our own files and of weights by name, which hold a whole system, what it has under the part's name."""
    state = _system_state(source) if source in WEIGHTS else _file_state(source)
    inside = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
    return inside or state


def _file_state(source: str) -> dict[str, Tensor]:
    if source == LITE0:
        from wholescene.backbones.efficientnet import lite0_state_from_package

        return lite0_state_from_package()
    try:
        return read_foreign(source).state
    except InputError as error:
        raise InputError(f"init_from: {error}") from error
