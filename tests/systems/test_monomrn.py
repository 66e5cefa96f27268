"""What is MonoMRN's own, beyond the contract of every system and the tests of refinement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from small_frames import GRID, batch, frame
from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.systems import create
from wholescene.systems.monomrn.config import MonoMRNConfig
from wholescene.systems.monomrn.lift import SurfaceProjection
from wholescene.systems.refine.config import Refine

ROOM = GridPlacement((12, 8, 20), (0.4, 0.4, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
OUTDOORS = MonoMRNConfig.preset("clean", "tiny", grid=GRID)
INDOORS = MonoMRNConfig.preset("clean", "tiny", setting="nyuv2", grid=ROOM)


def _system(config: MonoMRNConfig = OUTDOORS, **changes: Any) -> Any:
    torch.manual_seed(0)
    return create("monomrn", replace(config, **changes))


@pytest.mark.parametrize("config", [OUTDOORS, INDOORS], ids=["outdoors", "indoors"])
def test_both_settings_come_from_one_file(config: MonoMRNConfig) -> None:
    system = _system(config).eval()
    with torch.inference_mode():
        prediction = system(batch(system, 0, 1))
    assert prediction.logits.shape == (2, config.classes, *config.grid.shape)
    assert prediction.extras["refinement"].masks[0].shape == (2, *(n // config.lift_factor for n in config.grid.shape))
    full = [MonoMRNConfig.preset(size="full", setting=setting) for setting in ("semantic-kitti", "nyuv2")]
    assert [(c.features, c.lift_factor, c.grid.shape) for c in full] == [(64, 2, (256, 256, 32)), (128, 1, (60, 36, 60))]


def test_without_refinement_it_is_the_coarse_stage() -> None:
    whole, coarse = _system().eval(), _system(refine=None).eval()
    coarse.load_state_dict({n: v for n, v in whole.state_dict().items() if not n.startswith("refine.")})
    given = batch(whole, 0)
    with torch.inference_mode(), whole.taking(0):
        assert torch.equal(whole(given).logits, coarse(given).logits)


def test_terms_of_both_stages_are_the_papers() -> None:
    system = _system().train()
    given = batch(system, 0)
    assert set(system.losses(system(given), given)) == {"cross_entropy", "lovasz", "refine_cross_entropy", "refine_lovasz", "refine_mask"}
    system = _system(affinities=True, depth="head", refine=Refine(answer="own", affinities=True, mask="all")).train()
    given = batch(system, 0)
    given.depth_target = torch.full((1, 96, 160), 5.0)
    more = {"semantic_affinity", "geometric_affinity", "depth", "refine_semantic_affinity", "refine_geometric_affinity"}
    assert more <= set(system.losses(system(given), given))


def test_later_steps_weigh_more() -> None:
    """With one answer at every step, the sum is 0.8^2 + 0.8 + 1 times that of one."""
    system = _system(refine=Refine(answer="correction", mask="static", dropout=0.0)).train()
    given = batch(system, 0)
    terms = system.losses(system(given), given)
    weights = 1 + 0.8 + 0.64
    torch.testing.assert_close(terms["refine_cross_entropy"], weights * terms["cross_entropy"])  # a fresh correction adds nothing
    torch.testing.assert_close(terms["refine_lovasz"], weights * terms["lovasz"])


@pytest.mark.parametrize(
    "changes",
    [
        {"mapping": "index"}, {"mapping": "sight"}, {"depth": "head"}, *(
            {"refine": Refine(answer="own", **fields)} for fields in (  # type: ignore[arg-type]
                {"sparse": False}, {"mask": "static"}, {"mask": "all"}, {"profile": "none"}, {"profile": "ramp"}, {"profile": "mlp"},
                {"steps": 1}, {"reach_per_step": True, "profile": "gauss"}, {"depth": "head", "kernel": 1, "width": 12},
            )
        ),
    ],
    ids=range(12),
)  # fmt: skip
def test_each_row_of_the_ablation_is_a_field_and_trains(changes: dict[str, Any]) -> None:
    system = _system(**changes).train()
    given = batch(system, 0)
    terms = system.losses(system(given), given)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(term) for term in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in system.parameters() if p.grad is not None)
    with torch.inference_mode():
        assert torch.isfinite(system.eval()(given).logits).all()


def test_a_voxel_takes_the_mean_of_the_pixels_whose_points_lie_in_it() -> None:
    """Against a loop over pixels, for a map of the picture's own size."""
    rng = np.random.default_rng(0)
    camera = Camera.from_fov(80, (12, 9)).on_ground(1.5, 10)
    grid = GridPlacement((6, 6, 4), (2.0, 2.0, 1.0), corner=(0.0, -6.0, -1.0), lidar_corner=None).place(camera)
    depth = rng.uniform(1, 14, (9, 12))
    depth[:2] = 0
    features = torch.from_numpy(rng.normal(size=(1, 3, 9, 12)))
    inside: dict[tuple[int, ...], list[np.ndarray]] = {}
    for v in range(9):
        for u in range(12):
            if depth[v, u] > 0:
                point = camera.unproject(np.where(np.arange(108).reshape(9, 12) == v * 12 + u, depth, 0))
                index, held = grid.index_of(point)
                if held[0]:
                    inside.setdefault(tuple(index[0].tolist()), []).append(features[0, :, v, u].numpy())
    assert max(map(len, inside.values())) > 1
    for mapping, of in (("surface", lambda rows: np.mean(rows, 0)), ("index", lambda rows: rows[-1])):
        found = SurfaceProjection(mapping)(features, torch.from_numpy(depth)[None], (1, 1), (camera,), (grid,))[0].numpy()
        plain = np.zeros_like(found)
        for place, rows in inside.items():
            plain[(slice(None), *place)] = of(rows)
        padded = np.pad(plain, ((0, 0), (1, 1), (1, 1), (1, 1)))
        for place in np.ndindex(*grid.shape):
            near = padded[(slice(None), *(slice(n, n + 3) for n in place))].sum((1, 2, 3)) / 27
            expected = plain[(slice(None), *place)] if place in inside else near
            np.testing.assert_allclose(found[(slice(None), *place)], expected, atol=1e-6)


