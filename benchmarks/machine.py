"""What this machine is and how fast it can go: name, matrix-product rate, copy rate."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


def processor() -> str:
    """The processor's name, and the instruction sets that matter here."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = info.read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    known = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{model} ({', '.join(known)}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def best_of(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of `repeats` runs, after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def matmul_rate(dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """Operations a second (a multiply-add counts two) of a square matrix product."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / best_of(lambda: a @ b, 5)


def copy_rate(mebibytes: int = 256) -> float:
    """Bytes a second, read and written together, of a copy that no cache holds."""
    source = torch.ones(mebibytes * 2**18)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / best_of(lambda: target.copy_(source), 5)
