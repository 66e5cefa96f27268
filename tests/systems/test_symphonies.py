"""What is Symphonies' own: proposals, where attention looks, the released quirks by name, the switches. The numbers are held by the parity cases."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny_symphonies import GRID, SIZE, config, frame, logits_of, system
from wholescene.data.augment import mirror
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.layers.deformable_attention import DeformableAttention
from wholescene.metrics import Counts
from wholescene.ops.deformable import deformable_sampling
from wholescene.structures import Frame, View
from wholescene.systems.config import HalfChoice
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.model import MonoScene
from wholescene.systems.symphonies.attentions import DeformableLayer, DenseLayer, SceneLayout
from wholescene.systems.symphonies.config import ATTENTIONS, SymphoniesConfig
from wholescene.systems.symphonies.lift import ScenePositions
from wholescene.systems.symphonies.model import Symphonies
from wholescene.systems.symphonies.sight import look, on_maps, seats_of, to_voxels, unravelled

CONVENTIONS = ("clean", "exact")


# ---- where things lie --------------------------------------------------------------------------------------------------------------


def test_a_point_is_counted_to_the_voxel_that_holds_it_and_in_the_released_form_to_one_that_may_not() -> None:
    places = torch.tensor([[3.0, 3.49, 3.2], [3.51, -0.3, 0.1], [-0.6, 7.99, -0.7]], dtype=torch.float64)
    assert to_voxels(places, config()).tolist() == [[3, 3, 3], [3, -1, 0], [-1, 7, -1]]
    assert to_voxels(places, config("exact")).tolist() == [[2, 2, 2], [3, 0, 0], [-1, 7, 0]]


def test_proposals_are_the_voxels_that_hold_a_point() -> None:
    one = frame()
    sight = look(collate([one]), config())
    index, inside = one.grid.coarser((2, 2, 4)).index_of(one.main.camera.unproject(one.depth))
    expected = np.zeros((8, 8, 4), bool)
    expected[tuple(index[inside].T)] = True
    assert np.array_equal(sight.proposed()[0].view(8, 8, 4).numpy(), expected)
    unknown = replace(one, depth=np.where(one.depth > 10, 0, np.nan).astype(np.float32))
    assert not look(collate([unknown]), config("exact")).proposed().any()


def test_a_voxel_falls_on_its_own_pixel_and_in_the_released_form_on_the_cut_mean_of_two_rounded_ones() -> None:
    one = frame()
    fine = one.grid.coarser(2)
    centre, depth = one.main.camera.project(one.grid.coarser((2, 2, 4)).centres().reshape(-1, 3))
    sight = look(collate([one]), config())
    ahead = depth > 0.5
    np.testing.assert_allclose(sight.pixels[0].numpy()[ahead], centre[ahead], rtol=1e-4, atol=1e-3)
    assert np.array_equal(sight.in_view[0].numpy(), (depth > 0) & np.all((centre > -0.5) & (centre < np.array(SIZE) - 0.5), 1))
    released = look(collate([one]), config("exact"))
    pixels, depths = one.main.camera.project(fine.centres())
    rounded = np.rint(pixels)
    seen = (depths > 0) & np.all((rounded >= 0) & (rounded < SIZE), -1)
    pairs, either = rounded.reshape(8, 8, 4, 2, 2).mean(3), seen.reshape(8, 8, 4, 2).any(3)
    assert np.array_equal(released.in_view[0].view(8, 8, 4).numpy(), either)
    assert np.array_equal(released.pixels[0].view(8, 8, 4, 2).numpy()[either], np.trunc(pairs[either]))


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_what_falls_on_a_pixel_looks_where_the_pixel_lies_on_a_map_padded_or_not(conventions: str) -> None:
    alignment = config(conventions).pixel_alignment
    pixels, sizes = torch.tensor([[[12.0, 20.0], [95.0, 63.0]]]), torch.tensor([[[96.0, 63.0]]])
    cells = torch.tensor([24, 16])
    plain = on_maps(pixels, sizes, (4,), [[16, 24]], alignment)[:, :, 0] * cells - 0.5
    padded = on_maps(pixels, sizes, (4,), [[20, 30]], alignment)[:, :, 0] * torch.tensor([30, 20]) - 0.5
    torch.testing.assert_close(plain, padded, rtol=1e-5, atol=1e-5)
    expected = pixels / 4 if conventions == "clean" else (pixels + 0.5) / sizes * cells - 0.5
    torch.testing.assert_close(plain, expected)


def test_the_point_behind_an_instance_is_the_voxel_of_its_pixel_moved_to_the_wall_where_it_is_outside() -> None:
    one = frame()
    one.depth[30, 48], one.depth[5, 5] = 8.0, 900.0
    sight = look(collate([one]), config())
    found = sight.voxels_of_points(torch.tensor([[[48.5 / 96, 30.5 / 64], [5.1 / 96, 5.9 / 64], [1.0, 1.0]]]))[0]
    inner = one.main.camera.unproject(one.depth, np.eye(64, 96, k=18, dtype=bool) & (np.arange(64)[:, None] == 30))
    assert found[0].tolist() == one.grid.coarser((2, 2, 4)).index_of(inner)[0][0].tolist()
    assert found[1][0] == 7  # far beyond the far wall
    assert ((found >= 0) & (found < torch.tensor([8, 8, 4]))).all()


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_an_instance_on_a_pixel_without_depth_hears_nothing_of_the_scene_and_as_released_what_is_at_the_camera(conventions: str) -> None:
    model, one = system(conventions), frame()
    column, row = (model.half_2d.instances.places() * torch.tensor(SIZE)).floor().long().unbind(1)
    blank = one.depth.copy()
    blank[row, column] = 0
    blind = replace(one, depth=blank)
    before = {name: logits_of(model, f) for name, f in (("seen", one), ("blind", blind))}
    layer = model.half_3d.volume_net.layers[0].instance_scene
    with torch.no_grad():
        layer.attention.output_proj.bias.add_(3)
    assert not torch.equal(logits_of(model, one), before["seen"])
    assert torch.equal(logits_of(model, blind), before["blind"]) == (conventions == "clean")


@pytest.mark.parametrize("kind", ["volume", "squeezed"])
@pytest.mark.parametrize("up", [1, 2])
def test_a_voxel_that_looks_at_its_own_seat_reads_itself(kind: Any, up: int) -> None:
    shape = (3, 4, 5)
    layout = SceneLayout(shape, up, kind)
    values = torch.randn(1, 60, 2, 3, generator=torch.Generator().manual_seed(0))
    seats = seats_of(unravelled(torch.arange(60), shape), shape, "centres")
    places = layout.references(seats)[None, :, None, :, None].expand(-1, -1, 2, -1, -1, -1)
    read = deformable_sampling(layout.arrange(values), layout.shapes, places, torch.ones(1, 60, 2, 1, 1))
    torch.testing.assert_close(read, values, rtol=1e-4, atol=1e-4)


def test_released_squeezing_moves_seats_over_as_many_slabs_as_the_scene_is_longer_than_high() -> None:
    shape = (8, 6, 4)
    seats = seats_of(torch.tensor([[3, 2, 0], [3, 2, 3]]), shape, "released")
    torch.testing.assert_close(seats[0], torch.tensor([3 / 7, 2 / 5, 0.0]))
    column, row = SceneLayout(shape, 2, "released").references(seats)[:, 0].unbind(1)
    torch.testing.assert_close(column, torch.tensor([2 / 5, 2 / 5]))
    torch.testing.assert_close(row * 32, torch.tensor([3 / 7 * 32 - 4, 3 / 7 * 32 + 4]))  # of 32 rows, four to an x slab: 8 / 4 = 2 slabs in all


@pytest.mark.parametrize("kind", ["axes", "released"])
def test_positions_are_rows_of_three_tables_projected(kind: Any) -> None:
    torch.manual_seed(0)
    table = ScenePositions(config(positions=kind, grid=GridPlacement((8, 4, 32), (1.0, 1.0, 0.4), lidar_corner=None)))
    found = table().view(4, 2, 8, 16)
    for x, y, z in product(range(4), range(2), range(8)):
        rows = (x, y, z) if kind == "axes" else (2 * x + z // 2 % 2, 2 * y + z % 2, z // 4)
        joined = torch.cat([t.weight[row] for t, row in zip(table.tables, rows, strict=True)])
        torch.testing.assert_close(found[x, y, z], table.project(joined), rtol=1e-4, atol=1e-5)


# ---- the quirks, one by one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doubled", [False, True])
def test_a_deformable_layer_adds_what_it_read_and_in_the_released_form_its_norm_too(doubled: bool) -> None:
    torch.manual_seed(0)
    layer = DeformableLayer(DeformableAttention(8, heads=2), 8, None, 0.1, doubled_residual=doubled).eval()
    tokens, cells = torch.randn(1, 3, 8), torch.randn(1, 12, 8)
    references = torch.rand(1, 3, 1, 2)
    found = layer(tokens, references, layer.attention.project(cells), [(3, 4)])
    read = layer.attention(layer.norm1(tokens), references, cells, [(3, 4)])
    torch.testing.assert_close(found, tokens + read + (layer.norm1(tokens) if doubled else 0))


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("crosses", [False, True])
def test_dense_attention_is_blind_to_the_scale_of_its_keys_only_where_they_are_normalised(normalised: bool, crosses: bool) -> None:
    torch.manual_seed(0)
    layer = DenseLayer(8, 2, None, crosses=crosses, normalised_keys=normalised).eval()
    tokens, others = torch.randn(1, 3, 8), torch.randn(1, 5, 8)

    def added(scale: float) -> Tensor:
        given = (tokens, layer.keys_of(others * scale)) if crosses else (tokens * scale,)
        return layer(*given) - given[0]

    same = torch.allclose(added(1.0), added(50.0), rtol=1e-3, atol=1e-3)
    assert same == normalised


@pytest.mark.parametrize("fresh", [False, True])
def test_scene_self_attention_reads_the_scene_after_the_instances_spoke_or_before(fresh: bool) -> None:
    model = system(fresh_values=fresh)
    layer = model.half_3d.volume_net.layers[0]
    seen = {}
    layer.scene_self.register_forward_pre_hook(lambda module, given: seen.update(voxels=given[0], values=given[2]))
    volumes = []
    model.half_2d.lift.register_forward_hook(lambda module, given, out: volumes.append(out))
    batch = collate([frame()])
    with torch.inference_mode():
        model(batch)
        scene = volumes[0].flatten(2).transpose(1, 2)
        if fresh:
            scene = scene.clone()
            scene[0, look(batch, model.config).in_view[0]] = seen["voxels"][0]
        torch.testing.assert_close(seen["values"], layer.scene_self.attention.project(scene))


def test_the_aspp_stands_after_the_last_layer_and_in_the_released_form_after_the_third() -> None:
    assert hasattr(system(layers=2).half_3d.volume_net, "aspp")
    assert not hasattr(system(layers=2, aspp_after=2).half_3d.volume_net, "aspp")
    ran = []
    model = system(layers=3, aspp_after=1)
    model.half_3d.volume_net.aspp.register_forward_pre_hook(lambda module, given: ran.append("aspp"))
    for layer in model.half_3d.volume_net.layers:
        layer.register_forward_pre_hook(lambda module, given: ran.append("layer"))
    model(collate([frame()]))
    assert ran == ["layer", "layer", "aspp", "layer"]


def test_a_mirrored_picture_mirrors_the_camera_and_in_the_released_form_the_scene() -> None:
    one = frame()
    other = mirror(one)
    clean, turned = look(collate([one]), config()), look(collate([other]), config())
    seen = clean.in_view[0]
    assert torch.equal(turned.in_view[0], seen)
    torch.testing.assert_close(turned.pixels[0, seen, 0], SIZE[0] - 1 - clean.pixels[0, seen, 0], rtol=1e-4, atol=1e-3)
    model = system("exact")
    unaware = replace(other, views={"main": View(other.main.picture, one.main.camera)}, targets={1: np.ascontiguousarray(one.targets[1][:, ::-1])})
    torch.testing.assert_close(logits_of(model, other, one)[:1], logits_of(model, unaware).flip(3), rtol=1e-4, atol=1e-5)
    terms = []
    for given in (other, unaware):
        batch = collate([given])
        terms.append(model.losses(model(batch), batch))
    for name, value in terms[0].items():
        torch.testing.assert_close(value, terms[1][name], rtol=1e-4, atol=1e-5)


# ---- the whole ---------------------------------------------------------------------------------------------------------------------


def test_only_proposed_voxels_see_the_picture_and_only_those_in_view_attend() -> None:
    model = system()
    first, second = frame(0), frame(1)
    volumes: list[Tensor] = []
    model.half_2d.lift.register_forward_hook(lambda module, given, out: volumes.append(out[0].flatten(1)))
    after: list[Tensor] = []
    model.half_3d.volume_net.layers[0].register_forward_hook(lambda module, given, out: after.append(out[0].T))
    swapped = first.with_main(second.main.picture, first.main.camera)
    logits_of(model, first)
    logits_of(model, swapped)
    sight = look(collate([first]), model.config)
    changed, proposed = (volumes[0] != volumes[1]).any(0), sight.proposed()[0]
    assert not (changed & ~proposed).any()
    assert changed[proposed & sight.in_view[0]].all()
    assert torch.equal((after[0] != volumes[0]).any(0), sight.in_view[0])


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_parts_and_slabs_leave_the_numbers(conventions: str) -> None:
    model = system(conventions, aspp_after=None)
    for layer in model.half_3d.volume_net.layers:
        layer.part = 37
    model.half_3d.volume_net.slab, model.half_3d.head.slab = 3, 3
    parts = logits_of(model, frame())
    whole = model(collate([frame()])).logits  # with gradients nothing is cut
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_earlier_layers_answer_in_training_or_on_request_and_weigh_half() -> None:
    model, batch = system(dropout=0.0), collate([frame(0), frame(1)])
    with torch.no_grad():
        assert model(batch).auxiliary == {}
        model.half_3d.auxiliary = True
        prediction = model(batch)
    assert list(prediction.auxiliary) == ["layer0"]
    terms = model.losses(prediction, batch)
    alone = model.losses(replace(prediction, logits=prediction.auxiliary["layer0"], auxiliary={}), batch)
    assert {f"layer0_{name}" for name in alone} | set(alone) == set(terms)
    for name, value in alone.items():
        torch.testing.assert_close(terms[f"layer0_{name}"], value / 2)
    assert "frustum_proportion" not in system("paper").losses(prediction, batch)


ROWS: dict[str, dict[str, Any]] = {  # Tables 3 to 6 of the paper
    "baseline": {"lifting": "line-of-sight", "layers": 0},
    "baseline with proposals": {"layers": 0},
    "no attention": {"attentions": ()},
    "scene self-attention alone": {"attentions": ("scene-self",)},
    "without instance-scene": {"attentions": ("scene-self", "scene-instance", "instance-image")},
    "without instance-image and instance-self": {"attentions": ("scene-self", "scene-instance", "instance-scene")},
    "without instance-image": {"attentions": ("scene-self", "scene-instance", "instance-scene", "instance-self")},
    "without scene self-attention": {"attentions": tuple(a for a in ATTENTIONS if a != "scene-self")},
    "line of sight": {"lifting": "line-of-sight"},
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_papers_tables_trains_all_that_it_holds(row: str) -> None:
    model = system(**ROWS[row]).train()
    batch = collate([frame(0), frame(1)])
    sum(model.losses(model(batch), batch).values()).backward()
    missing = {name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert missing == ({"half_2d.instances.points"} if row.startswith("without instance-image") else set())
    assert ("half_2d.instances.queries" in dict(model.named_parameters())) == (
        "scene-instance" in model.config.attentions and model.config.layers > 0
    )
    needed = row != "baseline"
    assert model.needs == (frozenset({"depth"}) if needed else frozenset())


def test_without_depth_there_is_a_line_of_sight_and_no_point_behind_an_instance() -> None:
    attentions = tuple(a for a in ATTENTIONS if a != "instance-scene")
    model = system(lifting="line-of-sight", attentions=attentions)
    assert model.needs == frozenset()
    assert torch.isfinite(logits_of(model, replace(frame(), depth=None))).all()
    with pytest.raises(InputError, match="have no depth"):
        logits_of(system(), replace(frame(), depth=None))


@pytest.mark.parametrize(
    ("size", "grid", "setting"),
    [
        ((101, 67), GRID, "semantic-kitti"),
        ((1220, 370), GRID, "semantic-kitti"),
        ((1408, 376), GRID, "kitti-360"),
        ((640, 480), GRID, "nyuv2"),
        (SIZE, GridPlacement((60, 36, 60), (0.2, 0.1, 0.2), "xzy", (0.0, -6.0, -0.05), None), "nyuv2"),
        (SIZE, GridPlacement((20, 12, 8), (1.0, 1.0, 0.4), lidar_corner=None), "kitti-360"),
    ],
)
def test_any_picture_and_any_grid_that_the_strides_divide(size: tuple[int, int], grid: GridPlacement, setting: str) -> None:
    model = system(setting=setting, grid=grid)
    one, other = frame(0, size, grid), frame(1, size, grid)
    together = logits_of(model, one, other)
    assert together.shape == (2, model.config.classes, *grid.shape)
    apart = torch.cat([logits_of(model, one), logits_of(model, other)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_pictures_of_two_sizes_are_completed_together() -> None:
    model = system()
    assert torch.isfinite(logits_of(model, frame(0), frame(1, (80, 70)))).all()


def test_with_one_factor_for_all_axes_its_halves_meet_those_of_other_systems() -> None:
    assert system().half_2d.factor == (2, 2, 4)
    alone = {"height_factor": 1, "attentions": ()}
    host = MonoScene(MonoSceneConfig.preset("clean", "tiny", grid=GRID, lift=HalfChoice("symphonies", size="tiny", fields={**alone, "heads": 2})))
    batch = collate([frame(0), frame(1)])
    assert host.needs == {"depth"}
    sum(host.losses(host(batch), batch).values()).backward()
    assert [name for name, p in host.named_parameters() if p.grad is None] == []
    context = system(**alone, completion=HalfChoice("monoscene", size="tiny"))
    assert "relation_logits" in context(batch).extras
    with pytest.raises(InputError, match=r"3D half of symphonies reads .*extras\.positions"):
        MonoScene(MonoSceneConfig.preset("clean", "tiny", grid=GRID, completion=HalfChoice("symphonies", size="tiny", fields={"height_factor": 1})))


def test_what_cannot_work_is_refused() -> None:
    for fields, said in (
        ({"grid": replace(GRID, shape=(16, 16, 14))}, "multiples"),
        ({"lift_factor": 3}, "multiples"),
        ({"heads": 3}, "multiple of heads"),
        ({"positions": "released", "grid": replace(GRID, shape=(16, 16, 8))}, "multiple of 4"),
        ({"attentions": ("scene-selv",)}, "scene-self"),
        ({"aspp_after": -1}, "count from 0"),
        ({"queries": 0}, "from 1"),
    ):
        with pytest.raises(InputError, match=said):
            system(**fields)
    with pytest.raises(InputError, match="was built for a grid"):
        logits_of(system(), frame(grid=GridPlacement((8, 16, 16), (1.6, 1.6, 0.4), lidar_corner=None)))


def parameters(**fields: Any) -> dict[str, int]:
    with torch.device("meta"):
        model = Symphonies(SymphoniesConfig.preset("exact", "full", **fields))
    trunk, net = "half_2d.encoder.trunk", "half_3d.volume_net"
    names = (f"{trunk}.backbone", f"{trunk}.pixel_decoder", "half_2d.encoder.projections", "half_2d.instances", "half_2d.lift.attend")
    names += (f"{net}.layers.0", f"{net}.layers.2", f"{net}.aspp", "half_3d.head")
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    state = {name: t.numel() for name, t in model.state_dict().items() if not name.endswith(buffers)}
    return {part: sum(n for name, n in state.items() if name.startswith(f"{part}.")) for part in names} | {"": sum(state.values())}


def test_parameters_are_the_papers_part_by_part() -> None:
    dead = 66_048 + 590_336 + 65_792  # the pixel decoder's step to stride 4
    assert parameters() == {
        "half_2d.encoder.trunk.backbone": 23_508_032, "half_2d.encoder.trunk.pixel_decoder": 14_055_424 - dead,
        "half_2d.encoder.projections": 148_992, "half_2d.instances": 13_000, "half_2d.lift.attend": 202_400,
        "half_3d.volume_net.layers.0": 715_040, "half_3d.volume_net.layers.2": 458_720, "half_3d.volume_net.aspp": 1_770_496,
        "half_3d.head": 888_084, "": 59_310_044 - dead,
    }  # fmt: skip
    assert parameters(setting="kitti-360")[""] == 59_309_915 - dead
    # Table 3 counts the scene's 16.8 M queries and positions for the baseline too, which does not read them
    assert parameters(layers=0, aspp_after=None)[""] + 13_000 + dead == pytest.approx(57.42e6, abs=5e3)
    unread = math.prod((128, 128, 8)) * 128 + 57_600 + 13_000
    assert parameters(layers=0, aspp_after=None, lifting="line-of-sight")[""] + unread + dead == pytest.approx(57.22e6, abs=5e3)


def test_released_conventions_train_every_parameter() -> None:
    model = system("exact").train()
    batch = collate([frame(0), frame(1)])
    sum(model.losses(model(batch), batch).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def blocky(seed: int) -> Frame:
    """A frame whose scene is made of blocks of 4 x 4 x 4 voxels, half of them empty."""
    rng = np.random.default_rng(10 + seed)
    blocks = np.where(rng.random((4, 4, 4)) < 0.5, 0, rng.choice([1, 9, 11, 13], (4, 4, 4)))
    return replace(frame(seed), targets={1: np.kron(blocks, np.ones((4, 4, 4))).astype(np.uint8)})


@pytest.mark.slow  # ten seconds: seventy steps
def test_the_tiny_size_overfits_two_frames() -> None:
    model, batch = system(dropout=0.0).train(), collate([blocky(0), blocky(1)])
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, 70)
    for _ in range(70):
        optimiser.zero_grad()
        sum(model.losses(model(batch), batch).values()).backward()
        optimiser.step()
        schedule.step()
    counts = Counts.zero(model.config.classes)
    counts.update(logits_of(model.eval(), blocky(0), blocky(1)).argmax(1), batch.targets[1])
    scores = [counts.tp[k] / (counts.tp[k] + counts.fp[k] + counts.fn[k]) for k in (1, 9, 11, 13)]
    assert min(scores) > 0.9
