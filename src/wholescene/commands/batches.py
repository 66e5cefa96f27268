"""A batch of pictures: which files, and under which names their scenes are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wholescene.data.folder import list_pictures
from wholescene.errors import InputError


def find_pictures(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The pictures of files and folders, and the files of the folders that are no pictures by their names.

    Files are taken as they are, whatever their names; of a folder (not of folders inside it) the pictures in natural order: 2.jpg before 10.jpg.

    Raises:
        InputError: a path that does not exist or cannot be looked into, or a folder without a picture.
    """
    found: list[Path] = []
    skipped: list[Path] = []
    for path in given:
        try:
            listed = list_pictures(path)
        except OSError as error:
            raise InputError(f"cannot look into {path}: {error.strerror or error}; expected a picture or a folder of pictures") from error
        found += listed.pictures
        skipped += listed.skipped
    return found, skipped


def names_of(pictures: Sequence[Path]) -> list[str]:
    """A folder name for each picture: its stem; where two share it, with the suffix; where those agree too, with the parent folder or a number.

    >>> names_of([Path("a/1.jpg"), Path("a/1.png"), Path("b/2.jpg")])
    ['1.jpg', '1.png', '2']
    """
    names = [p.stem for p in pictures]
    for longer in (lambda p: p.name, lambda p: f"{p.absolute().parent.name}-{p.name}"):
        often = Counter(names)
        names = [longer(p) if often[n] > 1 else n for n, p in zip(names, pictures, strict=True)]
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[i] = f"{name}-{seen[name]}"
    return names
