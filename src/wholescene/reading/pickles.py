"""Pickles from outside, read without running code: an unpickler that knows plain types, and one that knows arrays too.

Python's own unpickler in Python is the base, not the one in C: the latter allocates what a forged length claims.
"""

from __future__ import annotations

import collections
import io
import itertools
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wholescene.errors import InputError
from wholescene.files import read_bytes

_MOST_BYTES = 64 * 2**20  # a record of a frame has about 200 kB
_PYTHONS_OWN: Any = pickle._Unpickler  # type: ignore[attr-defined]  # undocumented, but what everybody subclasses
_TUPLES = {pickle.TUPLE: "load_tuple", pickle.TUPLE1: "load_tuple1", pickle.TUPLE2: "load_tuple2", pickle.TUPLE3: "load_tuple3"}
_MOST_IN_TUPLE = 10**6
_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


def _weighed(name: str) -> Any:
    """The base's loader of that name, and then a look at how much the tuple holds that it made."""

    def load(unpickler: PlainUnpickler) -> None:
        getattr(_PYTHONS_OWN, name)(unpickler)
        unpickler.weigh(unpickler.stack[-1])

    return load


class PlainUnpickler(_PYTHONS_OWN):
    """Takes mappings, sequences, numbers, text and bytes; whatever names a class or function goes through `find_class` of a subclass."""

    def load_build(self) -> None:
        """Gives an object its state; a function or class gets none, since that would change it for everybody."""
        if callable(self.stack[-2]):
            raise pickle.UnpicklingError("a state for a function or class")
        super().load_build()

    def weigh(self, made: tuple[Any, ...]) -> None:
        """Refuse a tuple that holds too much, with all that its tuples hold: one that holds another twice, and that one a third, takes time
        without end where it is hashed."""
        weights = self.__dict__.setdefault("weights", {})
        weights[id(made)] = 1 + sum(weights.get(id(member), 1) if isinstance(member, tuple) else 1 for member in made)
        if weights[id(made)] > _MOST_IN_TUPLE:
            raise pickle.UnpicklingError("tuples within tuples without end")

    dispatch = {  # noqa: RUF012  as the base has it
        **{code: load for code, load in _PYTHONS_OWN.dispatch.items() if code != pickle.BYTEARRAY8[0]},
        pickle.BUILD[0]: load_build,
        **{code[0]: _weighed(load) for code, load in _TUPLES.items()},
    }


class _RefusedError(Exception):
    """A pickle names something that no record holds."""


