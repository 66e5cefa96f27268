"""ISO's released names: the file as its authors wrote it, with and without the metric depth network in it, strictly and both ways."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wholescene.checkpoints import converting, native
from wholescene.checkpoints.iso import METRIC_DEPTH, TABLES
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.systems import create
from wholescene.systems.iso.config import ISOConfig
from wholescene.systems.iso.metric_depth import MetricDepth
from wholescene.systems.iso.model import ISO

PARITY = Path(__file__).resolve().parents[1] / "parity"
ROOM = GridPlacement((12, 8, 20), (0.4, 0.4, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")


def conv(name: str, out: int, width: int, kernel: int = 1, bias: bool = True, up: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width, out, kernel, kernel) if up else (out, width, kernel, kernel)
    if bias:
        yield f"{name}.bias", (out,)


def network_names() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The 455 entries of the metric depth network, as its authors' classes name them."""
    trunk, head, width, features = "core.core.pretrained", "core.core.depth_head", 1024, 256
    yield from ((f"{trunk}.{n}", s) for n, s in (("cls_token", (1, 1, width)), ("pos_embed", (1, 1370, width)), ("mask_token", (1, width))))
    yield from conv(f"{trunk}.patch_embed.proj", width, 3, 14)
    for block in range(24):
        at = f"{trunk}.blocks.{block}"
        for n, out, into in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            yield from ((f"{at}.{n}.weight", (out, into)), (f"{at}.{n}.bias", (out,)))
        yield from ((f"{at}.{n}", (width,)) for n in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"))
    yield from ((f"{trunk}.norm.{n}", (width,)) for n in ("weight", "bias"))
    widths = (256, 512, 1024, 1024)
    for level, out in enumerate(widths):
        yield from conv(f"{head}.projects.{level}", out, width)
        yield from conv(f"{head}.scratch.layer{level + 1}_rn", features, out, 3, bias=False)
        for unit in ("resConfUnit1", "resConfUnit2"):
            for layer in ("conv1", "conv2"):
                yield from conv(f"{head}.scratch.refinenet{level + 1}.{unit}.{layer}", features, features, 3)
        yield from conv(f"{head}.scratch.refinenet{level + 1}.out_conv", features, features)
    yield from conv(f"{head}.resize_layers.0", 256, 256, 4, up=True)
    yield from conv(f"{head}.resize_layers.1", 512, 512, 2, up=True)
    yield from conv(f"{head}.resize_layers.3", 1024, 1024, 3)
    yield from conv(f"{head}.scratch.output_conv1", 128, 256, 3)
    yield from conv(f"{head}.scratch.output_conv2.0", 32, 128, 3)
    yield from conv(f"{head}.scratch.output_conv2.2", 1, 32)
    yield from conv("conv2", 256, 256)
    twos = [("seed_bin_regressor", 256, 256, 64), ("seed_projector", 256, 128, 128), *((f"projectors.{i}", 256, 128, 128) for i in range(4))]
    twos += [(f"attractors.{i}", 128, 128, n) for i, n in enumerate((16, 8, 4, 1))]
    for name, width, inner, out in twos:
        yield from conv(f"{name}._net.0", inner, width)
        yield from conv(f"{name}._net.2", out, inner)
    yield from (("conditional_log_binomial.log_binomial_transform.k_idx", (1, 64, 1, 1)),)
    yield from (("conditional_log_binomial.log_binomial_transform.K_minus_1", (1, 1, 1, 1)),)
    yield from conv("conditional_log_binomial.mlp.0", 80, 161)
    yield from conv("conditional_log_binomial.mlp.2", 4, 80)


def released(with_network: bool = True) -> dict[str, Tensor]:
    sys.path.insert(0, str(PARITY))
    import forge

    keys = forge.read_keys(PARITY / "iso_nyu" / "keys.tsv")
    state = {name: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for name, shape, kind in keys}
    more = {f"net_depth.{name}": torch.empty(shape, device="meta") for name, shape in network_names()}
    return {**state, **more} if with_network else state


def ours(with_network: bool = True) -> dict[str, Tensor]:
    told: dict[str, Any] = {} if with_network else {"depth_network": ""}
    with torch.device("meta"):
        return create("iso", ISOConfig.preset("exact", "full", **told)).state_dict()


def count(tensors: dict[str, Tensor]) -> int:
    buffers = ("running_mean", "running_var", "num_batches_tracked", "k_idx", "K_minus_1")
    return sum(t.numel() for n, t in tensors.items() if not n.endswith(buffers))


def test_the_network_has_the_published_sizes() -> None:
    """So that the list above is not merely what the table expects."""
    state = {name: torch.empty(shape, device="meta") for name, shape in network_names()}
    parts = ("core.core.pretrained", "core.core.depth_head", "")
    counts = [count({n: t for n, t in state.items() if n.startswith(part)}) for part in parts]
    assert (len(state), *counts) == (455, 304_368_640, 30_947_009, 335_793_794)


@pytest.mark.parametrize(("with_network", "entries", "parameters"), [(True, 2333, 638_361_174), (False, 1878, 302_567_380)])
def test_every_released_name_has_one_place_and_the_inverse_gives_the_file_back(with_network: bool, entries: int, parameters: int) -> None:
    state, table = released(with_network), TABLES["nyuv2"]
    converted = table.convert(state, ours(with_network), "released file")
    assert not set(converted.dead) & {table.released(n) for n in converted.live}
    given_back = table.restore(converted.live, converted.dead, converted.order)
    assert list(given_back) == list(state)
    assert all(given_back[n] is state[n] for n in state)
    assert (len(state), count(state)) == (entries, parameters)


def test_every_rule_is_used_and_says_why_what_it_drops_is_dead() -> None:
    table = TABLES["nyuv2"]
    assert {table.rule_of(name) for name in released()} == set(table.rules)
    assert all(rule.why for rule in table.rules if rule.ours is None)
    assert TABLES["occscannet"].rules == table.rules


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`convert` builds size tiny, with a tiny network unless the file has none."""
    preset = ISOConfig.preset

    def small(conventions: str, size: str, setting: str, **told: Any) -> ISOConfig:
        return preset("exact", "tiny", setting, **{"grid": ROOM, "depth_network": "tiny", **told})

    monkeypatch.setattr(ISOConfig, "preset", small)
    return small


@pytest.mark.parametrize("network", ["tiny", ""])
def test_a_released_file_becomes_ours_and_comes_back_with_and_without_the_network(tiny: Any, tmp_path: Path, network: str) -> None:
    torch.manual_seed(0)
    state = TABLES["nyuv2"].restore(ISO(tiny("exact", "full", "nyuv2", depth_network=network)).state_dict())
    dead = {"net_depth.core.core.pretrained.mask_token": torch.randn(1, 32)} if network else {}
    given = {**state, **dead, "net_rgb.decoder.resize_output_1_16.bias": torch.randn(8)}
    torch.save({"state_dict": given}, tmp_path / "iso_nyu.ckpt")
    notes = converting.convert_file(tmp_path / "iso_nyu.ckpt", tmp_path / "ours.safetensors", "iso", "nyuv2")
    assert any(f"{len(given) - len(state)} kept aside" in note for note in notes)
    system = native.load(tmp_path / "ours.safetensors")
    assert system.needs == (frozenset() if network else {"depth"})
    converting.restore_file(tmp_path / "ours.safetensors", tmp_path / "again.ckpt")
    again = torch.load(tmp_path / "again.ckpt", weights_only=True)["state_dict"]
    assert list(again) == list(given)
    assert all(torch.equal(again[n], given[n]) for n in given)


def test_what_is_missing_or_another_shape_is_named(tiny: Any, tmp_path: Path) -> None:
    state = TABLES["nyuv2"].restore(ISO(tiny("exact", "full", "nyuv2")).state_dict())
    del state["depthnet_1_1.mlp.fc1.bias"]
    state["net_depth.attractors.1._net.2.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "broken.ckpt")
    with pytest.raises(InputError) as caught:
        converting.convert(tmp_path / "broken.ckpt", "iso", "nyuv2")
    assert "missing: depthnet_1_1.mlp.fc1: bias" in str(caught.value)
    assert "net_depth.attractors.1._net.2.bias is 3, expected 8" in str(caught.value)


def test_a_file_of_the_network_alone_fills_the_part() -> None:
    torch.manual_seed(0)
    one, other = MetricDepth("tiny"), MetricDepth("tiny")
    one.load_state_dict(one.state_dict())
    file = METRIC_DEPTH.restore(one.state_dict())
    assert "core.core.depth_head.scratch.refinenet2.resConfUnit1.conv1.weight" in file
    other.load_state_dict(dict(converting.part_state(file, other.state_dict(), "file")), strict=True)
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    assert np.array_equal(one.predict(picture), other.predict(picture))
