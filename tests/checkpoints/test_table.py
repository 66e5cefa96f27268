from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from wholescene.checkpoints.monoscene import TABLES
from wholescene.checkpoints.reading import strip_wrappers
from wholescene.checkpoints.table import NameTable, Rule
from wholescene.errors import InputError
from wholescene.systems import create
from wholescene.systems.monoscene.config import MonoSceneConfig

PARITY = Path(__file__).resolve().parents[1] / "parity"
SETTINGS = {"semantic-kitti": ("monoscene_kitti", 149_555_444, 1832), "nyuv2": ("monoscene_nyu", 298_347_156, 1825)}

TABLE = NameTable("a toy", (Rule("net.old.{rest}", None, "unused"), Rule("net.block{i}.{rest}", "blocks.{i}.{rest}")))


def _released(setting: str) -> dict[str, torch.Tensor]:
    sys.path.insert(0, str(PARITY))
    import forge

    keys = forge.read_keys(PARITY / SETTINGS[setting][0] / "keys.tsv")
    return {name: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for name, shape, kind in keys}


def _ours(setting: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return create("monoscene", MonoSceneConfig.preset("exact", "full", setting)).state_dict()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_released_name_has_one_place_and_the_inverse_gives_the_file_back(setting: str) -> None:
    state, table = _released(setting), TABLES[setting]
    converted = table.convert(state, _ours(setting), "released file")
    assert not set(converted.dead) & {table.released(n) for n in converted.live}
    given_back = table.restore(converted.live, converted.dead, converted.order)
    assert list(given_back) == list(state)
    assert all(given_back[n] is state[n] for n in state)


@pytest.mark.parametrize("setting", SETTINGS)
def test_live_and_dead_parameters_together_are_the_released_ones(setting: str) -> None:
    _, parameters, entries = SETTINGS[setting]
    converted = TABLES[setting].convert(_released(setting), _ours(setting), "released file")

    def count(tensors: dict[str, torch.Tensor]) -> int:
        return sum(t.numel() for n, t in tensors.items() if "running_" not in n and "num_batches" not in n)

    with torch.device("meta"):
        model = create("monoscene", MonoSceneConfig.preset("exact", "full", setting))
    assert count(converted.live) == sum(p.numel() for p in model.parameters())
    assert count(converted.live) + count(converted.dead) == parameters
    assert len(converted.live) + len(converted.dead) == entries


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_rule_is_used_and_says_why_what_it_drops_is_dead(setting: str) -> None:
    table = TABLES[setting]
    used = {table.rule_of(name) for name in _released(setting)}
    assert used == set(table.rules)
    assert all(rule.why for rule in table.rules if rule.ours is None)


def test_wrong_tensors_are_listed_by_name_and_module_and_nothing_passes() -> None:
    expected = {"blocks.0.weight": torch.zeros(2, 3), "blocks.0.bias": torch.zeros(2), "blocks.1.weight": torch.zeros(2)}
    state = {"net.block0.weight": torch.zeros(3, 2), "net.block1.weight": torch.zeros(2), "other.a": torch.zeros(1), "net.old.b": torch.zeros(1)}
    with pytest.raises(InputError) as caught:
        TABLE.convert(state, expected, "weights.ckpt")
    said = str(caught.value)
    assert "weights.ckpt does not fit a toy: 1 tensors missing, 1 unknown, 1 of another shape" in said
    assert "missing: net.block0: bias" in said
    assert "unknown: other: a" in said
    assert "shape: net.block0.weight is 3x2, expected 2x3" in said
    assert "net.old" not in said


def test_a_file_without_a_single_known_name_is_refused_as_such() -> None:
    with pytest.raises(InputError, match=r"none of its 2 tensors is one of a toy \(0 of 1 found\)"):
        TABLE.convert({"x.a": torch.zeros(1), "x.b": torch.zeros(1)}, {"blocks.0.weight": torch.zeros(1)}, "other.pth")


def test_a_state_of_another_system_cannot_be_given_back() -> None:
    with pytest.raises(InputError, match=r"head\.weight has no name in the format a toy"):
        TABLE.restore({"head.weight": torch.zeros(1)})


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model.", "_orig_mod.module."])
def test_the_wrappers_prefix_is_found_although_other_names_lack_it(prefix: str) -> None:
    known = ["net.block0.weight", "net.block0.bias"]
    assert strip_wrappers([*(prefix + n for n in known), "criterion.weight"], known) == prefix
