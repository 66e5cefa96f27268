"""NDC-Scene's names: outdoors those of the recorded case, indoors those that the released code builds, as far as counts can tell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wholescene.checkpoints.ndcscene import TABLES
from wholescene.systems.ndcscene.config import NDCSceneConfig
from wholescene.systems.ndcscene.model import NDCScene
from wholescene.weights import WEIGHTS, fingerprint

CASE = Path(__file__).resolve().parents[1] / "parity" / "ndcscene_kitti"
COUNTS = {"semantic-kitti": (1_564, 97_948_648), "nyuv2": (1_903, 271_153_588)}  # entries and parameters of the released code


def ours(setting: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return NDCScene(NDCSceneConfig.preset("exact", "full", setting)).state_dict()


def norm(name: str, width: int) -> dict[str, Tensor]:
    leaves = {leaf: torch.empty(width, device="meta") for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.{leaf}": t for leaf, t in {**leaves, "num_batches_tracked": torch.empty((), device="meta")}.items()}


def released(setting: str) -> dict[str, Tensor]:
    """Our names turned round, and the dead ones as the code builds them."""
    state = TABLES[setting].restore(ours(setting))
    state |= norm("net_rgb.encoder.original_model.bn2", 2560)
    state |= norm("net_rgb.decoder.up_6.net_2d_2.0", NDCSceneConfig.preset("exact", "full", setting).features)
    for stage, inner in (("process_1_4", 100), ("process_1_8", 200)) if setting == "nyuv2" else ():
        for block in range(3):
            for shortcut in (2, 3, 4):
                name = f"net_3d_decoder.{stage}.1.main.{block}.downsample{shortcut}"
                state |= {f"{name}.1.weight": torch.empty(inner, inner, 1, 1, 1, device="meta"), **norm(f"{name}.2", inner)}
    return state


@pytest.mark.parametrize("setting", TABLES)
def test_every_released_name_has_one_place_and_the_counts_are_the_released_ones(setting: str) -> None:
    state, table = released(setting), TABLES[setting]
    converted = table.convert(state, ours(setting), "released file")
    assert {table.rule_of(name) for name in state} == set(table.rules)
    assert all(rule.why for rule in table.rules if rule.ours is None)
    assert table.restore(converted.live, converted.dead, converted.order).keys() == state.keys()
    parameters = sum(t.numel() for n, t in state.items() if "running_" not in n and "num_batches" not in n)
    assert (len(state), parameters) == COUNTS[setting]
    assert fingerprint((n, tuple(t.shape)) for n, t in state.items()) == WEIGHTS[f"ndc-scene-{setting}"].fingerprint


def test_outdoors_the_names_are_the_recorded_ones() -> None:
    sys.path.insert(0, str(CASE.parent))
    import forge

    recorded = {name: shape for name, shape, _ in forge.read_keys(CASE / "keys.tsv")}
    assert {name: tuple(t.shape) for name, t in released("semantic-kitti").items()} == recorded
