"""What is ScanSSC's own: readings, directions, margins, fusions, tables of the paper. The numbers are held by the parity cases."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.labels import UNKNOWN
from wholescene.losses import VoxelSums, cross_entropy
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.config import CONVENTIONS
from wholescene.systems.scanssc.completion import ScanCompletion, loss_order, scan_order
from wholescene.systems.scanssc.config import AXES, FUSIONS, ScanSSCConfig
from wholescene.systems.scanssc.fusion import Average, ConcatLinear, TriFeatureFusion, WeightedSum
from wholescene.systems.scanssc.losses import near_to_far_weights, scan_loss
from wholescene.systems.scanssc.model import ScanSSC
from wholescene.training import study as studies

GRID = GridPlacement((16, 32, 16), (1.6, 1.6, 0.4), lidar_corner=None)


def config(conventions: str = "clean", **fields: Any) -> ScanSSCConfig:
    return ScanSSCConfig.preset(conventions, "tiny", **{"grid": GRID, **fields})


def completed(half: ScanCompletion, seed: int = 0, volume: Tensor | None = None) -> tuple[Completed, Batch]:
    """What a 3D half makes of a random volume, and a batch with targets."""
    source = torch.Generator().manual_seed(seed)
    shape = tuple(n // 2 for n in GRID.shape)
    if volume is None:
        volume = torch.randn(2, half.width, *shape, generator=source)
    grid = GRID.place(_camera())
    labels = torch.randint(0, 21, (2, *GRID.shape), generator=source).to(torch.uint8)
    targets = torch.where(labels == 20, UNKNOWN, labels)
    batch = Batch(("a", "b"), {"main": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, {"main": (_camera(),) * 2}, (grid,) * 2, targets={1: targets})
    return half(Lifted(volume, (grid.coarser(2),) * 2), batch), batch


def _camera() -> Any:
    from wholescene.camera import Camera

    return Camera.from_fov(75, (8, 8)).on_ground(1.65)


def made(chosen: ScanSSCConfig) -> ScanCompletion:
    torch.manual_seed(0)
    return ScanCompletion(chosen)


VARIANTS = studies.load("scanssc-tables")


@pytest.mark.parametrize("variant", VARIANTS.variants)
def test_every_row_of_the_papers_tables_completes_and_learns(variant: str) -> None:
    fields = VARIANTS.variants[variant]
    own = {name.removeprefix("system.fields."): tuple(v) if isinstance(v, list) else v for name, v in fields.items() if "fields" in name}
    half = made(config(fields.get("system.conventions", "clean"), **own)).train()
    result, batch = completed(half)
    assert result.logits.shape == (2, 20, *GRID.shape)
    terms = half.losses(Prediction(result.logits), batch)
    sum(terms.values()).backward()  # type: ignore[union-attr]  # a dozen tensors
    assert [name for name, p in half.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_the_tables_differ_where_they_should() -> None:
    outcomes: dict[str, Tensor] = {}
    for variant, fields in VARIANTS.variants.items():
        own = {n.removeprefix("system.fields."): tuple(v) if isinstance(v, list) else v for n, v in fields.items() if "fields" in n}
        half = made(config(fields.get("system.conventions", "clean"), **own)).eval()
        with torch.no_grad():
            result, batch = completed(half)
            outcomes[variant] = torch.stack([result.logits.sum(), sum(half.losses(Prediction(result.logits), batch).values())])  # type: ignore[arg-type]
    pairs = combinations(outcomes, 2)
    same = {(a, b) for a, b in pairs if torch.equal(outcomes[a], outcomes[b])}
    assert same <= {("table-d1-average", "table-d1-weighted-sum")}  # the learned weights begin as an average


def test_directions_are_near_to_far_in_the_module_and_far_to_near_in_the_loss() -> None:
    plain, turned = config(), config(reversed_scans=AXES, reversed_scan_losses=AXES)
    assert [scan_order(plain, axis) for axis in AXES] == ["first-to-last", "centre-to-sides", "last-to-first"]
    assert [loss_order(plain, axis) for axis in AXES] == ["last-to-first", "sides-to-centre", "first-to-last"]
    assert [scan_order(turned, axis) for axis in AXES] == [loss_order(plain, axis) for axis in AXES]
    assert [loss_order(turned, axis) for axis in AXES] == [scan_order(plain, axis) for axis in AXES]
    assert [loss_order(config(width_scan="whole"), axis) for axis in AXES] == ["last-to-first", "first-to-last", "first-to-last"]


def test_depth_width_and_height_are_found_in_any_order_of_the_array() -> None:
    indoors = config(grid=GridPlacement((16, 16, 16), (0.08,) * 3, "xzy"))
    assert [indoors.array_axis(axis) for axis in AXES] == [0, 2, 1]
    blocks = made(indoors).volume_net.scan.blocks
    assert {axis: block.axis for axis, block in blocks.items()} == {"depth": 0, "height": 1, "width": 2}


def test_conventions_read_paper_and_code_as_they_say() -> None:
    exact, paper, clean = (ScanSSCConfig.preset(name) for name in ("exact", "paper", "clean"))
    assert (exact.positions, exact.position_rows, exact.scan_dropout, exact.depth_loss_weight) == ("y-z", 512, 0.1, 1e-4)
    assert (paper.positions, paper.scan_dropout, paper.depth_loss_weight) == ("none", 0.0, 0.001)
    assert (clean.positions, clean.unknown_in_scan, clean.depth_loss_weight) == ("x-y-z", "left-out", 0.001)
    for one in (exact, paper, clean):
        assert (one.margins, one.scan_axes, one.scan_loss_axes, one.fusion, one.scan_loss_weight) == ((0.5, 0.5, 0), AXES, AXES, "tri-feature", 1)


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_slabs_and_parts_leave_the_numbers(conventions: str) -> None:
    half = made(config(conventions)).eval()
    for block in half.volume_net.scan.blocks.values():
        block.part = 37
    for mixer in half.volume_net.scan.mixers.values():
        mixer.trunk.slab = 3
    whole = completed(half)[0].logits.detach()
    with torch.no_grad():
        torch.testing.assert_close(completed(half)[0].logits, whole, rtol=1e-4, atol=1e-5)


def features() -> list[Tensor]:
    source = torch.Generator().manual_seed(3)
    return [torch.randn(2, 4, 3, 2, 5, generator=source) for _ in range(3)]


def test_tri_feature_fusion_is_equations_5_and_6() -> None:
    fusion = TriFeatureFusion(4, 3)
    given = features()
    weights = torch.softmax(torch.einsum("oc,bcxyz->boxyz", fusion.weigh.weight[:, :, 0, 0, 0], torch.cat(given, 1)), 1)
    expected = sum(weights[:, i : i + 1] * given[i] for i in range(3))
    torch.testing.assert_close(fusion(features()), expected)
    with torch.no_grad():
        torch.testing.assert_close(fusion(features()), expected)  # in place


def test_the_alternatives_of_table_d1() -> None:
    given = features()
    torch.testing.assert_close(Average()(features()), (given[0] + given[1] + given[2]) / 3)
    linear = ConcatLinear(4, 3)
    expected = torch.einsum("oc,bcxyz->boxyz", linear.project.weight[:, :, 0, 0, 0], torch.cat(given, 1)) + linear.project.bias[:, None, None, None]
    torch.testing.assert_close(linear(features()), expected)
    learned = WeightedSum((3, 2, 5), 3)
    torch.testing.assert_close(learned(features()), Average()(features()))  # it begins as an average
    torch.nn.init.normal_(learned.shares)
    torch.testing.assert_close(learned(features()), sum(learned.shares[i] * given[i] for i in range(3)))
    assert {"tri-feature", "concat-linear", "average", "weighted-sum"} == set(FUSIONS)


def test_without_margins_near_slices_do_not_look_at_far_ones() -> None:
    """Along depth alone, without mixing and self-attention, only what is not farther counts."""
    half = made(config(scan_axes=("depth",), mixing=False, self_layers=0, margins=(0.0, 0.5, 0.0))).eval()
    volume = torch.randn(1, 16, 8, 16, 8)
    moved = volume.clone()
    moved[:, :, 5] += 1
    with torch.no_grad():
        changed = (half.volume_net(volume.clone()) != half.volume_net(moved)).any(1).any(-1).any(-1)[0]
    assert changed.tolist() == [False] * 5 + [True] * 3


def test_losses_are_the_papers_sum() -> None:
    half = made(config("exact", scan_loss_weight=2.0))
    result, batch = completed(half)
    terms = half.losses(Prediction(result.logits), batch)
    assert set(terms) == {"cross_entropy", "semantic_affinity", "geometric_affinity", "scan_depth", "scan_width", "scan_height"}
    expected = 2 * scan_loss(result.logits, batch.targets[1], 1, "sides-to-centre", count_unknown=True)
    torch.testing.assert_close(terms["scan_width"], expected)


def test_what_stands_for_the_scan_loss_in_table_d2() -> None:
    half = made(config(scan_loss_axes=(), cross_entropy_weight=10.0))
    result, batch = completed(half)
    weights = torch.tensor(half.config.weights_of_classes())
    plain = cross_entropy(VoxelSums.of(result.logits, batch.targets[1]), weights)
    torch.testing.assert_close(half.losses(Prediction(result.logits), batch)["cross_entropy"], 10 * plain)
    weighted = made(config(scan_loss_axes=(), near_to_far_weights=True))
    far = near_to_far_weights(GRID.shape, ("first-to-last", "centre-to-sides", "last-to-first"))
    surprise = torch.nn.functional.cross_entropy(result.logits, batch.targets[1].long(), weights, ignore_index=255, reduction="none")
    known = weights[batch.targets[1].long().clamp(max=19)][batch.targets[1] != 255].sum()
    torch.testing.assert_close(weighted.losses(Prediction(result.logits), batch)["cross_entropy"], (surprise * far).sum() / known)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(InputError, match="the nearest is 'depth'"):
        config(scan_axes=("dept",))
    with pytest.raises(InputError, match="twice"):
        config(scan_loss_axes=("depth", "depth"))
    with pytest.raises(InputError, match="from 0 to 1"):
        config(margins=(0.5, 1.5, 0.0))
    with pytest.raises(InputError, match="set it to 0"):
        config("exact", position_rows=4)
    with pytest.raises(InputError, match="set it to 0"):  # x has codes too
        config(grid=GridPlacement((32, 16, 16)), position_rows=8)
    with pytest.raises(InputError, match="has no stage 'depth'"):
        ScanSSC(config(stage="depth"))
    with pytest.raises(InputError, match="setting of ScanSSC"):
        ScanSSCConfig.preset(setting="nyuv2")
    half = made(config())
    grid = GridPlacement((8, 16, 16)).place(_camera())
    with pytest.raises(InputError, match="built for a grid of"):
        half(Lifted(torch.zeros(1, 16, 4, 8, 8), (grid.coarser(2),)), Batch(("a",), {}, {}, (grid,)))
