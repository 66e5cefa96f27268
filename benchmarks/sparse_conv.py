"""Sparse convolution against the share of active voxels: time of every form and of the automatic choice, forward and with backward, and memory.

python benchmarks/sparse_conv.py [--grid 128,128,16] [--width 64] [--shares 0.005,0.01,...] [--cell] [--device cuda]

Masks are smooth blobs, as scenes are: most of a voxel's neighbours are active where it is. With --cell a whole step of the masked GRU (table and
three convolutions) is timed instead of one convolution. Each time has a table of its own in it, so that what a form or the choice makes of the table
is paid for (the dense form alone reads none). Forms alternate, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from machine import copy_rate, matmul_rate, processor
from torch import Tensor

from wholescene.layers.sparse_gru import MaskedSparseGRU
from wholescene.ops.neighbours import links_of_mask
from wholescene.ops.sparse_conv import choose, sparse_conv
from wholescene.training.anytime import begin_peak, peak_of

FORMS = ("pairs", "gather", "dense", "auto")
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)


def blobs(grid: tuple[int, int, int], share: float) -> Tensor:
    """(1, X, Y, Z) bool: the largest values of smoothed noise."""
    noise = torch.randn(1, 1, *grid, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        noise = F.avg_pool3d(noise, 3, 1, 1)
    most = max(1, round(share * noise.numel()))
    return (noise >= noise.flatten().topk(most).values[-1])[0]


Work = Callable[[], object]


def seconds(works: dict[tuple[str, bool], Work], device: str, repeats: int) -> dict[tuple[str, bool], float]:
    """The fastest of some rounds after a first one, of each."""
    times: dict[tuple[str, bool], list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: min(all_of_it[1:]) for name, all_of_it in times.items()}


def one_convolution(mask: Tensor, width: int, form: str, backward: bool) -> Work:
    """What is timed: the table, and from features on the active voxels to features on them."""
    torch.manual_seed(0)
    shapes = ((int(mask.sum()), width), (width, width, 3, 3, 3), (width,))
    features, weight, bias = (torch.randn(shape, device=mask.device).mul_(0.1).requires_grad_(backward) for shape in shapes)

    def run() -> object:
        with torch.set_grad_enabled(backward):
            made = sparse_conv(features, weight, bias, links_of_mask(mask, table=form != "dense"), form)  # type: ignore[arg-type]
            return torch.autograd.grad(made.sum(), [features, weight, bias]) if backward else made

    return run


def one_step(mask: Tensor, width: int, form: str, backward: bool) -> Work:
    """A step of the cell: the table, and both convolutions of twice the width."""
    torch.manual_seed(0)
    cell = MaskedSparseGRU(width, width, form=form).to(mask.device)  # type: ignore[arg-type]
    state = torch.randn(mask.numel(), width, device=mask.device, requires_grad=backward)
    x = torch.randn(int(mask.sum()), width, device=mask.device)

    def run() -> object:
        with torch.set_grad_enabled(backward):
            active = mask.reshape(-1).nonzero()[:, 0]
            made = cell(state, x, active, links_of_mask(mask, table=form != "dense"))
            return torch.autograd.grad(made.sum(), [state, *cell.parameters()]) if backward else made

    return run


def peak(work: Work, device: torch.device) -> float:
    """MiB that one run takes beyond what was held before it."""
    begin_peak(device)
    before = peak_of(device)
    work()
    return (peak_of(device) - before) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--grid", default="128,128,16")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--shares", default=",".join(map(str, SHARES)))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--cell", action="store_true")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    X, Y, Z = (int(n) for n in given.grid.split(","))
    where = processor() if given.device == "cpu" else torch.cuda.get_device_name()
    print(f"{where}, {matmul_rate() / 1e9:.0f} GFLOP/s, copy {copy_rate() / 1e9:.1f} GB/s; {X}x{Y}x{Z}, {given.width} channels")
    heads = [*(f"{form} s" for form in FORMS), *(f"{form}+b s" for form in FORMS), *(f"{form} MiB" for form in FORMS)]
    print(f"{'active':>8}{'near':>7}" + "".join(f"{head:>12}" for head in heads) + "   chosen, fastest, with backward")
    for share in map(float, given.shares.split(",")):
        mask = blobs((X, Y, Z), share).to(given.device)
        links = links_of_mask(mask)
        near = links.met / links.rows.numel()
        made = one_step if given.cell else one_convolution
        works = {(form, backward): made(mask, given.width, form, backward) for backward in (False, True) for form in FORMS}
        times = seconds(works, given.device, given.repeats)
        memory = [peak(works[form, True], torch.device(given.device)) for form in FORMS]
        best = [min(FORMS[:-1], key=lambda form, b=backward, t=times: t[form, b]) for backward in (False, True)]
        cells = "".join(f"{value:>12.4f}" for value in times.values()) + "".join(f"{value:>12.0f}" for value in memory)
        widths = [(2, 2), (2, 1)] if given.cell else [(1, 1)]  # of the gates, and of the candidate
        chosen = "/".join(dict.fromkeys(choose(links, i * given.width, o * given.width) for i, o in widths))
        print(f"{share:>8.1%}{near:>7.2f}{cells}   {chosen}, {best[0]}, {best[1]}", flush=True)


if __name__ == "__main__":
    main()
