"""A foreign checkpoint as named tensors, whatever wrote it; nothing in it is executed, and what is no checkpoint is named for what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wholescene.checkpoints.unpickling import Stub, read_legacy, read_zip
from wholescene.errors import InputError

# where trainers put the weights inside their files, the likeliest first
_PLACES = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")


@dataclass(frozen=True)
class ForeignCheckpoint:
    """Tensors of a file, and what else was in it.

    Attributes:
        path: the file.
        state: name -> tensor, on the CPU, in the file's order.
        place: where in the file the tensors were; empty if they were all of it.
        other: the other top-level entries, as they were read (stubs for foreign objects).
        foreign: classes and functions that the file names and that were not loaded.
    """

    path: Path
    state: dict[str, Tensor]
    place: str = ""
    other: dict[str, Any] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What a user should be told, in sentences."""
        said = []
        if self.place:
            said.append(f"the weights are the entry {self.place!r} of the file")
        if self.other:
            said.append(f"left aside: {', '.join(map(str, self.other))}")
        if self.foreign:
            said.append(f"read without running code; these types were not loaded: {', '.join(self.foreign)}")
        return said


def read_foreign(path: str | Path, expected: str = "") -> ForeignCheckpoint:
    """Read weights that somebody else wrote: safetensors, or what torch.save writes, old and new, Lightning's files too.

    Args:
        path: the file.
        expected: a few words on what belongs here (size, SHA-256), for messages.

    Raises:
        InputError: it is missing, empty, a web page, a Git LFS pointer, cut short, or holds no named tensors.
    """
    path = Path(path)
    wanted = f"; expected {expected}" if expected else ""
    head = sniff(path, wanted)
    if head[:4] == b"PK\x03\x04":
        content, foreign = read_zip(path)
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return ForeignCheckpoint(path, _read_safetensors(path))
    elif head[:1] == b"\x80":
        content, foreign = read_legacy(path)
    else:
        raise InputError(f"{path} is no checkpoint: it starts with {head[:16]!r}{wanted or '; expected a file of torch.save or safetensors'}")
    return _find_state(path, content, tuple(foreign))


def sniff(path: Path, wanted: str = "") -> bytes:
    """The first bytes of a file that could be a checkpoint.

    Args:
        path: the file.
        wanted: what to add to messages about a file that is something else.

    Raises:
        InputError: it is missing, empty, a web page or a Git LFS pointer.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a checkpoint file")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a checkpoint file; check the path") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    size = path.stat().st_size
    if not head:
        raise InputError(f"{path} is empty (0 bytes){wanted or '; expected a checkpoint'}; download it again")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        title = re.search(rb"<title>\s*(.*?)\s*</title>", head, re.IGNORECASE | re.DOTALL)
        said = f" (its title: {title[1].decode(errors='replace')[:80]!r})" if title else ""
        raise InputError(
            f"{path} is a web page, not weights{said}, {size:,} bytes{wanted}; the download was refused: delete the file and fetch it again by hand"
        )
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        held = re.search(rb"^size (\d+)$", head, re.MULTILINE)
        of = f" of a {int(held[1]):,}-byte file" if held else ""
        raise InputError(
            f"{path} is a Git LFS pointer{of}, not the file itself{wanted}; run `git lfs pull` in that repository, or download the file from its page"
        )
    return head


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is cut short or damaged ({error}); download it again") from error


def _find_state(path: Path, content: Any, foreign: tuple[str, ...]) -> ForeignCheckpoint:
    """The mapping of names to tensors in what was read."""
    if isinstance(content, Stub):
        raise InputError(
            f"{path} holds a whole pickled object of the class {content.foreign}, which cannot be read without running its code; "
            "ask for its state_dict, or save that where the code is"
        )
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not named tensors; expected a state dict")
    for place in ("", *_PLACES):
        inner = content.get(place) if place else content
        state = {str(n): t for n, t in inner.items() if isinstance(t, Tensor)} if isinstance(inner, Mapping) else {}
        if state and (place or len(state) > len(content) / 2):
            other = {str(n): v for n, v in content.items() if n != place and not (not place and isinstance(v, Tensor))}
            return ForeignCheckpoint(path, state, place, other, foreign)
    raise InputError(f"{path} holds no named tensors; found the entries {', '.join(map(str, list(content)[:8])) or 'none'}; expected a state dict")


_WRAPPERS = ("module.", "model.", "_orig_mod.", "_forward_module.", "net.", "network.")


def strip_wrappers(names: Iterable[str], known: Iterable[str]) -> str:
    """The prefix of wrappers (data parallel, compile, a trainer's attribute) under which most names are known ones; empty if none helps.

    Args:
        names: as the file has them.
        known: as a system's table has them.
    """
    names, known = list(names), set(known)
    prefixes = {""}
    for name in names:
        prefix = ""
        while (wrapper := next((w for w in _WRAPPERS if name.startswith(prefix + w)), None)) is not None:
            prefix += wrapper
            prefixes.add(prefix)
    return max(sorted(prefixes, key=len), key=lambda p: sum(n.startswith(p) and n[len(p) :] in known for n in names))
