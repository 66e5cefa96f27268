"""Symphonies' released names: each has one place, the dead ones are carried, and MaskDINO's file fills the trunk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from wholescene.checkpoints.converting import convert_file, part_state, restore_file
from wholescene.checkpoints.symphonies import MASKDINO, TABLES
from wholescene.errors import InputError
from wholescene.recipes.recipe import Initial
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.model import Symphonies
from wholescene.training.initial import initialise

PARITY = Path(__file__).resolve().parents[1] / "parity"
CASES = {"semantic-kitti": ("symphonies_kitti_g1", 59_310_044), "kitti-360": ("symphonies_kitti360_g1", 59_309_915)}
COMPUTED = {"model.encoder.model.panoptic_head.criterion.empty_weight", "model.decoder.image_grid", "model.decoder.voxel_grid"}


def released(setting: str) -> dict[str, torch.Tensor]:
    sys.path.insert(0, str(PARITY))
    import forge

    keys = forge.read_keys(PARITY / CASES[setting][0] / "keys.tsv")
    return {name: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for name, shape, kind in keys}


def ours(setting: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return Symphonies(SymphoniesConfig.preset("exact", "full", setting)).state_dict()


@pytest.mark.parametrize("setting", CASES)
def test_every_released_name_has_one_place_and_the_inverse_gives_the_file_back(setting: str) -> None:
    state, table = released(setting), TABLES[setting]
    converted = table.convert(state, ours(setting), "released file")
    assert {table.rule_of(name) for name in state} == set(table.rules)
    assert all(rule.why for rule in table.rules if rule.ours is None)
    given_back = table.restore(converted.live, converted.dead, converted.order)
    assert list(given_back) == list(state)
    assert all(given_back[n] is state[n] for n in state)
    counted = {n: t.numel() for n, t in state.items() if n not in COMPUTED and "running_" not in n and "num_batches" not in n}
    assert sum(counted.values()) == CASES[setting][1]
    assert sum(counted[n] for n in converted.dead if n in counted) == 66_048 + 590_336 + 65_792
    assert (len(state), len(converted.dead)) == (691, 3 + 8)


def test_a_name_missing_extra_or_of_another_shape_is_listed() -> None:
    state = released("semantic-kitti")
    state["model.decoder.layers.3.query_self_attn.norm1.weight"] = torch.empty(128, device="meta")
    state["model.encoder.query_embed.weight"] = torch.empty(99, 128, device="meta")
    del state["model.decoder.cls_head.2.bias"]
    with pytest.raises(InputError) as caught:
        TABLES["semantic-kitti"].convert(state, ours("semantic-kitti"), "one.ckpt")
    said = str(caught.value)
    assert "missing: model.decoder.cls_head.2: bias" in said
    assert "unknown: model.decoder.layers.3.query_self_attn.norm1: weight" in said
    assert "shape: model.encoder.query_embed.weight is 99x128, expected 100x128" in said


def small() -> Symphonies:
    torch.manual_seed(0)
    return Symphonies(SymphoniesConfig.preset("clean", "tiny"))


def as_maskdino(trunk: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What mmdet writes of MaskDINO, with a head that Symphonies has no use for."""
    state = {f"{MASKDINO.released(name)}": torch.rand_like(t.float()).to(t.dtype) for name, t in trunk.state_dict().items()}
    assert "panoptic_head.pixel_decoder.transformer.level_embed" in state
    unused = ("predictor.query_feat.weight", "pixel_decoder.mask_features.bias", "pixel_decoder.adapter_1.conv.weight", "criterion.empty_weight")
    return state | {f"panoptic_head.{name}": torch.zeros(3) for name in unused}


def test_the_trunk_starts_from_maskdinos_file(tmp_path: Path) -> None:
    model, part = small(), "half_2d.encoder.trunk"
    state = as_maskdino(model.get_submodule(part))
    torch.save(state, tmp_path / "maskdino.pth")
    assert initialise(model, [Initial(str(tmp_path / "maskdino.pth"), part)]) == [f"{part} starts from {tmp_path / 'maskdino.pth'}"]
    for name, value in model.get_submodule(part).state_dict().items():
        assert torch.equal(value, state[str(MASKDINO.released(name))])
    del state["panoptic_head.pixel_decoder.input_proj.0.0.weight"]
    with pytest.raises(InputError, match=r"missing: panoptic_head\.pixel_decoder\.input_proj\.0\.0: weight"):
        part_state(state, model.get_submodule(part).state_dict(), "maskdino.pth")


def test_a_state_under_our_own_names_is_taken_as_it_is() -> None:
    state = small().get_submodule("half_2d.encoder.trunk").state_dict()
    assert part_state(state, state, "own") is state


@pytest.mark.slow  # fifteen seconds and 1.5 GiB: a file of 240 MB, there and back
def test_a_released_file_is_converted_and_given_back_unchanged(tmp_path: Path) -> None:
    state = {}
    for index, (name, like) in enumerate(released("kitti-360").items()):
        numbers = (torch.arange(like.numel()) + 17 * index) % 251
        state[name] = numbers.view(like.shape).to(like.dtype)
    torch.save({"state_dict": state, "epoch": 26, "pytorch-lightning_version": "2.0"}, tmp_path / "released.ckpt")
    notes = convert_file(tmp_path / "released.ckpt", tmp_path / "ours.safetensors", "symphonies", "kitti-360")
    assert any("11 kept aside" in note for note in notes)
    assert restore_file(tmp_path / "ours.safetensors", tmp_path / "back.ckpt") == 691
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    assert list(back) == list(state)
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in state.items())
