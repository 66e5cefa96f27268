"""Voxel pooling against a loop over all points, forward and both gradients."""

from __future__ import annotations

import pytest
import torch

from wholescene.ops import lss_pooling
from wholescene.ops.lss_pooling import VoxelBags, cpu, reference, splat

BINS, CELLS, CHANNELS, COUNT = 5, 6, 3, 8


def forged() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    depth = torch.randn(BINS, CELLS, dtype=torch.float64, generator=random).softmax(0)
    context = torch.randn(CELLS, CHANNELS, dtype=torch.float64, generator=random)
    voxels = torch.randint(-1, COUNT - 1, (BINS * CELLS,), generator=random)  # the last voxel stays empty
    voxels[:4] = torch.tensor([-1, 0, 0, 0])
    return depth, context, voxels


def slow(depth: torch.Tensor, context: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(COUNT, CHANNELS, dtype=torch.float64)
    for point, voxel in enumerate(voxels.tolist()):
        if voxel >= 0:
            out[voxel] = out[voxel] + depth[point // CELLS, point % CELLS] * context[point % CELLS]
    return out


@pytest.mark.parametrize("form", [reference, cpu, splat])
def test_every_point_adds_its_share_to_its_voxel(form) -> None:  # type: ignore[no-untyped-def]
    depth, context, voxels = forged()
    inputs = [depth.requires_grad_(), context.requires_grad_()]
    out = form(*inputs, VoxelBags.of(voxels, COUNT))
    expected = slow(*inputs, voxels)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    assert not out[-1].any()
    to_out = torch.randn(COUNT, CHANNELS, dtype=torch.float64)
    pairs = zip(torch.autograd.grad(out, inputs, to_out), torch.autograd.grad(expected, inputs, to_out), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_frustum_outside_the_grid_gives_an_empty_volume() -> None:
    depth, context, voxels = forged()
    assert not splat(depth, context, VoxelBags.of(torch.full_like(voxels, -1), COUNT)).any()


def test_half_precision_is_added_up_at_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    depth, context, voxels = forged()
    with torch.autocast("cpu", torch.bfloat16):
        found = splat(depth.bfloat16(), context.bfloat16(), VoxelBags.of(voxels, COUNT))
    assert found.dtype == torch.bfloat16
    expected = slow(depth.bfloat16().double(), context.bfloat16().double(), voxels)
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-6)
    monkeypatch.setattr(lss_pooling, "cpu", lambda *_: pytest.fail("the fast path was taken"))
    monkeypatch.setenv("WHOLESCENE_OPS", "reference")
    torch.testing.assert_close(splat(depth, context, VoxelBags.of(voxels, COUNT)), slow(depth, context, voxels))
