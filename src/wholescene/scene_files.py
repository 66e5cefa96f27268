"""Scenes as files: one .npz, readable by `numpy.load` alone, read back here without trusting it.

The archive holds `labels` (X, Y, Z) uint8, where known `probability` and `probabilities` float16, `picture` (H, W, 3) uint8, and `meta`: JSON in
UTF-8 as a row of bytes, with the format's version, the grid, the label set, the camera, the name and the provenance. A reader needs no pickle.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.files import writing
from wholescene.grid import VoxelGrid
from wholescene.labels import UNKNOWN, LabelSet
from wholescene.scene import Scene

VERSION = 1
_FORMAT = "wholescene-scene"
_ARRAYS = ("labels", "probability", "probabilities", "picture")
_MOST_META = 2**24
_MOST_VOXELS = 2**28  # as VoxelGrid
_MOST_BYTES = 2**32  # of one array: what a scene of any grid here needs, and no more


def save_scene(scene: Scene, path: str | Path) -> None:
    """Write a scene to `path`, whole or not at all; see `Scene.save`."""
    meta = {
        "format": _FORMAT,
        "version": VERSION,
        "name": scene.name,
        "grid": scene.grid.as_dict(),
        "label_set": _label_set_as_dict(scene.label_set),
        "camera": None if scene.camera is None else scene.camera.as_dict(),
        "provenance": _plain(scene.provenance, f"{scene.name}: provenance"),
    }
    arrays = {name: np.ascontiguousarray(array) for name in _ARRAYS if (array := getattr(scene, name)) is not None}
    for name in ("probability", "probabilities"):
        if name in arrays:
            arrays[name] = arrays[name].astype(np.float16, copy=False)
    with writing(path) as temporary, temporary.open("wb") as file:
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle


def load_scene(path: str | Path, label_set: LabelSet | None = None) -> Scene:
    """Read a scene from `path`; see `Scene.load`."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a scene file (.npz)")
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = _Arrays(archive, path)
            return _saved(arrays, path) if "meta" in arrays.names else _plain_volume(arrays, path, label_set)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a scene file (.npz); check the path") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; expected a scene file (.npz)") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is not a whole scene file (.npz): {error}; make or copy it again") from error


