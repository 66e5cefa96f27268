"""What is GA-MonoSSC's own: fusion, the geometric head, frustum layers, its options, parameters part by part, and that it can learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.geometry.orders import Permutation, VoxelOrder, order_voxels
from wholescene.geometry.projection import locate_grid
from wholescene.grid import GridPlacement
from wholescene.structures import Batch, Frame, View
from wholescene.systems.config import HalfChoice
from wholescene.systems.gamonossc.config import GAMonoSSCConfig
from wholescene.systems.gamonossc.decoder import FrustumMambaLayer
from wholescene.systems.gamonossc.fusion import ScaleFusion
from wholescene.systems.gamonossc.model import GAMonoSSC
from wholescene.systems.gamonossc.occupancy import SliceOccupancy, occupancy_loss

GRID = GridPlacement((16, 12, 16), (0.3, 0.24, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
SIZE = (80, 60)


def config(**fields: Any) -> GAMonoSSCConfig:
    return GAMonoSSCConfig.preset("clean", "tiny", **{"grid": GRID, **fields})


def system(**fields: Any) -> GAMonoSSC:
    torch.manual_seed(0)
    return GAMonoSSC(config(**fields)).eval()


def frame(seed: int = 0, size: tuple[int, int] = SIZE, placement: GridPlacement = GRID) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(63, size).on_ground(1.2, 10 + seed)
    labels = rng.choice([0, 0, 0, 1, 2, 3, 7, 255], placement.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Frame(f"forged/{seed}", {"main": View(picture, camera)}, placement.place(camera, 1.2), targets={1: labels})


def batch_of(*seeds: int) -> Batch:
    return collate([frame(seed) for seed in seeds])


# ---- 2D half ----------------------------------------------------------------------------------------------------------------------------


def volumes_of(levels: Sequence[Tensor], shares: Tensor, visible: Tensor, voxels: int) -> list[Tensor]:
    """Equation 1 as it is written: one whole volume (C, voxels) a map."""
    found = []
    for level in levels:
        volume = level.new_zeros(level.shape[0], voxels)
        volume[:, visible] = F.grid_sample(level[None], 2 * shares[None, None] - 1, align_corners=False)[0, :, 0]
        found.append(volume)
    return found


@pytest.mark.parametrize("gated", [False, True])
def test_fusion_is_the_weighted_sum_of_the_volumes_of_all_scales_and_modalities(gated: bool) -> None:
    torch.manual_seed(0)
    fusion = ScaleFusion(6, ("semantic", "geometric"), 4)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    maps = {name: [torch.randn(2, 6, *size) for size in sizes] for name in ("semantic", "geometric")}
    visible = [torch.randperm(60)[:n].sort().values for n in (25, 40)]
    shares = [torch.rand(len(rows), 2) for rows in visible]
    gates = [torch.rand(len(rows)) for rows in visible] if gated else None
    found = fusion(maps, shares, visible, (3, 4, 5), gates)
    for index in range(2):
        total = torch.zeros(6, 60)
        for name, levels in maps.items():
            volumes = volumes_of([level[index] for level in levels], shares[index], visible[index], 60)
            if gates is not None and name == "geometric":
                for volume in volumes:
                    volume[:, visible[index]] *= gates[index]
            weights = fusion.attention[name](torch.stack([volume.mean(1) for volume in volumes]))
            assert weights.shape == (4, 6)
            total += sum(weight[:, None] * volume for weight, volume in zip(weights, volumes, strict=True))
        torch.testing.assert_close(found[index].flatten(1), total, rtol=1e-5, atol=1e-5)


def test_voxels_out_of_view_are_zero_and_the_others_are_not() -> None:
    model, batch = system(), batch_of(0)
    with torch.inference_mode():
        volume = model.half_2d(batch).volume[0]
    seen = torch.from_numpy(batch.cameras["main"][0].sees(batch.grids[0].centres()))
    # the convention of `sees`: rounded pixels
    assert torch.equal(volume.abs().amax(0) > 0, seen)
    assert 0.1 < float(seen.float().mean()) < 0.9


def test_semantic_maps_have_the_geometric_ones_added() -> None:
    coupled, apart = system(), system(couple=False)
    apart.load_state_dict(coupled.state_dict())
    picture = torch.randn(1, 3, 60, 80)
    with torch.inference_mode():
        both, plain = coupled.half_2d.encoder(picture), apart.half_2d.encoder(picture)
    assert [tuple(level.shape[2:]) for level in both["semantic"]] == [(40, 48), (20, 24), (10, 12), (5, 6)]
    for own, semantic, geometric in zip(both["semantic"], plain["semantic"], plain["geometric"], strict=True):
        torch.testing.assert_close(own, semantic + geometric)


def test_a_voxel_reads_the_slices_at_its_pixel_and_depth() -> None:
    head = SliceOccupancy(4, 8, 4.0)
    centres = (torch.arange(8) + 0.5) / 2  # metres
    logits = centres[:, None, None] + 10 * torch.arange(5)  # (8 slices, 5 columns) to (8, 3 rows, 5 columns)
    logits = logits.expand(8, 3, 5)
    shares = torch.tensor([[0.5, 0.5], [0.3, 0.9], [0.0, 0.0], [0.5, 0.5]])
    depth = torch.tensor([1.3, 2.0, 0.1, 9.0])
    expected = torch.tensor([1.3 + 20, 2.0 + 10, 0.25 + 0, 3.75 + 20])  # beyond the middle of the outer ones: theirs
    torch.testing.assert_close(head.at_voxels(logits, shares, depth), expected, rtol=1e-4, atol=1e-4)


def test_the_occupancy_loss_counts_known_voxels_in_view_and_range_alone() -> None:
    torch.manual_seed(0)
    model, batch = system(), batch_of(0, 1)
    prediction = model(batch)
    found = model.losses(prediction, batch)["occupancy"]
    terms = []
    for index, (camera, grid) in enumerate(zip(batch.cameras["main"], batch.grids, strict=True)):
        depth = locate_grid(camera, grid)[2]
        seen = torch.from_numpy(camera.sees(grid.centres())).flatten() & (depth < 10)
        labels = batch.targets[1][index].flatten()
        counted = seen & (labels != 255)
        logits = prediction.extras["occupancy_logits"][index].flatten()[counted]
        terms.append(F.binary_cross_entropy_with_logits(logits, (labels[counted] > 0).float(), reduction="none"))
    torch.testing.assert_close(found, torch.cat(terms).mean())
    nothing = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    assert float(occupancy_loss(torch.zeros(1, 2, 2, 2), nothing, torch.zeros(1, 2, 2, 2, dtype=torch.uint8))) == 0


# ---- 3D half ----------------------------------------------------------------------------------------------------------------------------


def layer_and_order(**fields: Any) -> tuple[FrustumMambaLayer, Permutation, torch.Tensor]:
    torch.manual_seed(1)
    made = FrustumMambaLayer(8, config(**fields)).double()
    one = frame()
    how = VoxelOrder(cell=16)
    return made, Permutation.of([order_voxels(one.main.camera, one.grid, how)]), torch.randn(1, 8, *GRID.shape, dtype=torch.float64)


def test_a_layer_whose_blocks_say_nothing_adds_the_normed_volume_in_its_own_place() -> None:
    made, order, volume = layer_and_order()
    for block in made.blocks:
        nn.init.zeros_(block.out_proj.weight)
    expected = F.layer_norm(volume.movedim(1, -1), (8,)).movedim(-1, 1) + volume
    torch.testing.assert_close(made(volume, order), expected)


def test_forward_scans_let_near_voxels_of_a_ray_speak_to_far_ones_and_never_back() -> None:
    made, order, volume = layer_and_order(directions="forward")
    places = order.order[0].long()
    for voxel in (places[100], places[1500]):
        moved = volume.clone()
        moved.view(8, -1)[:, voxel] += torch.randn(8, dtype=torch.float64)
        changed = (made(moved, order) != made(volume, order)).flatten(2).any(1)[0]
        place = int(order.inverse[0, voxel])
        assert bool(changed[voxel])
        assert not changed[places[:place]].any()
        assert changed[places[place + 1 : place + 5]].any()


def test_alternate_scans_reach_every_voxel() -> None:
    made, order, volume = layer_and_order()
    moved = volume.clone()
    moved.view(8, -1)[:, order.order[0, 1500].long()] += torch.randn(8, dtype=torch.float64)
    changed = (made(moved, order) - made(volume, order)).abs().flatten(2).amax(1)[0]
    assert (changed > 0).float().mean() > 0.5


def test_a_layers_gradients_are_right() -> None:
    torch.manual_seed(0)
    made = FrustumMambaLayer(4, config(scan_states=2)).double()
    order = Permutation.of([torch.randperm(12)])
    volume = torch.randn(1, 4, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: made(v, order), volume)


# ---- the whole --------------------------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "ssd": {"scan": "ssd"},
    "without scans": {"scan": "none"},
    "one way": {"directions": "forward"},
    "narrower scans": {"scan_kernel": 2, "scan_expand": 1},
    "both ways": {"directions": "both"},
    "raster": {"order": "raster"},
    "hilbert": {"order": "hilbert"},
    "near and far in turn": {"depth_serpentine": True},
    "one head": {"geometric_head": False},
    "uncoupled": {"couple": False},
    "gated": {"geometric_gate": True},
    "without context prior": {"context_prior": False},
    "coarser lift": {"lift_factor": 2, "grid": replace(GRID, shape=(16, 16, 16))},
    "x-y-z": {"grid": replace(GRID, shape=(16, 16, 12), axes="xyz")},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_trains_every_parameter(name: str) -> None:
    model = system(**OPTIONS[name]).train()
    batch = collate([frame(seed, placement=model.config.grid) for seed in (0, 1)])
    terms = model.losses(model(batch), batch)
    assert ("occupancy" in terms) == model.config.geometric_head
    assert ("relation" in terms) == model.config.context_prior
    sum(terms.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_the_order_changes_the_answer() -> None:
    frustum, raster = system(), system(order="raster")
    raster.load_state_dict(frustum.state_dict())
    with torch.inference_mode():
        assert not torch.equal(frustum(batch_of(0)).logits, raster(batch_of(0)).logits)


def test_frames_of_one_batch_are_scanned_in_their_own_orders() -> None:
    model = system()
    with torch.inference_mode():
        together = model(batch_of(0, 3)).logits
        alone = model(batch_of(3)).logits
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("field", ["lift", "completion"])
@pytest.mark.parametrize("other", ["monoscene", "iso", "ndc-scene"])
def test_halves_are_exchanged(other: str, field: str) -> None:
    grid = replace(GRID, shape=(16, 16, 16))
    model = GAMonoSSC(config(grid=grid, **{field: HalfChoice(other, size="tiny", setting="nyuv2")})).train()
    one = replace(frame(placement=grid), depth=np.full(SIZE[::-1], 2.0, np.float32))
    batch = collate([replace(one, depth_target=one.depth)])
    terms = model.losses(model(batch), batch)
    assert ("occupancy" in terms) == (field == "completion")
    assert {"cross_entropy", "semantic_affinity", "geometric_affinity", "frustum_proportion"} <= terms.keys()
    sum(terms.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parts_have_as_many_parameters_as_they_should() -> None:
    with torch.device("meta"):
        model = GAMonoSSC(GAMonoSSCConfig.preset())
    encoder, net = model.half_2d.encoder, model.half_3d.volume_net
    assert parameters(encoder.trunk) == 86_580_480 - 768  # DINOv2's ViT-B/14, whose mask token is not built
    assert parameters(encoder.semantic.out) == parameters(encoder.geometric.out) == 4 * (128 * 200 + 200)
    unused = 2 * (128 * 128 * 9 + 128)  # the skip unit of the deepest fusion, which Depth Anything carries and never reads
    assert parameters(encoder.semantic.decoder) + unused == pytest.approx(10.80e6, rel=1e-3)
    assert [parameters(block) for block in net.layers[0].blocks] == [272_400] * 2
    assert [parameters(block) for block in net.layers[1].blocks] == [1_044_000] * 2
    assert parameters(net.layers) == 2 * (272_400 + 400) + 400 + 2 * (1_044_000 + 800) + 800


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="leaves out"):
        system(geometric_head=False, geometric_gate=True)
    with pytest.raises(InputError, match="exists for scan: s6"):
        system(scan="ssd", directions="both")
    with pytest.raises(InputError, match="the nearest is 'nyuv2'"):
        GAMonoSSCConfig.preset(setting="nyuv3")
    for field in (
        "depth_slices",
        "fusion_reduction",
        "scan_blocks",
        "scan_states",
        "scan_kernel",
        "scan_expand",
        "scan_head",
        "depth_range_m",
        "cell",
    ):
        with pytest.raises(InputError, match=f"{field} 0; expected positive numbers"):
            config(**{field: 0})
    with pytest.raises(InputError, match="multiple of 4"):
        system(grid=replace(GRID, shape=(16, 10, 16)))


@pytest.mark.parametrize("size", [(97, 61), (640, 480)])
def test_other_picture_sizes_work(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = system()(collate([frame(0, size)])).logits
    assert torch.isfinite(logits).all()
