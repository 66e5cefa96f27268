"""Strict YAML for recipes and studies: YAML 1.2's scalars, no aliases, no tags, no key twice, no large files.

PyYAML follows YAML 1.1, where `1e-4` is text, `no` and `on` are truth values and `010` is eight. Here `1e-4` is a number, and whatever is not
plainly a number, `true`, `false` or `null` is text: `no`, `car`, `on`, and the sequences `07`, `08`, `010`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from wholescene.errors import InputError
from wholescene.files import read_bytes

LARGEST = 256 * 1024
DEEPEST = 20

_NULL, _BOOL, _INT, _FLOAT, _TEXT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
_SCALARS = (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (_FLOAT, r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with the rules of this module."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own class attribute
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, f"an alias (*{event.anchor}) is not allowed; write the value out", mark)
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.MarkedYAMLError(None, None, f"the tag {event.tag} is not allowed; write plain values", mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(None, None, f"nested more than {DEEPEST} levels deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key must be a name or a number", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key!r} stands twice; keep one", key_node.start_mark)
            seen[key] = self.construct_object(value_node, deep=deep)
        return seen


for _tag, _pattern, _first in _SCALARS:
    _StrictLoader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def parse_yaml(text: str, where: str = "text") -> Any:
    """Plain types (mappings, lists, numbers, text, truth values, None) of a YAML text.

    Args:
        text: at most `LARGEST` characters.
        where: what to call it in messages.

    Raises:
        InputError: naming line and column.

    >>> parse_yaml("lr: 1e-4\\nclasses: [no, car, on]\\nsequences: [07, 08, 010]")
    {'lr': 0.0001, 'classes': ['no', 'car', 'on'], 'sequences': ['07', '08', '010']}
    """
    if len(text) > LARGEST:
        raise InputError(f"{where} has {len(text):,} characters; at most {LARGEST:,} are read; is it the right file?")
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # a SafeLoader by inheritance
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{where}{at}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{where} is not YAML that can be read: {first[0]}") from error


def read_yaml(path: str | Path, what: str = "YAML file") -> Any:
    """As `parse_yaml`, from a file.

    Raises:
        InputError: it cannot be read, is too large, or is not strict YAML.
    """
    content = read_bytes(path, LARGEST, what)
    try:
        return parse_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; expected a {what}") from error


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """`["optimiser.lr=3e-4"]` (as a command line gives them) to `{"optimiser.lr": 0.0003}`.

    Raises:
        InputError: no `=` in one, or a value that is not YAML.

    >>> parse_overrides(["optimiser.lr=3e-4", "data.sequences=[07, 08]"])
    {'optimiser.lr': 0.0003, 'data.sequences': ['07', '08']}
    """
    overrides = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{setting!r} is not NAME=VALUE; write for example optimiser.lr=3e-4")
        overrides[name.strip()] = parse_yaml(value, f"the value of {name.strip()}")
    return overrides


def dump_yaml(plain: Any) -> str:
    """YAML that `parse_yaml` reads back as the same plain types; keys keep their order."""
    return str(yaml.dump(plain, Dumper=_StrictDumper, sort_keys=False, allow_unicode=True, width=120))


class _StrictDumper(yaml.SafeDumper):
    """SafeDumper by the same rules; text that YAML 1.1 or these rules take for something else is quoted, so that any reader agrees."""

    yaml_implicit_resolvers = _StrictLoader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    taken_for = yaml.SafeLoader("").resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    ambiguous = taken_for != _TEXT or any(re.fullmatch(pattern, value) for _, pattern, _ in _SCALARS)
    return dumper.represent_scalar(_TEXT, value, style="'" if ambiguous else None)


_StrictDumper.add_representer(str, _text)
_StrictDumper.add_representer(float, lambda dumper, value: dumper.represent_scalar(_FLOAT, repr(value)))
