"""Selective scan: time and memory over sequence lengths, beside the plain loop and full attention, and its parts at one length.

python benchmarks/selective_scan.py [--channels 50] [--longest 262144] [--device cuda]

Seconds are those of one CPU thread. Lengths double. "Loop" is the reference, one step after another without gradient; "attention" is torch's fused
softmax attention of as many channels in heads of at most 64. Both are left out where they would take too long. Memory is what forward and backward
together add beyond inputs, outputs and gradients, at its highest, in a process of its own; "stored" is what states of all tokens would take.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import copy_rate, processor
from torch import Tensor

from wholescene.ops.selective_scan import reference, selective_scan
from wholescene.ops.state_space_dual import dual_scan

STATES = 16
LOOP_UP_TO, ATTENTION_UP_TO = 16_384, 16_384
MEMORY_FROM = 4096


def forged(L: int, channels: int, device: str = "cpu") -> dict[str, Tensor]:
    """Inputs as a Mamba block makes them: small steps, states that decay at rates 1 to 16."""
    torch.manual_seed(0)
    A = -torch.arange(1.0, STATES + 1).expand(channels, STATES).contiguous()
    tokens = {"u": torch.randn(1, L, channels), "dt": torch.randn(1, L, channels) - 4, "gate": torch.randn(1, L, channels)}
    made = {**tokens, "A": A, "B": torch.randn(1, L, 1, STATES), "C": torch.randn(1, L, 1, STATES), "skip": torch.ones(channels)}
    return {name: value.to(device) for name, value in made.items()}


def dual_forged(L: int, channels: int, device: str = "cpu") -> dict[str, Tensor]:
    """The same sizes for the dual scan, in heads of 50 channels (or all)."""
    head = 50 if channels % 50 == 0 else channels
    heads = channels // head
    made = {
        "x": torch.randn(1, L, heads, head), "dt": torch.randn(1, L, heads) - 4, "A": -torch.linspace(1, 16, heads),
        "B": torch.randn(1, L, 1, STATES), "C": torch.randn(1, L, 1, STATES), "skip": torch.ones(heads),
    }  # fmt: skip
    return {name: value.to(device) for name, value in made.items()}


def seconds(work: Callable[[], object], device: str) -> float:
    """The fastest of five calls after a first one, of fewer where they take seconds. CPU seconds, since a machine that others use too takes turns."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times: list[float] = []
    while len(times) < 6 and sum(times) < 4:
        start = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times[1:] or times)


def forward_and_backward(function: Callable[..., tuple[Tensor, Tensor]], inputs: dict[str, Tensor], device: str) -> tuple[float, float]:
    """Seconds without gradients, and of the backward pass alone."""
    with torch.no_grad():
        forward = seconds(lambda: function(**inputs), device)
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    y, _ = function(**leaves)
    upstream = torch.ones_like(y)
    return forward, seconds(lambda: torch.autograd.grad(y, list(leaves.values()), upstream, retain_graph=True), device)


def in_loop(inputs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        reference(**inputs)


def attention(inputs: dict[str, Tensor]) -> None:
    channels = inputs["u"].shape[2]
    heads = math.ceil(channels / 64)
    while channels % heads:
        heads += 1
    query, key, value = (inputs[name].unflatten(2, (heads, -1)).transpose(1, 2) for name in ("u", "dt", "gate"))
    with torch.no_grad():
        F.scaled_dot_product_attention(query, key, value)


def peak_of(L: int, channels: int, backward: bool) -> float:
    """MiB that one call adds beyond inputs, outputs and gradients, at its highest, in a process of its own."""
    return float(
        subprocess.run(
            [sys.executable, __file__, "--peak", str(L), str(channels), str(int(backward))], capture_output=True, text=True, check=True
        ).stdout
    )


def print_peak(L: int, channels: int, backward: bool) -> None:
    """The process's highest resident memory during a call, above what it held before and what the call gives back."""
    inputs = {name: value.requires_grad_(backward) for name, value in forged(L, channels).items()}
    selective_scan(**{n: v.requires_grad_() for n, v in forged(600, channels).items()})[0].sum().backward()  # what libraries load at first use
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = resident("VmRSS")
    y, _ = selective_scan(**inputs)
    given = y.numel()
    if backward:
        upstream = torch.ones_like(y)
        given += upstream.numel() + sum(g.numel() for g in torch.autograd.grad(y, list(inputs.values()), upstream))
    print(resident("VmHWM") - before - given * 4 / 2**20)


def resident(which: str) -> float:
    """MiB, of a line of /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=50)
    parser.add_argument("--longest", type=int, default=262_144)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", nargs=3, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        return print_peak(given.peak[0], given.peak[1], bool(given.peak[2]))
    channels, device = given.channels, given.device
    torch.set_num_threads(1)
    print(torch.cuda.get_device_name() if device == "cuda" else f"{processor()}, copy {copy_rate() / 1e9:.1f} GB/s")
    print(f"{channels} channels, {STATES} states")
    columns = ("tokens", "forward", "backward", "ratio", "dual", "dual back", "loop", "loop/fwd", "attention", "peak MiB", "stored MiB")
    print("".join(f"{c:>11}" for c in columns))
    rows = []
    L = 1024
    while given.longest >= L:
        inputs = forged(L, channels, device)
        forward, backward = forward_and_backward(selective_scan, inputs, device)
        dual, dual_back = forward_and_backward(dual_scan, dual_forged(L, channels, device), device)
        loop = seconds(lambda i=inputs: in_loop(i), device) if L <= LOOP_UP_TO else math.nan
        full = seconds(lambda i=inputs: attention(i), device) if L <= ATTENTION_UP_TO else math.nan
        peak = peak_of(L, channels, True) if device == "cpu" and L >= MEMORY_FROM else math.nan
        stored = L * channels * STATES * 4 / 2**20
        numbers = (forward, backward, backward / forward, dual, dual_back, loop, loop / forward, full, peak, stored)
        print(f"{L:>11}" + "".join(f"{'-' if math.isnan(n) else f'{n:.4g}':>11}" for n in numbers), flush=True)
        rows.append((L, forward, backward))
        L *= 2
    slopes = [math.log(rows[-1][i] / rows[0][i]) / math.log(rows[-1][0] / rows[0][0]) for i in (1, 2)]
    print(f"slope of log time over log tokens, {rows[0][0]} to {rows[-1][0]}: forward {slopes[0]:.2f}, backward {slopes[1]:.2f}")
    return None


if __name__ == "__main__":
    main()
