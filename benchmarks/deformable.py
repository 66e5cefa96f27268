"""Deformable sampling: time and memory of the reference and of the path for the device, at the sizes of VoxFormer and Symphonies.

python benchmarks/deformable.py [--device cuda] [--backward]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from machine import copy_rate, processor
from torch import Tensor

from wholescene.ops.deformable import deformable_sampling, reference

# name -> (heads, channels of a head, points, shapes, queries: None for one a cell)
SIZES: dict[str, tuple[int, int, int, tuple[tuple[int, ...], ...], int | None]] = {
    "VoxFormer, self-attention, released": (8, 16, 16, ((512, 512),), None),
    "VoxFormer, self-attention, clean": (8, 16, 8, ((128, 128, 16),), None),
    "VoxFormer, cross-attention": (8, 16, 8, ((24, 77),), 62153),
    "Symphonies, pixel decoder": (8, 32, 4, ((47, 153), (24, 77), (12, 39), (6, 20)), None),
    "Symphonies, scene self-attention, released": (8, 16, 8, ((1024, 128),), 89331),
    "Symphonies, scene self-attention, clean": (8, 16, 8, ((128, 128, 8),), 89331),
}


def forged(name: str, device: str) -> tuple[Tensor, tuple[tuple[int, ...], ...], Tensor, Tensor]:
    """Queries read a few cells around their own, as trained ones do."""
    heads, channels, points, shapes, queries = SIZES[name]
    torch.manual_seed(0)
    cells = sum(math.prod(s) for s in shapes)
    own = torch.cat([centres(s) for s in shapes]) if queries is None else torch.rand(queries, len(shapes[0]))
    reach = torch.stack([3 / torch.tensor(list(reversed(s))) for s in shapes])
    locations = own[:, None, None, None] + torch.randn(len(own), heads, len(shapes), points, len(shapes[0])) * reach[:, None]
    weights = torch.rand(len(own), heads, len(shapes), points)
    return torch.randn(1, cells, heads, channels).to(device), shapes, locations[None].to(device), weights[None].to(device)


def centres(shape: tuple[int, ...]) -> Tensor:
    """(cells, A), the last axis first."""
    axes = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return torch.stack([a.flatten() for a in reversed(axes)], -1)


def seconds(work: Callable[[], object], device: str) -> float:
    """The faster of two runs after a first one."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backward", action="store_true")
    given = parser.parse_args()
    print(torch.cuda.get_device_name() if given.device == "cuda" else f"{processor()}, copy {copy_rate() / 1e9:.1f} GB/s")
    print(f"{'':44}{'reference':>12}{'ours':>12}{'reads GB/s':>12}")
    for name in SIZES:
        value, shapes, locations, weights = forged(name, given.device)
        inputs = [t.requires_grad_(given.backward) for t in (value, locations, weights)]

        def run(function: Callable[..., Tensor], inputs: list[Tensor] = inputs, shapes: tuple[tuple[int, ...], ...] = shapes) -> None:
            out = function(inputs[0], shapes, *inputs[1:])
            if given.backward:
                torch.autograd.grad(out.sum(), inputs)

        slow, fast = (seconds(lambda f=f: run(f), given.device) for f in (reference, deformable_sampling))
        read = weights.numel() * 2 ** len(shapes[0]) * value.shape[3] * 4 / fast
        print(f"{name:44}{slow:>10.4f} s{fast:>10.4f} s{read / 1e9:>12.1f}", flush=True)


if __name__ == "__main__":
    main()
