"""The layer in which voxels look at the picture at their depth; the sampling has its own tests."""

from __future__ import annotations

import torch

from wholescene.layers.depth_attention import DepthAttentionLayer, DepthDeformableAttention


def layer() -> DepthAttentionLayer:
    torch.manual_seed(0)
    return DepthAttentionLayer(DepthDeformableAttention(8, heads=2, points=3), 8, 16, 0.0).eval()  # type: ignore[arg-type]


def given(n: int = 9) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(1)
    depth = torch.randn(1, 4, 5, 6, generator=random).softmax(1)
    return torch.randn(1, n, 8, generator=random), torch.rand(1, n, 3, generator=random), torch.randn(1, 30, 8, generator=random), depth


def test_heads_begin_by_looking_in_directions_of_their_own() -> None:
    attention = DepthDeformableAttention(8, heads=4, points=2)
    offsets = attention.sampling_offsets.bias.view(4, 2, 2)
    torch.testing.assert_close(offsets[:, 0].round(), torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]), rtol=0, atol=1e-5)
    torch.testing.assert_close(offsets[:, 1], 2 * offsets[:, 0])
    torch.testing.assert_close(attention.sampling_offsets_depth.bias.view(4, 2)[:, 0], torch.tensor([0.5, 0.5, -0.5, -0.5]), rtol=0, atol=1e-5)


def test_only_seen_voxels_look_and_parts_leave_the_numbers() -> None:
    own = layer()
    voxels, places, cells, depth = given()
    seen = torch.tensor([1, 4, 5, 8])
    whole = own(voxels, places, seen, cells, depth)
    unseen = torch.tensor([0, 2, 3, 6, 7])
    blank = own.settle(voxels, own.attention.output_proj.bias.expand_as(voxels))
    torch.testing.assert_close(whole[:, unseen], blank[:, unseen])
    assert not torch.isclose(whole[:, seen], blank[:, seen]).all(-1).any()
    own.part = 3
    with torch.inference_mode():
        torch.testing.assert_close(own(voxels, places, seen, cells, depth), whole)
        torch.testing.assert_close(own(voxels, places, seen[:0], cells, depth), blank)


def test_a_voxel_reads_a_cell_by_the_mass_at_its_depth() -> None:
    own = layer()
    voxels, _, cells, _ = given(1)
    near, far = (torch.zeros(1, 4, 5, 6).index_fill_(1, torch.tensor([k]), 1.0) for k in (0, 3))
    with torch.no_grad():
        own.attention.sampling_offsets_depth.bias.zero_()
    places = torch.tensor([[[0.5, 0.5, 0.125]]])  # the middle of the first bin
    seen = torch.tensor([0])
    blank = own.settle(voxels, own.attention.output_proj.bias.expand_as(voxels))
    assert not torch.allclose(own(voxels, places, seen, cells, near), blank)
    torch.testing.assert_close(own(voxels, places, seen, cells, far), blank)
