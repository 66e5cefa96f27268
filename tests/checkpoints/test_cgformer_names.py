"""CGFormer's table of names: every released name has one place, in both settings and in the pre-training file; the inverse gives the file back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from wholescene.checkpoints.cgformer import TABLES
from wholescene.checkpoints.converting import convert_file, restore_file
from wholescene.checkpoints.native import save
from wholescene.errors import InputError
from wholescene.recipes.recipe import Initial
from wholescene.systems import create
from wholescene.systems.cgformer.config import CGFormerConfig
from wholescene.training.initial import initialise
from wholescene.weights import WEIGHTS, fingerprint

PARITY = Path(__file__).resolve().parents[1] / "parity"
SHAPES_360 = {  # what another number of classes and another width of the picture change
    "pts_bbox_head.occ_convs.0.3.weight": (19, 64, 1, 1, 1),
    "img_view_transformer.frustum": (112, 48, 176, 3),
    "proposal_layer.image_grid": (1, 2, 384, 1408),
    "VoxFormer_head.image_grid": (1, 2, 384, 1408),
}
PICTURE = 63_786_960 + 6_704_384 + 14_598_830
TRAINABLE = {
    "semantic-kitti": 155_974_968, "kitti-360": 155_974_904, "pretrained-semantic-kitti": PICTURE, "pretrained-kitti-360": PICTURE,
}  # fmt: skip


def released(setting: str) -> dict[str, torch.Tensor]:
    sys.path.insert(0, str(PARITY))
    import forge

    keys = forge.read_keys(PARITY / "cgformer_kitti" / "keys.tsv")
    if setting.startswith("pretrained"):
        keys = [key for key in keys if key[0].startswith(("img_backbone.", "img_neck.", "depth_net."))]
        keys += [("plugin_head.0.weight", (128, 128, 2, 2), "float32")]
    shapes = {name: SHAPES_360.get(name, shape) if setting.endswith("kitti-360") else shape for name, shape, _ in keys}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def full(setting: str) -> torch.nn.Module:
    with torch.device("meta"):
        return create("cgformer", CGFormerConfig.preset("exact", "full", setting))


@pytest.mark.parametrize("setting", TABLES)
def test_every_released_name_has_one_place_and_the_inverse_gives_the_file_back(setting: str) -> None:
    state, table, model = released(setting), TABLES[setting], full(setting)
    converted = table.convert(state, model.state_dict(), "released file")
    given_back = table.restore(converted.live, converted.dead, converted.order)
    assert list(given_back) == list(state)
    assert all(given_back[name] is state[name] for name in state)
    assert sum(p.numel() for p in model.parameters()) == TRAINABLE[setting]
    if not setting.startswith("pretrained"):
        assert fingerprint((name, tuple(t.shape)) for name, t in state.items()) == WEIGHTS[f"cgformer-{setting}"].fingerprint


def test_every_rule_is_used_and_says_why_what_it_drops_is_dead() -> None:
    for setting, table in TABLES.items():
        assert {table.rule_of(name) for name in released(setting)} == set(table.rules)
        assert all(rule.why for rule in table.rules if rule.ours is None)


def test_what_does_not_fit_is_named_as_its_authors_named_it() -> None:
    state, table, model = released("semantic-kitti"), TABLES["semantic-kitti"], full("semantic-kitti").state_dict()
    lacking = {name: t for name, t in state.items() if name != "depth_net.depth_net.depth_conv.4.weight"}
    with pytest.raises(InputError, match=r"missing: depth_net.depth_net.depth_conv.4: weight"):
        table.convert(lacking, model, "file")
    with pytest.raises(InputError, match=r"unknown: img_backbone.layers.5.17: conv"):
        table.convert({**state, "img_backbone.layers.5.17.conv": torch.empty(1, device="meta")}, model, "file")
    with pytest.raises(InputError, match=r"VoxFormer_head.volume_embed.weight is 5x128, expected 262144x128"):
        table.convert({**state, "VoxFormer_head.volume_embed.weight": torch.empty(5, 128, device="meta")}, model, "file")


def test_parameters_part_by_part_are_the_counted_ones() -> None:
    model = full("semantic-kitti")

    def count(path: str) -> int:
        return sum(p.numel() for p in model.get_submodule(path).parameters())

    net, lift, encoder = "half_2d.depth_net", "half_2d.lift", "half_2d.encoder"
    assert count(f"{encoder}.trunk") + count(f"{encoder}.head_norm") == 63_786_960
    assert count(f"{encoder}.neck") == 6_704_384
    assert [count(f"{net}.{part}") for part in ("stereo", "mono", "aggregation")] == [4_708_368, 8_618_452, 1_272_010]
    assert (count(lift) - count(f"{lift}.prior"), count(f"{lift}.prior")) == (33_554_432 + 398_080, 16_704)
    assert count("half_3d.volume_net.attention") == 396_288 + 65_536
    assert count("half_3d.volume_net") - count("half_3d.volume_net.attention") == 36_231_162
    assert count("half_3d.head") == 222_592


@pytest.mark.slow  # twenty seconds and 2 GiB: a file of 340 MB, there and back
def test_a_released_pretraining_file_is_converted_and_given_back_unchanged(tmp_path: Path) -> None:
    state = {}
    for index, (name, like) in enumerate(released("pretrained-semantic-kitti").items()):
        counter = name.endswith("num_batches_tracked")
        state[name] = torch.tensor(7) if counter else ((torch.arange(like.numel()) + 17 * index) % 251).view(like.shape).float()
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "released.ckpt")
    notes = convert_file(tmp_path / "released.ckpt", tmp_path / "ours.safetensors", "cgformer", "pretrained-semantic-kitti")
    assert any("1 kept aside" in note for note in notes)
    assert restore_file(tmp_path / "ours.safetensors", tmp_path / "back.ckpt") == len(state)
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    assert list(back) == list(state)
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_the_system_starts_from_its_pretraining_stage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stage, whole = (create("cgformer", CGFormerConfig.preset("exact", "tiny", s)) for s in ("depth-semantic-kitti", "semantic-kitti"))
    save(tmp_path / "stage.safetensors", stage)
    initialise(whole, [Initial(str(tmp_path / "stage.safetensors"), part) for part in ("half_2d.encoder", "half_2d.depth_net")])
    own = whole.state_dict()
    for name, value in stage.state_dict().items():
        assert name.startswith("segmentation.") or torch.equal(own[name], value)
