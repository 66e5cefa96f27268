"""SemanticKITTI (Behley et al. 2019) as it is downloaded, or an own recording in its layout: frames straight from volumes, pictures, sweeps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.data.layout import ARCHIVES, SPLITS, STRIDE, Listing, find_sequences, list_frames, list_sequences, read_poses, split_of
from wholescene.data.revision import REVISIONS, Revision, revision_of
from wholescene.data.volumes import BYTES, mask_size, read_mask, read_raw_labels, read_sweep, read_sweep_labels
from wholescene.errors import InputError, unknown_name
from wholescene.grid import VoxelGrid, semantic_kitti_grid
from wholescene.labels import EMPTY, SEMANTIC_KITTI, UNKNOWN, LabelSet
from wholescene.reading.kitti import camera_of_rows, read_rows
from wholescene.reading.pictures import read_picture
from wholescene.structures import Frame, View

# Raw ids that the benchmark itself counts as unknown: outlier, other-structure, other-object.
DISREGARDED = (1, 52, 99)


class SemanticKITTI:
    """A map-style dataset of frames; world = LiDAR frame of the frame (x forward, y left, z up, metres).

    The camera is P2 of `calib.txt` with its fourth column, posed by `Tr`. Targets are raw ids mapped to the twenty classes; ids that are not
    in the table, and voxels whose `.invalid` bit is set, are unknown (255).

    Attributes:
        names: of the frames, "08/000005", in order.
        labels: the label set.
        grid: 256 x 256 x 32 voxels of 0.2 m from (0, -25.6, -2).
        notes: what was taken otherwise than published, in words.
    """

    labels: LabelSet = SEMANTIC_KITTI

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        sequences: Sequence[str] | None = None,
        *,
        right: bool = False,
        occupancy: bool = False,
        points: bool = False,
        depth_target: bool = False,
        scales: Sequence[int] = (),
        revision: Revision = "v1.1",
        stride: int | None = None,
        exclude: Sequence[str] = (),
        unlisted: Literal["unknown", "refuse"] = "unknown",
    ) -> None:
        """List the frames; nothing but one mask of each sequence is opened.

        Args:
            root: the parent of `dataset/`, `dataset/` itself, or its `sequences/`.
            split: "train" (00-07, 09, 10), "val" (08) or "test" (11-21, without truth); None: every sequence that is there.
            sequences: names as text ("08") instead of a split.
            right: give the right camera's picture (`image_3`) as view "right".
            occupancy: give the `.bin` mask of the single sweep.
            points: give the sweep, and its labels where there are any.
            depth_target: give the sweep's depth in the main picture, the nearest point of each pixel, for depth losses.
            scales: down-sampled targets by the rule `share-95`, beside the target itself.
            revision: of the volumes on disk; v1.0 volumes are un-shifted.
            stride: take frames whose number is a multiple of it; None: five in KITTI's own sequences, every frame of any other recording.
            exclude: names of frames to leave out.
            unlisted: what to do with raw ids that are in no table: make them unknown with a warning that names the first, or refuse.

        Raises:
            InputError: no volumes at the root (it names the nearest folder that has some), an unknown split or sequence, volumes of another
                revision than stated.
        """
        self.sequences_folder = find_sequences(root)
        if revision not in REVISIONS:
            raise unknown_name("revision", revision, REVISIONS)
        if unlisted not in ("unknown", "refuse"):
            raise unknown_name("policy for unlisted ids", unlisted, ("unknown", "refuse"))
        self.grid: VoxelGrid = semantic_kitti_grid()
        self.notes: list[str] = []
        self.revision: Revision = revision
        self.scales = tuple(s for s in scales if s != 1)
        for scale in self.scales:
            self.grid.coarser(scale)  # refuses what does not divide
        self._right, self._occupancy, self._points, self._unlisted = right, occupancy, points, unlisted
        self._depth_target = depth_target
        self._listings = {name: list_frames(self.sequences_folder / name, stride) for name in self._choose(split, sequences)}
        left_out = set(exclude)
        self._index = [(name, f) for name, listing in self._listings.items() for f in listing.frames if f"{name}/{f}" not in left_out]
        self.names = [f"{sequence}/{frame}" for sequence, frame in self._index]
        if not self.names:
            raise InputError(
                f"no frames in sequences {', '.join(self._listings)} of {self.sequences_folder}: "
                f"looked for voxels/*.bin whose number is a multiple of {stride or STRIDE}; run the data check, or give stride=1 for every frame"
            )
        for listing in self._listings.values():
            self._look_at(listing)
        self._cameras: dict[tuple[str, str, tuple[int, int]], Camera] = {}
        self._poses: dict[str, NDArray[np.float64]] = {}
        self._warned: set[int] = set()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        """One frame.

        Raises:
            IndexError: past the end.
            InputError: a file of the frame is missing or broken; the message names it and the archive that holds it.
        """
        sequence, frame = self._index[index]
        listing = self._listings[sequence]
        views = {"main": self._view(listing, frame, "image_2", "P2")}
        if self._right:
            views["right"] = self._view(listing, frame, "image_3", "P3")
        points, point_labels = self._sweep(listing, frame) if self._points else (None, None)
        return Frame(
            name=self.names[index],
            views=views,
            grid=self.grid,
            occupancy=read_mask(_there(listing.volume(frame, "bin"), "voxels"), self.revision) if self._occupancy else None,
            points=points,
            point_labels=point_labels,
            depth_target=self._sweep_depth(listing, frame, views["main"].camera) if self._depth_target else None,
            targets=self._targets(listing, frame) if listing.labelled else {},
        )

    def pose(self, index: int) -> NDArray[np.float64]:
        """(4, 4) float64, LiDAR frame of this frame to that of frame 0 of its sequence: inv(Tr) pose Tr with the poses of poses.txt."""
        sequence, frame = self._index[index]
        listing = self._listings[sequence]
        if sequence not in self._poses:
            self._poses[sequence] = read_poses(_there(listing.folder / "poses.txt", "poses.txt"))
        poses = self._poses[sequence]
        if int(frame) >= len(poses):
            raise InputError(f"{listing.folder / 'poses.txt'} has {len(poses)} lines, none for frame {frame}; it comes with {ARCHIVES['poses.txt']}")
        camera = self._camera(listing, "P2", (2, 2))
        return np.linalg.inv(camera.T_cam_world) @ poses[int(frame)] @ camera.T_cam_world

    # ---- listing ----------------------------------------------------------------------------------------------------------------

    def _choose(self, split: str | None, sequences: Sequence[str] | None) -> tuple[str, ...]:
        there = list_sequences(self.sequences_folder)
        if split is not None and sequences is not None:
            raise InputError(f"both a split ({split}) and sequences ({', '.join(map(str, sequences))}) are given; give one of them")
        if sequences is not None:
            for name in sequences:
                if name not in there:
                    raise unknown_name(f"sequence under {self.sequences_folder}", name, there)
            return tuple(dict.fromkeys(sequences))
        if split is None:
            return there
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        found, lacking = split_of(self.sequences_folder, split)
        if not found:
            raise InputError(
                f"none of the sequences of split {split} ({', '.join(lacking)}) has volumes under {self.sequences_folder}, "
                f"which holds {', '.join(there)}; give sequences of it, or copy the rest there"
            )
        if lacking:
            self.notes.append(f"split {split}: sequences {', '.join(lacking)} are not there; taken: {', '.join(found)}")
        return found

    def _look_at(self, listing: Listing) -> None:
        """What one frame tells of its sequence: note odd encodings, refuse another revision than stated."""
        if not listing.frames:
            return
        if listing.from_labels:
            self.notes.append(f"sequence {listing.name} has no .bin files; its .label files are taken as the list of frames")
        frame = listing.frames[0]
        invalid = listing.volume(frame, "invalid")
        if invalid.is_file() and mask_size(invalid) == BYTES:
            self.notes.append(f"masks of sequence {listing.name} hold one byte a voxel (as SSCBench writes them), not one bit; taken as such")
        evidence = revision_of(listing, frame)
        if not evidence.strong or evidence.revision in (None, self.revision):
            return
        advice = (
            "give revision='v1.0' to un-shift them, or download the voxel archive again" if self.revision == "v1.1" else "leave the revision away"
        )
        raise InputError(
            f"the volumes of sequence {listing.name} ({listing.volume(frame, '*')}) are of revision {evidence.revision}, "
            f"expected {self.revision}: {evidence.reason}; {advice}"
        )

    # ---- reading ----------------------------------------------------------------------------------------------------------------

    def _view(self, listing: Listing, frame: str, folder: str, matrix: str) -> View:
        path = listing.picture(frame, folder)
        if path is None:
            raise InputError(f"{listing.folder / folder / frame}.png (or .jpg) is missing; it comes with {ARCHIVES[folder]}")
        picture = read_picture(path).array
        height, width = picture.shape[:2]
        return View(picture, self._camera(listing, matrix, (width, height)))

    def _camera(self, listing: Listing, matrix: str, size: tuple[int, int]) -> Camera:
        key = (listing.name, matrix, size)
        if key not in self._cameras:
            self._cameras[key] = lidar_camera(listing.folder / "calib.txt", matrix, size)
        return self._cameras[key]

    def _targets(self, listing: Listing, frame: str) -> dict[int, NDArray[np.uint8]]:
        path = _there(listing.volume(frame, "label"), "voxels")
        raw = read_raw_labels(path, self.revision)
        labels = self.labels.from_raw(raw)
        self._name_unlisted(path, raw, labels)
        labels[read_mask(_there(listing.volume(frame, "invalid"), "voxels"), self.revision)] = UNKNOWN
        targets = {1: labels}
        if self.scales:
            from wholescene.geometry.pyramid import pool_labels  # torch, only where it is asked for

            targets |= {scale: pool_labels(labels, scale, "share-95").astype(np.uint8, copy=False) for scale in self.scales}
        return targets

    def _name_unlisted(self, path: Path, raw: NDArray[np.uint16], labels: NDArray[np.uint8]) -> None:
        where = unlisted_voxels(raw, labels)
        if not len(where):
            return
        voxel = tuple(int(i) for i in np.unravel_index(where[0], raw.shape))
        value = int(raw[voxel])
        said = f"{path}: raw id {value} at voxel {voxel} is not in the table of {self.labels.name}"
        if self._unlisted == "refuse":
            raise InputError(f"{said}; expected one of its {len(self.labels.raw)} ids; correct the file, or let such voxels be unknown")
        if value not in self._warned:
            self._warned.add(value)
            warnings.warn(f"{said}; such voxels are unknown (255) from here on", stacklevel=3)

    def _sweep(self, listing: Listing, frame: str) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        points = read_sweep(_there(listing.folder / "velodyne" / f"{frame}.bin", "velodyne"))
        path = listing.folder / "labels" / f"{frame}.label"
        if not path.is_file():
            return points, None
        labels = self.labels.from_raw(read_sweep_labels(path, len(points)))
        labels[labels == EMPTY] = UNKNOWN  # raw id 0 is empty space in a volume, but an unlabelled point in a sweep
        return points, labels

    def _sweep_depth(self, listing: Listing, frame: str, camera: Camera) -> NDArray[np.float32]:
        import torch  # only where it is asked for

        from wholescene.geometry.sweeps import depth_of_points

        return depth_of_points(torch.from_numpy(self._sweep(listing, frame)[0]), camera).numpy()


def unlisted_voxels(raw: NDArray[np.uint16], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Flat indices of the voxels whose raw id no table knows: neither a class nor one of the three that the benchmark disregards.

    Args:
        raw: (256, 256, 32) raw ids.
        labels: the same voxels by `LabelSet.from_raw`, before anything else is made unknown.
    """
    unknown = np.flatnonzero(labels.reshape(-1) == UNKNOWN)
    return unknown[~np.isin(raw.reshape(-1)[unknown], DISREGARDED)]


def lidar_camera(path: Path, matrix: str, size: tuple[int, int]) -> Camera:
    """A rectified camera of `calib.txt`, posed in the LiDAR frame.

    Args:
        path: of the calibration file.
        matrix: "P2" (left colour) or "P3" (right colour).
        size: (width, height) of its pictures.

    Raises:
        InputError: the file is missing or has no `Tr` (the copy in KITTI's colour archive has none).
    """
    camera = camera_of_rows(read_rows(_there(path, "calib.txt")), path, size, matrix)
    if not camera.pose_known:
        raise InputError(f"{path} has no row Tr (LiDAR to camera), so the grid has no place before the camera; Tr is in {ARCHIVES['calib.txt']}")
    return camera.posed(camera.T_cam_world, world="lidar")


def _there(path: Path, item: str) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing; it comes with {ARCHIVES[item]}")
    return path
