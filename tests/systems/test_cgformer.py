"""What is CGFormer's own in the picture's half: conventions that agree (and released ones that do not), proposals, queries, the pre-training stage.
The numbers are held by the parity cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.grid import GridPlacement, VoxelGrid
from wholescene.layers.fuse import fuse_for_inference
from wholescene.structures import Batch, Frame, View
from wholescene.systems.cgformer.config import CGFormerConfig
from wholescene.systems.cgformer.depth_loss import depth_loss, depth_target, target_distribution
from wholescene.systems.cgformer.geometry import camera_numbers, frustum_bags, frustum_points, places_of_voxels, voxels_of
from wholescene.systems.cgformer.model import CGFormer
from wholescene.systems.cgformer.proposals import propose_of
from wholescene.systems.cgformer.stereo import bin_of, nearest_of_cells

GRID = GridPlacement((16, 16, 8), (1.6, 1.6, 0.8), corner=(-0.27, -12.8, -0.27), lidar_corner=None)
SIZE = (96, 64)
CONVENTIONS = ("clean", "exact")


def config(conventions: str = "clean", setting: str = "semantic-kitti", **fields: Any) -> CGFormerConfig:
    return CGFormerConfig.preset(conventions, "tiny", setting, **{"grid": GRID, **fields})


def system(conventions: str = "clean", setting: str = "semantic-kitti", **fields: Any) -> CGFormer:
    torch.manual_seed(0)
    return CGFormer(config(conventions, setting, **fields)).eval()


def frame(seed: int = 0, size: tuple[int, int] = SIZE, **more: Any) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(75, size).on_ground(1.65, 2)
    depth = rng.uniform(2, 25, size[::-1]).astype(np.float32)
    labels = rng.choice([0, 0, 1, 9, 15, 255], GRID.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Frame(f"forged/{seed}", {"main": View(picture, camera)}, GRID.place(camera), **{"depth": depth, "targets": {1: labels}, **more})


def swept(seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    points = rng.uniform((1, -8, -1, 0), (20, 8, 4, 1), (300, 4)).astype(np.float32)
    return frame(seed, points=points, point_labels=rng.choice([1, 9, 15, 255], 300).astype(np.uint8))


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_a_point_of_the_frustum_looks_back_at_its_own_cell_and_bin(conventions: str) -> None:
    """One voxel around the point of cell (row 5, column 7), bin 3: lift and cross-attention agree; as released they differ by what the fields say."""
    own = config(conventions, lift_factor=1)
    camera = frame().main.camera
    origin = VoxelGrid.from_corner((0, 0, 0), (1, 1, 1), 1e-3)
    point = frustum_points((8, 12), camera, origin, own)[3, 5, 7].double().numpy()
    around = VoxelGrid.from_corner(point - 5e-4, (1, 1, 1), 1e-3)
    references, in_view = places_of_voxels(collate([replace(frame(), grid=around, targets={})]), (8, 12), own)
    column, row, place = (references[0, 0] * torch.tensor([12, 8, own.depth_bins]) - 0.5).tolist()
    assert in_view.all()
    if conventions == "clean":
        assert (column, row, place) == pytest.approx((7, 5, 3), abs=1e-3)
        pixels, depth = camera.project(point)
        assert (*pixels, depth) == pytest.approx((7 * 8 + 3.5, 5 * 8 + 3.5, own.depth_near + 3 * own.depth_step), abs=1e-3)
    else:
        assert (column, row, place) == pytest.approx((7 * 95 / 11 / 8 - 0.5, 5 * 63 / 7 / 8 - 0.5, 2.5), abs=1e-3)


def test_a_stereo_depth_sets_the_bin_that_the_lift_puts_there_and_as_released_one_nearer() -> None:
    own, released = config(), config("exact")
    middles = own.depth_near + own.depth_step * torch.arange(own.depth_bins)
    for shift in (-0.45, 0.0, 0.45):
        assert torch.equal(bin_of(middles + shift * own.depth_step, own), torch.arange(own.depth_bins) + 1)
    assert torch.equal(bin_of(middles, released), torch.arange(own.depth_bins))
    outside = torch.tensor([0.0, own.depth_range[0] - 0.1, own.depth_range[1] + 0.1, 1e5])
    assert not bin_of(outside, own).any()


def test_the_depth_target_peaks_at_the_true_bin_and_as_released_at_twice_the_depth() -> None:
    depth = torch.tensor([6.0, 10.0, 20.0])
    bins = ((depth - 2) / 2).long()
    assert torch.equal(target_distribution(depth, config()).argmax(-1), bins)
    # with the released bins of 0.5 m the peak lies at twice the depth: bin (2 d - 2) / 0.5
    released = config("exact", depth_bins=112, depth_step=0.5)
    assert torch.equal(target_distribution(depth, released).argmax(-1), ((2 * depth - 2) / 0.5).long())


def test_the_depth_loss_is_zero_at_the_target_and_where_nothing_is_known() -> None:
    own = config()
    depth = torch.full((1, 2, 3), 12.0)
    right = target_distribution(depth, own).movedim(-1, 1)
    assert float(depth_loss(right, depth, own)) == pytest.approx(0, abs=2e-3)  # 1e-4 is added to every probability
    assert float(depth_loss(right.roll(3, 1), depth, own)) > 1
    assert float(depth_loss(right, torch.full_like(depth, 1e5), own)) == 0


def test_true_depth_comes_from_points_before_maps() -> None:
    sweep = swept()
    batch = collate([replace(sweep, depth_target=np.full(SIZE[::-1], 7, np.float32))])
    found = depth_target(batch, (8, 12))
    pixels, metres = sweep.main.camera.project(sweep.points[:, :3])
    inside = (metres > 0) & (pixels >= 0).all(-1) & (pixels <= np.array(SIZE) - 1).all(-1)
    row, column = (np.rint(pixels[inside]) // 8).astype(int)[:, ::-1].T
    expected = np.full((8, 12), 1e5)
    np.minimum.at(expected, (row, column), metres[inside])
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-5)
    assert (depth_target(collate([frame(depth_target=np.full(SIZE[::-1], 7, np.float32))]), (8, 12)) == 7).all()
    known = torch.from_numpy(frame().depth)[None]
    assert torch.equal(depth_target(collate([frame()]), (8, 12)), nearest_of_cells(known, known > 0))


def test_pixels_without_depth_propose_nothing_and_as_released_the_camera() -> None:
    one = frame()
    grid = one.grid.coarser(2)
    depth = torch.zeros(SIZE[::-1])
    depth[20:40, 30:60] = 8.0
    found = propose_of(depth, one.main.camera, grid, config())
    points = one.main.camera.unproject(depth.numpy())
    index, inside = grid.index_of(points)
    expected = np.zeros(grid.shape, bool)
    expected[tuple(index[inside].T)] = True
    assert np.array_equal(found.numpy(), expected)
    released = propose_of(depth, one.main.camera, grid, config("exact"))
    (place,), (within,) = grid.index_of(one.main.camera.position[None])
    assert within
    assert (released.numpy() & ~expected).nonzero() == tuple(np.array([i]) for i in place)


def test_a_frame_without_depth_proposes_everything_and_as_released_random_places() -> None:
    one = frame()
    grid, nothing = one.grid.coarser(2), torch.zeros(SIZE[::-1])
    assert propose_of(nothing, one.main.camera, grid, config()).all()
    nearly = nothing.clone()
    nearly[30, 40] = 5.0
    released = config("exact", unknown_pixels="skipped")
    assert propose_of(nearly, one.main.camera, grid, released).sum() in range(1, 11) or propose_of(nearly, one.main.camera, grid, released).all()
    fine = VoxelGrid.from_corner((0, 0, 0), (64, 64, 64), 1 / 64)
    first, second = (propose_of(nearly * 0, one.main.camera, fine, released) for _ in range(2))
    assert 2 <= first.sum() <= 10
    assert not torch.equal(first, second)


def test_points_below_the_lower_faces_are_dropped_and_as_released_counted() -> None:
    grid = VoxelGrid.from_corner((0, 0, 0), (4, 4, 4), 2.0)
    points = torch.tensor([[-1.0, 1, 1], [1, -1.9, 1], [-2.1, 1, 1], [8.1, 1, 1], [1, 3, 7.9]])
    assert voxels_of(points, grid, config()).tolist() == [-1, -1, -1, -1, 7]
    assert voxels_of(points, grid, config("exact")).tolist() == [0, 0, -1, -1, 7]


def test_cells_beside_the_true_picture_lift_nothing() -> None:
    own = config(lower_faces="floor")
    small = collate([frame(0, (88, 56))])
    alone, padded = frustum_bags(small, (7, 11), own)[0], frustum_bags(small, (12, 16), own)[0]
    assert torch.equal(alone.starts, padded.starts)
    bins, cell = padded.points // (12 * 16), padded.points % (12 * 16)
    back = bins * 77 + cell // 16 * 11 + cell % 16
    assert torch.equal(back.sort().values, alone.points.sort().values)


def volume_of(model: CGFormer, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return model.half_2d(batch).volume[0]  # (C, X, Y, Z)


def test_only_proposed_voxels_read_their_embedding_and_the_others_what_was_lifted() -> None:
    model = system()
    one = frame(depth=np.where(np.arange(96) < 48, np.float32(9), np.float32(0)) + np.zeros((64, 1), np.float32))
    batch = collate([one])
    proposed = propose_of(batch.depth[0], one.main.camera, one.grid.coarser(2), model.config)
    before = volume_of(model, batch)
    with torch.no_grad():
        model.half_2d.lift.embedding += torch.randn_like(model.half_2d.lift.embedding)
    assert torch.equal((volume_of(model, batch) != before).any(0), proposed)
    with torch.inference_mode():
        context, distribution = model.half_2d.see(batch)
        lifted = model.half_2d.splat(batch, context, distribution)[0].T.unflatten(1, (8, 8, 4))
        filled = model.half_2d.lift.prior(lifted.movedim(0, -1)).movedim(-1, 0)
    assert 0 < proposed.sum() < 256
    torch.testing.assert_close(before[:, ~proposed], filled[:, ~proposed], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_every_frame_stands_alone_also_where_pictures_fit_no_stride(conventions: str) -> None:
    model = system(conventions)
    frames = [frame(seed, (90, 61)) for seed in (0, 1)]
    with torch.inference_mode():
        together = model(collate(frames)).logits
        apart = torch.cat([model(collate([one])).logits for one in frames])
    assert together.shape == (2, 20, *GRID.shape)
    # normalising a plane by its own statistics, as released, makes much of rounding
    assert (together - apart).abs().max() <= (1e-5 if conventions == "clean" else 1e-4) * apart.abs().max()


def test_the_pretraining_stage_learns_depth_and_classes_of_points_and_its_parts_are_the_systems() -> None:
    model = system(setting="depth-semantic-kitti", dropout=0.0).train()
    assert model.supervision == {"points"}
    assert system(setting="depth-semantic-kitti", depth_loss_weight=0.0).supervision == {"points"}  # the segmentation head wants them
    assert not system().supervision
    batch = collate([swept(0), swept(1)])
    prediction = model(batch)
    assert prediction.logits is None
    assert prediction.extras["point_logits"].shape == (2, 20, 64, 96)
    terms = model.losses(prediction, batch)
    assert sorted(terms) == ["depth", "segmentation"]
    sum(terms.values()).backward()  # type: ignore[union-attr]  # tensors
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    whole = system().state_dict()
    ours = {name: value.shape for name, value in model.state_dict().items() if not name.startswith("segmentation.")}
    assert {name: whole[name].shape for name in ours} == ours
    with pytest.raises(InputError, match="no points with labels"):
        model.losses(prediction, collate([frame(0), frame(1)]))


def test_points_without_a_class_are_skipped_and_as_released_trained_as_empty() -> None:
    batch = collate([replace(swept(), point_labels=np.full(300, 255, np.uint8))])
    for conventions in CONVENTIONS:
        model = system(conventions, "depth-semantic-kitti")
        with torch.inference_mode():
            term = model.losses(model(batch), batch)["segmentation"]
        assert (term > 0) == (conventions == "exact")


def test_released_conventions_train_every_parameter_and_a_batch_of_one_trains_too() -> None:
    model = system("exact", depth_loss_weight=1e-4).train()
    batch = collate([frame(0)])
    terms = model.losses(model(batch), batch)
    assert "depth" in terms
    sum(terms.values()).backward()  # type: ignore[union-attr]  # tensors
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    assert model.half_2d.lift.level_embedding.grad[1:].eq(0).all()  # three rows of four are carried and never read


def test_equal_cameras_tell_the_net_the_same_in_training_and_in_evaluation_and_as_released_not() -> None:
    """Over a batch of equal cameras nothing is left of their numbers in training, and in evaluation the rounding of the running mean."""
    camera = Camera.from_fov(60, (1241, 376)).on_ground(1.65, 2)
    numbers = torch.stack([camera_numbers(camera)] * 2)
    for conventions, same in (("clean", True), ("exact", False)):
        norm = system(conventions).half_2d.depth_net.mono.norm.train()
        for _ in range(40):
            trained = norm(numbers)
        assert torch.allclose(norm.eval()(numbers), trained, atol=1e-3) == same
    clean = system().half_2d.depth_net.mono.norm(numbers)
    assert 0.5 < clean.abs().max() < 2


def test_planes_of_different_content_look_in_evaluation_as_they_did_in_training() -> None:
    """The three planes share a network; statistics over all of them would fit none."""
    planes = system(plane_drop_path=0.0).half_3d.volume_net.planes.train()
    volume = torch.randn(16, 16, 8, 8, 4) + torch.linspace(-3, 3, 8)[:, None, None]  # another mean wherever x is an axis of the plane
    with torch.no_grad():
        for _ in range(60):
            trained = planes(volume)
        seen = planes.eval()(volume)
    for one, other in zip(trained, seen, strict=True):
        assert (one - other).abs().max() < 0.3 * one.abs().max()  # a shared norm: 0.7 to 1.5


def test_parts_leave_the_numbers() -> None:
    model = system()
    batch = collate([frame()])
    whole = volume_of(model, batch)
    model.half_2d.lift.part = 37
    for layer in model.half_2d.lift.layers:
        layer.part = 11
    torch.testing.assert_close(volume_of(model, batch), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 40, 16), (48, 16, 8)])
def test_any_grid_that_the_strides_divide_is_completed(shape: tuple[int, int, int]) -> None:
    grid = replace(GRID, shape=shape)
    model = system(grid=grid)
    one = frame()
    with torch.inference_mode():
        logits = model(collate([replace(one, grid=grid.place(one.main.camera), targets={})])).logits
    assert logits.shape == (1, 20, *shape)
    with pytest.raises(InputError, match="which do not divide them"):
        system(grid=replace(GRID, shape=(shape[0] + 2, *shape[1:])))


def test_the_necks_norms_follow_ten_times_slower_than_the_encoders_unless_told_otherwise() -> None:
    for fields, followed in (({}, 0.01), ({"neck_momentum": 0.1}, 0.1)):
        model = system(**fields).train()
        picture = torch.randn(2, 3, 64, 96)
        maps = model.half_2d.encoder.trunk(picture)[:-1]
        model.half_2d.encoder(picture)
        conv, norm, _ = model.half_2d.encoder.neck.blocks[0]
        torch.testing.assert_close(norm.running_mean, followed * conv(maps[0]).mean((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_folded_norms_leave_the_numbers() -> None:
    model = system("exact")
    random = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.running_mean.uniform_(-0.5, 0.5, generator=random)
            norm.running_var.uniform_(0.5, 2.0, generator=random)
    batch = collate([frame()])
    with torch.inference_mode():
        plain = model(batch).logits
        folded = fuse_for_inference(model)
        assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in folded.half_2d.depth_net.aggregation.modules())
        found = folded(batch).logits
    assert (found - plain).abs().max() <= 1e-4 * plain.abs().max()


def test_what_cannot_work_is_refused() -> None:
    for fields in ({"depth_bins": 22}, {"heads": 3}, {"neighbourhood": 4}, {"aggregation_width": 3}):
        with pytest.raises(InputError, match="must be a multiple of 4"):
            system(**fields)
    with pytest.raises(InputError, match="have no depth"):
        system()(collate([frame(depth=None)]))
    with pytest.raises(InputError, match="cgformer needs depth"):
        system().predict(frame(depth=None))
    with pytest.raises(InputError, match="no scene to give"):
        system(setting="pretrained-semantic-kitti").predict(frame())
    with pytest.raises(InputError, match="setting of CGFormer"):
        config(setting="kitti360")
