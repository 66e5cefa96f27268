"""MonoScene's whole forward in one run: the machine's limit, a plain form, ours, ours in bfloat16; seconds, activation memory, same labels.

    python benchmarks/forward.py [kitti|nyu] [CASE_FOLDER] [FORM]

Weights, picture and camera are those of the recorded cases in tests/parity, whose figures of the released code stand in the last row. Each form runs
in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does; read when torch is imported

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "parity"), str(ROOT / "tests"), str(Path(__file__).resolve().parent)]

import forge  # noqa: E402
from limit import limit_of  # noqa: E402
from machine import copy_rate, matmul_rate, processor  # noqa: E402
from plain_monoscene import PlainMonoScene  # noqa: E402

from wholescene.camera import Camera  # noqa: E402
from wholescene.checkpoints.monoscene import TABLES  # noqa: E402
from wholescene.checkpoints.native import fill  # noqa: E402
from wholescene.data.collate import collate  # noqa: E402
from wholescene.geometry.projection import project_batch  # noqa: E402
from wholescene.grid import VoxelGrid, semantic_kitti_grid  # noqa: E402
from wholescene.layers.fuse import fuse_for_inference  # noqa: E402
from wholescene.structures import Batch, Frame, View  # noqa: E402
from wholescene.systems.base import normalise  # noqa: E402
from wholescene.systems.monoscene.config import MonoSceneConfig  # noqa: E402
from wholescene.systems.monoscene.model import MonoScene  # noqa: E402

FORMS = ("plain", "ours", "ours, norms folded", "ours, folded, bfloat16")


def case_of(folder: Path) -> tuple[bool, dict[str, Any], list[tuple[str, tuple[int, ...], str]]]:
    """Whether it is the indoor setting, the case's description, and the released names."""
    keys = forge.read_keys(folder / "keys.tsv")
    return any("process_1_4" in name for name, _, _ in keys), json.loads((folder / "case.json").read_text()), keys


def batch_of(inputs: dict[str, Any], indoors: bool) -> Batch:
    """The case's picture, camera and grid."""
    size = (inputs["width"], inputs["height"])
    pose = np.linalg.inv(np.asarray(inputs["camera_to_world"])) if indoors else np.vstack([inputs["Tr"], (0, 0, 0, 1)])
    camera = Camera.from_intrinsics(inputs["fx"], inputs["fy"], inputs["cx"], inputs["cy"], size, T_cam_world=pose, pose_known=True)
    grid = VoxelGrid.from_corner(inputs["origin"], (60, 36, 60), 0.08, "xzy") if indoors else semantic_kitti_grid()
    return collate([Frame("case", {"main": View(forge.picture(**inputs["picture"]), camera)}, grid)])


def build(form: str, folder: Path) -> tuple[Callable[[], torch.Tensor], float]:
    """The forward of a form, and the size of its weights in GiB."""
    indoors, case, keys = case_of(folder)
    state = {k: torch.from_numpy(np.asarray(v)) for k, v in forge.weights(keys, **forge.recipe(folder)).items()}
    batch = batch_of(case["inputs"], indoors)
    config = MonoSceneConfig.preset("exact", "full", setting="nyuv2" if indoors else "semantic-kitti")
    if form == "plain":
        pixels = project_batch(batch, config.lift_factor, config.rounding, config.use_offset)
        picture = normalise(batch.pictures["main"], config.preparation)
        shape = batch.grids[0].coarser(config.lift_factor).shape
        plain = PlainMonoScene(state, indoors)
        return lambda: plain(picture, pixels.pixels[0], pixels.in_view[0], shape), _gib(state.values())
    system = MonoScene(config).eval()
    table = TABLES["nyuv2" if indoors else "semantic-kitti"]
    fill(system, table.convert(state, system.state_dict(), str(folder)).live, str(folder))
    del state
    if "folded" in form:
        system = fuse_for_inference(system)
    if "bfloat16" not in form:
        return lambda: system(batch).logits, _gib(system.state_dict().values())  # type: ignore[return-value]
    for parameter in system.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)

    def low() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return system(batch).logits  # type: ignore[return-value]

    return low, _gib(system.state_dict().values())


def _gib(tensors: Any) -> float:
    return sum(t.numel() * t.element_size() for t in tensors) / 2**30


def measure(form: str, folder: Path, labels: Path, limit_too: bool) -> dict[str, Any]:
    """Seconds (best of two after a warm-up), peak memory above weights and interpreter, and the labels on disk."""
    torch.set_num_threads(2)
    forward, weights = build(form, folder)
    with torch.inference_mode():
        before = _resident()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            logits = forward()
            times.append(time.perf_counter() - start)
        np.save(labels, logits[0].argmax(0).to(torch.uint8).numpy())
        del logits
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        row: dict[str, Any] = {"seconds": min(times), "weights": weights, "activations": peak - before, "peak": peak}
        if limit_too:
            found = limit_of(forward, matmul_rate(), copy_rate())
            row |= {"limit": found.seconds, "gflop": found.operations / 1e9, "gigabytes": found.bytes / 1e9}
    return row


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**30


def _in_own_process(*args: Any) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, args)


def main() -> None:
    """One table."""
    setting = sys.argv[1] if len(sys.argv) > 1 else "kitti"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "tests" / "parity" / f"monoscene_{setting}"
    released = case_of(folder)[1]["released_cpu"]
    torch.set_num_threads(2)
    print(f"MonoScene, {setting}: {processor()}")
    print(f"{'form':26}{'s':>8}{'x plain':>9}{'% limit':>9}{'activations GiB':>17}{'peak GiB':>10}{'same labels':>13}")
    plain: dict[str, Any] = {}
    truth = None
    chosen = [form for form in FORMS if len(sys.argv) < 4 or form in ("plain", sys.argv[3])]
    for form, scratch in ((form, tempfile.mkdtemp()) for form in chosen):
        labels = Path(scratch) / "labels.npy"
        row = _in_own_process(form, folder, labels, "bfloat16" not in form)
        found = np.load(labels)
        truth = found if truth is None else truth
        plain = plain or row
        share = f"{row['limit'] / row['seconds']:9.0%}" if "limit" in row else f"{'':9}"
        times = plain["seconds"] / row["seconds"]
        print(f"{form:26}{row['seconds']:8.2f}{times:9.2f}{share}{row['activations']:17.2f}{row['peak']:10.2f}{(found == truth).mean():13.4%}")
        if "limit" in row:
            print(f"{'  its limit':26}{row['limit']:8.2f}{'':9}{row['gflop']:9.0f} GFLOP {row['gigabytes']:8.1f} GB moved")
    print(f"{'released code, recorded':26}{released['seconds']:8.2f}{'':35}{released['peak_gib']:10.2f}")


if __name__ == "__main__":
    main()
