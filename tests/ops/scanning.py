"""Inputs of scans, and what they answer: shared by the tests of all their paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

Inputs = dict[str, Tensor]
Scan = Callable[..., tuple[Tensor, Tensor]]


def scan_inputs(batch: int, L: int, D: int = 4, N: int = 3, G: int = 2, kind: torch.dtype = torch.float64) -> Inputs:
    random = torch.Generator().manual_seed(L)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=kind, generator=random)

    A = -torch.rand(D, N, dtype=kind, generator=random) * 3 - 0.01
    tokens = {"u": normal(batch, L, D), "dt": normal(batch, L, D) - 1, "A": A, "B": normal(batch, L, G, N), "C": normal(batch, L, G, N)}
    return {**tokens, "skip": normal(D), "gate": normal(batch, L, D), "bias": normal(D), "initial": normal(batch, D, N)}


def dual_inputs(batch: int, L: int, H: int = 4, P: int = 3, N: int = 5, G: int = 2, kind: torch.dtype = torch.float64) -> Inputs:
    random = torch.Generator().manual_seed(L)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=kind, generator=random)

    A = -torch.rand(H, dtype=kind, generator=random) * 3 - 0.01
    tokens = {"x": normal(batch, L, H, P), "dt": normal(batch, L, H) - 1, "A": A, "B": normal(batch, L, G, N), "C": normal(batch, L, G, N)}
    return {**tokens, "skip": normal(H), "bias": normal(H), "initial": normal(batch, H, P, N)}


def results(function: Scan, inputs: Inputs, **how: Any) -> tuple[Tensor, ...]:
    """y, last, and the gradient at every input of a fixed weighted sum of both."""
    given = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    y, last = function(**given, **how)
    upstream = [torch.linspace(-1, 1, v.numel(), dtype=v.dtype, device=v.device).reshape(v.shape) for v in (y, last)]
    return (y, last, *torch.autograd.grad((y, last), list(given.values()), upstream))


def of_the_recurrence(function: Scan, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[Tensor, ...]:
    with monkeypatch.context() as patch:
        patch.setenv("WHOLESCENE_OPS", "reference")
        return results(function, inputs, **how)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> None:
    for own, other in zip(found, expected, strict=True):
        assert own.shape == other.shape
        assert (own - other).abs().max() <= tolerance * max(1.0, float(other.detach().abs().max()))
