"""Is this dataset whole, and is it what it says: every file by name, every count beside the published one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.data.check_sequence import check_calibration, check_files, check_pictures, check_poses, check_revision
from wholescene.data.check_volumes import VolumeCounts, check_volumes
from wholescene.data.layout import ARCHIVES, PUBLISHED, Listing, find_sequences, list_frames, list_sequences
from wholescene.data.report import Findings, Report, Table
from wholescene.errors import InputError, unknown_name
from wholescene.labels import SEMANTIC_KITTI, UNKNOWN

DATASETS = ("semantic-kitti", "sscbench-kitti-360", "nyuv2", "occscannet")


def check(
    root: str | Path,
    dataset: str = "semantic-kitti",
    *,
    sequences: Sequence[str] | None = None,
    stride: int | None = None,
    most_frames: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Check a dataset on disk.

    Every frame's files are looked for and their sizes compared; pictures and volumes are opened and read (about 40 ms a frame).

    Args:
        root: as `SemanticKITTI` takes it.
        dataset: the layout: "sscbench-kitti-360", "nyuv2", "occscannet", or "semantic-kitti", which also stands for an own recording in it.
        sequences: names; all that are there by default. For "semantic-kitti" alone, as is `stride`.
        stride: as `SemanticKITTI` takes it.
        most_frames: open at most that many frames of each sequence, evenly spread; None: all.
        progress: called with the sequence, how many of its frames are done, and how many it has.

    Returns:
        A report; its `unusable` frames are those that a dataset should be told to exclude.

    Raises:
        InputError: no volumes at the root (it names the nearest folder that has some), an unknown dataset or sequence, or a
            choice of sequences or a stride where there is none.
    """
    if dataset not in DATASETS:
        raise unknown_name("dataset to check", dataset, DATASETS)
    if most_frames is not None and most_frames < 1:
        raise InputError(f"at most {most_frames} frames of a sequence would open none; give a positive number")
    if dataset != "semantic-kitti" and (sequences is not None or stride is not None):
        raise InputError(f"sequences and stride choose what of semantic-kitti is checked; {dataset} is checked whole, so leave them out")
    if dataset == "sscbench-kitti-360":
        from wholescene.data.check_sscbench import check_sscbench

        return check_sscbench(root, most_frames, progress)
    if dataset != "semantic-kitti":
        return _indoors(root, dataset, most_frames, progress)
    folder = find_sequences(root)
    there = list_sequences(folder)
    for name in sequences or ():
        if name not in there:
            raise unknown_name(f"sequence under {folder}", name, there)
    findings = Findings()
    counts = VolumeCounts.none()
    cameras, tallies = [], []
    for name in sequences or there:
        listing = list_frames(folder / name, stride)
        tallies.append(_tally(listing, findings))
        check_files(listing, findings)
        check_poses(listing, findings)
        check_revision(listing, findings)
        opened = _spread(listing.frames, most_frames)
        sizes = check_pictures(listing, opened, findings)
        cameras.append(check_calibration(listing, sizes, findings))
        for done, frame in enumerate(opened, 1):
            counts += check_volumes(listing, frame, findings)
            if progress is not None:
                progress(name, done, len(opened))
    _check_splits(there, sequences, findings)
    _check_ids(counts.raw, findings)
    tables = (
        Table("Frames (published: every fifth)", ("sequence", "split", "frames", "published", "truth", "poses", "published"), tuple(tallies)),
        Table("Cameras (P2)", ("sequence", "pictures", "fx", "cx", "cy", "P2[0,3]", "grid in view"), tuple(cameras)),
        *([_shares(counts)] if counts.frames else []),
    )
    how = "every frame opened" if most_frames is None else f"at most {most_frames} frames of a sequence opened"
    return Report(f"SemanticKITTI layout in {folder} ({how})", findings.sorted(), tables, findings.unusable())


