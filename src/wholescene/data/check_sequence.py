"""One sequence: are its files there, do its calibration, poses and pictures fit, which revision are its volumes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from wholescene.data.layout import ARCHIVES, PUBLISHED, Listing, read_poses
from wholescene.data.report import Findings
from wholescene.data.revision import revision_of
from wholescene.data.semantic_kitti import lidar_camera
from wholescene.errors import InputError
from wholescene.grid import semantic_kitti_grid
from wholescene.reading.pictures import read_picture


def check_files(listing: Listing, findings: Findings) -> None:
    """Name the files that are missing, and where they come from."""
    there = {entry.name for entry in os.scandir(listing.folder / "voxels")}
    for frame in listing.frames:
        name = f"{listing.name}/{frame}"
        if listing.picture(frame) is None:
            findings.add("error", f"pictures image_2/*.png are missing ({ARCHIVES['image_2']})", name, unusable=name)
        for suffix in ("label", "invalid") if listing.labelled else ():
            if f"{frame}.{suffix}" not in there:
                findings.add("error", f"volumes voxels/*.{suffix} are missing ({ARCHIVES['voxels']})", name, unusable=name)
    if not listing.from_labels:
        for file in sorted(there):
            stem, suffix = os.path.splitext(file)
            if suffix == ".label" and f"{stem}.bin" not in there:
                findings.add("note", "labels without a .bin beside them are not in the list of frames", f"{listing.name}/{stem}")
    _check_optional(listing, findings)


def _check_optional(listing: Listing, findings: Findings) -> None:
    for item, use in (("image_3", "for stereo"), ("velodyne", "for points and depth supervision")):
        folder = listing.folder / item
        if not folder.is_dir():
            findings.add("note", f"no {item} folder, needed {use} only ({ARCHIVES[item]})", listing.name)
            continue
        stems = {os.path.splitext(entry.name)[0] for entry in os.scandir(folder)}
        for frame in listing.frames:
            if frame not in stems:
                findings.add("warning", f"{item} files are missing, needed {use} only ({ARCHIVES[item]})", f"{listing.name}/{frame}")


def check_poses(listing: Listing, findings: Findings) -> None:
    """poses.txt has a line for every frame."""
    path = listing.folder / "poses.txt"
    if not path.is_file():
        findings.add("note", f"no poses.txt, needed for several frames at once only ({ARCHIVES['poses.txt']})", listing.name)
        return
    try:
        lines = len(read_poses(path))
    except InputError as error:
        findings.add("error", str(error))
        return
    if listing.frames and int(listing.frames[-1]) >= lines:
        findings.add("warning", f"{path} has {lines:,} lines and the last frame is {listing.frames[-1]}; it comes with {ARCHIVES['poses.txt']}")


def check_pictures(listing: Listing, frames: Sequence[str], findings: Findings) -> Counter[tuple[int, int]]:
    """Read the left pictures of those frames; how often each (width, height) occurs."""
    sizes: Counter[tuple[int, int]] = Counter()
    for frame in frames:
        path = listing.picture(frame)
        if path is None:
            continue  # said by the check of the files
        try:
            read = read_picture(path)
        except InputError as error:
            findings.add("error", f"{error}; it comes with {ARCHIVES['image_2']}", unusable=f"{listing.name}/{frame}")
            continue
        sizes[read.width, read.height] += 1
    if len(sizes) > 1:
        text = f"pictures of sequence {listing.name} have several sizes and share one calibration"
        findings.add("warning", text, ", ".join(_said(s) for s in sizes))
    return sizes


def check_calibration(listing: Listing, sizes: Counter[tuple[int, int]], findings: Findings) -> tuple[str, ...]:
    """The row of a sequence in the table of cameras: P2 is sane and the published one, Tr is there and puts the grid before the camera."""
    published = PUBLISHED.get(listing.name)
    size = sizes.most_common(1)[0][0] if sizes else (published.picture_size if published else (1241, 376))
    where = f"sequence {listing.name}"
    if published and sizes and size != published.picture_size:
        findings.add("warning", f"{where}: pictures of {_said(size)}, published {_said(published.picture_size)}; a resized copy needs a resized P2")
    try:
        camera = lidar_camera(listing.folder / "calib.txt", "P2", size)
    except InputError as error:
        findings.add("error", str(error))
        return (listing.name, _said(size) if sizes else "-", *["-"] * 5)
    focal, cx, cy = float(camera.K[0, 0]), float(camera.K[0, 2]), float(camera.K[1, 2])
    if published and max(abs(a - b) for a, b in zip((focal, cx, cy), published.intrinsics, strict=True)) > 1:
        numbers = ", ".join(f"{v:g}" for v in published.intrinsics)
        findings.add("warning", f"{where}: P2 has fx, cx, cy {focal:g}, {cx:g}, {cy:g}, published {numbers}; calib.txt of another sequence?")
    elif not (0.25 < cx / size[0] < 0.75 and 0.25 < cy / size[1] < 0.75 and 0.2 < focal / size[0] < 5):
        numbers = f"fx {focal:g}, centre {cx:g}, {cy:g}"
        findings.add("warning", f"{where}: P2 ({numbers}) does not fit pictures of {_said(size)}; were they resized or cropped?")
    in_view = float(camera.sees(semantic_kitti_grid().coarser(8).centres()).mean())
    if in_view < 0.1:
        text = f"{where}: {in_view:.0%} of the grid is in view (KITTI: 70%); is Tr LiDAR to camera, and the LiDAR x forward?"
        findings.add("error" if in_view == 0 else "warning", text)
    return (listing.name, _said(size) if sizes else "-", f"{focal:.4f}", f"{cx:.4f}", f"{cy:.4f}", f"{camera.offset[0]:.4f}", f"{in_view:.1%}")


def check_revision(listing: Listing, findings: Findings) -> None:
    """Which revision the volumes are, by the first, middle and last frame."""
    frames = listing.frames
    found: dict[str, str] = {}
    strong = False
    for frame in dict.fromkeys((frames[0], frames[len(frames) // 2], frames[-1])) if frames else ():
        try:
            evidence = revision_of(listing, frame)
        except InputError:
            continue  # a broken file is named by the check of the volumes
        if evidence.revision and (evidence.strong or listing.name in PUBLISHED):
            found.setdefault(evidence.revision, f"{listing.name}/{frame}: {evidence.reason}" + ("" if evidence.strong else " (a hint only)"))
            strong |= evidence.strong
    if len(found) > 1:
        findings.add("error", "volumes of both revisions are mixed in one sequence; download the voxel archive again", "; ".join(found.values()))
    elif "v1.0" in found:
        findings.add(
            "error" if strong else "warning",
            "volumes are of the first release, v1.0, one voxel too high; download the voxel archive again (v1.1), or read them with revision v1.0",
            found["v1.0"],
        )
    elif "v1.1" in found:
        findings.add("note", "volumes are of revision v1.1", listing.name)


def _said(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
