"""Selective scan, dual scan and their blocks against values of a float64 loop over every index of the definition, forward and every gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import forge
import pytest
import torch
from torch import Tensor, nn

from cases import Case, check, find_cases
from wholescene.layers.mamba import BidirectionalMamba, Mamba, Mamba2
from wholescene.ops.selective_scan import selective_scan
from wholescene.ops.state_space_dual import dual_scan

KINDS = [torch.float64, torch.float32]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = find_cases(metafunc.config, lambda case: case.system.startswith("operator: selective scan"))
    for fixture, sets in (("scan", "scan sets"), ("ssd", "ssd sets")):
        if fixture in metafunc.fixturenames:
            found = [(case, name) for case in cases for name in case.inputs[sets]]
            metafunc.parametrize(("case", fixture), found, ids=[f"{case}-{name}" for case, name in found])
    if "block" in metafunc.fixturenames:
        found = [(case, block) for case in cases for block in ("mamba", "bidirectional", "mamba2")]
        metafunc.parametrize(("case", "block"), found, ids=[f"{case}-{block}" for case, block in found])


def forged(name: str, shape: tuple[int, ...], low: float = -1, high: float = 1) -> Tensor:
    return torch.from_numpy(forge.uniform(name, shape, low, high))


def compare(case: Case, name: str, taps: Mapping[str, Tensor], kind: torch.dtype) -> None:
    tolerance = case.tolerances["float64" if kind == torch.float64 else "float32"]
    if kind == torch.float32:
        tolerance = case.tolerances.get(f"float32 {name}", tolerance)
    given = {f"{name}.{tap}": value.detach().numpy() for tap, value in taps.items()}
    assert sorted(given) == sorted(case.taps(f"{name}."))
    check(forge.compare(case.folder, given), {"*": tolerance})


@pytest.mark.parametrize("kind", KINDS)
def test_the_selective_scan_is_the_recorded_one(case: Case, scan: str, kind: torch.dtype) -> None:
    said = case.inputs["scan sets"][scan]
    B, D, N, G, L = said["B,D,N,G,L"]
    limits = said["A"]
    shapes: dict[str, tuple[Any, ...]] = {
        "u": ((B, D, L),), "dt": ((B, D, L), *said["dt range"]), "A": ((D, N), *(limits if isinstance(limits, list) else ())),
        "B": ((B, G, N, L),), "C": ((B, G, N, L),), "D": ((D,), 0.5, 1.5), "z": ((B, D, L), -3, 3), "bias": ((D,), -0.5, 0.5), "h0": ((B, D, N),),
    }  # fmt: skip
    options = {"D": "D", "z": "z", "b": "bias", "h": "h0"}
    left_out = {name for letter, name in options.items() if letter not in said["options"]}
    inputs = {name: forged(f"selective_scan|{scan}|{name}", *how).to(kind) for name, how in shapes.items() if name not in left_out}
    if not isinstance(limits, list):
        inputs["A"] = -torch.arange(1, N + 1, dtype=kind).expand(D, N).contiguous()
    for value in inputs.values():
        value.requires_grad_()
    tokens = {n: v.movedim(-1, 1) if v.dim() > 2 and n != "h0" else v for n, v in inputs.items()}
    y, last = selective_scan(
        tokens["u"], tokens["dt"], tokens["A"], tokens["B"], tokens["C"],
        skip=tokens.get("D"), gate=tokens.get("z"), bias=tokens.get("bias"), initial=tokens.get("h0"),
    )  # fmt: skip
    upstream = [forged(f"selective_scan|{scan}|{n}", shape).to(kind) for n, shape in (("grad_y", (B, D, L)), ("grad_h", (B, D, N)))]
    found = torch.autograd.grad((y.mT, last), list(inputs.values()), upstream)
    grads = {f"grad_{name}": grad for name, grad in zip(inputs, found, strict=True)}
    compare(case, scan, {"y": y.mT, "h_last": last, **grads}, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_dual_scan_is_the_recorded_one(case: Case, ssd: str, kind: torch.dtype) -> None:
    said = case.inputs["ssd sets"][ssd]
    B, L, H, P, G, N = said["B,L,H,P,G,N"]
    shapes: dict[str, tuple[Any, ...]] = {
        "x": ((B, L, H, P),), "dt": ((B, L, H), *said["dt range"]), "A": ((H,), *said["A range"]), "B": ((B, L, G, N),), "C": ((B, L, G, N),),
        "D": ((H,), 0.5, 1.5), "bias": ((H,), -0.5, 0.5), "h0": ((B, H, P, N),),
    }  # fmt: skip
    inputs = {name: forged(f"selective_scan|{ssd}|{name}", *how).to(kind).requires_grad_() for name, how in shapes.items()}
    x, dt, A, own_B, own_C, skip, bias, initial = inputs.values()
    y, last = dual_scan(x, dt, A, own_B, own_C, skip=skip, bias=bias, initial=initial)
    upstream = [forged(f"selective_scan|{ssd}|{n}", tuple(v.shape)).to(kind) for n, v in (("grad_y", y), ("grad_h", last))]
    found = torch.autograd.grad((y, last), list(inputs.values()), upstream)
    compare(case, ssd, {"y": y, "h_last": last, **{f"grad_{name}": grad for name, grad in zip(inputs, found, strict=True)}}, kind)


def forged_block(case: Case, block: str) -> nn.Module:
    makes = {
        "mamba": lambda: Mamba(24),
        "bidirectional": lambda: BidirectionalMamba(24),
        "mamba2": lambda: Mamba2(24, state=16, head=8, groups=2),
    }
    made = makes[block]()
    weights = forge.weights(forge.read_keys(case.folder / "keys.tsv"), **forge.recipe(case.folder))
    own = {name.removeprefix(f"{block}."): torch.from_numpy(array) for name, array in weights.items() if name.startswith(f"{block}.")}
    made.load_state_dict(own, strict=True)
    assert sum(p.numel() for p in made.parameters()) == case.facts["parameters"][f"{block}."]
    return made


# tap -> the module that it passes, whether it enters or leaves, and at which of the module's calls
_MAMBA = {"conv": ("x_proj", "input", 0), "x_proj": ("x_proj", "output", 0), "y": ("out_proj", "input", 0)}
INNER: dict[str, dict[str, tuple[str, str, int]]] = {
    "mamba": _MAMBA,
    "bidirectional": {**_MAMBA, "y_backward": ("out_proj", "input", 1)},
    "mamba2": {"y": ("norm", "input", 0), "norm": ("norm", "output", 0)},
}
HELD_BY_WHAT_FOLLOWS = {"mamba": {"dt", "h_last"}, "bidirectional": {"dt", "h_last", "h_last_backward"}, "mamba2": {"conv", "h_last"}}


def watched(made: nn.Module, tokens: Tensor) -> tuple[Tensor, dict[tuple[str, str], list[Tensor]]]:
    """What a block answers, and what entered and left its modules, call by call."""
    seen: dict[tuple[str, str], list[Tensor]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            seen.setdefault((name, "input"), []).append(given[0])
            seen.setdefault((name, "output"), []).append(out)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in made.named_modules() if name]
    out = made(tokens)
    for handle in handles:
        handle.remove()
    return out, seen


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_give_the_recorded_taps_and_gradients(case: Case, block: str, kind: torch.dtype) -> None:
    made = forged_block(case, block).to(kind)
    tokens = forged(f"selective_scan|{block}.input", (2, 37, 24)).to(kind).requires_grad_()
    out, seen = watched(made, tokens)
    upstream = forged(f"selective_scan|{block}.grad_out", (2, 37, 24)).to(kind)
    named = dict(made.named_parameters())
    found = torch.autograd.grad(out, (tokens, *named.values()), upstream)
    inner = {tap: seen[module, side][call] for tap, (module, side, call) in INNER[block].items()}
    if block != "mamba2":  # whose taps have channels last
        inner = {tap: value.mT for tap, value in inner.items()}
    taps = {**inner, "out": out, "grad_input": found[0], **{f"grad_{name}": grad for name, grad in zip(named, found[1:], strict=True)}}
    given = {f"{block}.{tap}": value.detach().numpy() for tap, value in taps.items()}
    tolerance = case.tolerances["float64" if kind == torch.float64 else "float32"]
    check(forge.compare(case.folder, given), {"*": tolerance})
    assert set(case.taps(f"{block}.")) - set(given) == {f"{block}.{tap}" for tap in HELD_BY_WHAT_FOLLOWS[block]}
