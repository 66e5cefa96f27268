"""Configs as plain data: dataclasses from dictionaries and back, strictly, with the nearest name in every message."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from wholescene.errors import InputError, unknown_name

C = TypeVar("C")


def from_plain(cls: type[C], plain: Any, where: str = "config") -> C:
    """A dataclass from nested plain types (what YAML or JSON gives).

    Args:
        cls: a dataclass; fields may be numbers, text, Literal, Optional, tuple, list, dict, Path or another dataclass.
        plain: a mapping.
        where: what to call it in messages.

    Raises:
        InputError: an unknown field (with the nearest known one), a missing one, or a value of the wrong kind.
    """
    if not isinstance(plain, dict):
        raise InputError(f"{where} is {_shown(plain)}; expected a mapping of fields")
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]  # C is a dataclass by contract
    hints = typing.get_type_hints(cls)
    values = {}
    for name, value in plain.items():
        if name not in known:
            raise unknown_name(f"field in {where}", name, known)
        values[name] = _convert(hints[name], value, f"{where}.{name}")
    for name, f in known.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise InputError(f"{where}.{name} is missing; it has no default")
    return cls(**values)


def to_plain(config: Any) -> Any:
    """The inverse of `from_plain`: nested dictionaries, lists, numbers and text."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}
    if isinstance(config, dict):
        return {str(k): to_plain(v) for k, v in config.items()}
    if isinstance(config, tuple | list):
        return [to_plain(v) for v in config]
    return str(config) if isinstance(config, Path) else config


def with_field(plain: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of nested dictionaries with `a.b.c` set; missing levels are made. Whether the name exists is checked by `from_plain`."""
    head, _, rest = path.partition(".")
    inner = plain.get(head) or {}
    if rest and not isinstance(inner, dict):
        raise InputError(f"{head} is {_shown(inner)} and has no field {rest!r}")
    return {**plain, head: with_field(inner, rest, value) if rest else value}


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is typing.Literal:
        if value in args and not (isinstance(value, bool) and value not in [a for a in args if isinstance(a, bool)]):
            return value
        raise unknown_name(where, value, map(str, args))
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_plain(hint, value, where)  # type: ignore[arg-type]
    if origin in (tuple, list):
        return _convert_sequence(origin, args, value, where)
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where} is {_shown(value)}; expected a mapping")
        odd = next((k for k in value if not isinstance(k, str)), None) if args and args[0] is str else None
        if odd is not None:
            raise InputError(f"{where} has the name {_shown(odd)}; expected text: write it in quotes, '{odd}'")
        return {k: _convert(args[1] if args else Any, v, f"{where}.{k}") for k, v in value.items()}
    return _convert_scalar(hint, value, where)


def _convert_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    errors = []
    for arg in args:
        if arg is type(None):
            continue
        try:
            return _convert(arg, value, where)
        except InputError as error:
            errors.append(error)
    raise errors[-1]


def _convert_sequence(origin: Any, args: tuple[Any, ...], value: Any, where: str) -> Any:
    if isinstance(value, str) or not isinstance(value, tuple | list):
        raise InputError(f"{where} is {_shown(value)}; expected a list")
    fixed = origin is tuple and not (len(args) == 2 and args[1] is Ellipsis)
    if fixed and args and len(value) != len(args):
        raise InputError(f"{where} has {len(value)} entries; expected {len(args)}")
    kinds = args if fixed and args else (args[0] if args else Any,) * len(value)
    return origin(_convert(kind, v, f"{where}[{i}]") for i, (kind, v) in enumerate(zip(kinds, value, strict=True)))


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise InputError(f"{where} is {_shown(value)}; expected true or false")
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is str and value is None:  # what a shell and YAML make of an empty text
        return ""
    if isinstance(hint, type) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    expected = {int: "a whole number", float: "a number", str: "text", Path: "a path"}.get(hint, str(hint))
    raise InputError(f"{where} is {_shown(value)}; expected {expected}")
