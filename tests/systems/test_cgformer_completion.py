"""What is the 3D half's own in CGFormer: planes, fusion, head. The numbers are held by the parity cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.systems.cgformer.completion import DynamicFusion, LocalGlobalCompletion, LocalGlobalEncoder
from wholescene.systems.cgformer.config import CGFormerConfig
from wholescene.systems.cgformer.head import OccupancyHead
from wholescene.systems.cgformer.planes import PlanePool, ThreePlanes

GRID = GridPlacement((16, 32, 8), (1.6, 1.6, 0.8), lidar_corner=None)


def config(conventions: str = "clean", **fields: Any) -> CGFormerConfig:
    return CGFormerConfig.preset(conventions, "tiny", **{"grid": GRID, **fields})


@pytest.mark.parametrize(("axis", "size"), [(0, (6, 4)), (1, (8, 4)), (2, (8, 6))])
def test_an_axis_is_pooled_to_slots_that_stand_one_after_another(axis: int, size: tuple[int, int]) -> None:
    pool = PlanePool(axis, 3, 2)
    volume = torch.randn(2, 3, 8, 6, 4)
    halves = volume.chunk(2, 2 + axis)
    slots = torch.cat([half.amax(2 + axis) for half in halves], 1)  # slot by slot, channels inside
    expected = pool.mix[2](F.relu(pool.mix[0](slots)))
    assert expected.shape == (2, 3, *size)
    torch.testing.assert_close(pool(volume), expected)


@pytest.mark.parametrize("conventions", ["clean", "exact"])
def test_planes_keep_two_axes_of_the_volume_and_have_one_network(conventions: str) -> None:
    torch.manual_seed(0)
    planes = ThreePlanes(config(conventions)).eval().double()  # an instance norm of a few cells magnifies float32's rounding, on some CPUs to 4e-5
    volume = torch.randn(2, 16, 8, 16, 4, dtype=torch.float64)
    with torch.no_grad():
        both = planes(volume)
        first = planes(volume[:1])
    assert [tuple(p.shape) for p in both] == [(2, 16, 8, 16, 1), (2, 16, 1, 16, 4), (2, 16, 8, 1, 4)]
    for one, other in zip(both, first, strict=True):  # norms of the released form do not mix frames
        torch.testing.assert_close(one[:1], other, rtol=1e-10, atol=1e-12)


def test_each_voxel_weighs_local_branch_and_planes() -> None:
    fusion = DynamicFusion(4, 4).eval()
    local, planes = torch.randn(2, 4, 5, 3, 2), [torch.randn(2, 4, *s) for s in ((5, 3, 1), (1, 3, 2), (5, 1, 2))]
    w = torch.softmax(torch.einsum("oc,bcxyz->boxyz", fusion.weigh.weight[:, :, 0, 0, 0], local), 1)
    expected = w[:, :1] * local + w[:, 1:2] * planes[0] + w[:, 2:3] * planes[1] + w[:, 3:] * planes[2]
    torch.testing.assert_close(fusion(local, planes), expected)
    fusion.slab = 2
    with torch.no_grad():
        torch.testing.assert_close(fusion(local.clone(), planes), expected)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_head_enlarges_logits(factor: int) -> None:
    head = OccupancyHead(8, 4, 3, factor)
    volume = torch.randn(2, 8, 3, 4, 5)
    logits = head.classify(F.relu(F.group_norm(head.conv(volume), 2, head.norm.weight, head.norm.bias)))
    if factor > 1:
        logits = F.interpolate(logits, scale_factor=factor, mode="trilinear", align_corners=False)
    torch.testing.assert_close(head(volume), logits)
    with torch.no_grad():
        torch.testing.assert_close(head(volume), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conventions", ["clean", "exact"])
def test_slabs_and_parts_leave_the_numbers(conventions: str) -> None:
    torch.manual_seed(0)
    net = LocalGlobalEncoder(config(conventions)).eval().double()  # as above
    for layer in net.attention.layers:
        layer.part = 37
    net.local.trunk.slab = net.fusion.slab = 3
    volume = torch.randn(2, 16, 8, 16, 4, dtype=torch.float64)
    whole = net(volume).detach()
    with torch.no_grad():
        torch.testing.assert_close(net(volume), whole, rtol=1e-6, atol=1e-8)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(InputError, match="which do not divide them"):
        LocalGlobalCompletion(config(grid=GridPlacement((16, 24, 8)), plane_slots=8))
    with pytest.raises(InputError, match="multiples of the factor"):
        LocalGlobalCompletion(config(grid=GridPlacement((16, 33, 8))))
