"""Tensors out of torch's checkpoints without running code: an own unpickler that knows tensors and plain types only.

Every other class or function that the pickle names becomes an inert stub, so a Lightning file with an argparse Namespace, a NumPy number or an
OmegaConf node inside still gives its tensors. Sizes are checked against the file before anything is allocated.
"""

from __future__ import annotations

import collections
import io
import math
import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.reading.pickles import PlainUnpickler

_MOST_PICKLE = 64 * 2**20  # names and shapes of a hundred thousand tensors; more is no checkpoint
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)
_MOST_EXPANDED = 2**24  # a view may show a number several times, but nothing that a later copy could drown in

_KINDS = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}


class Stub:
    """What stands for an object of a foreign class: takes whatever the pickle does to it and does nothing."""

    foreign = ""

    def __new__(cls, *args: Any, **fields: Any) -> Stub:
        return super().__new__(cls)

    def __init__(self, *args: Any, **fields: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Nothing."""

    def extend(self, values: Any) -> None:
        """Nothing."""

    def add(self, value: Any) -> None:
        """Nothing."""

    def __repr__(self) -> str:
        return f"<{self.foreign}>"


Storages = Callable[[str, torch.dtype, int], Tensor]  # key, kind and count of a storage to its flat content


class _Storage:
    """A storage that the pickle refers to, read when a tensor first asks for it."""

    def __init__(self, read: Storages, key: str, kind: torch.dtype, count: int) -> None:
        self.read, self.key, self.kind, self.count = read, key, kind, count


class _Archive:
    """The zip file of a checkpoint: one pickle and one raw member a storage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise InputError(f"{path} is cut short or damaged (its zip directory cannot be read); download it again") from error
        names = [i.filename for i in self.zip.infolist() if i.filename.split("/")[-1] == "data.pkl"]
        if len(names) != 1:
            raise InputError(f"{path} is a zip archive but no checkpoint of torch (no data.pkl in it); expected what torch.save writes")
        self.root = names[0].removesuffix("data.pkl")
        if self.root + "byteorder" in self.zip.namelist() and self.member("byteorder", 16) != b"little":
            raise InputError(f"{path} was written on a big-endian machine, which is not read; write it anew on another one")
        self.read_storages: dict[str, Tensor] = {}

    def member(self, name: str, most: int) -> bytearray:
        """The bytes of a member, if they are at most `most`."""
        try:
            info = self.zip.getinfo(self.root + name)
            if info.file_size > min(most, 64 * max(info.compress_size, 2**10)):
                raise InputError(f"{self.path}: its part {name} claims {info.file_size:,} bytes, which is not plausible; do not trust this file")
            content = bytearray(info.file_size)
            with self.zip.open(info) as file:
                if file.readinto(content) != len(content) or file.read(1):  # type: ignore[attr-defined]  # zipfile types it too narrowly
                    raise EOFError("its length is wrong")
            return content
        except KeyError as error:
            raise InputError(f"{self.path} is damaged: its part {name} is missing; download it again") from error
        except InputError:
            raise
        except _BROKEN as error:
            raise InputError(f"{self.path} is cut short or damaged (part {name}: {error}); download it again") from error

    def storage(self, key: str, kind: torch.dtype, count: int) -> Tensor:
        """`count` numbers of `kind`."""
        if key not in self.read_storages:
            size = count * torch.empty((), dtype=kind).element_size()
            raw = self.member(f"data/{key}", size)
            if len(raw) != size:
                raise InputError(f"{self.path} is damaged: storage {key} has {len(raw):,} bytes, expected {size:,}; download it again")
            self.read_storages[key] = torch.frombuffer(raw, dtype=kind) if size else torch.empty(0, dtype=kind)
        return self.read_storages[key]


class _Unpickler(PlainUnpickler):
    def __init__(self, file: Any, storages: Storages) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages = storages
        self.foreign: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """A known constructor, or a stub that keeps the name."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _KINDS:
            return _KINDS[name]
        if module == "torch.storage" and name == "UntypedStorage":
            return torch.uint8
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        full = f"{module}.{name}"
        self.foreign.add(full)
        return type("Stub", (Stub,), {"foreign": full})

    def persistent_load(self, pid: Any) -> Any:
        """("storage", kind, key, place, count) and, in old files, a view of it: tensors refer to storages like this."""
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and isinstance(pid[1], torch.dtype)):
            raise pickle.UnpicklingError("a reference to something else than a storage")
        _, kind, key, _, count = pid[:5]
        if not (isinstance(key, str) and key.isalnum() and isinstance(count, int) and 0 <= count < 2**48) or (pid[5:] and pid[5] is not None):
            raise pickle.UnpicklingError("a malformed reference to a storage")
        return _Storage(self.storages, key, kind, count)


def _rebuild(storage: Any, offset: Any, shape: Any, stride: Any, *ignored: Any) -> Any:
    """A tensor from its storage; bounds are checked against the storage, whose size is checked against the file."""
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or len(shape) != len(stride) or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise pickle.UnpicklingError("malformed tensor")
    flat = storage.read(storage.key, storage.kind, storage.count)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= flat.numel():
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(shape)} reaches past its storage")
    if math.prod(shape) > max(flat.numel(), _MOST_EXPANDED):
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(shape)} claims more numbers than its storage holds")
    return flat.as_strided(tuple(shape), tuple(stride), offset) if math.prod(shape) else torch.empty(tuple(shape), dtype=flat.dtype)


def _parameter(tensor: Any, *ignored: Any) -> Any:
    return tensor


def _typed(kind: Any, *ignored: Any) -> Any:
    """`torch.nn.parameter.Parameter` and friends called as a class with a tensor."""
    return kind


def _size(numbers: Any = ()) -> tuple[int, ...]:
    if not isinstance(numbers, list | tuple) or not all(isinstance(n, int) for n in numbers):
        raise pickle.UnpicklingError("a size that is not whole numbers")
    return tuple(numbers)


def _device(*words: Any) -> str:
    if not all(isinstance(word, str | int) for word in words):
        raise pickle.UnpicklingError("a device without a name")
    return ":".join(map(str, words))


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *factory: {},
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.nn.parameter", "Parameter"): _typed,
}


def read_zip(path: Path) -> tuple[Any, list[str]]:
    """What a zip checkpoint holds (torch 1.6 and later), on the CPU.

    Args:
        path: a file that starts as a zip archive.

    Returns:
        The content (mappings, sequences, numbers, text, tensors, stubs), and the foreign classes and functions it names, sorted.

    Raises:
        InputError: damaged, not torch's, or a pickle that does not hold together.
    """
    archive = _Archive(path)
    with archive.zip:
        unpickler = _Unpickler(io.BytesIO(archive.member("data.pkl", _MOST_PICKLE)), archive.storage)
        return _load(path, unpickler), sorted(unpickler.foreign)


def read_legacy(path: Path) -> tuple[Any, list[str]]:
    """What a checkpoint from before torch 1.6 holds: pickles in a row, then the raw storages. As `read_zip`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        claimed: dict[str, tuple[torch.dtype, int]] = {}

        def claim(key: str, kind: torch.dtype, count: int) -> Tensor:
            claimed[key] = (kind, count)
            return torch.empty(count, dtype=kind, device="meta")  # the storages follow the pickle that refers to them

        if _load(path, _Unpickler(content, claim)) != _LEGACY_MAGIC:
            raise InputError(f"{path} is a pickle but no checkpoint of torch; expected what torch.save writes")
        for _ in ("protocol", "machine"):
            _load(path, _Unpickler(content, claim))
        start = content.tell()
        _load(path, _Unpickler(content, claim))
        keys = _load(path, _Unpickler(content, claim))
        held = _read_storages(path, content, keys, claimed)
        content.seek(start)
        unpickler = _Unpickler(content, lambda key, kind, count: held[key])
        return _load(path, unpickler), sorted(unpickler.foreign)


def _read_storages(path: Path, content: mmap.mmap, keys: Any, claimed: dict[str, tuple[torch.dtype, int]]) -> dict[str, Tensor]:
    """Each storage is its count as int64, then its numbers."""
    held = {}
    for key in keys if isinstance(keys, list) else []:
        kind, count = claimed.get(key, (torch.uint8, -1)) if isinstance(key, str) else (torch.uint8, -1)
        size = count * torch.empty((), dtype=kind).element_size()
        if content.read(8) != count.to_bytes(8, "little", signed=True) or not 0 <= size <= len(content) - content.tell():
            raise InputError(f"{path} is cut short or damaged (storage {str(key)[:40]}); download it again")
        held[key] = torch.frombuffer(bytearray(content.read(size)), dtype=kind) if size else torch.empty(0, dtype=kind)
    if set(held) != set(claimed):
        raise InputError(f"{path} is cut short or damaged ({len(held)} of {len(claimed)} storages are there); download it again")
    return held


def _load(path: Path, unpickler: _Unpickler) -> Any:
    try:
        return unpickler.load()
    except InputError:
        raise
    except Exception as error:  # a forged pickle can fail in any way; nothing of it was executed
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path}: its pickle does not hold together ({said[0][:120]}); it is damaged or no checkpoint") from error
