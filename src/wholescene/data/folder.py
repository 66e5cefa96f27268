"""A folder of pictures, in the order in which a person would read their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from wholescene.errors import InputError
from wholescene.reading.pictures import SUFFIXES


@dataclass(frozen=True)
class PictureFolder:
    """What lies in a folder.

    Attributes:
        pictures: files whose name ends like a picture's, in natural order; whether they can be read shows when they are.
        skipped: other files (texts, calibrations), in natural order; hidden ones and folders are not listed.
    """

    pictures: tuple[Path, ...]
    skipped: tuple[Path, ...]


def list_pictures(path: str | Path) -> PictureFolder:
    """The pictures of a folder, or the one picture that the path names.

    Raises:
        InputError: nothing is there, or the folder holds no picture.
    """
    path = Path(path)
    if path.is_file():
        return PictureFolder((path,), ())
    if not path.is_dir():
        raise InputError(f"{path} does not exist; expected a picture or a folder of pictures")
    files = sorted((p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")), key=lambda p: natural_key(p.name))
    pictures = tuple(p for p in files if p.suffix.lower() in SUFFIXES)
    if not pictures:
        inner = sum(1 for p in path.iterdir() if p.is_dir())
        raise InputError(
            f"{path} holds no picture among its {len(files)} files ({', '.join(SUFFIXES)}); it has {inner} folders, which are not looked into"
        )
    return PictureFolder(pictures, tuple(p for p in files if p not in set(pictures)))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts numbers inside names by value, letters without regard to case; equal keys by the name itself.

    >>> sorted(["10.png", "2.JPG", "b1", "1.jpg", "B02"], key=natural_key)
    ['1.jpg', '2.JPG', '10.png', 'b1', 'B02']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return (*((0, int(p), "") if p[0] in "0123456789" else (1, 0, p.casefold()) for p in parts), (2, 0, name))
