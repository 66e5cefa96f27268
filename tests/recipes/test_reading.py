"""YAML that means what it says, and nothing that a recipe has no use for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.recipes.reading import LARGEST, dump_yaml, parse_overrides, parse_yaml, read_yaml


def test_scientific_numbers_are_numbers_and_words_stay_words(cases: Path) -> None:
    found = read_yaml(cases / "F01_scientific.yaml")
    assert found["optimizer"] == {"lr": 0.0001, "weight_decay": 0.01, "eps": 1e-08}
    assert found["classes"] == ["no", "car", "on"]
    assert found["sequences"] == ["07", "08", "010"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0", 0), ("-3", -3), ("+7", 7), ("1.", 1.0), (".5", 0.5), ("1E3", 1000.0), ("-2.5e-3", -0.0025),
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("'1'", "1"), ("-", [None]),
        *((text, text) for text in ("yes", "off", "y", "0x1F", "0o17", "1_000", "1:30", "2001-01-01")),
        *((text, text) for text in (".inf", ".nan", "1e", "1.2.3", "e5", "<<", "=")),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, meant: Any) -> None:
    found = parse_yaml(text)
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3, column 1: the key 'a' stands twice"),
        ("a: &x [1]\nb: *x", r"line 2, column 4: an alias \(\*x\) is not allowed"),
        ("a: !!python/object/apply:os.system ['true']", "the tag .* is not allowed"),
        ("a: !!binary aGk=", "the tag .* is not allowed"),
        ("[" * 10_000, "nested more than 20 levels"),
        ("{? [1, 2] : 3}", "a key must be a name or a number"),
        ("a: [1, 2", "line 1"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \x00", "not YAML that can be read"),
        ("a" * (LARGEST + 1), "at most 262,144"),
    ],
)
def test_what_has_no_place_in_a_recipe_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_yaml(text, "it")


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    bomb = "a: &a [x, x]\n" + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20))
    with pytest.raises(InputError, match="alias"):
        parse_yaml(bomb)


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(InputError, match="does not exist"):
        read_yaml(tmp_path / "b.yaml")


_NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
_WORDS = st.text(st.characters(codec="ascii"), max_size=8) | st.sampled_from(["07", "no", "1e-4", "null", "~", "true", "1_0", "0x1", "=", "<<"])
_NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5)
_PLAIN = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(_PLAIN)
def test_what_is_written_is_read_back_the_same(plain: Any) -> None:
    assert parse_yaml(dump_yaml(plain)) == plain


def test_settings_of_a_command_line_are_read_by_the_same_rules() -> None:
    assert parse_overrides(["optimiser.lr=1e-4", "data.train=07", "a.b=[no, 1]", "c="]) == {
        "optimiser.lr": 1e-4, "data.train": "07", "a.b": ["no", 1], "c": None,
    }  # fmt: skip
    with pytest.raises(InputError, match="NAME=VALUE"):
        parse_overrides(["optimiser.lr"])
