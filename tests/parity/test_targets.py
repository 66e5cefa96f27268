"""Label down-sampling, relation targets and frustum targets against the released target functions: integers, all equal."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.camera import Camera
from wholescene.geometry.frustums import OUT_OF_VIEW, frustum_class_counts, frustum_ids
from wholescene.geometry.projection import ProjectionTable, project_grid
from wholescene.geometry.pyramid import pool_labels
from wholescene.geometry.relations import relation_targets
from wholescene.grid import VoxelGrid
from wholescene.labels import UNKNOWN

pytestmark = pytest.mark.parity

Shape = tuple[int, int, int]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: {"kitti_camera", "nyu_camera"} <= case.inputs.keys()), ids=str)


@cache
def mixed(name: str, shape: Shape) -> Tensor:
    """Three forged volumes put together in blocks of 8^3, so that many blocks lie at the thresholds (README of the case)."""
    fine = forge.labels(f"{name} fine", shape, 20, block=1, unknown=0.25, empty=0.93)
    unknown = forge.labels(f"{name} unknown", shape, 20, block=1, unknown=0.5, empty=0.94)
    coarse = forge.labels(f"{name} coarse", shape, 20, block=8, unknown=0.1, empty=0.6)
    which = forge.uniform(f"{name} which", tuple(-(-n // 8) for n in shape), 0, 1)
    for axis in range(3):
        which = np.repeat(which, 8, axis)
    which = which[tuple(slice(n) for n in shape)]
    return torch.from_numpy(np.where(which < 0.4, fine, np.where(which < 0.7, unknown, coarse)))


def camera_case(case: Case, sentence: str) -> dict[str, Any]:
    """The inputs of the case whose camera this one says it uses: beside it, or among this repository's own."""
    found = re.search(r"case (\w+)", sentence)
    name = found.group(1) if found else sentence.split()[-1]
    places = [case.folder.parent / name, Path(__file__).parent / name]
    return Case.read(next(place for place in places if place.is_dir())).inputs


def table_of(said: dict[str, Any], axes: str) -> tuple[ProjectionTable, tuple[int, int]]:
    """Pixels of all voxels, in the order of the grid that `axes` gives, as released code rounds them; and the picture's size."""
    kitti = "Tr" in said
    pose = np.vstack([said["Tr"], (0, 0, 0, 1)]) if kitti else np.linalg.inv(np.asarray(said["camera_to_world"], np.float64))
    size = (said["width"], said["height"])
    camera = Camera.from_intrinsics(said["fx"], said["fy"], said["cx"], said["cy"], size).posed(pose)
    edges = dict(zip("xyz", said["scene"], strict=True))
    shape = [round(edges[axis] / said["voxel"]) for axis in axes]
    grid = VoxelGrid.from_corner(said["origin"], shape, said["voxel"], axes)
    return project_grid(camera, grid, "released-kitti" if kitti else "released-nyuv2", use_offset=False), size


def frustum_taps(prefix: str, table: ProjectionTable, size: tuple[int, int], target: Tensor, classes: int) -> dict[str, np.ndarray]:
    taps = {}
    for divisions in (8, 4):
        ids = frustum_ids(table.pixels, table.in_view, size, divisions).view(1, *target.shape)
        counts = frustum_class_counts(ids, target[None], divisions**2, classes)[0]
        # released masks leave unknown voxels out; ours say where a voxel is, and the counts leave them out
        known = torch.where(target == UNKNOWN, OUT_OF_VIEW, ids[0])
        taps[f"{prefix}.frustum_ids_{divisions}"], taps[f"{prefix}.frustum_class_counts_{divisions}"] = known.numpy(), counts.numpy()
    return taps


def relation_taps(prefix: str, labels: Tensor, counts: tuple[int, ...], sums: bool) -> dict[str, np.ndarray]:
    taps = {}
    for count in counts:
        relations = relation_targets(labels[None], count)[0]
        name = f"{prefix}.relations{count}"
        taps[name] = relations.to(torch.uint8).numpy()
        if sums:
            taps[f"{name}.ones"] = relations.sum((1, 2)).numpy()
            taps[f"{name}.row_ones"], taps[f"{name}.column_ones"] = relations.sum(2).numpy(), relations.sum(1).numpy()
    return taps


def histogram(volume: Tensor) -> np.ndarray:
    return np.bincount(volume.numpy().ravel(), minlength=256)


def test_every_tap_is_the_released_one(case: Case) -> None:
    said = case.inputs
    tag = said["tag"]
    small, kitti = mixed(f"{tag} kitti", tuple(said["small"])), mixed(f"{tag} kitti full", tuple(said["kitti"]))
    eighth = pool_labels(kitti, 8, "share-95")
    got: dict[str, Any] = {
        "small.input_check": histogram(small),
        **{f"small.rule95_{d}": pool_labels(small, d, "share-95").numpy() for d in (4, 8, 16)},
        **{f"small.majority_{d}": pool_labels(small, d, "majority").numpy() for d in (2, 4, 8)},
        "kitti.input_check": histogram(kitti),
        "kitti.target_1_8": eighth.numpy(),
        "kitti.majority_1_8": pool_labels(kitti, 8, "majority").numpy(),
        **relation_taps("kitti", eighth, (4,), sums=True),
    }
    for name, shape in (("even", (8, 8, 4)), ("odd", (5, 3, 5)), ("nyu", (15, 9, 15))):
        labels = torch.from_numpy(forge.labels(f"{tag} relations {name}", shape, 12, block=2))
        got |= relation_taps(name, labels, (4, 2), sums=name == "nyu")
    nyu = torch.from_numpy(forge.labels(f"{tag} nyu", tuple(said["nyu"]), 12))
    got |= frustum_taps("kitti", *table_of(camera_case(case, said["kitti_camera"]), "xyz"), kitti, 20)
    got |= frustum_taps("nyu", *table_of(camera_case(case, said["nyu_camera"]), "xzy"), nyu, 12)
    check(forge.compare(case.folder, got, whole=True), {"*": case.tolerances["all taps"]})


def test_arrays_are_pooled_as_tensors_are(case: Case) -> None:
    labels = mixed(f"{case.inputs['tag']} kitti", tuple(case.inputs["small"]))
    for wide in (np.uint8, np.uint16, np.int64):
        pooled = pool_labels(labels.numpy().astype(wide), 4)
        assert isinstance(pooled, np.ndarray)
        check(forge.compare(case.folder, {"small.rule95_4": pooled}), {"*": 0})
