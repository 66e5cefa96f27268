"""Records from outside: arrays of every protocol come through whole, everything else is refused and nothing is run."""

from __future__ import annotations

import collections
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wholescene.errors import InputError
from wholescene.reading import pickles
from wholescene.reading.pickles import read_record

RECORD = {
    "labels": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "pose": np.eye(4, dtype=">f4"),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "view": np.arange(10)[::3],
    "none": np.zeros((0, 3)),
    "number": np.float64(2.5),
    "path": "a/b",
    "nested": {"list": [1, 2.5, None, True, b"x"], "tuple": (np.int16(-3),)},
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype.newbyteorder("=") == b.dtype and np.array_equal(a, b)
    return bool(a == b)


@pytest.mark.parametrize("protocol", range(6))
def test_what_numpy_pickles_is_read_back(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "r.pkl").write_bytes(pickle.dumps(RECORD, protocol=protocol))
    assert same(RECORD, read_record(tmp_path / "r.pkl"))


def test_old_and_new_numpy_names_are_the_same_constructors(tmp_path: Path) -> None:
    content = pickle.dumps(RECORD, protocol=2)
    old, new = b"numpy.core.", b"numpy._core."
    there, other = (new, old) if new in content else (old, new)
    (tmp_path / "r.pkl").write_bytes(content.replace(there, other))
    assert same(RECORD, read_record(tmp_path / "r.pkl"))


class _Runs:
    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.made}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "r.pkl").write_bytes(pickle.dumps({"img": _Runs(tmp_path / "made")}, protocol=protocol))
    with pytest.raises(InputError, match=r"its pickle holds (posix|nt)\.system; .* nothing of it was run"):
        read_record(tmp_path / "r.pkl")
    assert not (tmp_path / "made").exists()


def _with(opcodes: bytes) -> bytes:
    return b"\x80\x02}(X\x01\x00\x00\x00a" + opcodes + b"u."


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt\x85R"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "pickle"),
        (b"not a pickle", "pickle"),
        (pickle.dumps(RECORD)[:-40], "cut short"),
        (pickle.dumps([1, 2]), "holds a list; expected a record"),
        (pickle.dumps({1: 2}), "expected a record"),
        (pickle.dumps({"a": np.array([{}, []], dtype=object)}), "not of plain numbers|plain types"),
        (pickle.dumps({"a": np.array(["x"])}), "not of plain numbers"),
        (pickle.dumps({"a": np.zeros(2, [("x", "f4")])}), "not of plain numbers"),
        (pickle.dumps({"a": collections.Counter()}), r"holds collections\.Counter"),
        (_with(b"c_codecs\nencode\n"), "function as a value"),
        (_with(b"X\x02\x00\x00\x00osX\x05\x00\x00\x00a\n\x1b[m\x93"), r"holds os\.a\\n\\x1b\[m;"),
        (_with(b"cbuiltins\neval\n(X\x01\x00\x00\x001tR"), r"holds builtins\.eval"),
        # a state given to one of our own constructors would change it for every later record
        (_with(b"cnumpy\nndarray\nN}X\x04\x00\x00\x00realNs\x86b"), "a state for a function or class"),
        (b"\x80\x05}(X\x01\x00\x00\x00a\x96" + (2**40).to_bytes(8, "little") + b"xu.", "longer than the file"),
        (b"\x80\x05}(X\x01\x00\x00\x00a\x8e" + (2**40).to_bytes(8, "little") + b"xu.", "pickle"),
    ],
)
def test_broken_and_hostile_pickles_are_refused_in_a_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "r.pkl").write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_record(tmp_path / "r.pkl")
    assert "r.pkl" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(pickles._Array, type)
    assert hasattr(pickles._Array, "real")


@pytest.mark.parametrize(
    ("start", "layer", "said"),
    [
        (b"K\x01K\x02\x86q\x02", b"h\x02h\x02\x86q\x02", "tuples within tuples without end"),
        (b"X\x01\x00\x00\x00acpathlib\nPosixPath\n](K\x01K\x02eq\x02", b"](h\x02h\x02eq\x02", "a path that is not text"),
        (b"X\x01\x00\x00\x00acpathlib\nPosixPath\nK\x01K\x02\x86q\x02", b"h\x02h\x02\x86q\x02", "tuples within tuples without end"),
    ],
    ids=["a name", "a path", "a path of tuples"],
)
def test_what_takes_time_without_end_to_hash_or_to_write_is_refused(start: bytes, layer: bytes, said: str, tmp_path: Path) -> None:
    """Each layer holds the one before twice, so that a look at all of it doubles."""
    ending = b"K\x01s." if start.startswith(b"K") else b"\x85Rs."
    (tmp_path / "r.pkl").write_bytes(b"\x80\x02}" + start + 60 * (b"0" + layer) + ending)
    with pytest.raises(InputError, match=said):
        read_record(tmp_path / "r.pkl")


def test_an_array_that_claims_more_than_its_bytes_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"a": np.zeros((7, 9), np.uint8)}, protocol=2)
    assert b"K\x07K\x09\x86" in content
    (tmp_path / "r.pkl").write_bytes(content.replace(b"K\x07K\x09\x86", b"K\xffK\xff\x86"))
    with pytest.raises(InputError, match=r"an array of shape \(255, 255\) with 63 bytes"):
        read_record(tmp_path / "r.pkl")


def test_values_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    layer: list[Any] = [0] * 50
    for _ in range(6):
        layer = [layer] * 50
    content = pickle.dumps({"a": layer})
    assert len(content) < 5000
    assert sum(1 for _ in pickletools.genops(content)) < 2000
    (tmp_path / "r.pkl").write_bytes(content)
    with pytest.raises(InputError, match="too many values"):
        read_record(tmp_path / "r.pkl")
