"""What is NDC-Scene's own: normalised device coordinates, the dual decoder in slabs, relations between neighbours. The numbers are held by the
parity cases."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.layers.slabs import cut
from wholescene.structures import Batch, Frame, View
from wholescene.systems.config import HalfChoice
from wholescene.systems.ndcscene.config import NDCSceneConfig
from wholescene.systems.ndcscene.decoder import DualDecoder, FrustumLevel
from wholescene.systems.ndcscene.lift import NormalisedSampling, trilinear
from wholescene.systems.ndcscene.model import NDCScene
from wholescene.systems.ndcscene.relations import NOT_TOLD, neighbour_relation_loss, neighbour_relations
from wholescene.systems.ndcscene.sight import Sight, frustums_of, sight_of

GRID = GridPlacement((16, 16, 8), (1.6, 1.6, 0.8), lidar_corner=None)
ROOM = GridPlacement((12, 8, 20), (0.4, 0.4, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
SIZE = (97, 66)  # no side is a multiple of anything


def config(setting: str = "semantic-kitti", **fields: Any) -> NDCSceneConfig:
    return NDCSceneConfig.preset("clean", "tiny", setting, **{"grid": GRID if setting == "semantic-kitti" else ROOM, **fields})


def system(setting: str = "semantic-kitti", **fields: Any) -> NDCScene:
    torch.manual_seed(0)
    return NDCScene(config(setting, **fields)).eval()


def batch_of(model_config: NDCSceneConfig, *seeds: int) -> Batch:
    return collate([_frame(model_config, seed) for seed in seeds or (0,)])


def _frame(model_config: NDCSceneConfig, seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov(75, SIZE).on_ground(1.5 + 0.1 * seed, 5)
    grid = model_config.grid.place(camera)
    labels = rng.choice([0, 0, 1, 3, 5, 255], grid.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    return Frame(f"forged/{seed}", {"main": View(picture, camera)}, grid, targets={1: labels})


# ---- normalised device coordinates


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3), (5, 4, 7)])
def test_reading_between_cells_is_what_torch_samples(shape: tuple[int, int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    volume = torch.randn(3, *shape, generator=rng, dtype=torch.float64, requires_grad=True)
    last = torch.tensor(shape, dtype=torch.float64) - 1
    places = torch.cat([torch.rand(40, 3, generator=rng, dtype=torch.float64) * last, torch.zeros(1, 3), last[None]])
    found = trilinear(volume, places)
    grid = (2 * places / last.clamp(min=1) - 1).flip(-1)[None, None, None]
    expected = F.grid_sample(volume[None], grid, align_corners=True, padding_mode="border")[0, :, 0, 0].T
    torch.testing.assert_close(found, expected)
    (ours,), (theirs,) = (torch.autograd.grad(t.pow(2).sum(), volume) for t in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_volume_that_says_where_it_stands_tells_each_voxel_its_pixel_and_depth() -> None:
    """Levels hold their own coordinates, so the sum over them must be the voxel's, as far as the outermost cells reach."""
    model = config()
    sight = sight_of(batch_of(model), 2, model)
    levels, slices = [], 32
    for stride, depth in ((32, 4), (16, 8), (8, 16), (4, 32)):
        height, width = (-(-n // stride) + 1 for n in SIZE[::-1])  # one cell more, so that nothing is clamped
        i, j, k = torch.meshgrid(*(torch.arange(float(n)) for n in (depth, height, width)), indexing="ij")
        levels.append(FrustumLevel.whole(torch.stack([i * slices / depth, j * stride, k * stride])[None], stride))
    sampling = NormalisedSampling((3,) * 4, 3)
    for narrow in sampling.narrow:
        torch.nn.init.zeros_(narrow.bias)
        narrow.weight.data.copy_(torch.eye(3)[..., None, None, None])
    with torch.no_grad():
        found = sampling.read(levels, sight)[0]
    seen = sight.in_view[0]
    assert 0.05 < seen.double().mean() < 0.95
    assert not found[:, ~seen].any()
    expected = sight.pixels[0, seen].flip(-1).T.float() * 4
    torch.testing.assert_close(found[1:, seen], expected, rtol=1e-4, atol=1e-3)
    depth = sight.depth[0, seen].float() * (slices - 1)
    clamped = sum(torch.minimum(depth, torch.tensor(slices - slices / n)) for n in (4, 8, 16, 32))  # the last cell stands before the far end
    torch.testing.assert_close(found[0, seen], clamped, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("setting", ["semantic-kitti", "nyuv2"])
def test_a_voxel_is_in_view_between_the_outermost_pixels_and_within_the_depth_range(setting: str) -> None:
    model = replace(config(setting), depth_range=(2.0, 5.0))
    batch = batch_of(model, 0, 1)
    sight = sight_of(batch, 1, model)
    for sample, (camera, grid) in enumerate(zip(batch.cameras["main"], batch.grids, strict=True)):
        pixels, metres = camera.project(grid.centres().reshape(-1, 3))
        inside = np.all((pixels >= 0) & (pixels <= np.array(SIZE) - 1), -1) & (metres >= 2) & (metres <= 5)
        assert 0 < inside.sum() < inside.size
        assert np.array_equal(sight.in_view[sample].numpy(), inside)
        np.testing.assert_allclose(sight.pixels[sample].numpy()[inside], pixels[inside])
        np.testing.assert_allclose(sight.depth[sample].numpy()[inside], (metres[inside] - 2) / 3)


def test_frustums_are_tiles_of_the_picture_before_rounding() -> None:
    model = replace(config(), frustum_divisions=3)
    batch = batch_of(model)
    sight, found = sight_of(batch, 1, model), frustums_of(batch, model)[0]
    expected = torch.full_like(found, -1)
    for index in sight.in_view[0].nonzero()[:, 0].tolist():
        u, v = sight.pixels[0, index].tolist()
        (row,) = (r for r in range(3) if SIZE[1] * r / 3 <= v < SIZE[1] * (r + 1) / 3)
        (column,) = (c for c in range(3) if SIZE[0] * c / 3 <= u < SIZE[0] * (c + 1) / 3)
        expected[index] = 3 * row + column
    assert torch.equal(found, expected)
    assert len(found.unique()) > 5


def test_voxels_on_one_ray_differ_and_those_out_of_view_are_all_alike() -> None:
    model = system()
    batch = batch_of(model.config)
    with torch.inference_mode():
        volume = model.half_2d(batch).volume[0].flatten(1)
    hidden = volume[:, ~sight_of(batch, 2, model.config).in_view[0]]
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden))
    assert hidden.any()
    step = torch.tensor([[10.0, 10.0, 0.2], [10.0, 10.0, 0.4]], dtype=torch.float64)  # one pixel, two depths
    ray = Sight(step[None, :, :2], step[None, :, 2], torch.ones(1, 2, dtype=torch.bool))
    with torch.inference_mode():
        levels = model.half_2d.encoder(torch.randn(1, 3, *SIZE[::-1]))
        near, far = model.half_2d.lift.read(levels, ray)[0].T
    assert (near - far).abs().max() > 1e-3


# ---- the dual decoder


@given(slab=st.integers(1, 9), size=st.tuples(st.integers(33, 100), st.integers(33, 100)), features=st.sampled_from([4, 32]))
@settings(max_examples=8)
def test_the_finest_volume_in_slabs_reads_as_the_whole_one(slab: int, size: tuple[int, int], features: int) -> None:
    torch.manual_seed(0)
    decoder = DualDecoder((3, 5, 6, 7), features, 32).eval()
    sampling = NormalisedSampling(decoder.widths, 4).eval()
    height, width = size
    maps = [torch.randn(2, c, -(-height // s), -(-width // s)) for c, s in zip((3, 5, 6, 7), (4, 8, 16, 32), strict=True)]
    pixels = torch.rand(2, 60, 2, dtype=torch.float64) * (torch.tensor([width, height]) - 1)
    sight = Sight(pixels, torch.rand(2, 60, dtype=torch.float64), torch.rand(2, 60) > 0.3)
    read = []
    for parts, mode in ((slab, torch.no_grad), (None, torch.no_grad), (None, torch.enable_grad)):  # with gradients by the plain form
        decoder.slab = parts
        with mode():
            levels = decoder(list(maps))
            read.append(sampling.read(levels, sight).detach())
        assert [level.shape for level in levels] == [(n, *m.shape[2:]) for n, m in zip((4, 8, 16, 32), reversed(maps), strict=True)]
    for other in read[1:]:
        torch.testing.assert_close(read[0], other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cells", [(2, 2, 2), (9, 8, 7)])
def test_a_levels_own_convolution_may_stand_before_or_after_the_reading(cells: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    sampling = NormalisedSampling((5,), 4)
    volume = torch.randn(1, 5, *cells)
    sight = Sight(torch.rand(1, 20, 2, dtype=torch.float64) * 8, torch.rand(1, 20, dtype=torch.float64), torch.ones(1, 20, dtype=torch.bool))
    for parts in (cut(volume, 1), [volume]):
        with torch.no_grad():
            found = sampling.read([FrustumLevel(parts, cells, 4)], sight)[0]
            whole = sampling.narrow[0](volume)
        last = torch.tensor(cells) - 1
        places = torch.stack([sight.depth[0] * last[0], sight.pixels[0, :, 1] / 4, sight.pixels[0, :, 0] / 4], -1)
        torch.testing.assert_close(found.T, trilinear(whole[0], places.minimum(last).float()), rtol=1e-4, atol=1e-5)


def test_the_map_is_added_at_every_depth_and_the_two_halves_of_the_entry_are_two_depths() -> None:
    torch.manual_seed(0)
    decoder = DualDecoder((3, 5, 6, 7), 4, 16).eval()
    maps = [torch.randn(1, c, n, n) for c, n in zip((3, 5, 6, 7), (16, 8, 4, 2), strict=True)]
    with torch.inference_mode():
        first = next(iter(decoder(list(maps))[0].slabs))
        entry = decoder.entry(maps[-1])
        up = decoder.up[0]
        larger = up.volume_norm(up.volume_up(first, output_size=(4, 4, 4)) + up.mixed(maps[-1], maps[-2])[:, :, None])
        found, _ = up(first, maps[-1], maps[-2])
    assert torch.equal(first, torch.stack([entry[:, :16], entry[:, 16:]], 2))
    torch.testing.assert_close(found, F.leaky_relu(larger, 0.01))


# ---- relations


def _relation(own: int, other: int, relations: int) -> int:
    if own == 255 or other == 255:
        return NOT_TOLD
    if relations == 2:
        return 0 if own == other else 1
    if other == 0:
        return 0 if own == other else 1
    return 2 if own == other else 3


@pytest.mark.parametrize("relations", [2, 4])
def test_every_pair_of_neighbours_has_the_relation_that_a_loop_finds(relations: int) -> None:
    shape, window = (3, 4, 2), 3
    labels = torch.from_numpy(np.random.default_rng(0).choice([0, 0, 1, 2, 255], (2, *shape)).astype(np.uint8))
    found = neighbour_relations(labels, relations, window)
    assert found.shape == (2, 27, 24)
    for sample, (index, place) in product(range(2), enumerate(product(*map(range, shape)))):
        for number, (second, third, first) in enumerate(product(range(3), repeat=3)):
            there = tuple(p + k - 1 for p, k in zip(place, (first, second, third), strict=True))
            inside = all(0 <= t < n for t, n in zip(there, shape, strict=True))
            other = int(labels[(sample, *there)]) if inside else 255
            assert found[sample, number, index] == _relation(int(labels[(sample, *place)]), other, relations)


def test_the_relation_loss_is_a_mean_over_told_pairs_and_0_without_any() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    relations = torch.randint(0, 5, (2, 3, 5))
    relations = torch.where(relations == 4, NOT_TOLD, relations).to(torch.uint8)
    terms = []
    for sample, neighbour, voxel in product(range(2), range(3), range(5)):
        told = int(relations[sample, neighbour, voxel])
        if told != NOT_TOLD:
            share = logits[sample, :, neighbour, voxel].sigmoid()
            terms += [-3 * share[r].log() if r == told else -(1 - share[r]).log() for r in range(4)]
    torch.testing.assert_close(neighbour_relation_loss(logits, relations), torch.stack(terms).mean())
    nothing = neighbour_relation_loss(logits, torch.full_like(relations, NOT_TOLD))
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert nothing == 0
    assert not gradient.any()


def test_indoors_relations_are_told_between_single_voxels_and_outdoors_between_blocks() -> None:
    indoors, outdoors = system("nyuv2"), system()
    room, street = batch_of(indoors.config), batch_of(outdoors.config)
    assert torch.equal(indoors.half_3d._coarse_target(room), room.targets[1][:, ::4, ::4, ::4])
    assert outdoors.half_3d._coarse_target(street).shape == (1, 2, 2, 1)
    street.targets[8] = torch.full((1, 2, 2, 1), 7, dtype=torch.uint8)
    assert torch.equal(outdoors.half_3d._coarse_target(street), street.targets[8])


# ---- the system


@pytest.mark.parametrize(("setting", "voxels"), [("semantic-kitti", 2 * 2 * 1), ("nyuv2", 3 * 2 * 5)])
def test_the_five_terms_and_the_relation_logits_of_both_settings(setting: str, voxels: int) -> None:
    model = system(setting).train()
    batch = batch_of(model.config, 0, 1)
    prediction = model(batch)
    assert prediction.logits.shape == (2, model.config.classes, *model.config.grid.shape)
    assert prediction.extras["neighbour_relation_logits"].shape == (2, 4, 729, voxels)
    terms = model.losses(prediction, batch)
    assert set(terms) == {"relation", "cross_entropy", "semantic_affinity", "geometric_affinity", "frustum_proportion"}
    sum(terms.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_the_height_is_kept_whichever_array_axis_it_is() -> None:
    model = system(grid=GridPlacement((16, 8, 16), (1.6, 0.8, 1.6), "xzy", lidar_corner=None))
    shapes = []
    model.half_3d.volume_net.middle.register_forward_hook(lambda module, args, out: shapes.append(args[0].shape))
    with torch.inference_mode():
        prediction = model(batch_of(model.config))
    assert shapes == [(1, 32, 2, 4, 2)]
    assert prediction.extras["neighbour_relation_logits"].shape[-1] == 2 * 1 * 2


def test_frozen_norms_keep_their_statistics_and_learn_their_scale() -> None:
    model = system(frozen_norms=True).train()
    trunk, batch = model.half_2d.encoder.trunk, batch_of(model.config, 0, 1)
    before = {n: b.clone() for n, b in trunk.named_buffers()}
    sum(model.losses(model(batch), batch).values()).backward()
    assert all(torch.equal(b, before[n]) for n, b in trunk.named_buffers())
    assert trunk.bn1.weight.grad.abs().sum() > 0
    assert model.half_2d.encoder.decoder.deepen[0].norm.training


def test_batch_norms_follow_at_the_momentum_that_is_asked_for() -> None:
    momenta = {}
    for setting in ("semantic-kitti", "nyuv2"):
        model = system(setting, norm_momentum=0.001)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                momenta.setdefault((setting, module.momentum), []).append(name)
    kept = momenta["semantic-kitti", 0.1]
    assert all(".trunk." in n or ".aspp." in n for n in kept)
    assert any("head.segment.aspp" in n for n in kept)
    assert all(".trunk." in n for n in momenta["nyuv2", 0.1])


def test_exact_conventions_keep_the_released_quirks_and_clean_ones_do_not() -> None:
    exact, clean = (NDCSceneConfig.preset(name, "full") for name in ("exact", "clean"))
    assert (exact.frozen_norms, exact.norm_momentum, exact.use_offset) == (True, 0.001, False)
    assert (clean.frozen_norms, clean.norm_momentum, clean.use_offset) == (False, 0.1, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": replace(GRID, shape=(16, 16, 12))}, "multiples of 8"),
        ({"features": 10}, "multiple of 4 features"),
        ({"lift_factor": 3}, "lift_factor 1, 2, 4 or 8"),
        ({"slices": 24}, "16 slices doubled"),
        ({"slices": 8}, "16 slices doubled"),
        ({"relations": 3}, "2 or 4"),
        ({"window": 4}, "odd"),
        ({"lift_factor": 1, "head_width": 4}, "head_width must be features"),
    ],
)
def test_an_impossible_configuration_is_refused_when_it_is_built(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        system(**changes)


@pytest.mark.parametrize(
    ("setting", "parts", "entries"),
    [
        ("semantic-kitti", {"encoder.decoder": 17_823_072 - 128 - 33_024, "lift": 4_288 + 33_024, "half_3d": 16_334_328}, 1_564 - 5 - 5),
        ("nyuv2", {"encoder.decoder": 73_861_600 - 400 - 320_800, "lift": 40_600 + 320_800, "half_3d": 133_464_428 - 455_400}, 1_903 - 5 - 5 - 108),
    ],
)
def test_parameters_part_by_part(setting: str, parts: dict[str, int], entries: int) -> None:
    """The released counts less the dead ones: two norms, and indoors the unused shortcuts of six residual blocks. Each level's own convolution
    stands in the lift here, in the decoder there."""
    with torch.device("meta"):
        model = NDCScene(NDCSceneConfig.preset("exact", "full", setting))
    rooms = {"encoder.decoder": model.half_2d.encoder.decoder, "lift": model.half_2d.lift, "half_3d": model.half_3d}
    assert {part: sum(p.numel() for p in room.parameters()) for part, room in rooms.items()} == parts
    assert len(model.state_dict()) == entries
    assert sum(p.numel() for p in model.half_2d.encoder.trunk.parameters()) == 63_786_960 - 2 * 2560


@pytest.mark.parametrize("other", ["monoscene", "iso"])
def test_its_halves_are_exchanged_with_those_of_other_systems(other: str) -> None:
    """Widths, grids and loss terms fit both ways: lift into normalised device coordinates before another 3D half, and the other way round."""
    grid = GridPlacement((16, 16, 32), (0.3, 0.18, 0.15), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
    theirs = HalfChoice(other, size="tiny", setting="nyuv2")
    for choice in ({"completion": theirs}, {"lift": theirs}):
        model = system("nyuv2", grid=grid, **choice).train()
        batch = batch_of(model.config, 0, 1)
        batch.depth = torch.full((2, *SIZE[::-1]), 2.0)  # ISO's 2D half is given its depth
        terms = model.losses(model(batch), batch)
        assert {"cross_entropy", "relation"} <= terms.keys()
        sum(terms.values()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []
