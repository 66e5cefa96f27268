"""Lovász-softmax against a float64 loop with rational Jaccard losses: value, classes, gradients, ties, and single gradients of whole scenes."""

from __future__ import annotations

from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.lovasz import lovasz, lovasz_softmax

pytestmark = pytest.mark.parity


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: "Lovasz-softmax" in case.system), ids=str)


def labels_of(case: Case, name: str) -> Tensor:
    return torch.from_numpy(case.tap(f"{name}.labels").astype(np.int64))


def value(loss: Tensor, of_class: Tensor, name: str) -> dict[str, np.ndarray]:
    return {f"{name}.loss": loss.detach().numpy(), f"{name}.per_class": of_class.detach().numpy()}


def from_logits(case: Case, name: str, said: list[Any], kind: torch.dtype) -> dict[str, np.ndarray]:
    classes, _, mode, ignored, scale, *_ = said
    labels = labels_of(case, name)
    shape = (labels.shape[0], classes, *labels.shape[1:])
    logits = torch.from_numpy(forge.uniform(f"lovasz_softmax|{name}|logits", shape, -scale, scale)).to(kind).requires_grad_()
    loss = lovasz_softmax(logits, labels, mode, ignored)
    (to_logits,) = torch.autograd.grad(loss, logits)
    probabilities = torch.softmax(logits.detach().double(), 1).to(kind).requires_grad_()
    plain, of_class = lovasz(probabilities, labels, mode, ignored)
    (to_probabilities,) = torch.autograd.grad(plain, probabilities)
    torch.testing.assert_close(plain, loss)
    grads = {f"{name}.grad_logits": to_logits.numpy(), f"{name}.grad_probabilities": to_probabilities.numpy()}
    return {f"{name}.labels": case.tap(f"{name}.labels"), **value(loss, of_class, name), **grads}


def groups(probabilities: Tensor, labels: Tensor, gradient: Tensor) -> np.ndarray:
    """Rows class, error, how many, sum of |gradient|: what no order among equal errors changes."""
    rows = []
    K = probabilities.shape[1]
    p, slope, y = (t.movedim(1, -1).reshape(-1, K) if t.dim() == 5 else t.reshape(-1) for t in (probabilities, gradient, labels))
    known = y != 255
    for k in range(K):
        if not (y == k).any():
            continue
        errors = ((y == k).to(p.dtype) - p[:, k]).abs()[known]
        sizes = slope[:, k].abs()[known]
        rows += [[k, float(e), int((errors == e).sum()), float(sizes[errors == e].sum())] for e in errors.unique().flip(0)]
    return np.array(rows)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_every_tap_is_the_loops(case: Case, kind: torch.dtype) -> None:
    got: dict[str, np.ndarray] = {}
    sets = next(iter(case.inputs.values()))
    for name, said in sets.items():
        if f"{name}.probabilities" in case.taps():
            labels, p = labels_of(case, name), torch.from_numpy(case.tap(f"{name}.probabilities")).to(kind).requires_grad_()
            loss, of_class = lovasz(p, labels, said[2], said[3])
            (slope,) = torch.autograd.grad(loss, p)
            got |= {f"{name}.labels": case.tap(f"{name}.labels"), f"{name}.probabilities": p.detach().numpy(), **value(loss, of_class, name)}
            got |= {f"{name}.grad_probabilities": slope.numpy(), f"{name}.groups": groups(p.detach(), labels, slope)}
        elif f"{name}.labels" in case.taps():
            got |= from_logits(case, name, said, kind)
    for name, share in (("scene_common", 0.05), ("scene_rare", 0.0005)):
        n = 129_600
        p = torch.from_numpy(forge.uniform(f"lovasz_softmax|{name}|probability", (n,), 0, 1)).to(kind)
        foreground = torch.from_numpy(forge.uniform(f"lovasz_softmax|{name}|foreground", (n,), 0, 1) < share)
        both = torch.stack([torch.zeros_like(p), p])[None].requires_grad_()
        _, of_class = lovasz(both, foreground.long()[None], "present", None)
        loss, _ = lovasz(both, foreground.long()[None], "present", None)
        (slope,) = torch.autograd.grad(loss, both)
        got |= {f"{name}.loss": of_class[1:].detach().numpy(), f"{name}.gradient": 2 * slope[0, 1].numpy()}  # the mean of two classes
    exact = kind == torch.float64
    known = set(case.taps())
    rows = forge.compare(case.folder, {tap: value for tap, value in got.items() if tap in known}, whole=True)
    check(rows, {"*.labels": 1e-9, "*": 1e-10 if exact else 1e-5}, {})


def test_single_gradients_of_whole_scenes_are_right_where_cumulative_differences_are_not(case: Case) -> None:
    for name, share in (("scene_common", 0.05), ("scene_rare", 0.0005)):
        n = 129_600
        p = torch.from_numpy(forge.uniform(f"lovasz_softmax|{name}|probability", (n,), 0, 1))
        foreground = torch.from_numpy(forge.uniform(f"lovasz_softmax|{name}|foreground", (n,), 0, 1) < share)
        both = torch.stack([torch.zeros_like(p), p])[None].requires_grad_()
        (slope,) = torch.autograd.grad(lovasz(both, foreground.long()[None], "present", None)[0], both)
        with np.load(case.folder / "expected.npz") as held:
            want = held[f"{name}.gradient.values"]
            index = held[f"{name}.gradient.index"] if f"{name}.gradient.index" in held.files else slice(None)
        have = 2 * slope[0, 1].double().numpy()[index]
        assert np.all(np.abs(have - want) <= 1e-4 * np.abs(want))
