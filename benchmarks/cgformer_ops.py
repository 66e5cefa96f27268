"""CGFormer's operators at full size: time of the plain form and of the path for the device, the memory each takes above its inputs, and how fast
ours reads what it must read, beside a copy.

    python benchmarks/cgformer_ops.py [--device cuda] [--backward]

On a CPU each form runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import best_of, copy_rate, processor
from torch import Tensor

from wholescene.ops import deformable_conv, depth_deformable, lss_pooling, neighbourhood, trilinear

ROWS, COLUMNS, BINS, HEADS, WIDTH, POINTS = 48, 160, 112, 8, 16, 8
QUERIES = 19563  # proposed voxels in view of the recorded case
VOXELS = 128 * 128 * 16

Form = Callable[..., Tensor]


def depth_aware() -> tuple[list[Tensor], list[Any], Form, Form]:
    """Queries read a few cells and bins around their own place, as trained ones do."""
    own = torch.rand(1, QUERIES, 1, 1, 3)
    locations = own + torch.randn(1, QUERIES, HEADS, POINTS, 3) * 4 / torch.tensor([COLUMNS, ROWS, BINS])
    depth = (4 * torch.randn(1, BINS, ROWS, COLUMNS)).softmax(1)
    given = [torch.randn(1, ROWS * COLUMNS, HEADS, WIDTH), depth, locations, torch.rand(1, QUERIES, HEADS, POINTS).softmax(-1)]
    return given, [], depth_deformable.reference, depth_deformable.depth_aware_sampling


def pooling() -> tuple[list[Tensor], list[Any], Form, Form]:
    """Half of the frustum's points lie in the volume, the near ones in few voxels."""
    voxels = (torch.rand(BINS * ROWS * COLUMNS) ** 3 * VOXELS).long()
    voxels[torch.rand(len(voxels)) < 0.53] = -1
    depth = (4 * torch.randn(BINS, ROWS * COLUMNS)).softmax(0)
    bags = lss_pooling.VoxelBags.of(voxels, VOXELS)
    return [depth, torch.randn(ROWS * COLUMNS, HEADS * WIDTH)], [bags], lss_pooling.reference, lss_pooling.splat


def neighbours() -> tuple[list[Tensor], list[Any], Form, Form]:
    """Windows of 5 x 5; the plain form scores all pairs of cells."""
    maps = [torch.randn(1, ROWS, COLUMNS, BINS) for _ in range(3)]
    return [*maps, torch.randn(9, 9)], [], neighbourhood.reference, neighbourhood.neighbourhood_attention


def convolution() -> tuple[list[Tensor], list[Any], Form, Form]:
    """Offsets of about a cell."""
    given = [torch.randn(1, BINS, ROWS, COLUMNS), torch.randn(1, 18, ROWS, COLUMNS), torch.randn(BINS, BINS // 4, 3, 3)]
    return given, [], deformable_conv.reference, deformable_conv.deformable_convolution


def resizing() -> tuple[list[Tensor], list[Any], Form, Form]:
    """The head's logits of 20 classes, to twice the volume."""
    size = {"size": (256, 256, 32)}
    return [torch.randn(1, 20, 128, 128, 16)], [], partial(trilinear.reference, **size), partial(trilinear.resize_volume, **size)


CELLS, READS = ROWS * COLUMNS, QUERIES * HEADS * POINTS
# operator -> what makes its inputs, and the bytes that its forward pass cannot but read and write
OPERATORS = {
    "depth-aware sampling": (depth_aware, READS * (4 * (4 * WIDTH + 8) + 16) + 4 * QUERIES * HEADS * WIDTH),
    "voxel pooling": (pooling, int(0.47 * BINS * CELLS) * (4 * HEADS * WIDTH + 12) + 4 * VOXELS * HEADS * WIDTH),
    "neighbourhood attention": (neighbours, 4 * CELLS * BINS * (2 * 25 + 2)),
    "deformable convolution": (convolution, 4 * CELLS * BINS * (9 * 4 + 1)),
    "trilinear resizing": (resizing, 4 * 20 * 9 * VOXELS),
}


def measure(name: str, fast: bool, backward: bool, device: str) -> tuple[float, float]:
    """Seconds, and GiB above the inputs at the highest point."""
    torch.manual_seed(0)
    tensors, more, plain, ours = OPERATORS[name][0]()
    inputs = [t.to(device).requires_grad_(backward) for t in tensors]
    if device == "cuda":
        more = [lss_pooling.VoxelBags(bags.points.to(device), bags.starts.to(device)) for bags in more]
    form = ours if fast else plain

    def work() -> None:
        out = form(*inputs, *more)
        if backward:
            torch.autograd.grad(out.sum(), inputs)
        if device == "cuda":
            torch.cuda.synchronize()

    before = torch.cuda.memory_allocated() / 2**30 if device == "cuda" else _resident()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken = best_of(work)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return taken, peak - before


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**30


def main() -> None:
    """One row an operator."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backward", action="store_true")
    given = parser.parse_args()
    print(torch.cuda.get_device_name() if given.device == "cuda" else processor())
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # what a parent once held counts as its children's peak
        copied = pool.apply(copy_rate) if given.device == "cpu" else 0.0
    print(f"{'':26}{'plain s':>10}{'ours s':>10}{'times':>8}{'plain GiB':>12}{'ours GiB':>10}{'ours GB/s':>12}   copy {copied / 1e9:.1f} GB/s")
    for name in OPERATORS:
        rows = []
        for fast in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (name, fast, given.backward, given.device)))
        (slow, large), (quick, small) = rows
        rate = "" if given.backward else f"{OPERATORS[name][1] / quick / 1e9:12.1f}"
        print(f"{name:26}{slow:10.4f}{quick:10.4f}{slow / quick:8.1f}{large:12.3f}{small:10.3f}{rate}", flush=True)


if __name__ == "__main__":
    main()
