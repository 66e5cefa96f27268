"""Tables of names: the released name of every tensor, ours, and what becomes of it. Converter, inverse and messages are made from them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from wholescene.errors import InputError

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Rule:
    """One row of a table.

    `{rest}` stands for everything to the end, any other `{field}` for one part between dots; both sides have the same fields.

    Attributes:
        released: pattern of the released name.
        ours: pattern of our name; None: a dead tensor, which no output depends on.
        why: for a dead one, why it is dead.
    """

    released: str
    ours: str | None
    why: str = ""


@dataclass(frozen=True)
class Converted:
    """A released state under our names.

    Attributes:
        live: our name -> tensor.
        dead: released name -> tensor that our model has no place for; kept so that the released file can be given back.
        order: released names in the file's order.
    """

    live: dict[str, Tensor]
    dead: dict[str, Tensor]
    order: tuple[str, ...]


@dataclass(frozen=True)
class NameTable:
    """All rules of one released format; the first that matches counts.

    Attributes:
        name: of the format, for messages.
        rules: rows.
    """

    name: str
    rules: tuple[Rule, ...]

    @cached_property
    def _forwards(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(_pattern(rule.released), rule) for rule in self.rules]

    @cached_property
    def _backwards(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(_pattern(rule.ours), rule) for rule in self.rules if rule.ours is not None]

    def rule_of(self, released: str) -> Rule | None:
        """The rule of a released name, None if the table has none."""
        return next((rule for pattern, rule in self._forwards if pattern.fullmatch(released)), None)

    def ours(self, released: str) -> str | None:
        """Our name of a released one; None if it is dead or unknown."""
        for pattern, rule in self._forwards:
            if found := pattern.fullmatch(released):
                return None if rule.ours is None else _fill(rule.ours, found)
        return None

    def released(self, ours: str) -> str | None:
        """The released name of one of ours; None if it has none."""
        for pattern, rule in self._backwards:
            if found := pattern.fullmatch(ours):
                return _fill(rule.released, found)
        return None

    def convert(self, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> Converted:
        """A released state under our names, every tensor accounted for.

        Args:
            state: released name -> tensor.
            expected: our state dict, for names and shapes.
            where: the file, for messages.

        Raises:
            InputError: tensors that are missing, unknown or of another shape, by their released names, grouped by module.
        """
        live, dead, unknown, reshaped = {}, {}, [], []
        for name, tensor in state.items():
            rule, ours = self.rule_of(name), self.ours(name)
            if ours in expected and ours is not None:
                live[ours] = tensor
                if tensor.shape != expected[ours].shape:
                    reshaped.append(said_shapes(name, tensor, expected[ours]))
            elif rule is not None and rule.ours is None:
                dead[name] = tensor
            else:
                unknown.append(name)
        missing = [self.released(name) or name for name in expected if name not in live]
        if not live:
            raise InputError(
                f"{where}: none of its {len(state)} tensors is one of {self.name} (0 of {len(expected)} found); "
                f"it starts with {', '.join(list(state)[:3])}; is it another system's file?"
            )
        refuse_misfit(where, self.name, missing, unknown, reshaped)
        return Converted(live, dead, tuple(state))

    def restore(self, live: Mapping[str, Tensor], dead: Mapping[str, Tensor] | None = None, order: Iterable[str] = ()) -> dict[str, Tensor]:
        """The inverse: released names, dead tensors among them, in the released order where it is known.

        Raises:
            InputError: a tensor of ours that the format has no name for.
        """
        released = {}
        for name, tensor in live.items():
            theirs = self.released(name)
            if theirs is None:
                raise InputError(f"{name} has no name in the format {self.name}; is it another system's state?")
            released[theirs] = tensor
        released |= dead or {}
        return {name: released[name] for name in [*(n for n in order if n in released), *(n for n in released if n not in set(order))]}


def _pattern(template: str) -> re.Pattern[str]:
    parts = _FIELD.split(template)
    made = [re.escape(p) if i % 2 == 0 else f"(?P<{p}>{'.+' if p == 'rest' else '[^.]+'})" for i, p in enumerate(parts)]
    return re.compile("".join(made))


def _fill(template: str, found: re.Match[str]) -> str:
    return _FIELD.sub(lambda field: found[field[1]], template)


def said_shapes(name: str, found: Tensor, expected: Tensor) -> str:
    """A tensor of the wrong shape, in words."""
    one, other = ("x".join(map(str, t.shape)) or "a single number" for t in (found, expected))
    return f"{name} is {one}, expected {other}"


def refuse_misfit(where: str, name: str, missing: Iterable[str], unknown: Iterable[str], reshaped: Iterable[str]) -> None:
    """Stop if anything is wrong, naming all of it grouped by module.

    Raises:
        InputError: one of the three lists is not empty.
    """
    missing, unknown, reshaped = list(missing), list(unknown), list(reshaped)
    if not (missing or unknown or reshaped):
        return
    counts = f"{len(missing)} tensors missing, {len(unknown)} unknown, {len(reshaped)} of another shape"
    lines = [f"{where} does not fit {name}: {counts}; nothing was loaded"]
    for kind, names in (("missing", missing), ("unknown", unknown)):
        groups = defaultdict(list)
        for full in names:
            module, _, leaf = full.rpartition(".")
            groups[module].append(leaf)
        lines += [f"  {kind}: {module or '(top)'}: {', '.join(leaves)}" for module, leaves in groups.items()]
    raise InputError("\n".join(lines + [f"  shape: {said}" for said in reshaped]))