def test_depth_of_the_head_lies_in_its_range_and_is_what_voxels_are_mapped_by() -> None:
    system = _system(depth="head", depth_range=(3.0, 20.0)).eval()
    assert "depth" not in system.needs
    assert system.supervision == {"depth"}  # or a dataset that is opened for it would bring no truth to learn from
    given = batch(system, 0)
    with torch.inference_mode():
        lifted = system.half_2d(given)
    assert lifted.depth.shape == given.pictures["main"].shape[:1] + given.pictures["main"].shape[2:]
    assert 3 <= float(lifted.depth.min()) <= float(lifted.depth.max()) <= 20
    assert lifted.volume.abs().sum() > 0


def test_lines_of_sight_need_no_depth_but_distance_attention_does() -> None:
    assert "depth" not in _system(mapping="sight", refine=None).needs
    assert "depth" in _system(mapping="sight").needs
    assert "depth" in _system(refine=None).needs


def test_an_impossible_configuration_is_refused_when_it_is_built() -> None:
    for changes, said in (
        ({"grid": GridPlacement((36, 32, 16), (1.6, 1.6, 0.4))}, "multiple of 8"),
        ({"features": 10}, "features of 4"),
        ({"map_scale": 3}, "must be among"),
        ({"depth_range": (5.0, 1.0)}, "two rising numbers"),
        ({"dropout": 1.0}, "below 1"),
    ):
        with pytest.raises(InputError, match=said):
            _system(**changes)
    for fields, said in (
        ({"steps": 0}, "at least one step"),
        ({"kernel": 2}, "odd kernel"),
        ({"reach_behind": 0.0}, "positive reaches"),
        ({"dropout": 2.0}, "below 1"),
        ({"decay": 0.0}, "above 0"),
    ):
        with pytest.raises(InputError, match=said):
            Refine(**fields)  # type: ignore[arg-type]


def test_a_batch_without_targets_or_without_depth_is_refused() -> None:
    system = _system().eval()
    given = batch(system, 0)
    with torch.inference_mode():
        prediction = system(given)
        given.targets.clear()
        with pytest.raises(InputError, match="no target labels"):
            system.losses(prediction, given)
        given.depth = None
        with pytest.raises(InputError, match="have no depth"):
            system(given)


def test_steps_of_a_call_are_taken_by_predict() -> None:
    system = _system(refine=Refine(answer="own", mask="all")).eval()
    one = frame(system, 0)
    first, third = (system.predict(one, steps=steps).labels for steps in (0, 3))
    assert (first != third).any()
    assert (system.predict(one).labels == third).all()
