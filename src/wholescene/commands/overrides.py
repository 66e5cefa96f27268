"""Fields of a recipe changed on the command line: `--optimiser.lr 1e-4`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from wholescene.errors import InputError


def overrides_from(words: Sequence[str]) -> dict[str, Any]:
    """Dotted names and values of `--name value` and `--name=value`.

    A value is read by the recipe's own YAML rules; where the field is text it is taken as it is, since a shell eats the quotes that would
    make text of `08` or `1000000`.

    Raises:
        InputError: a word that is no option, an option without a value, or a value that is not YAML.

    >>> overrides_from(["--optimiser.lr", "1e-4", "--data.val=1000000", "--clip", "null"])
    {'optimiser.lr': 0.0001, 'data.val': '1000000', 'clip': None}
    """
    from wholescene.recipes import Recipe
    from wholescene.recipes.reading import parse_yaml

    found: dict[str, Any] = {}
    left = iter(words)
    for word in left:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise InputError(f"{word!r} is not a field of the recipe; name the recipe first, then fields like --optimiser.lr 1e-4")
        if not equals:
            given = next(left, None)
            if given is None:
                raise InputError(f"--{name} has no value; write --{name} VALUE, or see `wholescene train --help`")
            value = given
        found[name] = value if _is_text(Recipe, name, value) else parse_yaml(value, f"the value of --{name}")
    return found


def _is_text(cls: type, path: str, value: str) -> bool:
    """Whether the field at the dotted path holds text (or nothing at all, where the value does not say null)."""
    head, _, rest = path.partition(".")
    if not dataclasses.is_dataclass(cls) or head not in {f.name for f in dataclasses.fields(cls)}:
        return False
    hint = typing.get_type_hints(cls)[head]
    if rest:
        return isinstance(hint, type) and _is_text(hint, rest, value)
    return hint is str or (hint == str | None and value not in ("null", "~", ""))