def _indoors(root: str | Path, dataset: str, most_frames: int | None, progress: Callable[[str, int, int], None] | None) -> Report:
    from wholescene.data.check_indoor import check_nyuv2, check_occscannet

    return (check_nyuv2 if dataset == "nyuv2" else check_occscannet)(root, most_frames, progress)


def _spread(frames: Sequence[str], most: int | None) -> tuple[str, ...]:
    if most is None or len(frames) <= most:
        return tuple(frames)
    return tuple(frames[i] for i in np.linspace(0, len(frames) - 1, most).round().astype(int))


def _tally(listing: Listing, findings: Findings) -> tuple[str, ...]:
    """The row of a sequence in the table of counts."""
    published = PUBLISHED.get(listing.name)
    poses = listing.folder / "poses.txt"
    lines = f"{sum(1 for line in poses.open('rb') if line.strip()):,}" if poses.is_file() else "-"
    if published is None:
        split, frames, expected = "own", "-", "-"
    else:
        split, frames, expected = published.split, f"{published.frames:,}", f"{published.poses:,}"
        if len(listing.frames) < published.frames and split != "test":
            findings.add("warning", f"fewer frames than published ({ARCHIVES['voxels']})", f"{listing.name} has {len(listing.frames)} of {frames}")
    if listing.skipped:
        text = "volumes that are not on the benchmark's stride are left out (there is a release with every frame)"
        findings.add("note", text, f"{listing.name}: {listing.skipped:,}")
    if listing.from_labels:
        findings.add("note", "no .bin files; the .label files are taken as the list of frames", listing.name)
    if not listing.frames:
        findings.add("error", "no volume in the voxels folder has a number on the stride; give stride 1 for every frame", listing.name)
    return (listing.name, split, f"{len(listing.frames):,}", frames, "yes" if listing.labelled else "no", lines, expected)


def _check_splits(there: Sequence[str], sequences: Sequence[str] | None, findings: Findings) -> None:
    """Sequences that a published split would want; an own recording (no published name at all) wants none."""
    if sequences is not None or not any(name in PUBLISHED for name in there):
        return
    for name, published in PUBLISHED.items():
        if name not in there:
            findings.add("warning", f"sequences of split {published.split} that are not there ({ARCHIVES['voxels']})", name)


def _check_ids(raw: NDArray[np.int64], findings: Findings) -> None:
    """What the histogram of raw ids gives away about how an own recording was written."""
    used = np.flatnonzero(raw)
    if len(used) > 1 and used.max() < SEMANTIC_KITTI.classes and any(int(i) not in SEMANTIC_KITTI.raw for i in used):
        findings.add(
            "error",
            f"the label files hold the numbers {', '.join(map(str, used))} only: these look like classes 0..19; raw ids are expected "
            "(car 10, road 40, ...): write them with SEMANTIC_KITTI.to_raw",
        )
    labelled = int(raw[1:].sum())
    if labelled and raw[UNKNOWN] > 0.01 * labelled:
        findings.add(
            "warning",
            f"raw id 255 fills {raw[UNKNOWN] / labelled:.1%} of the labelled voxels; in these files it means a moving motorcyclist: "
            "unknown voxels belong in .invalid",
        )


def _shares(counts: VolumeCounts) -> Table:
    """Class shares of the known voxels, beside the published ones of the training split."""
    known = counts.classes[: SEMANTIC_KITTI.classes]
    published = np.asarray(SEMANTIC_KITTI.voxels, dtype=np.float64)
    shares, expected = known / max(1, known.sum()), published / published.sum()
    rows = [
        (name, f"{n:,}", f"{share:.4%}", f"{wanted:.4%}")
        for name, n, share, wanted in zip(SEMANTIC_KITTI.names, known, shares, expected, strict=True)
    ]
    unknown = counts.classes[UNKNOWN] / max(1, counts.classes.sum())
    rows.append(("unknown, of all", f"{counts.classes[UNKNOWN]:,}", f"{unknown:.1%}", "27.6%"))
    return Table(f"Voxels of {counts.frames:,} frames with truth (published: training split)", ("class", "voxels", "share", "published"), tuple(rows))
