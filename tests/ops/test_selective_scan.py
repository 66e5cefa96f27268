"""Both scans against the recurrence, step by step: outputs, last states and every gradient, over lengths, groups, directions, initial states and
padding; causality; and that the states of all tokens are never held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scanning import Inputs, Scan, assert_same, dual_inputs, of_the_recurrence, results, scan_inputs
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wholescene.errors import InputError
from wholescene.ops import scan_blocks, selective_scan, state_space_dual

SCANS: dict[str, tuple[Scan, Callable[..., Inputs]]] = {
    "selective": (selective_scan.selective_scan, scan_inputs),
    "dual": (state_space_dual.dual_scan, dual_inputs),
}
SHARED = ("A", "skip", "bias", "initial")


@pytest.fixture(params=SCANS)
def scan(request: pytest.FixtureRequest) -> tuple[Scan, Callable[..., Inputs]]:
    return SCANS[request.param]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("L", [1, 2, 7, 8, 63, 129, 513])
def test_outputs_and_gradients_are_the_recurrence(
    scan: tuple[Scan, Callable[..., Inputs]], L: int, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, make = scan
    inputs = make(2, L)
    expected = of_the_recurrence(function, inputs, monkeypatch, reverse=reverse)
    assert_same(results(function, inputs, reverse=reverse), expected, 1e-12)
    single = {name: value.float() for name, value in inputs.items()}
    assert_same(results(function, single, reverse=reverse), expected, 3e-5)


def test_the_longest_sequence_too(scan: tuple[Scan, Callable[..., Inputs]], monkeypatch: pytest.MonkeyPatch) -> None:
    function, make = scan
    inputs = make(1, 4097)
    monkeypatch.setattr(state_space_dual, "_SEGMENT", 4 * 4 * 64 * 64)  # 17 segments of four chunks
    assert_same(results(function, inputs), of_the_recurrence(function, inputs, monkeypatch), 1e-11)


@pytest.mark.parametrize("levelled_below", [0, 10**9])
def test_the_plain_loop_and_the_two_level_form_agree_with_the_recurrence(levelled_below: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_blocks, "_LEVELLED_BELOW", levelled_below)
    monkeypatch.setattr(scan_blocks, "_BLOCK", 24 * 48)  # blocks of 48 tokens, the last of 12
    inputs = scan_inputs(2, 300)
    function = selective_scan.selective_scan
    for reverse in (False, True):
        expected = of_the_recurrence(function, inputs, monkeypatch, reverse=reverse)
        assert_same(results(function, inputs, reverse=reverse), expected, 1e-12)


def test_every_option_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for function, make in SCANS.values():
        inputs = {name: value for name, value in make(2, 40).items() if name not in ("skip", "gate", "bias", "initial")}
        assert_same(results(function, inputs), of_the_recurrence(function, inputs, monkeypatch), 1e-12)
    inputs = scan_inputs(2, 40, G=1)
    without_groups = {**inputs, "B": inputs["B"][:, :, 0], "C": inputs["C"][:, :, 0]}
    assert torch.equal(selective_scan.selective_scan(**without_groups)[0], selective_scan.selective_scan(**inputs)[0])


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_changes_nothing(scan: tuple[Scan, Callable[..., Inputs]], reverse: bool) -> None:
    function, make = scan
    inputs, lengths = make(3, 70), torch.tensor([70, 33, 0])
    y, last, *grads = results(function, inputs, lengths=lengths, reverse=reverse)
    y_part, last_part = [], []
    for row, length in enumerate(lengths.tolist()):
        own = {n: v if n in ("A", "skip", "bias") else v[row : row + 1] if n == "initial" else v[row : row + 1, :length] for n, v in inputs.items()}
        alone, state = function(**own, reverse=reverse)
        y_part.append(alone)
        last_part.append(state)
        assert torch.count_nonzero(y[row, length:]) == 0
        torch.testing.assert_close(y[row : row + 1, :length], alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, torch.cat(last_part), rtol=1e-12, atol=1e-12)
    for name, grad in zip(inputs, grads, strict=True):
        assert name in SHARED or torch.count_nonzero(grad[1, 33:]) == 0


def test_a_token_changes_only_what_comes_after_it(scan: tuple[Scan, Callable[..., Inputs]]) -> None:
    function, make = scan
    inputs = make(1, 150)
    for reverse in (False, True):
        y, _ = function(**inputs, reverse=reverse)
        for name in set(inputs) - set(SHARED) - {"gate"}:
            moved = inputs[name].clone()
            moved[:, 77] += 1
            changed = (function(**{**inputs, name: moved}, reverse=reverse)[0] != y).flatten(2).any(2)[0]
            assert bool(changed[77])
            assert not changed[78:].any() if reverse else not changed[:77].any()
            assert bool(changed[70] if reverse else changed[84]) or name == "C"


def test_two_parts_with_the_state_carried_are_the_whole(scan: tuple[Scan, Callable[..., Inputs]]) -> None:
    function, make = scan
    inputs = make(2, 200)
    whole, last = function(**inputs)

    def cut(part: slice) -> Inputs:
        return {name: value if name in SHARED else value[:, part] for name, value in inputs.items()}

    first, state = function(**cut(slice(0, 90)))
    second, end = function(**{**cut(slice(90, 200)), "initial": state})
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=1e-12, atol=1e-12)


def test_half_precision_is_computed_in_single_and_answered_in_half(scan: tuple[Scan, Callable[..., Inputs]]) -> None:
    function, make = scan
    inputs = {name: value.bfloat16() for name, value in make(1, 100).items()}
    with torch.autocast("cpu", torch.bfloat16):
        found = results(function, inputs)
    expected = results(function, {name: value.float() for name, value in inputs.items()})
    assert (found[0].dtype, found[1].dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[0], expected[0].bfloat16(), rtol=1e-2, atol=1e-2)


def test_an_empty_sequence_leaves_the_state(scan: tuple[Scan, Callable[..., Inputs]]) -> None:
    function, make = scan
    inputs = make(2, 0)
    y, last, *grads = results(function, inputs)
    assert y.shape[1] == 0
    assert torch.equal(last, inputs["initial"])
    assert all(torch.isfinite(grad).all() for grad in grads)


class _Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that any operator makes."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.entries = max([self.entries, *(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))])
        return out


def test_the_states_of_all_tokens_are_never_held(scan: tuple[Scan, Callable[..., Inputs]], monkeypatch: pytest.MonkeyPatch) -> None:
    function, make = scan
    monkeypatch.setattr(scan_blocks, "_BLOCK", 2**14)
    monkeypatch.setattr(state_space_dual, "_SEGMENT", 2**16)
    inputs = make(1, 2048, 16, N=64, G=1) if make is scan_inputs else make(1, 2048, 2, 32, N=64)
    of_all_tokens = 2048 * inputs["initial"].numel()
    with _Largest() as largest:
        results(function, inputs)
    assert largest.entries <= of_all_tokens / 8


def test_shapes_that_do_not_fit_are_refused() -> None:
    for function, make in SCANS.values():
        inputs = make(2, 5)
        with pytest.raises(InputError, match=r"dt \(2, 4"):
            function(**{**inputs, "dt": inputs["dt"][:, 1:]})
        with pytest.raises(InputError, match="G dividing"):
            function(**{**inputs, "B": torch.randn(2, 5, 3, inputs["B"].shape[3]), "C": torch.randn(2, 5, 3, inputs["B"].shape[3])})


def test_shapes_are_counted_where_tensors_have_no_content(scan: tuple[Scan, Callable[..., Inputs]]) -> None:
    function, make = scan
    inputs = make(2, 5)
    found = results(function, {name: value.to("meta") for name, value in inputs.items()})
    assert [value.shape for value in found] == [value.shape for value in results(function, inputs)]
