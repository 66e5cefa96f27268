"""Is SSCBench-KITTI-360 whole, and is it what it says: every file by name, every count beside the stated one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.data.layout import STRIDE, Listing, list_frames
from wholescene.data.report import Findings, Report, Table
from wholescene.data.sscbench_kitti_360 import DOWNLOADED, LEFT, RIGHT, SIZE, SOURCE, SPLITS, STATED, find_drives, folder_of, list_drives, target_of
from wholescene.data.volumes import BITS, mask_size, read_mask, read_raw_labels
from wholescene.errors import InputError
from wholescene.labels import KITTI_360, UNKNOWN
from wholescene.reading.pictures import read_picture

Progress = Callable[[str, int, int], None]
_LIFTS = (-1, 0, 1)


@dataclass
class Counted:
    """What the frames that could be read hold.

    Attributes:
        frames: how many.
        classes: (256,) voxels of each label.
        shared: voxels that `.bin` and `.label` both fill, with `.bin` lifted by each of `_LIFTS`.
        filled: voxels of `.bin` in all.
    """

    frames: int = 0
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    shared: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_LIFTS), np.int64))
    filled: int = 0


def check_sscbench(root: str | Path, most_frames: int | None = None, progress: Progress | None = None) -> Report:
    """Check SSCBench-KITTI-360; arguments as for `check`.

    Raises:
        InputError: nothing there.
    """
    folder = find_drives(root)
    findings, counted, tallies = Findings(), Counted(), []
    there = list_drives(folder)
    for split, drives in SPLITS.items():
        frames = 0
        for drive in drives:
            if drive not in there:
                findings.add("warning", f"drives of split {split} that are not there ({SOURCE})", drive)
                continue
            listing = list_frames(folder / folder_of(drive), STRIDE)
            frames += len(listing.frames)
            _check_drive(listing, findings)
            _open(listing, counted, findings, most_frames, progress)
        tallies.append((split, f"{frames:,}", f"{STATED[split]:,}", f"{DOWNLOADED[split]:,}"))
        _judge_count(split, frames, all(d in there for d in drives), findings)
    for drive in sorted(set(there).difference(*SPLITS.values())):
        listing = list_frames(folder / folder_of(drive), STRIDE)
        tallies.append((f"own: {drive}", f"{len(listing.frames):,}", "-", "-"))
        _check_drive(listing, findings)
        _open(listing, counted, findings, most_frames, progress)
    _judge_height(counted, findings)
    tables = (
        Table("Frames with volumes", ("split", "frames", "stated", "later download"), tuple(tallies)),
        *(_tables(counted) if counted.frames else ()),
    )
    how = "every frame opened" if most_frames is None else f"at most {most_frames} frames of a drive opened"
    return Report(f"SSCBench-KITTI-360 in {folder} ({how})", findings.sorted(), tables, findings.unusable())


def _judge_count(split: str, frames: int, whole: bool, findings: Findings) -> None:
    if frames == STATED[split] or not whole:
        return
    if frames == DOWNLOADED[split]:
        text = f"split {split} has the later download's {frames:,} frames, not the {STATED[split]:,} of the paper; scores of the two do not compare"
        findings.add("note", text)
    else:
        findings.add("warning", f"split {split} has {frames:,} frames; stated {STATED[split]:,}, later download {DOWNLOADED[split]:,}")


def _check_drive(listing: Listing, findings: Findings) -> None:
    """Files by name: pictures, volumes, poses."""
    if not listing.frames:
        findings.add("error", f"no volume in the voxels folder has a number on the stride of {STRIDE} ({SOURCE})", listing.name)
    for frame in listing.frames:
        name = f"{listing.name}/{frame}"
        if listing.picture(frame, LEFT) is None:
            findings.add("error", f"pictures {LEFT}/*.png are missing ({SOURCE})", name, unusable=name)
        for suffix in ("label", "invalid") if listing.labelled else ():
            if not listing.volume(frame, suffix).is_file():
                findings.add("error", f"volumes voxels/*.{suffix} are missing ({SOURCE})", name, unusable=name)
        if (listing.folder / RIGHT).is_dir() and listing.picture(frame, RIGHT) is None:
            findings.add("warning", f"pictures {RIGHT}/*.png are missing, needed for stereo only", name)
    if not (listing.folder / RIGHT).is_dir():
        findings.add("note", f"no {RIGHT} folder, needed for stereo only; early downloads have none", listing.name)
    for label in sorted((listing.folder / "voxels").glob("*.label")):
        if not listing.from_labels and not label.with_suffix(".bin").exists():
            text = "labels without a .bin beside them are not in the list of frames (four of drive 0003 are published so)"
            findings.add("note", text, f"{listing.name}/{label.stem}")
    for poses in ("pose.txt", "cam0_to_world.txt"):
        if not (listing.folder / poses).is_file():
            findings.add("note", f"no {poses}, needed for several frames at once only; some downloads have none", listing.name)


def _open(listing: Listing, counted: Counted, findings: Findings, most: int | None, progress: Progress | None) -> None:
    frames = listing.frames
    if most is not None and len(frames) > most:
        frames = tuple(frames[i] for i in np.linspace(0, len(frames) - 1, most).round().astype(int))
    for done, frame in enumerate(frames, 1):
        _open_frame(listing, frame, counted, findings)
        if progress is not None:
            progress(listing.name, done, len(frames))


def _open_frame(listing: Listing, frame: str, counted: Counted, findings: Findings) -> None:
    name = f"{listing.name}/{frame}"
    picture = listing.picture(frame, LEFT)
    try:
        if picture is not None and (read := read_picture(picture)) and (read.width, read.height) != SIZE:
            text = f"pictures are not of {SIZE[0]} x {SIZE[1]}; the camera is scaled to them"
            findings.add("warning", text, f"{name} {read.width} x {read.height}")
        files = {suffix: listing.volume(frame, suffix) for suffix in ("bin", "label", "invalid")}
        if not all(path.is_file() for path in files.values()):
            return  # said by the check of the files
        if mask_size(files["invalid"]) == BITS:
            findings.add("note", ".invalid holds one bit a voxel (as SemanticKITTI has it) and not one byte; it is read as such", name)
        raw, invalid, filled = read_raw_labels(files["label"]), read_mask(files["invalid"]), read_mask(files["bin"])
    except InputError as error:
        findings.add("error", str(error), unusable=name)
        return
    labels = target_of(raw, invalid)
    counted.frames += 1
    counted.classes += np.bincount(labels.reshape(-1), minlength=256)
    counted.filled += int(filled.sum())
    labelled = raw > 0
    counted.shared += [int((labelled & _lifted(filled, lift)).sum()) for lift in _LIFTS]
    if (labels == UNKNOWN).all():
        findings.add("warning", "nothing is known in these frames; exclude them, there is nothing to learn or to score", name, unusable=name)


def _lifted(mask: NDArray[np.bool_], lift: int) -> NDArray[np.bool_]:
    """The mask moved up by so many voxels; what leaves the grid is lost."""
    moved = np.zeros_like(mask)
    if lift > 0:
        moved[..., lift:] = mask[..., :-lift]
    else:
        moved[..., : mask.shape[2] + lift] = mask[..., -lift:]
    return moved


def _judge_height(counted: Counted, findings: Findings) -> None:
    """Do the sweep's voxels lie where the labels are, or one voxel above or below?"""
    if not counted.filled:
        return
    best = int(np.argmax(counted.shared))
    if _LIFTS[best] and counted.shared[best] > 1.2 * counted.shared[_LIFTS.index(0)]:
        here, there = (counted.shared[i] / counted.filled for i in (_LIFTS.index(0), best))
        way = "higher" if _LIFTS[best] > 0 else "lower"
        findings.add(
            "warning",
            f"the labels lie one voxel {way} than the sweeps (.bin): {here:.0%} of the sweeps' voxels are labelled, {there:.0%} once moved; "
            "a system that starts from .bin or from LiDAR depth sees targets that are off by 0.2 m",
        )


def _tables(counted: Counted) -> tuple[Table, ...]:
    known = counted.classes[: KITTI_360.classes]
    expected = np.asarray(KITTI_360.voxels, dtype=np.float64)
    shares, expected = known / max(1, known.sum()), expected / expected.sum()
    rows = [(n, f"{v:,}", f"{s:.4%}", f"{e:.4%}") for n, v, s, e in zip(KITTI_360.names, known, shares, expected, strict=True)]
    rows.append(("unknown, of all", f"{counted.classes[UNKNOWN]:,}", f"{counted.classes[UNKNOWN] / max(1, counted.classes.sum()):.1%}", "83.3%"))
    lifts = tuple(f"{n / max(1, counted.filled):.1%}" for n in counted.shared)
    return (
        Table(f"Voxels of {counted.frames:,} frames with truth (published: training split)", ("class", "voxels", "share", "published"), tuple(rows)),
        Table("Voxels of .bin that are labelled, if .bin is moved up by", ("", *map(str, _LIFTS)), (("share", *lifts),)),
    )
