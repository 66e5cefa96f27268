"""Are NYUv2 and Occ-ScanNet whole, and are they what they say: every file by name, every count beside the published one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.data.nyuv2 import FOLDERS, PUBLISHED, NYUv2, find_root
from wholescene.data.occscannet import LISTS, OccScanNet
from wholescene.data.occscannet_records import AXES
from wholescene.data.report import Findings, Report, Table
from wholescene.errors import InputError
from wholescene.labels import EMPTY, NYUV2, UNKNOWN
from wholescene.structures import Frame

Progress = Callable[[str, int, int], None]
_FLOOR, _LAYERS = 2, 3  # the floor's class, and how many layers are told apart in its table


@dataclass
class Counted:
    """What the frames that could be read hold.

    Attributes:
        frames: how many.
        classes: (256,) voxels of each label.
        layers: (4,) floor voxels in the lowest three layers, and above.
    """

    frames: int = 0
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    layers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LAYERS + 1, np.int64))

    def add(self, frame: Frame) -> None:
        """Count one frame."""
        labels = frame.targets[1]
        self.frames += 1
        self.classes += np.bincount(labels.reshape(-1), minlength=256)
        up = np.nonzero(labels == _FLOOR)[frame.grid.up]
        self.layers += np.bincount(np.minimum(up, _LAYERS), minlength=_LAYERS + 1)

    def tables(self, published: Sequence[int]) -> Iterator[Table]:
        """Class shares beside the published ones, and the layers that the floor lies in."""
        known = self.classes[: NYUV2.classes]
        shares = known / max(1, known.sum())
        expected = [f"{n / sum(published):.3%}" for n in published] if published else ["-"] * NYUV2.classes
        rows = [(name, f"{n:,}", f"{share:.3%}", e) for name, n, share, e in zip(NYUV2.names, known, shares, expected, strict=True)]
        rows.append(("unknown, of all", f"{self.classes[UNKNOWN]:,}", f"{self.classes[UNKNOWN] / max(1, self.classes.sum()):.1%}", "-"))
        yield Table(f"Voxels of {self.frames:,} frames (published: training frames)", ("class", "voxels", "share", "published"), tuple(rows))
        whole = max(1, int(self.layers.sum()))
        cells = tuple(f"{n / whole:.1%}" for n in self.layers)
        yield Table("Layers that floor voxels lie in (layer 0 is the lowest)", ("", "0", "1", "2", "above"), (("floor", *cells),))


def check_nyuv2(root: str | Path, most_frames: int | None = None, progress: Progress | None = None) -> Report:
    """Check NYUv2 in SSCNet's layout; arguments as for `check`.

    Raises:
        InputError: nothing there.
    """
    folder = find_root(root)
    findings, counted, tallies = Findings(), Counted(), []
    seen: dict[str, str] = {}
    for split, name in FOLDERS.items():
        stems = sorted(path.stem for path in (folder / name).glob("*.bin"))
        tallies.append((name, f"{len(stems):,}", f"{PUBLISHED[name]:,}"))
        if len(stems) != PUBLISHED[name]:
            findings.add("warning", "another number of frames than published", f"{name} has {len(stems):,} of {PUBLISHED[name]:,}")
        for stem in stems:
            if stem in seen:
                findings.add("error", f"frames lie in {seen[stem]} and in {name}: training frames would be scored", stem)
            seen[stem] = name
        if stems:
            _open(NYUv2(folder, split, depth=True), counted, findings, most_frames, progress)
    if not counted.frames and not findings.unusable():
        findings.add("error", f"no volumes (NYUxxxx_0000.bin) in {folder}")
    tables = (Table("Frames", ("folder", "frames", "published"), tuple(tallies)), *(counted.tables(NYUV2.voxels) if counted.frames else ()))
    return Report(f"NYUv2 in SSCNet's layout in {folder} ({_how(most_frames)})", findings.sorted(), tables, findings.unusable())


def check_occscannet(root: str | Path, most_frames: int | None = None, progress: Progress | None = None) -> Report:
    """Check Occ-ScanNet: its lists, and the records, pictures and depth maps of the frames in them; arguments as for `check`.

    It also says which order of the stored axes fits the depth maps, which nobody has stated.

    Raises:
        InputError: no list at the root.
    """
    folder = Path(root)
    findings, counted, tallies = Findings(), Counted(), []
    hits, points = np.zeros(len(AXES), np.int64), 0
    looked_at: set[str] = set()
    there = {name: {r for r, file in lists.files.items() if (folder / file).is_file()} for name, lists in LISTS.items() if name != "iso-mini"}
    if not any(there.values()):
        files = ", ".join(sorted({file for lists in LISTS.values() for file in lists.files.values()}))
        raise InputError(f"no list of frames in {folder}: looked for {files}; give the folder that holds gathered_data/, posed_images/ and the lists")
    for name, role in [(lists, role) for lists, roles in there.items() for role in ("train", "val") if role in roles]:
        frames = OccScanNet(folder, role, lists=name, depth=True)
        published = LISTS[name].published[role]
        tallies.append((LISTS[name].files[role], f"{len(frames):,}", f"{published:,}"))
        if len(frames) != published:
            findings.add("warning", "another number of frames than published", f"{LISTS[name].files[role]} has {len(frames):,} of {published:,}")
        for index, frame in _open(frames, counted, findings, most_frames, progress, looked_at):
            found, within = _on_surfaces(frames, index, frame)
            hits, points = hits + found, points + within
        looked_at |= set(frames.names)
    rows = tuple((axes, f"{n / max(1, points):.1%}") for axes, n in zip(AXES, hits, strict=True))
    fits = Table("Points of the depth maps that lie in occupied voxels", ("stored axes", "share"), rows)
    _judge_axes(hits, findings)
    tables = (Table("Frames", ("list", "frames", "published"), tuple(tallies)), fits, *(counted.tables(()) if counted.frames else ()))
    return Report(f"Occ-ScanNet in {folder} ({_how(most_frames)})", findings.sorted(), tables, findings.unusable())


def _open(
    frames: NYUv2 | OccScanNet, counted: Counted, findings: Findings, most: int | None, progress: Progress | None, but: Container[str] = ()
) -> list[tuple[int, Frame]]:
    """Read frames (but those named), count them, and say what is wrong; a few of those that could be read, with their numbers."""
    chosen = [index for index, name in enumerate(frames.names) if name not in but]
    if most is not None and most < len(chosen):
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, most).round().astype(int)]
    kept: list[tuple[int, Frame]] = []
    for done, index in enumerate(chosen, 1):
        name = frames.names[index]
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                frame = frames[index]
        except InputError as error:
            findings.add("error", str(error), unusable=name)
            continue
        for warned in told:
            findings.add("warning", str(warned.message))
        counted.add(frame)
        _judge(frame, findings)
        if len(kept) < 32:
            kept.append((index, frame))
        if progress is not None:
            progress(name, done, len(chosen))
    return kept


def _judge(frame: Frame, findings: Findings) -> None:
    labels = frame.targets[1]
    if (labels == UNKNOWN).all():
        text = "nothing is known in these frames; exclude them, there is nothing to learn or to score"
        findings.add("warning", text, frame.name, unusable=frame.name)
    elif not np.any((labels != UNKNOWN) & (labels != EMPTY)):
        findings.add("note", "no occupied voxel is known in these frames", frame.name)
    if frame.grid.share_in_view(frame.main.camera) < 0.02:
        findings.add("warning", "hardly any voxel is in view: the pose or the volume's corner is of another frame", frame.name)


def _on_surfaces(frames: OccScanNet, index: int, frame: Frame) -> tuple[NDArray[np.int64], int]:
    """How many points of the depth map lie in occupied voxels, for each order of the stored axes; and how many lie in the grid."""
    assert frame.depth_target is not None
    voxels, inside = frame.grid.index_of(frame.main.camera.unproject(frame.depth_target)[::37])
    record, found = frames.record(index), []
    for axes in AXES:
        labels = record.on_axes(axes)[1][tuple(voxels[inside].T)]
        found.append(int(np.count_nonzero((labels != EMPTY) & (labels != UNKNOWN))))
    return np.array(found, np.int64), int(np.count_nonzero(inside))


def _judge_axes(hits: NDArray[np.int64], findings: Findings) -> None:
    best = int(np.argmax(hits))
    if hits.min() < 0.8 * hits[best]:
        said = f"the depth maps fit stored axes {AXES[best]} and not {AXES[1 - best]}"
        findings.add("note" if best == 0 else "warning", said + ("" if best == 0 else f"; set axes to {AXES[best]}"))


def _how(most: int | None) -> str:
    return "every frame opened" if most is None else f"at most {most} frames of a part opened"
