"""Parts of a system start from weights by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wholescene.checkpoints.native import save
from wholescene.errors import InputError
from wholescene.recipes import Initial, load
from wholescene.systems import create
from wholescene.systems.refine.config import Refine
from wholescene.training.initial import initialise
from wholescene.weights import load as load_weights


def test_the_parts_that_the_recipe_for_rooms_names_start_from_the_street_model_and_no_others() -> None:
    recipe = load("monoscene-room-small")
    system = create(recipe.system.name, recipe.system.config())
    before = {name: value.clone() for name, value in system.state_dict().items()}
    parts = tuple(f"{one.part}." for one in recipe.init_from)
    assert parts[0] == "half_2d.encoder."
    assert initialise(system, recipe.init_from) == [f"{part[:-1]} starts from monoscene-street-small" for part in parts]
    streets = load_weights("monoscene-street-small").state_dict()
    for name, value in system.state_dict().items():
        assert torch.equal(value, streets[name] if name.startswith(parts) else before[name]), name


def test_weights_of_another_size_are_refused() -> None:
    system = create("monoscene", load("monoscene-room-mini").system.config())
    with pytest.raises(InputError, match="monoscene-street-small does not fit half_2d"):
        initialise(system, [Initial("monoscene-street-small", "half_2d.encoder")])


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_a_part_starts_from_a_file_however_its_trainer_wrapped_the_state(tmp_path: Path, wrapper: str) -> None:
    system = create("monoscene", load("monoscene-room-mini").system.config())
    part = system.get_submodule("half_3d.head")
    wanted = {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in part.state_dict().items()}
    torch.save({wrapper: wanted, "epoch": 3} if wrapper else wanted, tmp_path / "part.pth")
    initialise(system, [Initial(str(tmp_path / "part.pth"), "half_3d.head")])
    assert all(torch.equal(value, wanted[name]) for name, value in part.state_dict().items())


def test_a_system_that_is_to_stay_as_it_is_starts_from_something(tmp_path: Path) -> None:
    config = load("monoscene-room-mini").system.config()
    save(tmp_path / "coarse.safetensors", create("monoscene", config))
    system = create("monoscene", replace(config, refine=Refine(coarse="frozen")))
    with pytest.raises(InputError, match=r"nothing gives half_2d\.\S+ its weights \(\d+ of its parameters are fresh\); train it first"):
        initialise(system, [])
    with pytest.raises(InputError, match=r"nothing gives half_3d\."):
        initialise(system, [Initial(str(tmp_path / "coarse.safetensors"), "half_2d")])
    initialise(system, [Initial(str(tmp_path / "coarse.safetensors"), shared=True)])


@pytest.mark.parametrize("teach_steps", [0, 40])
def test_what_was_taught_in_another_run_is_taught_anew(tmp_path: Path, teach_steps: int) -> None:
    config = load("monoscene-room-mini").system.config()
    before = create("monoscene", replace(config, refine=Refine(teach_steps=40)))
    before.get_buffer("refine.taught").fill_(600)
    save(tmp_path / "refined.safetensors", before)
    system = create("monoscene", replace(config, refine=Refine(teach_steps=teach_steps)))
    initialise(system, [Initial(str(tmp_path / "refined.safetensors"))])
    assert torch.equal(system.get_parameter("refine.begin.weight"), before.get_parameter("refine.begin.weight"))
    if teach_steps:
        assert int(system.get_buffer("refine.taught")) == 0


def test_a_part_file_that_is_none_is_named(tmp_path: Path) -> None:
    system = create("monoscene", load("monoscene-room-mini").system.config())
    (tmp_path / "part.pth").write_bytes(b"<html><title>Sign in</title>")
    with pytest.raises(InputError, match=r"init_from: .*part\.pth is a web page"):
        initialise(system, [Initial(str(tmp_path / "part.pth"), "half_3d.head")])
