"""Refinement on top of every system, by one field, through the joints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from small_frames import GRID, batch, frame
from wholescene import recipes
from wholescene.checkpoints import native
from wholescene.errors import InputError
from wholescene.structures import Batch
from wholescene.systems import config_class, create, list_systems
from wholescene.systems.base import System
from wholescene.systems.refine.config import Refine

TWO = ("monoscene", "voxformer")
OTHERS = [name for name in list_systems() if name not in ("dial", "monomrn", *TWO)]


def _system(name: str, **refine: Any) -> System:
    torch.manual_seed(0)
    fields: dict[str, Any] = {"grid": GRID, "refine": Refine(**refine) if refine else "mrn"}
    return create(name, config_class(name).preset("clean", "tiny", **fields))  # type: ignore[attr-defined]


def _stirred(system: Any) -> Any:
    """With a head that says something: a fresh one adds nothing."""
    torch.nn.init.normal_(system.refine.head.weight, std=0.5)
    return system


@pytest.mark.parametrize("name", [*TWO, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_any_system_refines_and_its_coarse_answer_is_that_of_no_steps(name: str) -> None:
    system: Any = _stirred(_system(name)).eval()
    coarse = create(name, replace(system.config, refine=None)).eval()
    coarse.load_state_dict({n: v for n, v in system.state_dict().items() if not n.startswith("refine.")})
    given = batch(system, 0)
    with torch.inference_mode():
        plain = coarse(given).logits
        with system.taking(0):
            assert torch.equal(system(given).logits, plain)
        with system.taking(2):
            prediction = system(given)
    assert prediction.logits.shape == plain.shape
    assert torch.isfinite(prediction.logits).all()
    trace = prediction.extras["refinement"]
    assert len(trace.masks) == 2
    assert ((trace.active_share >= 0) & (trace.active_share <= 1)).all()
    assert torch.equal(prediction.logits, plain) == (not any(mask.any() for mask in trace.masks))


@pytest.mark.parametrize("name", TWO)
def test_every_parameter_gets_a_gradient_and_terms_of_both_stages_are_named_apart(name: str) -> None:
    system = _stirred(_system(name, mask="dynamic", teach_steps=1)).train()
    given = batch(system, 0, 1)
    terms = system.losses(system(given), given)
    assert {"cross_entropy", "refine_cross_entropy", "refine_lovasz", "refine_mask"} <= terms.keys()
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert not [n for n, p in system.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", TWO)
def test_a_frozen_system_stays_as_it_is_and_has_no_terms_of_its_own(name: str) -> None:
    system: Any = _system(name, coarse="frozen", teach_steps=5).train()
    given = batch(system, 0)
    before = {n: v.clone() for n, v in system.state_dict().items()}
    terms = system.losses(system(given), given)
    assert all(term.startswith("refine_") for term in terms)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert {n for n, p in system.named_parameters() if p.grad is not None} == {n for n, _ in system.named_parameters() if n.startswith("refine.")}
    assert all(torch.equal(before[n], v) for n, v in system.state_dict().items() if not n.startswith("refine."))
    assert [m.training for m in (system.half_2d, system.half_3d, system.refine)] == [False, False, True]


def test_a_fresh_correction_adds_nothing_and_a_voxel_that_was_never_active_keeps_its_answer() -> None:
    system: Any = _system("monoscene", mask="static").eval()
    given = batch(system, 0)
    with torch.inference_mode(), system.taking(0):
        plain = system(given).logits
    with torch.inference_mode():
        assert torch.equal(system(given).logits, plain)
        _stirred(system)
        prediction = system(given)
    active = prediction.extras["refinement"].masks[0][0].float()[None, None]
    near = torch.nn.functional.interpolate(torch.nn.functional.max_pool3d(active, 3, 1, 1), plain.shape[2:])[0, 0] > 0
    changed = (prediction.logits != plain)[0].any(0)
    assert changed.any() == near.any()
    assert not changed[~near].any()


def test_a_batch_of_two_equals_two_of_one() -> None:
    system = _stirred(_system("monoscene")).eval()
    with torch.inference_mode():
        together = system(batch(system, 0, 1)).logits
        apart = torch.cat([system(batch(system, seed)).logits for seed in (0, 1)])
    assert (together - apart).abs().max() <= 1e-5 * apart.abs().max()


@pytest.mark.parametrize("answer", ["own", "correction"])
def test_sparse_and_dense_computation_give_the_same_answer(answer: str) -> None:
    sparse, dense = (_system("monoscene", answer=answer, sparse=flag) for flag in (True, False))
    dense.load_state_dict(_stirred(sparse).state_dict())
    given = batch(sparse, 0)
    with torch.inference_mode():
        one, other = (system.eval()(given).logits for system in (sparse, dense))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_more_steps_than_it_was_trained_with_go_on_from_the_same_first_ones() -> None:
    system: Any = _stirred(_system("monoscene", steps=2)).eval()
    given = batch(system, 0)
    with torch.inference_mode(), system.taking(5, keep=True):
        trace = system(given).extras["refinement"]
    assert len(trace.logits) == 5
    for steps in (1, 3):
        with torch.inference_mode(), system.taking(steps):
            assert torch.equal(system(given).logits, trace.logits[steps - 1])


@pytest.mark.parametrize("steps", [-1, 101])
def test_numbers_of_steps_that_are_a_slip_of_the_hand_are_refused(steps: int) -> None:
    system: Any = _system("monoscene")
    with pytest.raises(InputError, match=f"steps {steps}: expected .* from 0 .* to 100"), system.taking(steps):
        pass


def test_reaches_of_their_own_fix_the_number_of_steps() -> None:
    system: Any = _system("monoscene", steps=2, reach_per_step=True).eval()
    with pytest.raises(InputError, match="at most 2"), system.taking(3):
        pass
    with torch.inference_mode(), system.taking(2):
        assert system(batch(system, 0)).logits.isfinite().all()


@pytest.mark.parametrize(("wrong", "said"), [({"kernel": -1}, "kernel -1"), ({"reach_per_step": True, "profile": "mlp"}, "profile mlp has no reach")])
def test_settings_without_a_meaning_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Refine(**wrong)


def test_a_score_says_that_and_how_often_an_answer_was_refined() -> None:
    system: Any = _system("monoscene")
    with system.taking(2):
        assert system.said == "monoscene (refinement steps: 2)"
    assert create("monoscene", replace(system.config, refine=None)).said == "monoscene"


def test_a_threshold_of_one_leaves_no_voxel_active_and_the_state_that_it_began_with() -> None:
    system: Any = _stirred(_system("monoscene", threshold=1.0)).eval()
    given = batch(system, 0)
    with torch.inference_mode():
        _, coarse = type(system).coarse.joints(system, given)
        _, refined = system.joints(given)
        start = torch.tanh(system.refine.begin(coarse.volume))
    assert torch.equal(refined.volume, start)
    assert torch.equal(refined.logits, coarse.logits)


def test_truly_occupied_voxels_are_active_while_that_is_taught() -> None:
    system: Any = _system("monoscene", threshold=1.0, teach_steps=1).train()
    given = batch(system, 0)
    shares = [float(system(given).extras["refinement"].active_share[0]) for _ in range(2)]
    assert shares[0] > 0.1
    assert shares[1] == 0


def test_depth_is_needed_where_distance_attention_measures_from_it() -> None:
    assert "depth" in _system("monoscene").needs
    assert "depth" not in _system("monoscene", profile="none").needs
    system = _system("monoscene").eval()
    given: Batch = batch(system, 0)
    given.depth = None
    with torch.inference_mode(), pytest.raises(InputError, match="have no depth"):
        system(given)


def test_no_step_needs_no_depth() -> None:
    system, frames = _system("monoscene").eval(), frame(_system("monoscene"), 0)
    alone = replace(frames, depth=None)
    with pytest.raises(InputError, match=r"needs depth .* coarse answer, which needs none \(steps=0"):
        system.predict(alone)
    assert (system.predict(alone, steps=0).labels == system.predict(frames, steps=0).labels).all()


@pytest.mark.parametrize(("setting", "widening"), [("nyuv2", 0.0), ("semantic-kitti", 10.0)])
def test_the_usual_settings_are_those_of_rooms_where_the_grid_is_a_room(setting: str, widening: float) -> None:
    config = replace(config_class("monomrn").preset("clean", "tiny", setting), refine="mrn")  # type: ignore[attr-defined]
    assert config.refinement.widening_m == widening
    assert config.refinement.depth_range[0] < 1 or setting != "nyuv2"


def test_the_true_depth_is_wished_for_where_a_head_of_refinement_learns_it() -> None:
    fields = {"grid": GRID, "refine": Refine(depth="head")}
    system = create("monomrn", config_class("monomrn").preset("clean", "tiny", **fields))  # type: ignore[attr-defined]
    assert system.supervision == {"depth"}
    assert not _system("monoscene").supervision


@pytest.mark.parametrize(("name", "stage"), [("voxformer", "proposals"), ("cgformer", "depth")])
def test_a_stage_without_a_volume_is_built_without_refinement(name: str, stage: str) -> None:
    """So one field refines a recipe whose first stage completes nothing yet."""
    system = create(name, config_class(name).preset("clean", "tiny", grid=GRID, stage=stage, refine="mrn"))  # type: ignore[attr-defined]
    assert not hasattr(system, "refine")
    assert not system.completes


def test_one_field_refines_every_recipe_that_has_stages() -> None:
    for name in ("voxformer-semantic-kitti", "cgformer-semantic-kitti"):
        stages = recipes.stages_of(recipes.load(name, {"system.size": "tiny", "system.fields.refine": "mrn"}))
        built = [create(stage.system.name, stage.system.config()) for stage in stages]
        assert [hasattr(system, "refine") for system in built] == [system.completes for system in built]
        assert built[-1].completes


def test_a_file_of_a_refined_system_loads_as_one(tmp_path: Path) -> None:
    system: Any = _stirred(_system("monoscene", steps=2, mask="all"))
    native.save(tmp_path / "refined.safetensors", system)
    other: Any = native.load(tmp_path / "refined.safetensors")
    given = batch(system, 0)
    with torch.inference_mode():
        assert torch.equal(other(given).logits, system.eval()(given).logits)
    one = frame(system, 0)
    assert (other.predict(one, steps=0).labels != other.predict(one, steps=4).labels).any()
    assert other.refine.steps == 2
    with pytest.raises(InputError, match="from 0 \\(the coarse answer\\) to 100"):
        other.predict(one, steps=-1)


def test_recomputing_activations_changes_no_gradient() -> None:
    plain = _stirred(_system("monoscene", dropout=0.0))
    saving = create("monoscene", replace(plain.config, activation_checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    grads = []
    for system in (plain, saving):
        system.train()
        given = batch(system, 0)
        torch.manual_seed(0)
        sum(system.losses(system(given), given).values()).backward()  # type: ignore[union-attr]
        grads.append(dict(system.refine.cell.named_parameters()))  # type: ignore[union-attr]
    for name, parameter in grads[0].items():
        torch.testing.assert_close(parameter.grad, grads[1][name].grad, rtol=1e-4, atol=1e-6)
