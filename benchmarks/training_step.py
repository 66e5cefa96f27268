"""One training step of full-size MonoScene on one frame, with and without activation checkpointing: seconds and peak memory.

    python benchmarks/training_step.py [kitti|nyu] [with|without]

A forward pass, the losses of the paper, the backward pass and an AdamW update on a forged picture and target, on two threads. Without checkpointing
it wants some 15 GiB, so by default only the step with it runs.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import processor

from wholescene.data.collate import collate
from wholescene.info import example_frame
from wholescene.preparation import prepare
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.model import MonoScene


def main() -> None:
    """One row."""
    setting = "nyuv2" if "nyu" in sys.argv else "semantic-kitti"
    recompute = "without" not in sys.argv
    torch.set_num_threads(2)
    torch.manual_seed(0)
    config = MonoSceneConfig.preset("clean", "full", setting=setting, activation_checkpointing=recompute)
    system = MonoScene(config).train()
    optimiser = torch.optim.AdamW(system.parameters(), lr=1e-4, weight_decay=1e-4)
    frame = prepare(example_frame(system), config.preparation)
    frame = frame.with_main(np.random.default_rng(0).integers(0, 256, frame.main.picture.shape, dtype=np.uint8), frame.main.camera)
    batch = collate([frame])
    labels = np.random.default_rng(1).choice([0, 0, 0, 1, 9, 255], frame.grid.shape).astype(np.uint8)
    batch.targets[1] = torch.from_numpy(labels)[None]
    start = time.perf_counter()
    terms = system.losses(system(batch), batch)
    torch.stack(list(terms.values())).sum().backward()
    optimiser.step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"MonoScene, full, {setting}, activation checkpointing {'on' if recompute else 'off'}: {processor()}")
    said = ", ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
    print(f"{seconds:.1f} s a step, peak {peak:.2f} GiB of the process; {said}")


if __name__ == "__main__":
    main()
