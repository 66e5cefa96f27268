"""What a GPU makes of the whole package, in one table: the machine, full-size systems an image, operators against their references.

    python benchmarks/gpu.py [--only systems|ops] [--seconds 100]

Systems have fresh weights, a picture of noise and the depth of a street (or a room); ms are medians of CUDA events after warming up, geometry
included. fp32 is without TF32, tf32 with it in convolutions and products, bf16 under autocast. "must move" is what an operator reads and writes once,
over the time, as a share of the measured copy. A row that fails prints its error, and the next one follows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import cgformer_ops
import deformable
import selective_scan
import sparse_conv
import torch
from fresh import fresh
from machine import processor
from torch import Tensor

from wholescene.grid import GridPlacement
from wholescene.ops.deformable import deformable_sampling
from wholescene.ops.deformable import reference as deformable_reference
from wholescene.ops.lss_pooling import VoxelBags
from wholescene.ops.neighbours import links_of_mask
from wholescene.ops.selective_scan import reference as scan_reference
from wholescene.ops.selective_scan import selective_scan as scan

# label -> name, conventions, setting, and the ms an image that a paper states (ScanSSC's supplement, both on an RTX A6000)
SYSTEMS: dict[str, tuple[str, str, str, str]] = {
    "symphonies": ("symphonies", "clean", "", ""),
    "symphonies, exact": ("symphonies", "exact", "", ""),
    "cgformer": ("cgformer", "clean", "", "566"),
    "cgformer, exact": ("cgformer", "exact", "", "566"),
    "scanssc": ("scanssc", "clean", "", "674"),
    "scanssc, exact": ("scanssc", "exact", "", "674"),
    "voxformer, stage 2": ("voxformer", "clean", "completion-semantic-kitti", ""),
    "monoscene": ("monoscene", "clean", "", ""),
    "ndc-scene": ("ndc-scene", "clean", "", ""),
    "iso": ("iso", "clean", "", ""),
    "ga-monossc": ("ga-monossc", "clean", "", ""),
    "monomrn": ("monomrn", "clean", "", ""),
}
SCANS = ((129_600, 50), (16_200, 400), (2_025, 800))  # tokens of a room's volume at scales 1, 1/2 and 1/4, and channels
STEPS = 256  # of the reference, which takes one token after another; its time is scaled up
SHARES = (0.02, 0.1, 0.3, 0.6, 1.0)
Work = Callable[[], Any]


@dataclass
class Bench:
    """Where, how large and how long it is measured.

    Attributes:
        device: cuda, or cpu in a rehearsal.
        size: of the systems.
        ends: on the clock.
        copy: bytes a second, read and written together.
    """

    device: str
    size: str
    ends: float
    copy: float = float("nan")

    def row(self, label: str, make: Callable[[], str]) -> None:
        """One line, whatever happens."""
        if time.perf_counter() > self.ends:
            print(f"{label:38}left out: the time is up", flush=True)
            return
        try:
            said = make()
        except Exception as error:  # noqa: BLE001  # one failure must not cost the table
            lines = str(error).strip().splitlines() or [""]
            said = f"FAILED {type(error).__name__}: {lines[0][:160]}"
        print(f"{label:38}{said}", flush=True)
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def milliseconds(self, work: Work, repeats: int = 5, warm: int = 2) -> float:
        """The median after warming up; fewer where one call takes seconds."""
        begun = time.perf_counter()
        for _ in range(warm):
            work()
        self._wait()
        if time.perf_counter() - begun > 4:
            repeats = 1
        times = [self._timed(work) for _ in range(repeats)]
        return statistics.median(times)

    def peak(self, work: Work) -> float:
        """GiB, all that is allocated at the highest point."""
        if self.device != "cuda":
            return float("nan")
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() / 2**30

    def _timed(self, work: Work) -> float:
        if self.device != "cuda":
            begun = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - begun)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        work()
        last.record()
        last.synchronize()
        return first.elapsed_time(last)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """TF32 in products and convolutions inside the block, or not."""
    told = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = told


def machine(bench: Bench) -> None:
    """Name, copy rate, rates of matrix products."""
    cuda = bench.device == "cuda"
    print(f"{torch.cuda.get_device_name() if cuda else processor()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    source = torch.ones(2**28 if cuda else 2**22, device=bench.device)
    target = torch.empty_like(source)
    bench.copy = 8 * source.numel() / bench.milliseconds(lambda: target.copy_(source)) * 1e3
    n = 8192 if cuda else 512
    rates = []
    for name, kind, fast in (("fp32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)):
        with tf32(fast):
            a, b = torch.randn(n, n, device=bench.device, dtype=kind), torch.randn(n, n, device=bench.device, dtype=kind)
            rates.append(f"{name} {2 * n**3 / bench.milliseconds(lambda a=a, b=b: a @ b) / 1e9:.1f}")
    print(f"copy {bench.copy / 1e9:.0f} GB/s (read and written), products {', '.join(rates)} TFLOP/s\n", flush=True)


def depth_of(batch: Any, indoors: bool) -> Tensor:
    """(1, H, W) metres: the ground up to 50 m before the camera, and walls that rise from it; a room's are 2 to 4 m away."""
    camera = batch.cameras["main"][0]
    height, width = batch.pictures["main"].shape[-2:]
    below = (torch.arange(height, dtype=torch.float32) - float(camera.matrix[1, 2])).clamp(min=0.5)
    ground = 1.65 * float(camera.matrix[1, 1]) / below
    walls = (3 + torch.sin(torch.arange(width) / 60)) * (1 if indoors else 8)
    return torch.minimum(ground.clamp(max=50)[:, None], walls)[None].clamp(min=0.5)


