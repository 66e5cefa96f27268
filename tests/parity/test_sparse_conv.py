"""Sparse convolutions against a float64 loop over active places: submanifold, strided and inverse, forward and every gradient, every form."""

from __future__ import annotations

from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.ops.neighbours import Links, links_between, links_of_mask, links_of_places
from wholescene.ops.sparse_conv import sparse_conv

pytestmark = pytest.mark.parity

SUBMANIFOLD = "submanifold: batch, grid, density, Cin, Cout, kernel, dilation, bias"
BETWEEN = "strided and regular: batch, grid, density, Cin, Cout, kernel, stride, padding, inverse channels"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: "sparse 3D convolution" in case.system), ids=str)


def forged(name: str, kind: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(forge.uniform(f"sparse_conv|{name}|{kind}", shape)).double()


def mask_of(name: str, shape: tuple[int, ...], density: float | str) -> Tensor:
    """(B, X, Y, Z) bool."""
    if isinstance(density, str):
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[0, 2, 3, 1] = True
        return mask
    return torch.from_numpy(forge.uniform(f"sparse_conv|{name}|active", shape, 0, 1) < density)


def weights(name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    found = (forge.weight(f"{name}.weight", shape), forge.weight(f"{name}.bias", shape[:1]))
    return tuple(torch.from_numpy(a).double().requires_grad_() for a in found)  # type: ignore[return-value]


def submanifold(name: str, said: list[Any], form: str, table: str) -> dict[str, np.ndarray]:
    batch, grid, density, wide_in, wide_out, kernel, dilation, has_bias = said
    mask = mask_of(name, (batch, *grid), density)
    places = mask.nonzero()
    links: Links = links_of_mask(mask, kernel, dilation) if table == "volume" else links_of_places(places, kernel, dilation)
    features = forged(name, "features", (batch, *grid, wide_in))[mask].requires_grad_()
    weight, bias = weights(name, (wide_out, wide_in, *kernel))
    y = sparse_conv(features, weight, bias if has_bias else None, links, form)  # type: ignore[arg-type]
    inputs = [features, weight, *([bias] if has_bias else [])]
    slopes = torch.autograd.grad(y, inputs, forged(name, "grad", (batch, *grid, wide_out))[mask])
    names = ("features", "weight", "bias")
    grads = {f"{name}.grad_{which}": slope.numpy() for which, slope in zip(names, slopes, strict=False)}
    return {f"{name}.places": places.int().numpy(), f"{name}.y": y.detach().numpy(), **grads}


def between(name: str, said: list[Any], form: str) -> dict[str, np.ndarray]:
    batch, grid, density, wide_in, wide_out, kernel, stride, padding, wide_back = said
    mask = mask_of(name, (batch, *grid), density)
    places, out, links = links_between(mask.nonzero(), grid, kernel, stride, padding)
    features = forged(name, "features", (batch, *grid, wide_in))[mask].requires_grad_()
    weight, bias = weights(name, (wide_out, wide_in, *kernel))
    weight_back, bias_back = weights(f"{name}.inverse", (wide_back, wide_out, *kernel))
    y = sparse_conv(features, weight, bias, links, form)  # type: ignore[arg-type]
    back = sparse_conv(y, weight_back, bias_back, links.turned(), form)  # type: ignore[arg-type]
    to_y = forged(name, "grad", (batch, *out, wide_out))[tuple(places.T)]
    to_back = forged(name, "grad_inverse", (batch, *grid, wide_back))[mask]
    inputs = [features, weight, bias, weight_back, bias_back]
    slopes = torch.autograd.grad([y, back], inputs, [to_y, to_back])
    names = ("features", "weight", "bias", "inverse_weight", "inverse_bias")
    grads = {f"{name}.grad_{which}": slope.numpy() for which, slope in zip(names, slopes, strict=True)}
    taps = {"places": mask.nonzero().int(), "out_places": places.int(), "y": y.detach(), "inverse": back.detach()}
    return {**{f"{name}.{tap}": value.numpy() for tap, value in taps.items()}, **grads}


@pytest.mark.parametrize(
    ("form", "table"), [("gather", "volume"), ("pairs", "volume"), ("dense", "volume"), ("gather", "sorted"), ("auto", "sorted")]
)
def test_every_tap_is_the_loops(case: Case, form: str, table: str) -> None:
    got: dict[str, np.ndarray] = {}
    for name, said in case.inputs[next(k for k in case.inputs if k.startswith("submanifold"))].items():
        got |= submanifold(name, said, form, table)
    for name, said in case.inputs[next(k for k in case.inputs if k.startswith(("strided", "regular")))].items():
        got |= between(name, said, "pairs" if form == "dense" else form)
    known = set(case.taps())
    rows = forge.compare(case.folder, {tap: value for tap, value in got.items() if tap in known}, whole=True)
    check(rows, {"*places": 1e-9, "*": 1e-12})
