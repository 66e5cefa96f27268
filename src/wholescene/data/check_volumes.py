"""One frame's volumes: can they be read, do masks and labels fit each other, which ids are in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholescene.data.layout import Listing
from wholescene.data.report import Findings
from wholescene.data.semantic_kitti import DISREGARDED, unlisted_voxels
from wholescene.data.volumes import BYTES, mask_size, pack_mask, read_mask, read_raw_labels, unpack_mask, unshift
from wholescene.errors import InputError
from wholescene.labels import EMPTY, SEMANTIC_KITTI, UNKNOWN

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class VolumeCounts:
    """How often what occurs.

    Attributes:
        frames: with truth.
        raw: (65536,) int64 voxels of each raw id.
        classes: (256,) int64 voxels of each label, unknown at 255.
    """

    frames: int
    raw: NDArray[np.int64]
    classes: NDArray[np.int64]

    @classmethod
    def none(cls) -> VolumeCounts:
        """Nothing counted yet."""
        return cls(0, np.zeros(65536, np.int64), np.zeros(256, np.int64))

    def __add__(self, other: VolumeCounts) -> VolumeCounts:
        return VolumeCounts(self.frames + other.frames, self.raw + other.raw, self.classes + other.classes)


def check_volumes(listing: Listing, frame: str, findings: Findings) -> VolumeCounts:
    """Read the volumes of a frame and say what is wrong with them; counts are empty where it has no truth that can be read."""
    name = f"{listing.name}/{frame}"
    occupied = _mask(listing, frame, "bin", findings) if not listing.from_labels else None
    if occupied is not None and not occupied.any():
        findings.add("warning", "the sweep's occupancy (.bin) is empty", name)
    if not listing.labelled:
        return VolumeCounts.none()
    invalid = _mask(listing, frame, "invalid", findings)
    path = listing.volume(frame, "label")
    if not path.is_file():
        return VolumeCounts.none()  # said by the check of the files
    try:
        raw = read_raw_labels(path)
    except InputError as error:
        findings.add("error", str(error), unusable=name)
        return VolumeCounts.none()
    labels = SEMANTIC_KITTI.from_raw(raw)
    _name_ids(name, raw, labels, findings)
    if occupied is not None:
        _compare_with_sweep(name, raw > 0, occupied, findings)
    if invalid is not None:
        _judge_mask(name, raw > 0, invalid, findings)
        labels[invalid] = UNKNOWN
    counts = VolumeCounts(1, np.bincount(raw.reshape(-1), minlength=65536), np.bincount(labels.reshape(-1), minlength=256))
    known = raw.size - int(counts.classes[UNKNOWN])
    if known == 0:
        findings.add("warning", "nothing is known in these frames; exclude them, there is nothing to learn or to score", name, unusable=name)
    elif known == int(counts.classes[EMPTY]):
        findings.add("note", "no occupied voxel is known in these frames", name)
    return counts


def _mask(listing: Listing, frame: str, suffix: str, findings: Findings) -> Mask | None:
    path = listing.volume(frame, suffix)
    if not path.is_file():
        return None  # said by the check of the files
    try:
        if mask_size(path) == BYTES:
            text = f".{suffix} holds one byte a voxel (as SSCBench writes it) and not one bit; it is read as such"
            findings.add("note", text, f"{listing.name}/{frame}")
        return read_mask(path)
    except InputError as error:
        findings.add("error", str(error), unusable=f"{listing.name}/{frame}" if suffix == "invalid" else "")
        return None


def _name_ids(name: str, raw: NDArray[np.uint16], labels: NDArray[np.uint8], findings: Findings) -> None:
    flat = raw.reshape(-1)
    if np.isin(DISREGARDED, flat[np.flatnonzero(labels.reshape(-1) == UNKNOWN)]).any():
        ids = ", ".join(map(str, DISREGARDED))
        findings.add("note", f"raw ids {ids} (outlier, other structure, other object) are unknown by the benchmark's rule", name)
    odd = unlisted_voxels(raw, labels)
    values, first, counts = np.unique(flat[odd], return_index=True, return_counts=True)
    for value, at, count in zip(values, first, counts, strict=True):
        voxel = tuple(int(i) for i in np.unravel_index(odd[at], raw.shape))
        findings.add("warning", f"raw id {value} is not in the table; such voxels are unknown (255)", f"{name} voxel {voxel}, {count:,} in all")


def _judge_mask(name: str, labelled: Mask, invalid: Mask, findings: Findings) -> None:
    """A labelled voxel is never unknown in the release; where many are, find out what would make the mask right."""
    if not labelled.any() or invalid.all():
        return

    def wrong(mask: Mask) -> float:
        return float(mask[labelled].mean())

    share = wrong(invalid)
    if share < 0.01:
        return
    readings = {
        "the mask is inverted (1 must mean unknown)": lambda: ~invalid,
        "the mask is shifted by one voxel against the labels (v1.0 mask beside v1.1 labels?)": lambda: unshift(invalid),
        "the bits of each byte are in the wrong order (the first voxel belongs in the most significant bit)": lambda: unpack_mask(
            np.packbits(np.unpackbits(np.frombuffer(pack_mask(invalid), np.uint8)), bitorder="little").tobytes()
        ),
    }
    fits = {why: wrong(make()) for why, make in readings.items()}
    why, left = min(fits.items(), key=lambda item: item[1])
    if left < 0.1 * share and left < 0.01:
        findings.add("error", f"labelled voxels are marked unknown in .invalid: {why}", f"{name} ({share:.0%})")
    else:
        findings.add("warning", "labelled voxels are marked unknown in .invalid, which the release never does", f"{name} ({share:.0%})")


def _compare_with_sweep(name: str, labelled: Mask, occupied: Mask, findings: Findings) -> None:
    """What one sweep hits is labelled nearly everywhere (the labels are votes of that sweep and later ones)."""
    if not occupied.any() or not labelled.any():
        return

    def shared(mask: Mask) -> float:
        return float(labelled[mask].mean())

    share, moved = shared(occupied), shared(unshift(occupied))
    back = float(unshift(labelled)[occupied].mean())
    if share < 0.8 and max(moved, back) > 0.9:
        which = ".bin is one voxel higher than .label" if moved > back else ".label is one voxel higher than .bin"
        findings.add("error", f"{which}: the files are of two revisions; download the voxel archive again", f"{name} ({share:.0%} agree)")
