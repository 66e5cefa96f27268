"""The Triton kernels of the selective scan, against the recurrence: outputs, last states and every gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from interpreting import DEVICE, kernels
from scanning import Inputs, assert_same, of_the_recurrence, results, scan_inputs

from wholescene.ops import selective_scan
from wholescene.ops.selective_scan import reference


def placed(*sizes: int) -> Inputs:
    return {name: value.to(DEVICE) for name, value in scan_inputs(*sizes).items()}


@pytest.mark.parametrize(("batch", "L", "D", "G"), [(1, 1, 4, 1), (2, 7, 4, 2), (1, 13, 5, 1), (1, 40, 2, 1)])
def test_the_kernels_give_the_recurrence_and_its_gradients(batch: int, L: int, D: int, G: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = kernels("selective_scan")
    monkeypatch.setattr(fast, "_TOKENS", 8)  # so that short sequences have several chunks, the last not full
    monkeypatch.setattr(fast, "_CHANNELS", 4)
    inputs = placed(batch, L, D, 3, G)
    u, dt, A, B, C, initial = (inputs[name].requires_grad_() for name in ("u", "dt", "A", "B", "C", "initial"))
    y, last = reference(u, dt, A, B, C, initial=initial)
    to_y, to_last = torch.randn_like(y), torch.randn_like(last)
    expected = torch.autograd.grad((y, last), (u, dt, A, B, C, initial), (to_y, to_last))
    own_y, own_last = fast.Recurrence.apply(u, F.softplus(dt), A, B, C, initial)
    found = torch.autograd.grad((own_y, own_last), (u, dt, A, B, C, initial), (to_y, to_last))
    assert_same((own_y, own_last, *found), (y, last, *expected), 1e-11)


def test_an_empty_sequence_leaves_the_state() -> None:
    fast = kernels("selective_scan")
    inputs = placed(2, 0)
    y, last, _ = fast.forward(*(inputs[name] for name in ("u", "dt", "A", "B", "C", "initial")))
    assert y.shape == (2, 0, 4)
    assert torch.equal(last, inputs["initial"])


@pytest.mark.parametrize("reverse", [False, True])
def test_the_whole_function_gives_the_recurrence_through_the_kernels(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = kernels("selective_scan")
    monkeypatch.setattr(fast, "_TOKENS", 8)
    monkeypatch.setattr(selective_scan, "triton_path", lambda name, like: fast)
    inputs, how = placed(2, 11), {"reverse": reverse, "lengths": torch.tensor([11, 6])}
    expected = of_the_recurrence(selective_scan.selective_scan, inputs, monkeypatch, **how)
    assert_same(results(selective_scan.selective_scan, inputs, **how), expected, 1e-11)