class _Kind:
    """What a pickled NumPy dtype becomes: a code such as "f4" and a byte order; made real only when it is one of the plain numbers."""

    def __init__(self, code: Any = None, *flags: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "=", "|"):
            self.order = state[1]

    def real(self) -> np.dtype[Any]:
        code = self.code.lstrip("<>=|") if isinstance(self.code, str) else None
        if code not in _NUMBERS:
            said = code[:40] if isinstance(code, str) else type(self.code).__name__
            raise _RefusedError(f"an array of {said!r}, not of plain numbers")
        return np.dtype(code).newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _Array:
    """What a pickled NumPy array becomes before its sizes are checked."""

    def __init__(self, *ignored: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def real(self) -> np.ndarray[Any, Any]:
        if not (isinstance(self.state, tuple) and len(self.state) == 5):
            raise _RefusedError("an array without content")
        _, shape, kind, fortran, raw = self.state
        return _array_of(raw, kind, shape, "F" if fortran else "C")


class _Flat:
    """What an array pickled as one buffer (protocol 5) becomes."""

    def __init__(self, raw: Any = b"", kind: Any = None, shape: Any = (), order: Any = "C", *ignored: Any) -> None:
        self.parts = (raw, kind, shape, order)

    def real(self) -> np.ndarray[Any, Any]:
        return _array_of(*self.parts)


class _Scalar:
    """What a pickled NumPy number becomes."""

    def __init__(self, kind: Any = None, raw: Any = b"") -> None:
        self.kind, self.raw = kind, raw

    def real(self) -> Any:
        return _array_of(self.raw, self.kind, (), "C")[()]


def _array_of(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """An array from bytes whose number is compared with what the shape claims."""
    if not isinstance(kind, _Kind) or not isinstance(raw, bytes | bytearray):
        raise _RefusedError("an array that is not of plain numbers")
    real = kind.real()
    if not isinstance(shape, tuple) or len(shape) > 8 or any(not isinstance(n, int) or n < 0 for n in shape):
        raise _RefusedError("an array without a proper shape")
    if math.prod(shape) * real.itemsize != len(raw):
        raise _RefusedError(f"an array of shape {shape} with {len(raw):,} bytes")
    flat = np.frombuffer(bytes(raw), real).astype(real.newbyteorder("="))
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _as_bytes(text: Any, coding: Any = "latin1") -> bytes:
    """Bytes that protocol 2 wrote as text."""
    if not isinstance(text, str) or coding != "latin1":
        raise _RefusedError("bytes in another coding than latin1")
    return text.encode("latin1")


def _no_bytes(*given: Any) -> bytes:
    """Empty bytes, which protocol 2 writes as a call."""
    if given:
        raise _RefusedError("a call of bytes")
    return b""


def _path(*parts: Any) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise _RefusedError("a path that is not text")
    return "/".join(parts)


_CORES = ("numpy.core", "numpy._core")
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    **{(f"{core}.multiarray", "_reconstruct"): _Array for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _Flat for core in _CORES},
    ("_codecs", "encode"): _as_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("pathlib", "PosixPath"): _path,
    ("pathlib", "PurePosixPath"): _path,
}


class _RecordUnpickler(PlainUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        """One of the constructors above; anything else is refused by name."""
        if (module, name) not in _KNOWN:
            raise _RefusedError(printable(f"{module}.{name}"))
        return _KNOWN[module, name]

    def load_bytearray8(self) -> None:
        """A byte array, whose length is compared with what is left before it is allocated."""
        claimed = int.from_bytes(self.read(8), "little")
        content = self.read(claimed) if claimed <= _MOST_BYTES else b""
        if len(content) != claimed:
            raise EOFError("a byte array is longer than the file")
        self.append(bytearray(content))

    dispatch = {**PlainUnpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}  # noqa: RUF012


def printable(text: str, most: int = 120) -> str:
    """Text from a file as it may stand in a sentence on a terminal: no line ends, no control characters, not longer than that.

    >>> printable("a" + chr(10) + chr(27) + "[31mb")
    'a\\\\n\\\\x1b[31mb'
    """
    return text.encode("unicode_escape").decode()[:most]


def read_record(path: str | Path) -> dict[str, Any]:
    """A pickled record: a mapping from text to arrays, numbers, text, and sequences and mappings of those.

    Args:
        path: of at most 64 MiB; any pickle protocol.

    Raises:
        InputError: it is missing, no such mapping, damaged, or names anything but arrays and plain types (nothing of it is executed).
    """
    content = read_bytes(path, _MOST_BYTES, "pickled record")
    try:
        found = _made_real(_RecordUnpickler(io.BytesIO(content), encoding="latin1").load(), itertools.count())
    except _RefusedError as error:
        raise InputError(
            f"{path}: its pickle holds {error}; a record holds arrays of numbers and plain types, so it was not read and nothing of it was run; "
            "do not trust this file"
        ) from error
    except Exception as error:  # a forged pickle can fail in any way; nothing of it was executed
        said = printable(str(error).strip()) or type(error).__name__
        raise InputError(f"{path} is no pickle that can be read ({said}); it is damaged or cut short: copy it again") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(f"{path} holds a {type(found).__name__}; expected a record, a mapping from names to arrays")
    return found


def _made_real(value: Any, visited: Iterator[int], depth: int = 0) -> Any:
    """The value with stand-ins replaced by arrays; values are nested at most eight deep and at most ten thousand in number."""
    if depth > 8 or next(visited) >= 10_000:
        raise _RefusedError("too many values, or values nested too deep")
    if isinstance(value, _Array | _Flat | _Scalar):
        return value.real()
    if isinstance(value, dict):
        return {name: _made_real(one, visited, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_made_real(one, visited, depth + 1) for one in value)
    if isinstance(value, _Kind) or callable(value):
        raise _RefusedError("a type or function as a value")
    return value
