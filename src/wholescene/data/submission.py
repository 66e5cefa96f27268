"""The test server's zip for SemanticKITTI scene completion: writing it, and refusing beforehand what the server would refuse."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.data.layout import SPLITS, find_sequences, is_frame_name, list_frames, list_sequences
from wholescene.data.report import Findings, Report
from wholescene.data.volumes import SHAPE, WORDS
from wholescene.errors import InputError
from wholescene.files import writing
from wholescene.labels import SEMANTIC_KITTI

_ENTRY = re.compile(r"sequences/([0-9]{2})/predictions/([0-9]{6})\.label")
_FOLDER = re.compile(r"sequences/(?:([0-9]{2})/(?:predictions/)?)?")
_MOST_ENTRIES = 50_000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # one time for all entries, so that equal predictions give equal files


def write_submission(path: str | Path, predictions: Iterable[tuple[str, str, NDArray[Any]]], sequences: Sequence[str] = SPLITS["test"]) -> int:
    """Write predictions as the server reads them: `sequences/SS/predictions/NNNNNN.label`, uint16 raw ids, and nothing else.

    Predictions are taken one by one, so a whole test split needs the memory of one volume.

    Args:
        path: of the zip; it appears whole or not at all.
        predictions: sequence ("11"), frame ("000005") and (256, 256, 32) labels 0..19, each frame once, in any order.
        sequences: whose folders the zip has, also where no prediction comes; the server wants all of its split.

    Returns:
        How many predictions were written.

    Raises:
        InputError: a volume of another shape, a label outside 0..19 (unknown cannot be submitted), a name that is no sequence of the list or
            no six-digit frame, or a frame that comes twice.
    """
    if not all(re.fullmatch("[0-9]{2}", s) for s in sequences):
        raise InputError(f"sequences {', '.join(map(str, sequences))} are not names of two digits; the server knows '11' to '21'")
    written: set[str] = set()
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for folder in _folders(sequences):
            archive.writestr(_entry(folder), b"")
        for sequence, frame, labels in predictions:
            name = _name(sequence, frame, sequences)
            if name in written:
                raise InputError(f"frame {sequence}/{frame} is predicted twice; a submission holds each frame once")
            if labels.shape != SHAPE:
                raise InputError(f"the prediction of {sequence}/{frame} has shape {tuple(labels.shape)}; expected {SHAPE} in x, y, z order")
            archive.writestr(_entry(name), np.ascontiguousarray(SEMANTIC_KITTI.to_raw(labels), dtype="<u2").tobytes())
            written.add(name)
    return len(written)


def check_submission(path: str | Path, root: str | Path | None = None, split: str = "test") -> Report:
    """Look for everything that the server would refuse; nothing is extracted.

    Args:
        path: of the zip.
        root: the dataset's root: its `voxels/*.bin` are the frames that must be there, no more and no less. None: not compared.
        split: whose sequences the zip must have.

    Returns:
        A report; its findings name the entries.

    Raises:
        InputError: it is no zip, or has an unbelievable number of entries; the root holds no volumes of the split.
    """
    path = Path(path)
    findings = Findings()
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_ENTRIES:
                raise InputError(f"{path} has {len(entries):,} entries; a submission has about 4,000: is it the right file?")
            _check_names(entries, SPLITS[split], findings)
            for entry in entries:
                if _ENTRY.fullmatch(entry.filename):
                    _check_volume(archive, entry, findings)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a zip that can be read ({error}); write it with write_submission") from error
    there = {"/".join(match.groups()) for e in entries if (match := _ENTRY.fullmatch(e.filename))}
    if root is not None:
        wanted = _wanted(root, SPLITS[split], findings)
        _say_all(findings, "error", "predictions are missing", sorted(wanted - there))
        _say_all(findings, "error", "predictions of frames that are not asked for", sorted(there - wanted))
    elif not there:
        findings.add("error", "there is no prediction at sequences/SS/predictions/NNNNNN.label")
    compared = f"compared with {root}" if root is not None else "not compared with a dataset's list of frames"
    return Report(f"submission {path}: {len(there):,} predictions, {compared}", findings.sorted())


def _folders(sequences: Sequence[str]) -> list[str]:
    return ["sequences/", *(f for s in sequences for f in (f"sequences/{s}/", f"sequences/{s}/predictions/"))]


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    folder = name.endswith("/")
    entry.external_attr = (0o40755 << 16) | 0x10 if folder else 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED if folder else zipfile.ZIP_DEFLATED
    return entry


def _name(sequence: str, frame: str, sequences: Sequence[str]) -> str:
    if sequence not in sequences:
        raise InputError(f"sequence {sequence!r} is not one of {', '.join(sequences)}; names are text: '08', not 8")
    if not isinstance(frame, str) or not is_frame_name(frame):
        raise InputError(f"frame {frame!r} of sequence {sequence} is not six digits; expected a name like '000005'")
    return f"sequences/{sequence}/predictions/{frame}.label"


def _check_names(entries: Sequence[zipfile.ZipInfo], sequences: Sequence[str], findings: Findings) -> None:
    names = [e.filename for e in entries]
    _say_all(findings, "error", "entries that are there twice", sorted(n for n, times in Counter(names).items() if times > 1))
    for folder in _folders(sequences):
        if folder not in names:
            findings.add("error", "directory entries are missing (the server wants each as an entry of its own)", folder)
    for name in dict.fromkeys(names):
        if name == "description.txt":
            findings.add("note", "it has a description.txt, which the server reads (name, pdf url, code url)")
        elif name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name or "\\" in name:
            findings.add("error", "paths that would leave their folder when extracted", repr(name))
        elif (match := _ENTRY.fullmatch(name) or _FOLDER.fullmatch(name)) is None:
            findings.add("error", f"entries that are not wanted{_misspelt(name)}", repr(name))
        elif match.group(1) is not None and match.group(1) not in sequences:
            findings.add("error", f"sequences that are not asked for (expected {sequences[0]}..{sequences[-1]})", name)


def _misspelt(name: str) -> str:
    """A hint for names that are nearly right."""
    parts = name.split("/")
    if "sequences" in parts[1:]:
        return " (a folder above sequences/: zip from inside it)"
    if len(parts) > 2 and parts[2] not in ("predictions", "") and parts[2].startswith("pred"):
        return f" (the folder is called predictions, not {parts[2]})"
    if name.endswith(".label"):
        return " (predictions are sequences/SS/predictions/NNNNNN.label, with six digits)"
    return ""


def _check_volume(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, findings: Findings) -> None:
    if entry.file_size != WORDS:
        findings.add("error", f"predictions that have not {WORDS:,} bytes (uint16 a voxel)", f"{entry.filename} {entry.file_size:,}")
        return
    try:
        with archive.open(entry) as file:
            content = file.read(WORDS + 1)  # the size in the list may be a lie
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        findings.add("error", f"entries that cannot be read ({error})", entry.filename)
        return
    if len(content) != WORDS:
        findings.add("error", f"predictions that have not {WORDS:,} bytes (uint16 a voxel)", f"{entry.filename} {len(content):,}")
        return
    counts = np.bincount(np.frombuffer(content, "<u2"), minlength=65536)
    for raw in np.flatnonzero(counts):
        if int(raw) not in SEMANTIC_KITTI.inverse:
            findings.add("error", f"raw id {raw} is not one of the twenty that can be submitted", f"{entry.filename} {int(counts[raw]):,} voxels")


def _wanted(root: str | Path, sequences: Sequence[str], findings: Findings) -> set[str]:
    folder = find_sequences(root)
    there = list_sequences(folder)
    lacking = [s for s in sequences if s not in there]
    _say_all(findings, "warning", f"sequences of the split that are not under {folder}, so their frames are not compared", lacking)
    wanted = {f"{s}/{frame}" for s in sequences if s in there for frame in list_frames(folder / s).frames}
    if not wanted:
        raise InputError(f"no volumes of sequences {sequences[0]}..{sequences[-1]} under {folder}; give a root that holds their voxels/*.bin")
    return wanted


def _say_all(findings: Findings, severity: Any, text: str, names: Sequence[str]) -> None:
    for name in names:
        findings.add(severity, text, name)