def _saved(arrays: _Arrays, path: Path) -> Scene:
    meta = _meta(arrays, path)
    try:
        grid = VoxelGrid(**meta["grid"])
        labels_mean = _label_set_from_dict(meta["label_set"])
        camera = None if meta["camera"] is None else Camera.from_dict(meta["camera"])
        name, provenance = str(meta["name"]), dict(meta["provenance"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: its description is damaged ({type(error).__name__}: {error}); save the scene again") from error
    shapes = dict.fromkeys(_ARRAYS, grid.shape)
    shapes["probabilities"] = (labels_mean.classes, *grid.shape)  # type: ignore[assignment]
    shapes["picture"] = (-1, -1, 3)
    held = {}
    for key in _ARRAYS:
        kinds = "<f2" if key.startswith("prob") else "|u1"
        if key == "labels" or key in arrays.names:
            held[key] = arrays.read(key, kinds, shapes[key])
    try:
        return Scene(grid=grid, label_set=labels_mean, camera=camera, name=name, provenance=provenance, **held)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _meta(arrays: _Arrays, path: Path) -> dict[str, Any]:
    raw = arrays.read("meta", "|u1", (-1,), most=_MOST_META)
    try:
        meta = json.loads(raw.tobytes().decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its description is no JSON ({type(error).__name__}); save the scene again") from error
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise InputError(f"{path} is an .npz of another kind; expected a scene saved by wholescene, or `labels` and `voxel_size`")
    version = meta.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise InputError(f"{path} has scene format {version!r}; this wholescene reads 1 to {VERSION}; update wholescene")
    return meta


def _plain_volume(arrays: _Arrays, path: Path, label_set: LabelSet | None) -> Scene:
    """A volume that another program wrote: labels, edge length, and where its lower corner lies (0, 0, 0 if it does not say)."""
    missing = [name for name in ("labels", "voxel_size") if name not in arrays.names]
    if missing:
        found = ", ".join(sorted(arrays.names)[:8]) or "nothing"
        raise InputError(f"{path} holds {found} but no {' and no '.join(missing)}; expected a saved scene, or `labels` (X, Y, Z) and `voxel_size`")
    labels = arrays.read("labels", "bui", (-1, -1, -1), most=8 * _MOST_VOXELS)
    edges = arrays.read("voxel_size", "iuf", None, most=64).astype(np.float64).ravel()
    origin = arrays.read("origin", "iuf", (3,)).astype(np.float64) if "origin" in arrays.names else np.zeros(3)
    if edges.size not in (1, 3):
        raise InputError(f"{path}: voxel_size has {edges.size} numbers; expected one edge length in metres, or three")
    if not np.all(np.isfinite(origin)):
        raise InputError(f"{path}: origin {origin.tolist()} is not three finite numbers in metres")
    if labels.size and (labels.min() < 0 or labels.max() > UNKNOWN):
        raise InputError(
            f"{path}: labels reach from {labels.min()} to {labels.max()}; expected classes 0..254, or 255 for unknown; map raw ids to classes first"
        )
    try:
        grid = VoxelGrid.from_corner(origin.tolist(), labels.shape, np.broadcast_to(edges, 3).tolist())
        compact = labels.astype(np.uint8)
        return Scene(labels=compact, grid=grid, label_set=label_set or numbered(compact), name=path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def numbered(labels: NDArray[np.uint8]) -> LabelSet:
    """A label set for labels that nobody named: "class 1", "class 2", ..., in colours as far apart as the golden angle sets them."""
    known = labels[labels != UNKNOWN]
    top = max(1, int(known.max()) if known.size else 1)
    colours: list[tuple[int, int, int]] = [(0, 0, 0)]
    for label in range(1, top + 1):
        hue = 2 * math.pi * (0.58 + label * 0.381966)
        red, green, blue = (round(150 + 95 * math.cos(hue - shift)) for shift in (0.0, 2 * math.pi / 3, 4 * math.pi / 3))
        colours.append((red, green, blue))
    return LabelSet("numbered", ("empty", *(f"class {label}" for label in range(1, top + 1))), tuple(colours))


class _Arrays:
    """The arrays of an .npz, each read only after its header has been compared with what is expected."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self.archive, self.path = archive, path
        entries = archive.infolist()
        self.names = {entry.filename.removesuffix(".npy") for entry in entries if entry.filename.endswith(".npy")}
        if len(self.names) != len(entries):
            raise InputError(f"{path} is an archive with other things than named arrays in it; expected a scene file (.npz)")

    def read(self, name: str, kinds: str, shape: tuple[int, ...] | None, most: int = _MOST_BYTES) -> NDArray[Any]:
        """One array.

        Args:
            name: of the array.
            kinds: an exact type such as "<f2", or letters of `dtype.kind` such as "iu".
            shape: expected lengths, -1 for any; None: any shape.
            most: bytes.
        """
        if name not in self.names:
            raise InputError(f"{self.path} holds no {name}; expected a scene file (.npz)")
        entry = self.archive.getinfo(f"{name}.npy")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise InputError(f"{self.path}: {name} is encrypted or packed in a way that NumPy does not write; save the scene again")
        with self.archive.open(entry) as file:
            found, fortran, dtype = self._header(file, name)
            if not (dtype == np.dtype(kinds) if kinds[0] in "<|" else dtype.kind in kinds):
                raise InputError(f"{self.path}: {name} holds {dtype}; expected {np.dtype(kinds) if kinds[0] in '<|' else 'plain numbers'}")
            if shape is not None and (len(found) != len(shape) or any(w not in (-1, h) for w, h in zip(shape, found, strict=True))):
                expected = " x ".join("any" if n == -1 else str(n) for n in shape)
                raise InputError(f"{self.path}: {name} has the shape {found}; expected {expected}")
            size = math.prod(found) * dtype.itemsize
            if min(found, default=0) < 0 or size > most:
                raise InputError(f"{self.path}: {name} would take {size:,} bytes; at most {most:,} are read; is it the right file?")
            content = bytearray()
            while len(content) < size and (part := file.read(min(2**22, size - len(content)))):
                content += part  # in parts: memory grows with what is there, not with what was promised
            if len(content) != size or file.read(1):
                raise InputError(f"{self.path}: {name} is cut short or too long for its shape {found}; make or copy the file again")
        flat = np.frombuffer(content, dtype) if size else np.empty(0, dtype)
        return flat.reshape(found, order="F" if fortran else "C")

    def _header(self, file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        try:
            if np.lib.format.read_magic(file) != (1, 0):  # later versions only serve records, and let a header be 4 GiB long
                raise ValueError("not an array of plain numbers")
            return np.lib.format.read_array_header_1_0(file)  # type: ignore[no-any-return]
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise InputError(f"{self.path}: {name} has no readable array header ({error}); save the scene again") from error


def _label_set_as_dict(labels: LabelSet) -> dict[str, Any]:
    return {
        "name": labels.name, "names": list(labels.names), "colours": [list(c) for c in labels.colours],
        "raw": [[int(raw), int(label)] for raw, label in labels.raw.items()], "inverse": list(labels.inverse), "voxels": list(labels.voxels),
    }  # fmt: skip


def _label_set_from_dict(plain: dict[str, Any]) -> LabelSet:
    names = tuple(str(name) for name in plain["names"])
    colours = tuple(tuple(int(part) for part in colour) for colour in plain["colours"])
    if not 1 <= len(names) <= UNKNOWN or len(colours) != len(names):
        raise InputError(f"a label set of {len(names)} names and {len(colours)} colours; expected 1 to {UNKNOWN} of both")
    if any(len(colour) != 3 or not all(0 <= part <= 255 for part in colour) for colour in colours):
        raise InputError("a colour of the label set is not three numbers from 0 to 255")
    raw = {int(raw): int(label) for raw, label in plain["raw"]}
    inverse, voxels = (tuple(int(n) for n in plain[key]) for key in ("inverse", "voxels"))
    if any(not 0 <= raw_id < 65536 or not 0 <= label < len(names) for raw_id, label in raw.items()):
        raise InputError("the label set maps a raw id to a class that it does not have")
    return LabelSet(str(plain["name"]), names, colours, raw, inverse, voxels)  # type: ignore[arg-type]  # lengths checked above


def _plain(value: Any, where: str) -> Any:
    """Plain data for JSON, with NumPy's numbers and paths turned into Python's numbers and text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, where) for item in value]
    raise InputError(f"{where} holds a {type(value).__name__}; expected text, numbers, lists and dictionaries")
