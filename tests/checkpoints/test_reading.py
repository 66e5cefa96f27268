"""What people call a checkpoint, and what must never happen while one is read."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import runpy
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from wholescene.checkpoints.reading import read_foreign
from wholescene.errors import InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """C04, C05 and C06, written by their script."""
    folder = tmp_path_factory.mktemp("checkpoints")
    script = Path(__file__).resolve().parents[1] / "cases" / "C04_make_checkpoints.py"
    runpy.run_path(str(shutil.copy(script, folder)))
    return folder


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


def test_a_web_page_is_called_one(cases: Path) -> None:
    with pytest.raises(InputError, match=r"C01_html_page\.pth is a web page, not weights \(its title: 'Quota exceeded'\).*expected 598 MB"):
        read_foreign(cases / "C01_html_page.pth", "598 MB")


def test_a_git_lfs_pointer_says_how_large_the_file_is_and_how_to_get_it(cases: Path) -> None:
    with pytest.raises(InputError, match=r"Git LFS pointer of a 598,234,112-byte file.*git lfs pull"):
        read_foreign(cases / "C02_lfs_pointer.ckpt")


def test_an_empty_file_a_folder_and_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "zero.pt").touch()
    with pytest.raises(InputError, match=r"zero\.pt is empty \(0 bytes\)"):
        read_foreign(tmp_path / "zero.pt")
    with pytest.raises(InputError, match="is a folder"):
        read_foreign(tmp_path)
    with pytest.raises(InputError, match=r"none\.pt does not exist"):
        read_foreign(tmp_path / "none.pt")


def test_a_lightning_file_with_foreign_objects_gives_its_tensors_and_names_the_types(made: Path) -> None:
    found = read_foreign(made / "C06_namespace_numpy.ckpt")
    expected = torch.load(made / "C06_namespace_numpy.ckpt", weights_only=False)["state_dict"]
    _same(found.state, expected)
    assert found.place == "state_dict"
    assert "argparse.Namespace" in found.foreign
    assert any("read without running code" in note and "argparse.Namespace" in note for note in found.notes)


def test_tensors_of_every_layout_come_out_as_torch_reads_them(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    state = {
        "turned": base.T, "part": base[1:3, 2:5], "whole": base, "none": torch.zeros(0, 3), "one": torch.tensor(3), "wide": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(torch.ones(2)), "half": torch.ones(2).half(), "brain": torch.ones(2).bfloat16(), "bits": torch.tensor([True]),
        "double": torch.ones(2).double(), "bytes": torch.ones(2, dtype=torch.uint8),
    }  # fmt: skip
    torch.save(state, tmp_path / "a.pt")
    _same(read_foreign(tmp_path / "a.pt").state, {n: t.detach() for n, t in state.items()})


def test_old_files_and_safetensors_are_read(tmp_path: Path) -> None:
    state = {"a": torch.randn(3, 4), "b": torch.ones(2)}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "new.safetensors")
    _same(read_foreign(tmp_path / "old.pt").state, state)
    _same(read_foreign(tmp_path / "new.safetensors").state, state)


def test_an_old_file_with_foreign_objects_gives_its_tensors_too(tmp_path: Path) -> None:
    state = {"a": torch.randn(3, 4).T, "b": torch.ones(2, dtype=torch.int64)}
    torch.save({"state_dict": state, "args": argparse.Namespace()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    found = read_foreign(tmp_path / "old.pt")
    _same(found.state, state)
    assert found.foreign == ("argparse.Namespace",)


def test_a_pickled_module_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(InputError, match=r"class torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_foreign(tmp_path / "whole.pt")


def test_a_file_without_named_tensors_says_what_is_in_it(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="no named tensors; found the entries epoch, loss"):
        read_foreign(tmp_path / "a.pt")


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": _Bomb(target)}, tmp_path / "bomb.pt")
    found = read_foreign(tmp_path / "bomb.pt")
    assert not target.exists()
    assert any(name.endswith(".mkdir") for name in found.foreign)
    torch.load(tmp_path / "bomb.pt", weights_only=False)  # the bomb is a real one
    assert target.exists()


def _archive(path: Path, content: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        for name, raw in members.items():
            archive.writestr(f"a/data/{name}", raw)
    return path


class _Rebuilt:
    """Pickles as a call of torch's own tensor constructor on a storage of the archive."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class _Reference:
    def __init__(self, count: int) -> None:
        self.count = count


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return ("storage", torch.FloatStorage, "0", "cpu", value.count) if isinstance(value, _Reference) else None


def _forged(count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    _Pickler(out, 2).dump({"a": _Rebuilt(_Reference(count), offset, shape, stride, False, {})})
    return out.getvalue()


def test_a_forged_tensor_of_the_right_size_is_read(tmp_path: Path) -> None:
    """The forger below works: otherwise its refusals would prove nothing."""
    found = read_foreign(_archive(tmp_path / "a.pt", _forged(2, 0, (2,), (1,)), **{"0": b"\0\0\x80?\0\0\0@"}))
    assert found.state["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "claim",
    [
        (2, 1, (2,), (1,)),
        (2, 0, (3,), (1,)),
        (2**40, 0, (2**40,), (1,)),
        (2, 0, (2**30, 2**30), (0, 0)),
        (2, -1, (2,), (1,)),
        (2, 0, (2,), (-1,)),
        (2, 0, (2, 2), (1,)),
    ],
)
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path, claim: tuple[int, int, tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(InputError):
        read_foreign(_archive(tmp_path / "a.pt", _forged(*claim), **{"0": bytes(8)}))


def test_a_length_that_the_pickle_does_not_have_allocates_nothing(tmp_path: Path) -> None:
    for opcode in (b"\x96", b"\x8e", b"\x8d"):  # BYTEARRAY8, BINBYTES8, BINUNICODE8
        with pytest.raises(InputError, match="does not hold together"):
            read_foreign(_archive(tmp_path / "a.pt", b"\x80\x05" + opcode + (2**46).to_bytes(8, "little") + b"x."))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**24))
    with pytest.raises(InputError, match=r"claims 16,777,216 bytes, which is not plausible"):
        read_foreign(tmp_path / "a.pt")


def test_a_zip_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match="no checkpoint of torch"):
        read_foreign(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["zip.pt", "old.pt", "new.safetensors"])
@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_gives_a_sentence_and_never_a_traceback(tmp_path: Path, name: str, data: st.DataObject) -> None:
    state = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.ones(2)}
    whole = tmp_path / f"whole-{name}"
    if not whole.exists():
        if name == "new.safetensors":
            save_file(state, whole)
        else:
            torch.save(state, whole, _use_new_zipfile_serialization=name == "zip.pt")
    content = bytearray(whole.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / f"broken-{name}"
    broken.write_bytes(content)
    try:
        read_foreign(broken)
    except InputError as error:
        said = str(error)
    else:
        said = str(broken)  # damage to the numbers alone cannot be seen
    assert str(broken) in said
