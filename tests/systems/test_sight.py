"""What voxels see of the picture, from the frame to the weights, on the grid that a system refines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.grid import VoxelGrid
from wholescene.structures import Batch, Frame, Lifted, View
from wholescene.systems.refine.config import Refine
from wholescene.systems.refine.joint import Joint
from wholescene.systems.refine.sight import VoxelSight

CELL = 0.4  # metres of a voxel that refinement works on
WALL = 3.0  # metres: the centre of its fifth layer, for the grid begins a metre and a fifth ahead


def _frame_at_a_wall(factor: tuple[int, int, int]) -> Batch:
    """One frame whose grid is so many times finer than `CELL`, before a wall that fills the picture."""
    width, height = 96, 64
    camera = Camera.from_fov(90, (width, height)).on_ground(1.2)
    shape = tuple(n * m for n, m in zip((12, 10, 4), factor, strict=True))
    grid = VoxelGrid.from_corner((1.2, -2.0, 0.4), shape, [CELL / m for m in factor])
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    return collate([Frame("forged/wall", {"main": View(picture, camera)}, grid, depth=np.full((height, width), WALL, dtype=np.float32))])


def _weights(batch: Batch, joint: Joint, lifted: Lifted, mask: Tensor, profile: str = "tent") -> Tensor:
    sight = VoxelSight(Refine(profile=profile, widening_m=0), joint, 1)  # type: ignore[arg-type]
    look, own = sight.prepare(lifted, batch)
    assert own is None
    with torch.no_grad():
        return look(mask, 0)[:, 0]


@pytest.mark.parametrize("factor", [(1, 1, 1), (2, 2, 2), (4, 2, 1)])
@pytest.mark.parametrize("source", ["volume", "pyramid"])
def test_layers_behind_a_wall_see_it_with_one_two_thirds_and_one_third_on_any_grid(factor: tuple[int, int, int], source: str) -> None:
    batch = _frame_at_a_wall(factor)
    joint = Joint(1, factor, source, 1, depth=False)
    ones = torch.ones(1, 1, 12, 10, 4) if source == "volume" else torch.ones(1, 1, 8, 12)
    lifted = Lifted(ones if source == "volume" else None, batch.grids, {} if source == "volume" else {"image": [ones]})
    whole = torch.ones(1, 12, 10, 4, dtype=torch.bool)
    weights = _weights(batch, joint, lifted, whole).reshape(12, 10, 4)
    layers = weights[:, 4:6, 1:3]  # their centres fall into the middle of the picture, where the map has no edge
    expected = torch.tensor([0, 0, 0, 0, 1, 2 / 3, 1 / 3, 0, 0, 0, 0, 0])
    torch.testing.assert_close(layers, expected[:, None, None].expand_as(layers), atol=1e-5, rtol=0)


def test_few_active_voxels_see_what_they_see_among_all() -> None:
    batch, joint = _frame_at_a_wall((2, 2, 2)), Joint(1, (2, 2, 2), "pyramid", 1, depth=False)
    lifted = Lifted(None, batch.grids, {"image": [torch.rand(1, 1, 8, 12, generator=torch.Generator().manual_seed(0))]})
    whole = torch.ones(1, 12, 10, 4, dtype=torch.bool)
    few = torch.rand(whole.shape, generator=torch.Generator().manual_seed(1)) < 0.2
    assert few[:, 4:7].any()
    assert torch.equal(_weights(batch, joint, lifted, few), _weights(batch, joint, lifted, whole)[few.flatten()])


def test_uniform_projection_is_one_in_view_and_nothing_outside_it() -> None:
    batch, joint = _frame_at_a_wall((1, 1, 1)), Joint(1, (1, 1, 1), "volume", 1, depth=False)
    lifted = Lifted(torch.ones(1, 1, 12, 10, 4), batch.grids)
    weights = _weights(batch, joint, lifted, torch.ones(1, 12, 10, 4, dtype=torch.bool), "none").reshape(batch.grids[0].shape)
    camera = batch.cameras["main"][0]
    pixels, depth = camera.project(batch.grids[0].centres())
    seen = (depth > 0) & np.all((pixels >= 0) & (pixels < camera.size), axis=-1)
    assert 0 < seen.mean() < 1
    assert torch.equal(weights, torch.from_numpy(seen).float())
