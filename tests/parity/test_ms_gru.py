"""The masked sparse GRU, its roll-out with mask updating, and distance attention, against float64 loops over active places and points."""

from __future__ import annotations

from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.geometry.surface import read_map, surface_distance
from wholescene.layers.distance_attention import DistanceAttention
from wholescene.layers.occupancy_head import OccupancyHead
from wholescene.layers.sparse_gru import MaskedSparseGRU
from wholescene.ops.neighbours import links_of_mask

pytestmark = pytest.mark.parity

WIDTH = 6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: "masked sparse GRU" in case.system), ids=str)


class Forged:
    """The modules with the case's weights."""

    def __init__(self, case: Case, kind: torch.dtype, form: str) -> None:
        arrays = forge.weights(forge.read_keys(case.folder / "keys.tsv"), **forge.recipe(case.folder))
        state = {name: torch.from_numpy(array).to(kind) for name, array in arrays.items()}
        state["conv_zr.bias"][:WIDTH] -= 1
        self.cell = MaskedSparseGRU(WIDTH, WIDTH, form=form).to(kind)  # type: ignore[arg-type]
        self.cell.load_state_dict({name: value for name, value in state.items() if name.startswith("conv_")})
        self.head = torch.nn.Linear(WIDTH, 12)
        self.head.load_state_dict({"weight": state["head.weight"].flatten(1), "bias": state["head.bias"]})
        self.occupancy = OccupancyHead(12)
        parts = {"mask.0": "conv0", "mask.1": "norm", "mask.2": "conv1"}
        named = {f"{parts[name[:6]]}{name[6:]}": value for name, value in state.items() if name.startswith("mask.")}
        self.occupancy.load_state_dict(named, strict=False)
        for module in (self.cell, self.head, self.occupancy):
            module.to(kind).eval()

    def step(self, h: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """The next h (B, C, X, Y, Z)."""
        rows = h.movedim(1, -1)
        active = mask.reshape(-1).nonzero()[:, 0]
        made = self.cell(rows.flatten(0, 3), x.movedim(1, -1)[mask], active, links_of_mask(mask, 3))
        return made.view(rows.shape).movedim(-1, 1)


def forged(name: str, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(forge.uniform(f"ms_gru|{name}|{kind}", shape)).to(dtype)


def mask_of(name: str, shape: tuple[int, ...], density: float | str) -> Tensor:
    if isinstance(density, str):
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[0, 2, 1, 3] = True
        return mask
    return torch.from_numpy(forge.uniform(f"ms_gru|{name}|mask", shape, 0, 1) < density)


def slopes(made: Tensor, to: Tensor, h: Tensor, x: Tensor, cell: MaskedSparseGRU) -> dict[str, Tensor]:
    inputs = {"h": h, "x": x, **dict(cell.named_parameters())}
    found = torch.autograd.grad(made, list(inputs.values()), to, allow_unused=True)
    return {f"grad_{name}": torch.zeros_like(value) if g is None else g for (name, value), g in zip(inputs.items(), found, strict=True)}


def one_step(made: Forged, name: str, said: list[Any], kind: torch.dtype) -> dict[str, Tensor]:
    batch, grid, density = said
    shape = (batch, WIDTH, *grid)
    h, x = (forged(name, which, shape, kind).requires_grad_() for which in "hx")
    mask = mask_of(name, (batch, *grid), density)
    after = made.step(h, x, mask)
    assert torch.equal(after.detach().movedim(1, -1)[~mask], h.detach().movedim(1, -1)[~mask]), "off the mask, bit by bit"
    gates = made.cell.gates(h.detach().movedim(1, -1)[mask], x.detach().movedim(1, -1)[mask], links_of_mask(mask, 3))
    grads = slopes(after, forged(name, "grad", shape, kind), h, x, made.cell)
    return {"mask": mask.to(torch.uint8), "h_next": after.detach(), **{g: gates[g].detach() for g in "zrq"}, **grads}


def three_steps(made: Forged, kind: torch.dtype) -> dict[str, Tensor]:
    shape = (1, WIDTH, 7, 6, 5)
    h, x = (forged("three", which, shape, kind).requires_grad_() for which in "hx")
    masks = [mask_of(f"three{i}", (1, 7, 6, 5), 0.3) for i in range(3)]
    states = [h]
    for mask in masks:
        states.append(made.step(states[-1], x, mask))
    grads = slopes(states[-1], forged("three", "grad", shape, kind), h, x, made.cell)
    return {"masks": torch.stack(masks).to(torch.uint8), **{f"h_{i}": states[i].detach() for i in (1, 2, 3)}, **grads}


@torch.no_grad()
def rollout(made: Forged, kind: torch.dtype) -> dict[str, Tensor]:
    shape = (1, WIDTH, 12, 9, 10)
    h, x = (forged("rollout", which, shape, kind) for which in "hx")
    mask = mask_of("rollout", (1, 12, 9, 10), 0.25)
    taps = {"mask_0": mask.to(torch.uint8)}
    for i in (1, 2, 3):
        h = made.step(h, x, mask)
        logits = made.head(h.movedim(1, -1)).movedim(-1, 1)
        occupied = torch.softmax(made.occupancy(torch.softmax(logits, 1)), 1)[:, 1]
        mask = occupied > 0.5
        taps |= {f"h_{i}": h, f"logits_{i}": logits, f"occupied_{i}": occupied, f"mask_{i}": mask.to(torch.uint8)}
    return taps


def depth_map(name: str) -> np.ndarray:
    near = forge.depth("ms_gru|depth", 48, 64, 1.8, 2.6)
    steps = 1.5 * (forge.picture("ms_gru|steps", 48, 64)[..., 1] <= 128)
    maps = {"plane": np.full((48, 64), 2.0), "nyu": near, "outdoor": forge.depth("ms_gru|depth far", 48, 64, 8, 14.5)}
    return maps[name].astype(np.float64) if name != "edges" else near.astype(np.float64) + steps


@torch.no_grad()
def attention(case: Case, name: str) -> dict[str, Tensor]:
    said = case.inputs["attention"]
    focal, voxel = said["focal"][name], said["voxel"][name]
    points = torch.from_numpy(case.tap(f"dap_{name}.points")).double()
    depth = torch.from_numpy(depth_map(name))
    pixels = points[:, :2] * focal / points[:, 2:] + torch.tensor([32.0, 24.0])
    delta, surface, seen, nearest = surface_distance(depth, pixels, points[:, 2], (64, 48), 2 * voxel)
    widening = 10.0 if name in said["outdoor_widening"] else 0.0
    weights = {}
    for profile in ("tent", "gauss"):
        layer = DistanceAttention(profile, widening_m=widening).double()  # type: ignore[arg-type]
        layer.log_reach.data = torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
        weights[profile] = torch.where(seen, layer(delta, surface, voxel), 0.0)
    features = torch.from_numpy(forge.uniform(f"ms_gru|{name}|features", (4, 12, 16))).double()
    x = weights["tent"][:, None] * read_map(features, pixels, (4, 4))
    flags = {"inside": seen.to(torch.uint8), "nearest": nearest.to(torch.uint8)}
    return {"points": points, "depth_map": depth, **flags, "depth": surface, "delta": delta, **weights, "x": x}


@pytest.mark.parametrize(("kind", "form"), [(torch.float64, "gather"), (torch.float64, "pairs"), (torch.float64, "dense"), (torch.float32, "auto")])
def test_every_tap_is_the_loops(case: Case, kind: torch.dtype, form: str) -> None:
    made, got = Forged(case, kind, form), {}
    sets = {name: one_step(made, name, said, kind) for name, said in case.inputs["steps: batch, grid, density"].items()}
    sets |= {"three": three_steps(made, kind), "rollout": rollout(made, kind)}
    sets |= {f"dap_{name}": attention(case, name) for name in ("plane", "nyu", "edges", "outdoor")}
    known = set(case.taps())
    for name, taps in sets.items():
        got |= {f"{name}.{tap}": value.detach().numpy() for tap, value in taps.items() if f"{name}.{tap}" in known}
    tolerance = 1e-10 if kind == torch.float64 else 1e-5
    flags = {"*.mask*": 1e-9, "*.inside": 1e-9, "*.nearest": 1e-9}
    check(forge.compare(case.folder, got, whole=True), {**flags, "dap_*": 1e-10, "*": tolerance})
