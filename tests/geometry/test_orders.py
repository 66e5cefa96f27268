"""Orders of voxels: permutations with exact inverses for any camera and grid, the curves' own properties, gradients there and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.geometry.orders import KINDS, Permutation, VoxelOrder, jumps, order_batch, order_voxels
from wholescene.grid import VoxelGrid
from wholescene.structures import Frame, View

SIZE = (64, 48)
CAMERA = Camera.from_fov(70, SIZE).on_ground(1.2, 10)
GRID = VoxelGrid.from_corner((0.2, -1.0, 0.0), (12, 10, 8), 0.2)


def slow_order(camera: Camera, grid: VoxelGrid, cell: float, serpentine: bool) -> list[int]:
    """The definition, voxel by voxel, with the camera's own projection: tuples sorted by (cell, depth, flat index), the rest behind."""
    pixels, depth = camera.project(grid.centres().reshape(-1, 3))
    u, v = pixels.T
    seen, rest = [], []
    for flat in range(grid.voxels):
        if depth[flat] > 0 and 0 <= u[flat] < camera.width and 0 <= v[flat] < camera.height:
            row, column = int(v[flat] // cell), int(u[flat] // cell)
            columns = math.ceil(camera.width / cell)
            number = row * columns + (column if row % 2 == 0 else columns - 1 - column)
            seen.append((number, -depth[flat] if serpentine and number % 2 else depth[flat], flat))
        else:
            rest.append(flat)
    return [flat for *_, flat in sorted(seen)] + rest


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    cell=st.floats(0.7, 90),
    axes=st.sampled_from(["xyz", "xzy", "zyx"]),
    serpentine=st.booleans(),
)
def test_frustum_order_is_its_definition_for_any_camera_and_grid(
    seed: int, shape: tuple[int, int, int], cell: float, axes: str, serpentine: bool
) -> None:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(rng.uniform(30, 110), SIZE).on_ground(rng.uniform(0.5, 2), rng.uniform(-30, 30))
    grid = VoxelGrid.from_corner(rng.uniform(-2, 1, 3), shape, tuple(rng.uniform(0.05, 0.4, 3)), axes)
    found = order_voxels(camera, grid, VoxelOrder(cell=cell, depth_serpentine=serpentine))
    assert found.tolist() == slow_order(camera, grid, cell, serpentine)


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), batch=st.integers(1, 3), group=st.sampled_from([1, 2]))
def test_a_volume_comes_back_exactly_from_its_sequence(kind: str, seed: int, batch: int, group: int) -> None:
    rng = np.random.default_rng(seed)
    how = VoxelOrder(kind, cell=5, group=group)  # type: ignore[arg-type]
    cameras = [Camera.from_fov(60, SIZE).on_ground(1.2, rng.uniform(-20, 20)) for _ in range(batch)]
    permutation = Permutation.of([order_voxels(camera, GRID, how) for camera in cameras])
    shape = GRID.coarser(group).shape
    n = math.prod(shape)
    assert all(sorted(own.tolist()) == list(range(n)) for own in permutation.order)
    assert torch.equal(permutation.inverse.gather(1, permutation.order.long()), torch.arange(n, dtype=torch.int32).expand(batch, n))
    volume = torch.from_numpy(rng.standard_normal((batch, 3, *shape)))
    tokens = permutation.tokens(volume)
    assert torch.equal(tokens[0, 7], volume[0].flatten(1)[:, permutation.order[0, 7]])
    assert torch.equal(permutation.volume(tokens, shape), volume)


def test_gradients_go_there_and_back() -> None:
    permutation = Permutation.of([torch.randperm(12), torch.randperm(12)])
    volume = torch.randn(2, 3, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(permutation.tokens, volume)
    assert torch.autograd.gradgradcheck(lambda v: permutation.volume(permutation.tokens(v) ** 2, (2, 3, 2)), volume)


def test_hilbert_tokens_are_neighbours_and_both_curves_fill_octants_one_after_another() -> None:
    cube = VoxelGrid((8, 8, 8), (1.0, 1.0, 1.0))
    for kind in ("z-order", "hilbert"):
        flat = order_voxels(CAMERA, cube, VoxelOrder(kind))  # type: ignore[arg-type]
        places = torch.stack([flat // 64, flat // 8 % 8, flat % 8], 1)
        steps = places.diff(dim=0).abs().sum(1)
        assert kind == "z-order" or torch.equal(steps, torch.ones_like(steps))
        for size, octants in ((64, places // 4), (8, places // 2)):  # blocks of 4^3 and 2^3 voxels
            assert all(len(torch.unique(part, dim=0)) == 1 for part in octants.split(size))


def test_frustum_order_follows_rays_with_smaller_jumps_in_the_picture_than_other_orders() -> None:
    mean = {kind: jumps(CAMERA, GRID, VoxelOrder(kind, cell=4)).image[0] for kind in KINDS}  # type: ignore[arg-type]
    assert min(mean, key=mean.__getitem__) == "frustum"


def test_a_mirrored_camera_gives_the_order_of_a_flip_and_other_cameras_other_orders() -> None:
    flipped = order_voxels(CAMERA, GRID, VoxelOrder(cell=4, flip=True))
    assert torch.equal(order_voxels(CAMERA.mirror(), GRID, VoxelOrder(cell=4)), flipped)
    assert not torch.equal(order_voxels(CAMERA, GRID, VoxelOrder(cell=4)), flipped)


def test_an_order_is_made_once_a_batch_for_each_scale() -> None:
    frames = [Frame(str(i), {"main": View(np.zeros((48, 64, 3), np.uint8), CAMERA.on_ground(1 + i))}, GRID) for i in range(2)]
    batch = collate(frames)
    fine, coarse = order_batch(batch, VoxelOrder(cell=4)), order_batch(batch, VoxelOrder(cell=8), 2)
    assert order_batch(batch, VoxelOrder(cell=4)) is fine
    assert (fine.order.shape, coarse.order.shape) == ((2, 960), (2, 120))
    assert torch.equal(coarse.order[1].long(), order_voxels(frames[1].main.camera, GRID, VoxelOrder(cell=8, group=2)))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="the nearest is 'hilbert'"):
        VoxelOrder("hilbrt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="positive"):
        VoxelOrder(cell=0)
    with pytest.raises(InputError, match="multiple of 3"):
        order_voxels(CAMERA, GRID, VoxelOrder(group=3))
