"""What is ISO's own, beyond the contract of every system."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.geometry.projection import project_batch
from wholescene.grid import GridPlacement
from wholescene.layers.flosp import FLoSP
from wholescene.layers.fuse import fuse_for_inference
from wholescene.structures import Batch, Frame, Prediction, View
from wholescene.systems.base import normalise
from wholescene.systems.config import HalfChoice
from wholescene.systems.iso.config import ISOConfig
from wholescene.systems.iso.distribution import DepthDistribution, focal_number
from wholescene.systems.iso.losses import depth_labels, depth_loss, zero_what_is_not_finite
from wholescene.systems.iso.model import ISO
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.model import MonoScene

ROOM = GridPlacement((12, 8, 20), (0.4, 0.4, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
CONFIG = ISOConfig.preset("clean", "tiny", grid=ROOM)


def batch_of(config: ISOConfig, seeds: tuple[int, ...] = (0,), **more: Any) -> Batch:
    frames = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        camera = Camera.from_fov(75 - 5 * seed, (96, 64)).on_ground(1.2, 10)
        grid = config.grid.place(camera)
        labels = rng.choice([0, 0, 1, 3, 5, 255], grid.shape).astype(np.uint8)
        picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        depth = rng.uniform(0.5, 9, (64, 96)).astype(np.float32)
        frames.append(Frame(f"forged {seed}", {"main": View(picture, camera)}, grid, depth, targets={1: labels}, **more))
    return collate(frames)


def awake(config: ISOConfig) -> ISO:
    torch.manual_seed(0)
    system = ISO(config).eval()
    for name, value in system.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return system


@pytest.mark.parametrize("scales", ["all", "last"])
def test_a_voxel_takes_its_line_of_sight_and_once_more_what_its_depth_is_likely(scales: str) -> None:
    """A slow loop over voxels; as released, only the coarsest map is weighted."""
    config = replace(CONFIG, weighted_scales=scales)  # type: ignore[arg-type]
    system, batch = awake(config), batch_of(config)
    half = system.half_2d
    half.distribution.band = None
    with torch.inference_mode():
        lifted = half(batch)
        pyramid = half.encoder(normalise(batch.pictures["main"], config.preparation))
    table, volume, chances = project_batch(batch), lifted.volume[0].flatten(1), lifted.depth_distribution[0]
    edges = [10 * k * (k + 1) / (16 * 17) for k in range(17)]
    weighted = 0
    for n in range(0, table.in_view.shape[1], 7):
        expected = torch.zeros(config.features)
        if table.in_view[0, n]:
            (u, v), z = table.pixels[0, n].tolist(), float(table.depth[0, n])
            k = next((k for k in range(16) if edges[k] <= z < edges[k + 1]), None)
            chance = 0.0 if k is None else float(chances[k, v, u])
            weighted += chance > 0
            for scale, features in pyramid.items():
                times = 1 + 100 * chance * (scales == "all" or scale == 8)
                expected += times * features[0, :, v // scale, u // scale]
        assert torch.allclose(volume[:, n], expected, rtol=1e-4, atol=1e-5)
    assert weighted > 20


@pytest.mark.parametrize("band", [1, 5, 16, 100])
def test_bands_of_rows_give_the_whole_distribution_at_every_pixel(band: int) -> None:
    torch.manual_seed(0)
    network = DepthDistribution(3, 8, 6, band=band).eval()
    for name, value in network.state_dict().items():
        if name.endswith(("running_var", "bn2.weight")):
            value.uniform_(0.5, 1.5)
    features, depth, camera = torch.randn(2, 3, 23, 17), torch.rand(2, 23, 17) * 5, torch.tensor([[2.7], [1.9]])
    pixels = torch.cartesian_prod(torch.arange(2), torch.arange(23), torch.arange(17))[torch.randperm(2 * 23 * 17)].unbind(1)
    with torch.inference_mode():
        whole = network(features, depth, camera)
        assert network.streams(features)
        found = network.at(features, depth, camera, *pixels)
        folded = fuse_for_inference(network).at(features, depth, camera, *pixels)
    sample, row, column = pixels
    assert torch.allclose(found, whole[sample, :, row, column], rtol=1e-4, atol=1e-6)
    assert torch.allclose(folded, found, rtol=1e-4, atol=1e-6)
    assert torch.allclose(whole.sum(1), torch.ones(2, 23, 17), atol=1e-5)
    assert network.at(features, depth, camera, sample[:0], row[:0], column[:0]).shape == (0, 6)


@pytest.mark.parametrize("ahead", [40.0, -40.0], ids=["beyond the last bin", "behind the camera"])
def test_a_grid_of_which_no_depth_is_known_has_an_answer_too(ahead: float) -> None:
    system, batch = awake(CONFIG), batch_of(CONFIG)
    there = np.eye(4)
    there[0, 3] = ahead
    far = replace(batch, grids=tuple(grid.moved(there) for grid in batch.grids))
    with torch.inference_mode():
        assert system(far).logits.isfinite().all()


def test_the_distribution_depends_on_depth_and_on_the_focal_length() -> None:
    torch.manual_seed(0)
    network = DepthDistribution(3, 8, 6, band=None).eval()
    features, depth = torch.randn(1, 3, 8, 8), torch.rand(1, 8, 8)
    with torch.inference_mode():
        one = network(features, depth, torch.tensor([[focal_number(500, 500)]]))
        assert not torch.allclose(one, network(features, depth + 1, torch.tensor([[focal_number(500, 500)]])))
        assert not torch.allclose(one, network(features, depth, torch.tensor([[focal_number(200, 500)]])))
    assert focal_number(-500, 500) == focal_number(500, 500)  # a mirrored picture is the same camera


def test_gains_multiply_a_scale_and_reach_the_gradient() -> None:
    torch.manual_seed(0)
    pyramid = {1: torch.randn(1, 2, 4, 4, dtype=torch.float64), 2: torch.randn(1, 2, 2, 2, dtype=torch.float64)}
    pixels, in_view = torch.randint(0, 4, (1, 8, 2)), torch.tensor([[True] * 6 + [False] * 2])
    gain = torch.rand(1, 8, dtype=torch.float64, requires_grad=True)
    lift = FLoSP()
    plain, coarse = (lift(maps, pixels, in_view, (2, 2, 2)) for maps in (pyramid, {2: pyramid[2]}))
    found = lift(pyramid, pixels, in_view, (2, 2, 2), {2: gain})
    assert torch.allclose(found, plain + coarse * gain.view(1, 1, 2, 2, 2))
    assert torch.autograd.gradcheck(lambda g: lift(pyramid, pixels, in_view, (2, 2, 2), {1: g, 2: g}), gain)


def slow_depth_loss(probabilities: Tensor, labels: Tensor) -> float:
    total, count = 0.0, 0
    for b, i, j in np.ndindex(*labels.shape):
        if labels[b, i, j] < probabilities.shape[1]:
            count += 1
            for k, p in enumerate(probabilities[b, :, i, j].tolist()):
                total -= max(np.log(p if k == labels[b, i, j] else 1 - p), -100)
    return total / max(1, count)


def test_the_depth_loss_is_the_slow_loop_and_nothing_where_nothing_is_labelled() -> None:
    torch.manual_seed(0)
    probabilities = torch.softmax(torch.randn(2, 6, 3, 4), 1).requires_grad_()
    labels = torch.randint(0, 7, (2, 3, 4))
    assert float(depth_loss(probabilities, labels).detach()) == pytest.approx(slow_depth_loss(probabilities.detach(), labels), rel=1e-5)
    nothing = depth_loss(probabilities, torch.full((2, 3, 4), 6))
    assert float(nothing.detach()) == 0
    nothing.backward()
    assert float(probabilities.grad.abs().max()) == 0  # type: ignore[union-attr]


def test_depth_labels_take_the_nearest_known_depth_of_a_block() -> None:
    depth = torch.tensor([[[0.0, 3.0, 0.0, 0.0], [2.0, 9.0, 0.0, 0.0]]])
    of_two_metres = next(k for k in range(64) if 10 * (k + 1) * (k + 2) / (64 * 65) > 2)
    assert depth_labels(depth, (1, 2), 64, 10.0, block=2).tolist() == [[[of_two_metres, 64]]]


def test_terms_are_monoscenes_and_the_depth_against_the_truth_or_else_the_depth_given() -> None:
    system = ISO(CONFIG).train()
    given = batch_of(CONFIG)
    prediction = system(given)
    terms = system.losses(prediction, given)
    assert set(terms) == {"relation", "cross_entropy", "semantic_affinity", "geometric_affinity", "frustum_proportion", "depth"}
    true = replace(given, depth_target=given.depth.flip(2))  # type: ignore[union-attr]
    assert not torch.equal(system.losses(prediction, true)["depth"], terms["depth"])
    assert "depth" not in system.losses(prediction, replace(given, depth=None))


def test_in_eval_bands_leave_the_logits_as_they_are() -> None:
    system, batch = awake(CONFIG), batch_of(CONFIG, (0, 1))
    with torch.inference_mode():
        system.half_2d.distribution.band = 16
        banded = system(batch)
        system.half_2d.distribution.band = None
        whole = system(batch)
    assert "depth_distribution" not in banded.extras
    assert whole.extras["depth_distribution"].shape == (2, 16, 64, 96)
    assert torch.allclose(banded.logits, whole.logits, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


def test_with_its_own_depth_network_it_needs_no_depth_and_takes_none() -> None:
    config = replace(CONFIG, depth_network="tiny")
    system, batch = awake(config), batch_of(config)
    system.load_state_dict(system.state_dict())
    assert (ISO(CONFIG).needs, system.needs) == ({"depth"}, frozenset())
    with torch.inference_mode():
        logits = system(batch).logits
        assert torch.equal(system(replace(batch, depth=None)).logits, logits)
    system.train()
    sum(system.losses(system(batch), batch).values()).backward()  # type: ignore[union-attr]
    assert {n.split(".")[1] for n, p in system.named_parameters() if p.grad is None} == {"metric_depth"}


def test_without_depth_and_without_a_network_it_says_so() -> None:
    with torch.inference_mode(), pytest.raises(InputError, match="forged 0 have no depth, and this ISO has no network"):
        awake(CONFIG)(replace(batch_of(CONFIG), depth=None))
    with pytest.raises(InputError, match="needs depth beside the picture"):
        awake(CONFIG).predict(np.zeros((64, 96, 3), np.uint8), Camera.from_fov(70, (96, 64)))


def test_frozen_norms_keep_their_statistics_in_training_and_nothing_else_does() -> None:
    system, batch = ISO(replace(CONFIG, frozen_norms=True)).train(), batch_of(CONFIG)
    before = {k: v.clone() for k, v in system.state_dict().items() if "running" in k}
    system(batch)
    moved = {k for k, v in system.state_dict().items() if "running" in k and not torch.equal(v, before[k])}
    assert moved
    assert not any("encoder.trunk" in k for k in moved)
    assert {k for k in before if "encoder.trunk" not in k} == moved


def test_what_is_not_finite_counts_as_zero_only_where_that_is_asked_for() -> None:
    logits = torch.zeros(1, 12, 2, 2, 2)
    logits[0, 1, 0, 0, 0], logits[0, 2, 0, 0, 0] = float("inf"), float("nan")
    found = zero_what_is_not_finite(Prediction(logits, extras={"relation_logits": torch.tensor([float("nan"), 1.0])}))
    assert float(found.logits.abs().max()) == 0  # type: ignore[union-attr]
    assert found.extras["relation_logits"].tolist() == [0, 1]
    assert not CONFIG.zero_what_is_not_finite


@pytest.mark.parametrize("host", ["iso", "monoscene"])
def test_halves_exchange_with_monoscene_in_both_ways(host: str) -> None:
    other = HalfChoice("monoscene" if host == "iso" else "iso", size="tiny", setting="nyuv2")
    base: Any = CONFIG if host == "iso" else MonoSceneConfig.preset("clean", "tiny", setting="nyuv2", grid=ROOM)
    make = ISO if host == "iso" else MonoScene
    batch = batch_of(CONFIG)
    for kind in ("lift", "completion"):
        system = make(replace(base, **{kind: other}))  # type: ignore[arg-type]
        has_depth = (host == "iso") == (kind == "completion")
        assert system.needs == ({"depth"} if has_depth else frozenset())
        terms = system.losses(system(batch), batch)
        assert ("depth" in terms) == has_depth
        assert torch.isfinite(sum(terms.values()))  # type: ignore[arg-type]
        epsilon = 1e-5 if (host == "iso") == (kind == "lift") else 0.0
        assert system.half_3d.config.relation_epsilon == epsilon


def test_exact_conventions_keep_the_released_quirks_and_clean_ones_do_not() -> None:
    exact, clean = (ISOConfig.preset(name, "full") for name in ("exact", "clean"))
    assert (exact.weighted_scales, exact.frozen_norms, exact.depth_network, exact.rounding) == (
        "last",
        True,
        "vit_large_patch14_dinov2",
        "released-nyuv2",
    )
    assert (clean.weighted_scales, clean.frozen_norms, clean.depth_network, clean.rounding) == ("all", False, "", "float64")
    assert exact.relation_epsilon == clean.relation_epsilon == 1e-5
    assert (exact.decoder_padding, ISOConfig.preset("exact", "full", "occscannet").rounding) == (0, "released-kitti")


def test_an_impossible_configuration_is_refused_when_it_is_built() -> None:
    for changes, said in (({"line_of_sight_scales": (2, 4)}, "add 1"), ({"depth_network": "vit_large"}, "vit_large_patch14_dinov2")):
        with pytest.raises(InputError, match=said):
            ISO(replace(CONFIG, **changes))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="setting of ISO"):
        ISOConfig.preset(setting="semantic-kitti")
