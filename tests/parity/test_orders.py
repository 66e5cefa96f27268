"""Frustum order against the recorded permutations: every set, its inverse, what is in view, and the jumps between consecutive tokens."""

from __future__ import annotations

import hashlib

import forge
import numpy as np
import pytest
import torch

from cases import Case, check, find_cases
from wholescene.camera import Camera
from wholescene.geometry.orders import Permutation, VoxelOrder, jumps, order_voxels
from wholescene.geometry.projection import locate_grid
from wholescene.grid import VoxelGrid

_CAMERAS = "cameras (K = fx, fy, cx, cy; size = width, height)"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = find_cases(metafunc.config, lambda case: case.system.startswith("operator: frustum order"))
    sets = [(case, name) for case in cases for name in case.inputs["orders: camera, group, cell, option"]]
    metafunc.parametrize(("case", "name"), sets, ids=[f"{case}-{name}" for case, name in sets])


def test_orders_are_the_recorded_ones(case: Case, name: str) -> None:
    of_camera, group, cell, option = case.inputs["orders: camera, group, cell, option"][name]
    said = case.inputs[_CAMERAS][of_camera]
    camera = Camera.from_intrinsics(*said["K"], tuple(said["size"])).posed(np.array(said["world_to_camera"]))
    grid = VoxelGrid.from_corner(said["origin"], said["grid"], said["voxel"], said["axes"])
    how = VoxelOrder(cell=cell, group=group, depth_serpentine=option == "depth_serpentine", flip=option == "flip")
    found = Permutation.of([order_voxels(camera, grid, how)])
    order, inverse = found.order[0].numpy(), found.inverse[0].numpy()
    u, v, depth = (a.numpy() for a in locate_grid(camera, grid.coarser(group)))
    u = camera.width - 1 - u if how.flip else u
    inside = (depth > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    used = np.unique(np.stack([u, v], 1)[inside] // cell, axis=0)
    distances = jumps(camera, grid, how)
    volume = forge.uniform(f"frustum_order|{name}|volume", (len(order), 2))
    taps = {
        "order": order,
        "inverse": inverse,
        "digest": np.frombuffer(hashlib.sha256(order.astype("<i4").tobytes()).digest(), np.uint8),
        "inside": inside.astype(np.uint8),
        "counts": np.array([len(order), inside.sum(), len(used)]),
        "uvz": np.where(inside[:, None], np.stack([u, v, depth], 1), 0.0),
        "jumps": np.array([*distances.image, *distances.space]),
        "sequence": volume[order],
    }
    rows = forge.compare(case.folder, {f"{name}.{tap}": value for tap, value in taps.items()})
    check(rows, {"*.uvz": case.tolerances["uvz"], "*.jumps": case.tolerances["jumps"], "*": 0})
    back = found.volume(torch.from_numpy(volume[order])[None], grid.coarser(group).shape)
    assert np.array_equal(back[0].flatten(1).T.numpy(), volume)
