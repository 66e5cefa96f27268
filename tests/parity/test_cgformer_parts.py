"""CGFormer's parts without weights: geometry, depth targets and losses, LiDAR in the picture, preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.geometry.sweeps import depth_of_points, project_points
from wholescene.grid import VoxelGrid, semantic_kitti_grid
from wholescene.preparation import Preparation, prepare
from wholescene.structures import Frame, View
from wholescene.systems.base import normalise
from wholescene.systems.cgformer.config import CGFormerConfig
from wholescene.systems.cgformer.depth_loss import depth_loss, target_distribution
from wholescene.systems.cgformer.geometry import camera_numbers, frustum_points, lift_points, places_of_voxels, voxels_of
from wholescene.systems.cgformer.proposals import propose_of
from wholescene.systems.cgformer.stereo import bin_of, nearest_of_cells

pytestmark = pytest.mark.parity

CONFIG = CGFormerConfig.preset("exact")
SETS = ("kitti", "general", "kitti360")
GEOMETRY = (
    "points", "voxel", "kept", "depth_points", "proposal", "proposal.count", "camera_vector", "reference", "image_mask", "image_mask.count",
    "lidar_projected", "lidar_depth", "lidar_pixels",
)  # fmt: skip
PREPARED = ("1226", "1241", "1242", "1408", "small")
LEFT_OUT = {
    "*.frustum": "never made: points are made from its three axes",
    "kitti.[dbn]x": "the grid's own numbers",
    "depth.bce*": "no configuration uses it",
    "prepared.*.flip.affine": "their mirror notes W - x, ours W - 1 - x",
    "prepared.*.flip.tensor": "made of the picture, which is compared",
    "prepared.rotated.affine": "no configuration rotates",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: "ScanSSC shares all of it" in case.system), ids=str)


def scene(said: Mapping[str, Any], size: tuple[int, int]) -> tuple[Camera, VoxelGrid, np.ndarray]:
    """Camera, fine grid, and bda: a scene moved under a fixed grid is a grid that moves the other way."""
    at = {name: np.array(values, np.float64) for name, values in said.items()}
    pose, affine, bda = np.eye(4), np.eye(3), at["bda"].reshape(4, 4)
    pose[:3, :3], pose[:3, 3] = at["rots"].reshape(3, 3), at["trans"]
    affine[:2, :2], affine[:2, 2] = at["post_rots"].reshape(3, 3)[:2, :2], at["post_trans"][:2]
    P = at["intrins"].reshape(4, 4)
    camera = Camera(P[:3, :3], size, np.linalg.inv(pose), P[:3, 3], affine, now=size)
    fixed = semantic_kitti_grid()
    return camera, VoxelGrid(fixed.shape, fixed.voxel_size, np.linalg.inv(bda) @ fixed.T_world_grid), bda


def test_every_tap_is_compared_or_left_out_for_a_reason(case: Case) -> None:
    compared = {f"{name}.{tap}" for name in SETS for tap in GEOMETRY}
    compared |= {f"prepared.{name}.{tap}" for name in PREPARED for tap in ("picture", "tensor", "depth", "affine")}
    compared |= {f"prepared.{name}.flip.{tap}" for name in ("1226", "small") for tap in ("picture", "depth")}
    compared |= {"stereo.position", "stereo.onehot", "depth.minimum", "depth.target", "depth.target.sum", "depth.kept_cells"}
    compared |= {"depth.kl", "depth.kl.weighted", "depth.kl.gradient"}
    left = set(case.taps()) - compared
    assert compared <= set(case.taps())
    assert {tap for tap in left if not any(fnmatchcase(tap, pattern) for pattern in LEFT_OUT)} == set()
    assert all(any(fnmatchcase(tap, pattern) for tap in left) for pattern in LEFT_OUT)


@pytest.mark.parametrize("name", SETS)
def test_geometry(case: Case, name: str) -> None:
    height, width = case.inputs["sizes"][name]
    camera, fine, bda = scene(case.inputs["matrices"][name], (width, height))
    grid, cells = fine.coarser(2), (height // 8, width // 8)
    corner = torch.from_numpy(semantic_kitti_grid().T_world_grid[:3, 3].astype(np.float32))
    points = frustum_points(cells, camera, grid, CONFIG)
    truncated = voxels_of(points, grid, CONFIG)
    floored = voxels_of(points, grid, replace(CONFIG, lower_faces="floor"))
    kept = (truncated >= 0).sum()
    depth = torch.from_numpy(forge.depth(f"parts/{name}/depth", height, width, 1.0, 60.0))
    depth[:64] = 0
    u, v = torch.arange(width), torch.arange(height)[:, None]
    proposals = propose_of(depth, camera, grid, CONFIG)
    frame = Frame("forged", {"main": View(np.zeros((height, width, 3), np.uint8), camera)}, fine)
    references, in_view = places_of_voxels(collate([frame]), cells, CONFIG)
    made = {
        "points": points + corner, "voxel": truncated, "kept": torch.stack([kept, kept - (floored >= 0).sum()]),
        "depth_points": (lift_points(u, v, depth, camera, grid, released=True) + corner).reshape(1, -1, 3),
        "proposal": proposals.to(torch.uint8), "proposal.count": proposals.sum()[None],
        "camera_vector": camera_numbers(camera, bda),
        "reference": references[0], "image_mask": in_view[0].to(torch.uint8), "image_mask.count": in_view.sum()[None],
        **lidar_taps(case, camera),
    }  # fmt: skip
    assert sorted(made) == sorted(GEOMETRY)
    rows = forge.compare(case.folder, {f"{name}.{tap}": value.numpy() for tap, value in made.items()})
    counts = ("kept", "proposal.count", "image_mask.count", "lidar_pixels")
    exact = [row for row in rows if row["tap"].removeprefix(f"{name}.") not in counts]
    check(exact, {"*.voxel": 2e-4, "*.proposal": 2e-4, "*.image_mask": 2e-4, "*.lidar_depth": 1e-3, "*": 1e-6}, moved={"*": 172})
    for tap in counts:
        held = case.tap(f"{name}.{tap}").reshape(-1)
        np.testing.assert_allclose(made[tap].numpy(), held, rtol=1e-4)


def lidar_taps(case: Case, camera: Camera) -> dict[str, Tensor]:
    said = case.inputs["points"]
    points = torch.from_numpy(np.stack([forge.uniform(said[a][0], (said["count"],), *said[a][1:]) for a in "xyz"], -1).astype(np.float32))
    pixels, depth = project_points(points, camera)
    last = torch.tensor((camera.width - 1, camera.height - 1))
    kept = ((pixels >= 0) & (pixels <= last)).all(-1) & (depth > 0)
    nearest = depth_of_points(points, camera)
    return {
        "lidar_projected": torch.cat([pixels, depth[:, None]], -1)[kept].float(),
        "lidar_depth": nearest,
        "lidar_pixels": (nearest > 0).sum()[None],
    }


def test_stereo_bins(case: Case) -> None:
    depth = torch.zeros(1, 32, 48)
    for cell, value in enumerate(case.inputs["stereo_edge_values"]):
        row, column = divmod(cell, 6)
        depth[0, 8 * row + 3, 8 * column + 5] = value
        depth[0, 8 * row + 6, 8 * column + 1] = value + 7 if value else 0.0
    nearest = nearest_of_cells(depth, depth != 0)
    one_hot = torch.nn.functional.one_hot(bin_of(nearest, CONFIG), 113)[..., 1:]
    taps = {"stereo.position": ((nearest - 1.75) / 0.5).numpy(), "stereo.onehot": one_hot.reshape(24, 112).numpy().astype(np.uint8)}
    check(forge.compare(case.folder, taps), {"stereo.onehot": 0, "*": 1e-6})


def test_depth_target_and_loss(case: Case) -> None:
    said = case.inputs["lidar_map"]
    depth = forge.depth(said["name"], said["height"], said["width"], said["near"], said["far"])
    depth[forge.uniform(said["kept"]["name"], depth.shape, 0, 1) >= said["kept"]["below"]] = 0
    first = depth[:8, :8]
    first[first < 10.25] = 0
    first[3, 5] = 10.25
    sparse = torch.from_numpy(depth)[None]
    nearest = nearest_of_cells(sparse, sparse > 0)
    minimum = torch.where(nearest > 1e4, 0.0, nearest)
    told = (minimum >= 2) & (minimum <= 57.5)
    distribution = torch.from_numpy(forge.uniform("parts/probability", (1, 112, 6, 20), -2, 2).astype(np.float32)).softmax(1).requires_grad_()
    loss = depth_loss(distribution, nearest, CONFIG)
    (slope,) = torch.autograd.grad(loss, distribution)
    target = target_distribution(minimum, CONFIG)
    taps = {
        "depth.minimum": minimum, "depth.target": target, "depth.target.sum": target.sum(-1), "depth.kl": loss[None].detach(),
        "depth.kl.weighted": 1e-4 * loss[None].detach(), "depth.kl.gradient": slope, "depth.kept_cells": told.sum()[None],
    }  # fmt: skip
    rows = forge.compare(case.folder, {tap: value.numpy() for tap, value in taps.items()})
    check(rows, {"depth.kept_cells": 0, "*": 2e-6})
    right = target_distribution(torch.tensor([10.25, 40.0]), CGFormerConfig.preset("clean"))
    assert right.argmax(-1).tolist() == [16, 76]  # 10.25 m lies between bins 16 and 17
    torch.testing.assert_close(right.sum(-1), torch.ones(2))


@pytest.mark.parametrize("name", PREPARED)
def test_preparation(case: Case, name: str) -> None:
    height, width = case.inputs["prepared"][f"prepared.{name}"]["raw"]
    size = {"1408": (1408, 384), "small": (128, 39)}.get(name, (1280, 384))
    camera = Camera.from_fov(80, (width, height)).on_ground(1.65)
    depth = forge.depth(f"parts/{name}/depth", height, width, 0, 60)
    frame = Frame("forged", {"main": View(forge.picture(f"parts/{name}", height, width), camera)}, semantic_kitti_grid(), depth)
    preparation = Preparation(fit="bottom", size=size, corner_pixels=True, mixed_depth=True)
    found = prepare(frame, preparation)
    picture, affine = found.main.picture, found.main.camera.affine
    taps = {
        "picture": picture, "tensor": normalise(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None], preparation)[0].numpy(),
        "depth": found.depth[None], "affine": np.concatenate([affine[:2, :2].reshape(-1), affine[:2, 2]]).astype(np.float32),
    }  # fmt: skip
    check(forge.compare(case.folder, {f"prepared.{name}.{tap}": value for tap, value in taps.items()}), {"*.picture": 0, "*": 1e-6})
    if f"prepared.{name}.flip.picture" in case.taps():  # their mirror notes W - x, ours W - 1 - x, so the pictures alone agree
        flipped = {f"prepared.{name}.flip.picture": picture[:, ::-1], f"prepared.{name}.flip.depth": found.depth[None, :, ::-1]}
        check(forge.compare(case.folder, flipped), {"*.picture": 0, "*": 1e-6})
