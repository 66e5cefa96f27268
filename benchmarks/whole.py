"""The whole forward of any system: the machine's limit, a plain form, ours; seconds, activation memory, same labels.

    python benchmarks/whole.py CASE... [--threads 2] [--form plain --form ours]

CASE is the name of a case in tests/parity, or a folder. Weights and inputs are the case's own; the figures of the released code that it records stand
in the last row. The name of a system stands for its clean form at full size, with fresh weights and a random picture. The plain form is the same
system without slabs, parts, Winograd products and fast operators (`WHOLESCENE_OPS=reference`); each form runs in a process of its own, so that its
peak memory is its own. A system with a case joins by a row in `BUILDERS`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does; read when torch is imported

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "parity"), str(ROOT / "tests"), str(Path(__file__).resolve().parent)]

from fresh import fresh  # noqa: E402
from limit import limit_of  # noqa: E402
from machine import copy_rate, matmul_rate, processor  # noqa: E402

from cases import Case  # noqa: E402
from wholescene.systems import list_systems  # noqa: E402

# `system` of case.json -> the module of tests/parity that builds it: `forged(case)` gives the system with the case's weights, and its batch
BUILDERS = {
    "CGFormer": "test_cgformer",
    "ISO": "test_iso",
    "NDC-Scene": "test_ndcscene",
    "ScanSSC": "test_scanssc",
    "Symphonies": "test_symphonies",
    "VoxFormer stage 2": "test_voxformer",
}
FORMS = ("plain", "ours", "ours, norms folded")


def build(form: str, folder: Path) -> tuple[torch.nn.Module, Any]:
    """The system of a form and its batch."""
    from wholescene.layers.fuse import fuse_for_inference

    if not (folder / "case.json").is_file():
        system, batch = fresh(folder.name)
        if form == "plain":
            be_plain(system)
        return (fuse_for_inference(system) if "folded" in form else system), batch
    case = Case.read(folder)
    if case.system not in BUILDERS:
        raise SystemExit(f"{folder}: no builder for {case.system!r}; known: {', '.join(BUILDERS)}; add a row to BUILDERS")
    system, batch = import_module(BUILDERS[case.system]).forged(case)
    if form == "plain":
        be_plain(system)
    return (fuse_for_inference(system) if "folded" in form else system), batch


def be_plain(system: torch.nn.Module) -> None:
    """Everything whole and by the references, in this process from now on."""
    os.environ["WHOLESCENE_OPS"] = "reference"
    for name, module in list(sys.modules.items()):
        if name.startswith("wholescene."):
            for shortcut in ("may_stream", "suits"):
                if hasattr(module, shortcut):
                    setattr(module, shortcut, lambda *given: False)
    for part in system.modules():
        if hasattr(type(part), "part"):
            part.part = None  # type: ignore[assignment]


def measure(form: str, folder: Path, labels: Path, threads: int) -> dict[str, float]:
    """Seconds (best of two after a first one), peak memory above weights and interpreter, and the labels on disk."""
    torch.set_num_threads(threads)
    system, batch = build(form, folder)

    def forward() -> torch.Tensor:
        batch._memo.clear()  # geometry is part of the work
        return system(batch).logits  # type: ignore[no-any-return]

    with torch.inference_mode():
        before, times = _resident(), []
        for _ in range(3):
            start = time.perf_counter()
            logits = forward()
            times.append(time.perf_counter() - start)
        np.save(labels, logits.argmax(1).to(torch.uint8).numpy())
        del logits
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        row = {"seconds": min(times[1:]), "activations": peak - before, "peak": peak}
        if form != "plain":
            found = limit_of(forward, matmul_rate(), copy_rate())
            row |= {"limit": found.seconds, "gflop": found.operations / 1e9, "gigabytes": found.bytes / 1e9}
    return row


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**30


def in_own_process(work: Callable[..., dict[str, float]], *given: Any) -> dict[str, float]:
    """`work(*given)` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def show(folder: Path, forms: list[str], threads: int) -> None:
    """The table of one case."""
    described = folder / "case.json"
    said = json.loads(described.read_text()) if described.is_file() else {"system": folder.name, "setting": "fresh weights"}
    released = said.get("released_cpu") or {}
    print(f"\n{said['system']}, {said.get('setting', '')} ({folder.name}), {threads} threads")
    print(f"{'form':26}{'s':>8}{'x plain':>9}{'% limit':>9}{'activations GiB':>17}{'of released':>13}{'peak GiB':>10}{'same labels':>13}")
    plain: dict[str, float] | None = None
    truth = None
    for form in forms:
        labels = Path(tempfile.mkdtemp()) / "labels.npy"
        row = in_own_process(measure, form, folder, labels, threads)
        found = np.load(labels)
        truth, plain = (found if truth is None else truth), plain or row
        share = f"{row['limit'] / row['seconds']:9.0%}" if "limit" in row else f"{'':9}"
        of_released = f"{row['activations'] / released['peak_gib']:13.0%}" if "peak_gib" in released else f"{'':13}"
        print(
            f"{form:26}{row['seconds']:8.2f}{plain['seconds'] / row['seconds']:9.2f}{share}{row['activations']:17.2f}{of_released}{row['peak']:10.2f}"
            f"{(found == truth).mean():13.4%}",
            flush=True,
        )
        if "limit" in row:
            print(f"{'  its limit':26}{row['limit']:8.2f}{'':9}{row['gflop']:9.0f} GFLOP {row['gigabytes']:8.1f} GB moved", flush=True)
    if released:
        print(f"{'released code, recorded':26}{released.get('seconds', float('nan')):8.2f}{'':48}{released.get('peak_gib', float('nan')):10.2f}")


def main() -> None:
    """One table a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="CASE", help="name of a case in tests/parity, or a folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--form", choices=FORMS, action="append", help="default: all; the first is what the others are compared with")
    given = parser.parse_args()
    forms = given.form or list(FORMS)
    torch.set_num_threads(given.threads)
    print(processor())
    for name in given.cases:
        folder = Path(name) if (Path(name) / "case.json").is_file() else ROOT / "tests" / "parity" / name
        if not (folder / "case.json").is_file() and name not in list_systems():
            raise SystemExit(f"{name}: no such case; expected a folder with case.json, the name of one in tests/parity, or a system")
        show(folder, forms, given.threads)


if __name__ == "__main__":
    main()
