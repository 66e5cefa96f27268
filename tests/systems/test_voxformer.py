"""What is VoxFormer's own: proposals, what is seen where, the released quirks by name, the two stages. The numbers are held by the parity cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wholescene.camera import Camera
from wholescene.checkpoints.native import load, save
from wholescene.checkpoints.voxformer import join
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.geometry.pyramid import pool_labels
from wholescene.grid import GridPlacement
from wholescene.structures import Batch, Frame, View
from wholescene.systems.voxformer.completion import EnlargedHead, VoxelCompletion
from wholescene.systems.voxformer.config import VoxFormerConfig
from wholescene.systems.voxformer.model import VoxFormer

GRID = GridPlacement((16, 16, 8), (1.6, 1.6, 0.8), lidar_corner=None)
SIZE = (96, 64)
CONVENTIONS = ("clean", "exact")


def config(conventions: str = "clean", setting: str = "semantic-kitti", **fields: Any) -> VoxFormerConfig:
    return VoxFormerConfig.preset(conventions, "tiny", setting, **{"grid": GRID, **fields})


def system(conventions: str = "clean", setting: str = "semantic-kitti", **fields: Any) -> VoxFormer:
    torch.manual_seed(0)
    return VoxFormer(config(conventions, setting, **fields)).eval()


def frame(seed: int = 0, proposals: np.ndarray | None = None) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(75, SIZE).on_ground(1.65, 2)
    depth = rng.uniform(2, 25, SIZE[::-1]).astype(np.float32)
    labels = rng.choice([0, 0, 1, 9, 15, 255], GRID.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    return Frame(f"forged/{seed}", {"main": View(picture, camera)}, GRID.place(camera), depth, proposals, targets={1: labels})


def proposed(*voxels: tuple[int, int, int]) -> np.ndarray:
    made = np.zeros((8, 8, 4), bool)
    for voxel in voxels:
        made[voxel] = True
    return made


def lifted(model: VoxFormer, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return model.half_2d(batch).volume[0]  # (C, X, Y, Z)


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_proposals_of_any_number_complete_the_grid(conventions: str) -> None:
    model = system(conventions, "completion-semantic-kitti")
    everything = np.ones((8, 8, 4), bool)
    batch = collate([frame(0, proposed()), frame(1, proposed((4, 4, 1), (5, 3, 2))), frame(2, everything)])
    with torch.inference_mode():
        logits = model(batch).logits
        alone = model(collate([frame(1, proposed((4, 4, 1), (5, 3, 2)))])).logits
    assert logits.shape == (3, 20, *GRID.shape)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[1:2], alone, rtol=1e-4, atol=1e-5)
    blank = model.half_2d.lift.mask_token.detach()[0]
    volume = lifted(model, batch)
    assert torch.equal(volume, blank[:, None, None, None].expand_as(volume))


def test_only_proposed_voxels_see_the_picture_and_only_where_they_are_in_view() -> None:
    model = system(setting="completion-semantic-kitti")
    ahead, beside = (5, 4, 2), (0, 0, 0)
    chosen = proposed(ahead, beside)
    first, second = frame(0, chosen), frame(1, chosen)
    one, other = lifted(model, collate([first])), lifted(model, collate([first.with_main(second.main.picture, first.main.camera)]))
    in_view = model.half_2d.sight(collate([first]), (4, 6))[1].view(8, 8, 4)
    assert in_view[ahead]
    assert not in_view[beside]
    changed = (one != other).any(0)
    assert changed.nonzero().tolist() == [list(ahead)]
    assert not torch.equal(one[(slice(None), *beside)], model.half_2d.lift.mask_token[0])


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_a_voxel_looks_at_the_cell_that_its_pixel_lies_in(conventions: str) -> None:
    model = system(conventions, "completion-semantic-kitti")
    one = frame()
    references, in_view = model.half_2d.sight(collate([one]), (4, 6))
    pixels, depth = one.main.camera.project(one.grid.coarser(2).centres().reshape(-1, 3))
    inside = (depth > 0) & np.all((pixels > -0.5) & (pixels < np.array(SIZE) - 0.5), axis=1)
    strict = (depth > 0) & np.all((pixels > 0) & (pixels < SIZE), axis=1)
    assert np.array_equal(in_view[0].numpy(), inside if conventions == "clean" else strict)
    cells = references[0].numpy() * (6, 4) - 0.5  # as the sampler takes them: the centre of cell i is i
    stride = pixels / 16 if conventions == "clean" else pixels / SIZE * (6, 4) - 0.5
    np.testing.assert_allclose(cells[inside], stride[inside], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_padding_at_the_right_and_bottom_moves_no_reference(conventions: str) -> None:
    model = system(conventions, "completion-semantic-kitti")
    one = model.half_2d.sight(collate([frame()]), (4, 6))[0] * torch.tensor([6, 4])
    padded = model.half_2d.sight(collate([frame()]), (7, 9))[0] * torch.tensor([9, 7])
    ahead = torch.isfinite(one).all(-1)
    torch.testing.assert_close(padded[ahead], one[ahead], rtol=1e-4, atol=1e-3)


def test_the_voxels_of_depth_are_corrected_by_stage_1_or_taken_as_they_are() -> None:
    batch = collate([frame()])
    both, second = system(), system(setting="completion-semantic-kitti")
    with torch.inference_mode():
        prediction = both(batch)
        logits = prediction.extras["proposal_logits"]
        assert logits.shape == (1, 2, 8, 8, 4)
        assert torch.equal(prediction.extras["proposals"], logits.argmax(1).bool())
        raw = second(batch).extras["proposals"]
    points = frame().main.camera.unproject(frame().depth)
    index, inside = frame().grid.coarser(2).index_of(points)
    expected = np.zeros((8, 8, 4), bool)
    expected[tuple(index[inside].T)] = True
    assert np.array_equal(raw[0].numpy(), expected)


def test_stage_1_learns_from_its_own_loss_and_stage_2_from_its_own() -> None:
    model = system(dropout=0.0).train()
    batch = collate([frame()])
    terms = model.losses(model(batch), batch)
    labels = pool_labels(batch.targets[1], 2)
    target = torch.where(labels == 255, 255, (labels > 0).long()).long()
    weights = torch.tensor([0.46, 0.54])
    with torch.no_grad():
        logits = model(batch).extras["proposal_logits"]
    surprise = F.cross_entropy(logits, target, weights, ignore_index=255, reduction="sum") / (target != 255).sum()
    torch.testing.assert_close(terms["proposal"].detach(), surprise)
    terms["proposal"].backward(retain_graph=True)
    assert all(p.grad is not None for p in model.proposer.parameters())
    assert all(p.grad is None for half in (model.half_2d, model.half_3d) for p in half.parameters())
    model.zero_grad()
    (terms["cross_entropy"] + terms["semantic_affinity"] + terms["geometric_affinity"]).backward()
    assert all(p.grad is None for p in model.proposer.parameters())


def test_released_cross_entropy_is_divided_by_voxels() -> None:
    model = system("exact", "completion-semantic-kitti")
    batch = collate([frame()])
    with torch.inference_mode():
        prediction = model(batch)
        found = model.losses(prediction, batch)["cross_entropy"]
        target = batch.targets[1].long()
        weights = torch.tensor(model.config.class_weights)
        surprise = F.cross_entropy(prediction.logits, target, weights, ignore_index=255, reduction="sum")
    torch.testing.assert_close(found, surprise / (target != 255).sum())


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_parts_and_slabs_leave_the_numbers(conventions: str) -> None:
    model = system(conventions, "completion-semantic-kitti")
    batch = collate([frame(0, np.ones((8, 8, 4), bool))])
    for layer in model.half_3d.volume_net.layers:
        layer.part = 37
    model.half_3d.head.slab = 3
    with torch.inference_mode():
        parts = model(batch).logits
    whole = model(batch).logits  # with gradients nothing is cut
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def readers(conventions: str, direction: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Which voxels of 8 x 8 x 4 change when voxel (4, 4, 2) does, in one layer whose heads all look one cell in a direction (last axis first)."""
    model = VoxelCompletion(config(conventions, points=1)).volume_net.eval()
    layer = model.layers[0]
    with torch.no_grad():
        layer.attention.sampling_offsets.bias.copy_(torch.tensor(direction).repeat(layer.attention.sampling_offsets.out_features // len(direction)))
        voxels = torch.randn(1, 256, 16, generator=torch.Generator().manual_seed(0))
        moved = voxels.clone()
        moved[0, 4 * 32 + 4 * 4 + 2, 0] += 1.0
        changed = (layer(voxels, model.seats) - layer(moved, model.seats)).abs().amax(-1)[0] > 1e-5
    return set(map(tuple, changed.view(8, 8, 4).nonzero().tolist())) - {(4, 4, 2)}


def test_voxels_see_their_neighbours_in_space_and_in_the_released_form_those_in_flat_order() -> None:
    assert readers("clean", (1, 0, 0)) == {(4, 4, 1)}
    assert readers("clean", (0, 1, 0)) == {(4, 3, 2)}
    assert readers("clean", (0, 0, 1)) == {(3, 4, 2)}
    assert readers("exact", (1, 0)) == {(4, 4, 1)}
    assert readers("exact", (0, 1)) == {(4, 0, 2)}  # 16 x 16: the row above is four columns of voxels away


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_head_enlarges_as_torch_does(aligned: bool, factor: int) -> None:
    torch.manual_seed(0)
    head = EnlargedHead(config(align_corners=aligned, lift_factor=factor)).eval()
    volume = torch.randn(2, 16, 3, 4, 5)
    large = F.interpolate(volume, scale_factor=factor, mode="trilinear", align_corners=aligned)
    expected = head.classifier.linear(head.classifier.norm(large.movedim(1, -1))).movedim(-1, 1)
    torch.testing.assert_close(head(volume), expected, rtol=1e-4, atol=1e-5)


def test_a_stage_without_a_volume_gives_no_scene_but_its_proposals() -> None:
    model = system(setting="proposals-semantic-kitti")
    with torch.inference_mode():
        prediction = model(collate([frame()]))
    assert prediction.logits is None
    assert list(model.losses(prediction, collate([frame()]))) == ["proposal"]
    with pytest.raises(InputError, match="no scene to give"):
        model.predict(frame())


def test_both_stages_join_into_one_file(tmp_path: Path) -> None:
    whole = system("exact")
    stages = [system("exact", f"{stage}-semantic-kitti") for stage in ("proposals", "completion")]
    for stage, name in zip(stages, ("one", "two"), strict=True):
        stage.load_state_dict({n: whole.state_dict()[n] for n in stage.state_dict()})
        save(tmp_path / name, stage)
    join(tmp_path / "one", tmp_path / "two", tmp_path / "whole")
    again = load(tmp_path / "whole")
    assert again.config == whole.config
    with torch.inference_mode():
        assert torch.equal(again(collate([frame()])).logits, whole(collate([frame()])).logits)
    with pytest.raises(InputError, match="expected stage proposals of voxformer"):
        join(tmp_path / "two", tmp_path / "two", tmp_path / "other")


def test_what_cannot_work_is_refused() -> None:
    for fields in ({"grid": replace(GRID, shape=(16, 16, 12))}, {"lift_factor": 3}, {"heads": 3}):
        with pytest.raises(InputError, match="expected multiples of 8"):
            system(**fields)
    with pytest.raises(InputError, match="pool or upsample them first"):
        system(setting="completion-semantic-kitti")(collate([frame(0, np.ones(GRID.shape, bool))]))
    with pytest.raises(InputError, match="voxformer needs depth"):
        system().predict(replace(frame(), depth=None))


def test_released_conventions_train_every_parameter() -> None:
    model = system("exact").train()
    batch = collate([frame(0), frame(1)])
    sum(model.losses(model(batch), batch).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    assert model.half_2d.lift.level_embedding.grad[1:].eq(0).all()  # three rows of four are carried and never read
