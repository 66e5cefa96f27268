"""What goes wrong at the door, in one sentence: what, where, what was expected, what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class WholesceneError(Exception):
    """Base of everything that a user can mend; the command line prints its sentence and ends with exit code 2."""


class InputError(WholesceneError, ValueError):
    """A file, a value or a combination from outside that cannot be used."""


class MissingExtraError(WholesceneError, ImportError):
    """A package that belongs to an extra is not installed."""


def unknown_name(kind: str, name: object, known: Iterable[str], command: str = "") -> InputError:
    """The error for a name that no table holds: it gives the nearest known names and the command that lists all.

    >>> print(unknown_name("system", "monoscen", ["monoscene", "iso"]))
    unknown system 'monoscen'; the nearest is 'monoscene'; known: iso, monoscene
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    said = f"unknown {kind} {str(name)!r}"
    if near:
        said += "; the nearest " + ("is " if len(near) == 1 else "are ") + ", ".join(repr(n) for n in near)
    said += f"; known: {', '.join(names)}" if names else "; none is known"
    return InputError(said + (f"; list them with `{command}`" if command else ""))


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Raises:
        MissingExtraError: naming the extra and the pip command; the original error is its cause.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtraError(
            f"{package} is needed here and could not be imported ({error}); install it with: pip install 'wholescene[{extra}]'"
        ) from error
