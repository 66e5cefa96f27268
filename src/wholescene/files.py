"""Writing so that nobody ever finds half a file, and reading so that nobody allocates for a lie."""

from __future__ import annotations

import contextlib
import os
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholescene.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# what NumPy raises over a header that is none: it is parsed as Python, and what it says is believed
_NO_HEADER = (
    ValueError, OSError, EOFError, SyntaxError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError,
    tokenize.TokenError,
)  # fmt: skip


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path` when the block ends well, removed when it does not.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a folder that can be written") from error
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result is an ordinary one
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: str | Path) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold; nothing is made.

    Raises:
        InputError: it is a folder, or the nearest folder that is there is none or is read-only.
    """
    path = Path(path)
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        said = "may not be written" if parent.is_dir() else "is no folder"
        raise InputError(f"cannot write {path}: {parent} {said}; choose a folder that can be written")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` under `path`, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write `content` as UTF-8 under `path`, whole or not at all. What no UTF-8 can hold (half of a file name in another encoding) becomes "?"."""
    write_bytes(path, content.encode(errors="replace"))


def read_bytes(path: str | Path, limit: int = 64 * 2**20, what: str = "file") -> bytes:
    """The whole of a small file.

    Raises:
        InputError: it is missing, a folder, not readable, or larger than `limit` bytes.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected a {what}")
        size = path.stat().st_size
        if size > limit:
            raise InputError(f"{path} has {size:,} bytes; a {what} has at most {limit:,}; is it the right file?")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a {what}; check the path") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; expected a {what}") from error


def open_array(path: str | Path, expected: str) -> NDArray[Any]:
    """A .npy file, mapped and not read: a header that promises more than the file holds is refused before anything is allocated.

    Args:
        path: of one array of plain numbers.
        expected: what it is to be, for messages.

    Raises:
        InputError: it is missing, or something else.
    """
    import numpy as np

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not there; expected {expected}; check the path")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except _NO_HEADER as error:
        raise InputError(f"{path} is not a NumPy array of numbers ({error}); expected {expected}") from error
