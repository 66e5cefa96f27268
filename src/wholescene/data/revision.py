"""Which revision of SemanticKITTI's volumes lies on disk: v1.1, or the first release, v1.0, whose volumes are one voxel too high."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wholescene.data.layout import Listing
from wholescene.data.volumes import read_mask, read_sweep, unshift
from wholescene.grid import VoxelGrid, semantic_kitti_grid

Revision = Literal["v1.1", "v1.0"]
REVISIONS: tuple[Revision, ...] = ("v1.1", "v1.0")


@dataclass(frozen=True)
class Evidence:
    """What speaks for a revision.

    Attributes:
        revision: "v1.1", "v1.0", or None where nothing tells them apart.
        reason: in words.
        strong: whether it holds for any recording; the height of the ground tells only for KITTI's own car.
    """

    revision: Revision | None
    reason: str
    strong: bool = True


def revision_of(listing: Listing, frame: str) -> Evidence:
    """The revision of one frame's volumes: by its mask of unknown voxels, else by its sweep, else by where the ground lies.

    Raises:
        InputError: a file of the frame is broken.
    """
    invalid, occupied, sweep = listing.volume(frame, "invalid"), listing.volume(frame, "bin"), listing.folder / "velodyne" / f"{frame}.bin"
    evidence = Evidence(None, "there is no mask and no sweep to tell by")
    if invalid.is_file():
        evidence = by_wrap(read_mask(invalid))
    if evidence.revision is None and occupied.is_file():
        occupancy = read_mask(occupied)
        if sweep.is_file():
            evidence = by_sweep(occupancy, read_sweep(sweep), semantic_kitti_grid())
        if evidence.revision is None:
            evidence = by_ground(occupancy)
    return evidence


def by_wrap(unknown: NDArray[np.bool_]) -> Evidence:
    """By the bottom layer of a mask of unknown voxels.

    Below the ground nearly all is unknown, high above it nearly all is known. In v1.0 the bottom voxel of a column is the top one of the
    column before, so the bottom layer agrees with the neighbours' top layer and not with the layer above it. (Measured on real frames: v1.0
    agrees with the top in 1.00 and with the layer above in 0.14-0.20 of the columns, v1.1 in 0.07-0.22 and 0.87-0.95.)

    Args:
        unknown: (256, 256, 32) bool, as the file has it.
    """
    columns = unknown.reshape(-1, unknown.shape[-1])
    with_top = float((columns[1:, 0] == columns[:-1, -1]).mean())
    with_next = float((columns[:, 0] == columns[:, 1]).mean())
    # a recording of one's own may know nothing of the sky and nothing below the ground: only a bottom that is known too well is a wrap
    known_too_well = float(columns[:, 1].mean() - columns[:, 0].mean()) > 0.25
    revision: Revision | None = None
    if with_next - with_top > 0.25:
        revision = "v1.1"
    elif with_top - with_next > 0.25 and known_too_well:
        revision = "v1.0"
    reason = (
        f"the bottom layer of unknown voxels agrees with the top of the column before in {with_top:.0%} "
        f"and with the layer above it in {with_next:.0%} of the columns"
    )
    return Evidence(revision, reason)


def by_sweep(occupancy: NDArray[np.bool_], points: NDArray[np.float32], grid: VoxelGrid) -> Evidence:
    """By the frame's own LiDAR sweep, voxelised: the occupancy agrees with it as it is (v1.1) or un-shifted (v1.0).

    Args:
        occupancy: (256, 256, 32) bool, as the `.bin` file has it.
        points: (N, 4) float32 metres, LiDAR frame.
        grid: where the voxels lie in that frame.
    """
    index, inside = grid.index_of(points[:, :3])
    hit = np.zeros(grid.shape, dtype=bool)
    hit[tuple(index[inside].T)] = True
    as_it_is, moved = _overlap(occupancy, hit), _overlap(unshift(occupancy), hit)
    if max(as_it_is, moved) < 0.5 or abs(as_it_is - moved) < 0.2:
        return Evidence(None, f"the sweep does not tell (overlap {as_it_is:.0%} as it is, {moved:.0%} un-shifted)")
    revision: Revision = "v1.0" if moved > as_it_is else "v1.1"
    return Evidence(revision, f"the voxelised sweep overlaps the occupancy by {as_it_is:.0%} as it is and by {moved:.0%} un-shifted")


def by_ground(occupancy: NDArray[np.bool_]) -> Evidence:
    """By the fullest layer 2-12 m ahead: KITTI's sensor stands 1.73 m above the ground, which is layer 1 of the grid, in v1.0 layer 2."""
    layers = occupancy[10:60, 108:148].sum(axis=(0, 1))
    fullest = int(layers.argmax())
    reason = f"the fullest layer just ahead of the car is number {fullest} (v1.1: 1, v1.0: 2)"
    if layers.sum() < 200 or fullest not in (1, 2):
        return Evidence(None, "the occupancy does not tell", strong=False)
    return Evidence("v1.1" if fullest == 1 else "v1.0", reason, strong=False)


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum()) / max(1, int((a | b).sum()))
