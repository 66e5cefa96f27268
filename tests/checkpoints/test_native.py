from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wholescene.checkpoints import converting, native
from wholescene.checkpoints.monoscene import TABLES
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.systems import create
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.model import MonoScene

GRID = GridPlacement((32, 32, 16), (1.6, 1.6, 0.4))
TINY = MonoSceneConfig.preset("clean", "tiny", grid=GRID)


@pytest.fixture
def system() -> MonoScene:
    torch.manual_seed(0)
    made = MonoScene(TINY)
    made.card = {"name": "toy", "note": "a sentence"}
    return made


def _edit(path: Path, **changes: Any) -> None:
    """Write the file anew with another description."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["wholescene"])
        tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"wholescene": json.dumps({**about, **changes})})


def test_what_is_saved_is_loaded_whole(system: MonoScene, tmp_path: Path) -> None:
    native.save(tmp_path / "a.safetensors", system)
    loaded = native.load(tmp_path / "a.safetensors")
    assert loaded.config == system.config
    assert loaded.card == system.card
    assert not loaded.training
    fresh = create("monoscene", TINY).state_dict()
    for name, tensor in system.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert any(not torch.equal(fresh[n], t) for n, t in loaded.state_dict().items() if n.endswith("conv0.weight"))
    assert all(p.device.type == "cpu" and p.requires_grad for p in loaded.parameters())


def test_half_keeps_norms_exact_and_weights_to_three_digits(system: MonoScene, tmp_path: Path) -> None:
    huge = system.half_3d.head.segment.conv0.weight
    huge.data[0, 0, 0, 0, 0] = 1e6  # float16 has no such number
    native.save(tmp_path / "full.safetensors", system)
    native.save(tmp_path / "half.safetensors", system, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.75 * (tmp_path / "full.safetensors").stat().st_size
    loaded = native.load(tmp_path / "half.safetensors").state_dict()
    for name, tensor in system.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-7)
        if tensor.dim() < 2:
            assert torch.equal(loaded[name], tensor), name
    assert torch.equal(loaded["half_3d.head.segment.conv0.weight"], huge)


def test_a_write_that_fails_leaves_the_old_file(system: MonoScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    native.save(path, system)
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        Path(args[1]).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native, "save_file", fail)
    with pytest.raises(InputError, match="No space left"):
        native.save(path, system)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 99}, "format 99, this version reads up to 1; update wholescene"),
        ({"format": "1"}, "no format number"),
        ({"config": []}, "config is missing or of the wrong kind"),
        ({"system": "monoscen"}, "'monoscen'; the nearest"),
        ({"config": {"featurs": 8}}, "'featurs'; the nearest"),
        ({"released": 7}, "what it was converted from"),
        ({"released": {"order": 7}}, "what it was converted from"),
        ({"labels": ["empty", "car"]}, "was trained on the classes empty, car"),
    ],
)
def test_a_description_that_does_not_hold_is_refused(system: MonoScene, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "a.safetensors"
    native.save(path, system)
    _edit(path, **changes)
    with pytest.raises(InputError) as caught:
        native.load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value) or "system" in changes


def test_tensors_that_do_not_fit_the_config_are_named(system: MonoScene, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    native.save(path, system)
    _edit(path, config=native.to_plain(replace(TINY, head_width=12)))
    with pytest.raises(InputError, match=r"shape: half_3d\.head\.segment\.conv0\.weight is 8x8x3x3x3, expected 12x12x3x3x3"):
        native.load(path)


def test_files_that_are_not_ours_are_told_apart(tmp_path: Path, cases: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "plain.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "released.ckpt")
    for path, said in (
        (tmp_path / "plain.safetensors", "without wholescene's description"),
        (tmp_path / "released.ckpt", "run `wholescene convert` on it first"),
        (tmp_path / "none.safetensors", "does not exist"),
        (cases / "C01_html_page.pth", "web page"),
        (cases / "C02_lfs_pointer.ckpt", "Git LFS pointer"),
    ):
        with pytest.raises(InputError, match=said):
            native.load(path)


@pytest.fixture
def tiny_release(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A released state dict of size tiny, dead tensors among the live ones; `convert` builds size tiny for it."""
    preset = MonoSceneConfig.preset
    monkeypatch.setattr(MonoSceneConfig, "preset", lambda conventions, size, setting: preset("exact", "tiny", setting, grid=GRID))
    torch.manual_seed(1)
    state = TABLES["semantic-kitti"].restore(MonoScene(TINY).state_dict())
    first = dict(list(state.items())[:5])
    return {**first, "net_rgb.encoder.original_model.bn2.weight": torch.randn(48), **state}


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_a_released_file_becomes_ours_and_comes_back_identical(tiny_release: dict[str, torch.Tensor], tmp_path: Path, prefix: str) -> None:
    released, ours, again = tmp_path / "released.ckpt", tmp_path / "ours.safetensors", tmp_path / "again.ckpt"
    given = {prefix + n: t for n, t in tiny_release.items()}
    torch.save({"state_dict": given, "epoch": 3}, released)
    notes = converting.convert_file(released, ours, "monoscene", "semantic-kitti", {"name": "toy"})
    assert any("1 kept aside" in note for note in notes)
    assert any(repr(prefix) in note for note in notes) == bool(prefix)
    loaded = native.load(ours)
    assert loaded.card == {"name": "toy"}
    table = TABLES["semantic-kitti"]
    assert all(torch.equal(tensor, tiny_release[table.released(name) or ""]) for name, tensor in loaded.state_dict().items())
    assert converting.restore_file(ours, again) == len(given)
    back = torch.load(again, weights_only=True)["state_dict"]
    assert list(back) == list(given)
    assert all(torch.equal(back[n], given[n]) for n in given)


def test_loaded_parameters_are_not_a_fresh_starts(tiny_release: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({f"wrapper.{n}": t for n, t in tiny_release.items()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"none of its .* tensors is one of MonoScene for SemanticKITTI \(0 of"):
        converting.convert(tmp_path / "a.pt", "monoscene")
    torch.save(tiny_release, tmp_path / "b.pt")
    loaded, fresh = converting.convert(tmp_path / "b.pt", "monoscene").system, MonoScene(TINY)
    weights = [n for n, p in loaded.named_parameters() if p.dim() > 1]
    assert not any(torch.equal(loaded.state_dict()[n], fresh.state_dict()[n]) for n in weights)


def test_unknown_systems_and_settings_are_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'monoscen'; the nearest .*'monoscene'"):
        converting.table_of("monoscen", "nyuv2")
    with pytest.raises(InputError, match=r"'nyu'; the nearest .*'nyuv2'"):
        converting.table_of("monoscene", "nyu")
