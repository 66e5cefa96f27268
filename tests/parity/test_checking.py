"""That a comparison which should fail does fail: tolerances, what is left out by name, `--cases`, and forge expressions."""

from __future__ import annotations

import json
from pathlib import Path

import forge
import numpy as np
import packing
import pytest

from cases import Case, check, find_cases, forge_call

FLOATS, LABELS = np.linspace(-2, 2, 50, dtype=np.float32), (np.arange(60) % 7).astype(np.uint8)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    folder = tmp_path / "some_case"
    folder.mkdir()
    (folder / "case.json").write_text(json.dumps({"system": "Some", "inputs": {"grid": [2, 3]}}))
    forge.save(folder, {"floats": FLOATS, "labels": LABELS, "unused": np.zeros(3)}, most=40)
    return Case.read(folder)


def compared(case: Case, **changed: np.ndarray) -> list[dict]:
    return forge.compare(case.folder, {"floats": FLOATS, "labels": LABELS, **changed}, whole=True)


def test_equal_taps_pass_and_a_missing_one_needs_a_reason(case: Case) -> None:
    check(compared(case), {"*": 0}, skip={"unused": "nobody wants it"})
    with pytest.raises(AssertionError, match="unused: not given"):
        check(compared(case), {"*": 0})
    with pytest.raises(AssertionError, match="absent: listed as not compared"):
        check(compared(case), {"*": 0}, skip={"unused": "nobody wants it", "absent": "it is not there"})
    with pytest.raises(AssertionError, match="floats: no tolerance fits"):
        check(compared(case), {"labels": 0}, skip={"unused": ""})


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # statistics of what is not finite
@pytest.mark.parametrize("change", [1e-3, np.nan, np.inf])
def test_a_float_beyond_its_tolerance_fails_wherever_it_is(case: Case, change: float) -> None:
    for place in range(len(FLOATS)):
        spoilt = FLOATS.copy()
        spoilt[place] += change
        with pytest.raises(AssertionError, match="floats: worst"):
            check(compared(case, floats=spoilt), {"floats": 1e-7, "*": 0}, skip={"unused": ""})
    check(compared(case, floats=FLOATS * (1 + 1e-5)), {"floats": 2e-5, "*": 0}, skip={"unused": ""})


def test_a_label_that_no_sample_holds_fails_by_the_histogram(case: Case) -> None:
    with np.load(case.folder / "expected.npz") as held:
        unseen = sorted(set(range(len(LABELS))) - set(held["labels.index"].tolist()))
    assert unseen
    spoilt = LABELS.copy()
    spoilt[unseen[0]] += 1
    with pytest.raises(AssertionError, match="the samples agree, the whole does not"):
        check(compared(case, labels=spoilt), {"labels": 0, "*": 1}, skip={"unused": ""})
    spoilt[unseen] += 1
    with pytest.raises(AssertionError, match="moved in the histogram, allowed 1"):
        check(compared(case, labels=spoilt), {"labels": 1e-3, "*": 1}, skip={"unused": ""})
    check(compared(case, labels=spoilt), {"labels": 1e-3, "*": 1}, skip={"unused": ""}, moved={"labels": len(unseen)})


def test_nothing_compared_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="nothing was compared"):
        check([], {"*": 0})


class Config:
    """Stands for pytest's configuration."""

    def __init__(self, *places: Path) -> None:
        self.places = [str(place) for place in places]

    def getoption(self, name: str, default: object = None) -> object:
        return self.places or default


def test_cases_are_found_in_a_case_or_a_folder_of_cases(case: Case, tmp_path: Path) -> None:
    for place in (case.folder, tmp_path):
        assert [found.folder for found in find_cases(Config(place), lambda found: found.system == "Some")] == [case.folder]  # type: ignore[arg-type]
    assert not find_cases(Config(tmp_path), lambda found: found.system == "Other")  # type: ignore[arg-type]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(pytest.UsageError, match=r"no case\.json"):
        find_cases(Config(tmp_path / "nothing"), lambda found: True)  # type: ignore[arg-type]
    names = {str(found) for found in find_cases(Config(), lambda found: found.system == "MonoScene")}  # type: ignore[arg-type]
    assert {"monoscene_losses", "monoscene_targets"} <= names


def test_a_forge_expression_is_the_call_it_says() -> None:
    np.testing.assert_array_equal(forge_call('uniform("a name", (2, 3), -4, 4)'), forge.uniform("a name", (2, 3), -4, 4))
    np.testing.assert_array_equal(forge_call("forge.labels('n', (4, 4, 2), 5, block=2)"), forge.labels("n", (4, 4, 2), 5, block=2))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()", "uniform('a', (2, int('3')))", "forge.save('a', {})", "uniform", "uniform('a', (2, 3)) < 0.7",
        "other.uniform('a', (2,))", "uniform('a', (4000000, 400000))", "forge.labels('a', (4, 4), 3), axes moved",
    ],
)  # fmt: skip
def test_anything_else_is_refused_unevaluated(text: str) -> None:
    with pytest.raises(ValueError, match=r"not one call|more than"):
        forge_call(text)


def test_packing_keeps_whole_taps_and_moves_sampled_ones_within_its_promise(tmp_path):
    rng = np.random.default_rng(0)
    sampled = (rng.normal(size=400) * 10.0 ** rng.integers(-6, 1, 400)).astype(np.float32)
    sampled[:3] = np.nan, np.inf, 0.0
    held = {"a.index": np.arange(0, 4000, 10), "a.values": sampled, "b.values": sampled[3:], "c.index": np.arange(9), "c.values": np.arange(9)}
    packing.write(tmp_path / "expected.npz", packing.packed(held, bits=18, most=100))
    with np.load(tmp_path / "expected.npz", allow_pickle=False) as found:
        kept = found["a.values"], sampled[found["a.index"] // 10]
        assert len(kept[0]) == 100
        np.testing.assert_array_equal(np.isfinite(kept[0]), np.isfinite(kept[1]))
        gap, most = np.nanmax(np.abs(kept[0][1:] - kept[1][1:])), np.nanmax(np.abs(kept[1][1:]))
        assert 0 < gap <= 2.0**-18 * most
        np.testing.assert_array_equal(found["b.values"], sampled[3:])
        np.testing.assert_array_equal(found["c.values"], np.arange(9))
    exact = packing.packed(held, bits=18, most=None, exact=["a*"])
    np.testing.assert_array_equal(exact["a.values"], sampled)