def system_row(bench: Bench, label: str) -> str:
    """ms an image at three precisions, and the highest memory."""
    name, conventions, setting, paper = SYSTEMS[label]
    small = {"grid": GridPlacement((32, 32, 16), (1.6, 1.6, 0.4), lidar_corner=None)} if bench.size == "tiny" else {}
    system, batch = fresh(name, conventions, bench.size, setting, **small)
    if batch.depth is not None:
        batch = replace(batch, depth=depth_of(batch, system.config.labels == "nyuv2"))
    if setting.startswith("completion"):
        shape = tuple(n // system.config.lift_factor for n in system.config.grid.shape)
        batch = replace(batch, proposals=torch.rand(1, *shape) < 0.15)
    system, batch = system.to(bench.device), batch.to(bench.device)

    def forward() -> Tensor:
        batch._memo.clear()  # geometry is part of the work
        logits: Tensor = system(batch).logits
        return logits

    modes: dict[str, AbstractContextManager[Any]] = {
        "fp32": nullcontext(), "tf32": nullcontext(), "bf16": torch.autocast(bench.device, torch.bfloat16),
    }  # fmt: skip
    cells, peaks = [], []
    with torch.inference_mode():
        for mode, context in modes.items():
            with context, tf32(mode == "tf32"):
                cells.append(bench.milliseconds(forward))
                peaks.append(bench.peak(forward))
        finite = bool(torch.isfinite(forward()).all())
    parameters = sum(p.numel() for p in system.parameters()) / 1e6
    times = "".join(f"{c:10.1f}" for c in cells)
    return f"{times}{peaks[0]:10.2f}{peaks[2]:10.2f}{parameters:10.1f}{paper or '-':>10}{'' if finite else '  NOT FINITE'}"


def systems(bench: Bench) -> None:
    """One row a system."""
    heads = ("fp32 ms", "tf32 ms", "bf16 ms", "fp32 GiB", "bf16 GiB", "M params", "paper ms")
    print(f"{'full-size systems, one image, eval':38}" + "".join(f"{h:>10}" for h in heads), flush=True)
    for label in SYSTEMS:
        bench.row(label, lambda label=label: system_row(bench, label))
    print()


def op_row(bench: Bench, fast: Work, slow: Work, moved: int, error: float, scaled: float = 1.0) -> str:
    """Times of ours and the reference, memory above the inputs, the share of a copy's rate, and the error that was found."""
    ours = bench.milliseconds(fast)
    plain = scaled * bench.milliseconds(slow, repeats=3, warm=1)
    held = torch.cuda.memory_allocated() / 2**30 if bench.device == "cuda" else 0.0
    share = moved / (ours / 1e3) / bench.copy
    return f"{ours:10.3f}{plain:10.3f}{plain / ours:8.1f}{bench.peak(fast) - held:10.3f}{moved / 2**20:10.1f}{share:10.1%}{error:12.1e}"


def error_of(found: Any, expected: Any) -> float:
    """The largest difference over the largest number; of an output with its gradients the norms of both, since slopes jump at the edges of cells."""
    if isinstance(found, tuple):
        return max(float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in zip(found, expected, strict=True))
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def bytes_of(*tensors: Tensor) -> int:
    """Of tensors that are read or written once."""
    return sum(t.numel() * t.element_size() for t in tensors)


def with_backward(function: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """The function and the gradients of a fixed sum of what it answers."""
    leaves = [t.detach().requires_grad_() for t in inputs]

    def run() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            out = function(*leaves)
        return (out.detach(), *torch.autograd.grad(out, leaves, torch.ones_like(out)))

    return run


def compared(bench: Bench, fast: Callable[..., Tensor], slow: Callable[..., Tensor], inputs: list[Tensor], backward: bool) -> str:
    """A row of two functions of the same inputs."""
    own, other = ((with_backward(f, inputs) if backward else (lambda f=f: f(*inputs))) for f in (fast, slow))
    with torch.no_grad(), tf32(False):
        found, expected = own(), other()
        outputs = found if isinstance(found, tuple) else (found,)
        return op_row(bench, own, other, bytes_of(*inputs, *outputs), error_of(found, expected))


def deformable_row(bench: Bench, name: str, backward: bool) -> str:
    value, shapes, locations, weights = deformable.forged(name, bench.device)
    inputs = [value, locations, weights]
    return compared(
        bench, lambda v, p, w: deformable_sampling(v, shapes, p, w), lambda v, p, w: deformable_reference(v, shapes, p, w), inputs, backward
    )


def cgformer_row(bench: Bench, name: str, backward: bool) -> str:
    torch.manual_seed(0)
    tensors, more, plain, ours = cgformer_ops.OPERATORS[name][0]()
    inputs = [t.to(bench.device) for t in tensors]
    more = [VoxelBags(bags.points.to(bench.device), bags.starts.to(bench.device)) for bags in more]
    return compared(bench, lambda *given: ours(*given, *more), lambda *given: plain(*given, *more), inputs, backward)


def scan_row(bench: Bench, length: int, channels: int, backward: bool) -> str:
    """The reference on the first tokens, its time scaled to all; the error is of those tokens."""
    names = ("u", "dt", "gate", "A", "B", "C", "skip")
    given = selective_scan.forged(length, channels, bench.device)
    whole = [given[n] for n in names]
    steps = min(STEPS if bench.device == "cuda" else 20, length)
    part = [t[:, :steps].contiguous() if n in ("u", "dt", "gate", "B", "C") else t for n, t in zip(names, whole, strict=True)]

    def by(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
        return lambda *tensors: function(**dict(zip(names, tensors, strict=True)))[0]

    def work(function: Callable[..., tuple[Tensor, Tensor]], inputs: list[Tensor]) -> Work:
        return with_backward(by(function), inputs) if backward else lambda: by(function)(*inputs)

    with torch.no_grad(), tf32(False):
        error = error_of(work(scan, part)(), work(scan_reference, part)())
        moved = (3 if backward else 1) * bytes_of(*whole, given["u"])
        return op_row(bench, work(scan, whole), work(scan_reference, part), moved, error, length / steps)


def sparse_row(bench: Bench, share: float, backward: bool) -> str:
    """Neighbours read where they lie, against the masked dense convolution (that is the reference here)."""
    width = 64
    mask = sparse_conv.blobs((128, 128, 16) if bench.device == "cuda" else (16, 16, 8), share).to(bench.device)
    links = links_of_mask(mask)
    own, dense = (sparse_conv.one_convolution(mask, width, links, form, backward) for form in ("gather", "dense"))
    with tf32(False):
        moved = (3 if backward else 1) * (8 * links.outputs * width + 4 * 27 * width * width + 4 * links.rows.numel())
        found = op_row(bench, own, dense, moved, error_of(own(), dense()))
    with tf32(True):
        return f"{found}   tf32 {bench.milliseconds(own):.3f} and dense {bench.milliseconds(dense):.3f}"


def ops(bench: Bench) -> None:
    """Two rows an operator: forward, and with the backward pass."""
    heads = (("ours ms", 10), ("ref ms", 10), ("times", 8), ("GiB", 10), ("must MiB", 10), ("of copy", 10), ("error", 12))
    print(f"{'operators, float32':38}" + "".join(f"{h:>{n}}" for h, n in heads), flush=True)
    sampled = [name for name in deformable.SIZES if "released" not in name] if bench.device == "cuda" else ["Symphonies, pixel decoder"]
    for backward in (False, True):
        said = ", both" if backward else ""
        for name in sampled:
            bench.row(f"{name.replace('attention', 'att.')}{said}", lambda n=name, b=backward: deformable_row(bench, n, b))
        for name in cgformer_ops.OPERATORS:
            bench.row(f"{name}{said}", lambda n=name, b=backward: cgformer_row(bench, n, b))
        for length, channels in SCANS if bench.device == "cuda" else ((200, 50),):
            label = f"selective scan, {length} x {channels}{said}"
            bench.row(label, lambda n=length, c=channels, b=backward: scan_row(bench, n, c, b))
        for share in SHARES:
            bench.row(f"sparse conv, {share:.0%} active{said}", lambda s=share, b=backward: sparse_row(bench, s, b))


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("systems", "ops"))
    parser.add_argument("--seconds", type=float, default=100, help="after which no further row is begun")
    parser.add_argument("--rehearse", action="store_true", help=argparse.SUPPRESS)  # the same at tiny sizes on a CPU
    given = parser.parse_args()
    if not (given.rehearse or torch.cuda.is_available()):
        sys.exit("no CUDA device here; `wholescene doctor` says what there is")
    bench = Bench("cpu" if given.rehearse else "cuda", "tiny" if given.rehearse else "full", time.perf_counter() + given.seconds)
    machine(bench)
    if given.only != "ops":
        systems(bench)
    if given.only != "systems":
        ops(bench)


if __name__ == "__main__":
    main()
