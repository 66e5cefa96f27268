"""ScanSSC's table of names: every released name has one place, in both settings, and the inverse gives the file back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from wholescene.checkpoints.scanssc import TABLES
from wholescene.systems import create
from wholescene.systems.scanssc.config import ScanSSCConfig
from wholescene.weights import WEIGHTS, fingerprint

PARITY = Path(__file__).resolve().parents[1] / "parity"
SHAPES_360 = {  # what another number of classes and another width of the picture change
    "pts_bbox_head.occ_convs.0.3.weight": (19, 64, 1, 1, 1),
    "img_view_transformer.frustum": (112, 48, 176, 3),
    "proposal_layer.image_grid": (1, 2, 384, 1408),
    "VoxFormer_head.image_grid": (1, 2, 384, 1408),
}
TRAINABLE = {"semantic-kitti": 142_979_902, "kitti-360": 142_979_838}


def released(setting: str) -> dict[str, torch.Tensor]:
    sys.path.insert(0, str(PARITY))
    import forge

    keys = forge.read_keys(PARITY / "scanssc_kitti" / "keys.tsv")
    shapes = {name: SHAPES_360.get(name, shape) if setting == "kitti-360" else shape for name, shape, _ in keys}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize("setting", TABLES)
def test_every_released_name_has_one_place_and_the_inverse_gives_the_file_back(setting: str) -> None:
    state, table = released(setting), TABLES[setting]
    with torch.device("meta"):
        model = create("scanssc", ScanSSCConfig.preset("exact", "full", setting))
    converted = table.convert(state, model.state_dict(), "released file")
    given_back = table.restore(converted.live, converted.dead, converted.order)
    assert list(given_back) == list(state)
    assert all(given_back[name] is state[name] for name in state)
    assert sum(p.numel() for p in model.parameters()) == TRAINABLE[setting]
    assert fingerprint((name, tuple(t.shape)) for name, t in state.items()) == WEIGHTS[f"scanssc-{setting}"].fingerprint


def test_every_rule_is_used_and_says_why_what_it_drops_is_dead() -> None:
    table = TABLES["semantic-kitti"]
    assert {table.rule_of(name) for name in released("semantic-kitti")} == set(table.rules)
    assert all(rule.why for rule in table.rules if rule.ours is None)


def test_parameters_part_by_part_are_the_counted_ones() -> None:
    with torch.device("meta"):
        model = create("scanssc", ScanSSCConfig.preset("exact"))

    def count(path: str) -> int:
        return sum(p.numel() for p in model.get_submodule(path).parameters())

    net = "half_3d.volume_net"
    assert [count(f"{net}.scan.blocks.{axis}") for axis in ("depth", "height", "width")] == [132_480] * 3
    assert count(f"{net}.scan.codes") == 65_536
    assert sum(count(f"{net}.scan.mixers.{axis}") for axis in ("depth", "height", "width")) + count(f"{net}.scan.fusion") == 22_773_120
    assert count(f"{net}.attention") == 396_288 + 65_536
    assert count("half_3d.head") == 222_592
    assert count("half_2d") == 63_786_960 + 6_704_384 + 14_598_830 + 33_554_432 + 398_080 + 16_704
