"""What is MonoScene's own, beyond the contract of every system."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.geometry.pyramid import pool_labels
from wholescene.grid import GridPlacement
from wholescene.structures import Batch, Frame, View
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.model import MonoScene

OUTDOORS = MonoSceneConfig.preset("clean", "tiny", grid=GridPlacement((32, 32, 16), (1.6, 1.6, 0.4)))
ROOM = GridPlacement((12, 8, 20), (0.4, 0.4, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
INDOORS = MonoSceneConfig.preset("clean", "tiny", setting="nyuv2", grid=ROOM)


def _batch(config: MonoSceneConfig, targets: bool = True) -> Batch:
    rng = np.random.default_rng(0)
    camera = Camera.from_fov(75, (96, 64)).on_ground(1.5, 5)
    grid = config.grid.place(camera)
    labels = rng.choice([0, 0, 1, 3, 5, 255], grid.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return collate([Frame("forged", {"main": View(picture, camera)}, grid, targets={1: labels} if targets else {})])


def test_the_five_terms_have_the_papers_names() -> None:
    system, batch = MonoScene(OUTDOORS), _batch(OUTDOORS)
    terms = system.losses(system(batch), batch)
    assert set(terms) == {"relation", "cross_entropy", "semantic_affinity", "geometric_affinity", "frustum_proportion"}
    assert all(term.dim() == 0 and term > 0 for term in terms.values())


@pytest.mark.parametrize("config", [OUTDOORS, INDOORS], ids=["outdoors", "indoors"])
def test_relation_logits_pair_mega_voxels_with_voxels_of_the_coarsest_grid(config: MonoSceneConfig) -> None:
    system, batch = MonoScene(config).eval(), _batch(config)
    with torch.inference_mode():
        prediction = system(batch)
    scale = 4 * config.lift_factor
    voxels = int(np.prod([n // scale for n in config.grid.shape]))
    megas = int(np.prod([n // scale // 2 for n in config.grid.shape]))
    assert prediction.extras["relation_logits"].shape == (1, config.relations, megas, voxels)
    assert prediction.logits.shape == (1, config.classes, *config.grid.shape)


def test_without_the_context_prior_there_is_no_relation_term() -> None:
    config = replace(OUTDOORS, context_prior=False)
    system, batch = MonoScene(config), _batch(config)
    assert "relation" not in system.losses(system(batch), batch)
    assert sum(p.numel() for p in system.parameters()) < sum(p.numel() for p in MonoScene(OUTDOORS).parameters())


def test_the_relation_target_is_the_datas_own_where_it_has_one() -> None:
    """NYUv2 pools its coarse labels from a finer volume than the one it trains on."""
    system, batch = MonoScene(OUTDOORS).eval(), _batch(OUTDOORS)
    pooled = pool_labels(batch.targets[1], 8)
    with torch.no_grad():
        prediction = system(batch)
        own = system.losses(prediction, batch)["relation"]
        batch.targets[8] = pooled
        assert system.losses(prediction, batch)["relation"] == own
        batch.targets[8] = torch.zeros_like(pooled)
        assert system.losses(prediction, batch)["relation"] != own


def test_a_voxel_out_of_view_is_lifted_to_zero_and_its_depth_does_not_matter() -> None:
    system, batch = MonoScene(OUTDOORS).eval(), _batch(OUTDOORS)
    with torch.inference_mode():
        lifted = system.half_2d(batch)
    assert lifted.volume is not None
    grid = lifted.grid[0]
    seen = batch.cameras["main"][0].sees(grid.centres())
    held = lifted.volume[0].abs().sum(0).numpy() > 0
    assert 0.05 < seen.mean() < 0.95
    assert np.array_equal(held, seen)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": GridPlacement((36, 32, 16), (1.6, 1.6, 0.4))}, "multiple of 8"),
        ({"grid": GridPlacement((32, 32, 8), (1.6, 1.6, 0.4))}, "at least twice that"),
        ({"features": 10}, "multiple of 4"),
        ({"lift_factor": 3}, "must be"),
        ({"relations": 3}, "2 or 4 relations"),
        ({"encoder": "tf_efficientnet_b8"}, "tf_efficientnet_b"),
        ({"line_of_sight_scales": (1, 32)}, "must be among"),
    ],
)
def test_an_impossible_configuration_is_refused_when_it_is_built(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        MonoScene(replace(OUTDOORS, **changes))  # type: ignore[arg-type]


def test_a_batch_on_another_grid_or_without_targets_is_refused() -> None:
    system = MonoScene(OUTDOORS).eval()
    with torch.inference_mode(), pytest.raises(InputError, match="built for a grid of"):
        system(_batch(replace(OUTDOORS, grid=GridPlacement((32, 32, 32), (1.6, 1.6, 0.4)))))
    batch = _batch(OUTDOORS, targets=False)
    with torch.inference_mode(), pytest.raises(InputError, match="forged have no target labels"):
        system.losses(system(batch), batch)


def test_exact_conventions_keep_the_released_quirks_and_clean_ones_do_not() -> None:
    exact, clean = (MonoSceneConfig.preset(name, "full") for name in ("exact", "clean"))
    assert (exact.decoder_padding, exact.use_offset, exact.rounding) == (1, False, "released-kitti")
    assert (clean.decoder_padding, clean.use_offset, clean.rounding) == (0, True, "float64")
