"""ScanSSC's Scan Loss, and the three losses it shares with CGFormer, against the released functions: values, gradients, running means.

The full grid costs about 8 s and 1 GiB.
"""

from __future__ import annotations

from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.labels import inverse_log_weights
from wholescene.layers.scan import Order
from wholescene.losses import VoxelSums, cross_entropy, geometric_affinity, semantic_affinity
from wholescene.systems.scanssc.losses import _means, runs, scan_loss

pytestmark = pytest.mark.parity

AXES: dict[str, tuple[int, Order]] = {"height": (2, "first-to-last"), "depth": (0, "last-to-first"), "width": (1, "sides-to-centre")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: {"small", "full"} <= case.inputs.keys()), ids=str)


def forged_logits(said: dict[str, Any]) -> Tensor:
    return torch.from_numpy(forge.uniform(said["name"], tuple(said["shape"]), said["low"], said["high"]))


def forged_labels(said: dict[str, Any]) -> np.ndarray:
    return forge.labels(said["name"], tuple(said["shape"]), said["classes"])


def losses_of(case: Case, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    sums = VoxelSums.of(logits, targets)
    scans = {name: scan_loss(logits, targets, axis, order, count_unknown=True) for name, (axis, order) in AXES.items()}
    return {
        **scans,
        "scan": sum(scans.values(), torch.zeros(())),
        "ce": cross_entropy(sums, torch.tensor(inverse_log_weights(case.inputs["class_frequencies"]))),
        "sem_scal": semantic_affinity(sums),
        "geo_scal": geometric_affinity(sums, 1e-5),
    }


def test_small_volumes_give_the_released_values_gradients_and_means(case: Case) -> None:
    said = case.inputs["small"]
    logits = forged_logits(said["logits"]).requires_grad_()
    targets = torch.from_numpy(np.stack([forged_labels(one) for one in said["targets"]]))
    got: dict[str, np.ndarray] = {}
    for name, loss in losses_of(case, logits, targets).items():
        got[f"small.{name}"] = loss.detach().numpy()
        got[f"small.{name}.gradient"] = torch.autograd.grad(loss, logits, retain_graph=True)[0].numpy()
    for name, (axis, order) in AXES.items():
        means = []
        for run in runs(logits.shape[2 + axis], order):
            part, labels = (whole.narrow(i + axis, run.start, run.stop - run.start) for whole, i in ((logits.detach(), 2), (targets, 1)))
            means.append(_means(part, labels, axis, run.backward, True)[:2])
        for what, parts in zip(("mean", "target"), zip(*means, strict=True), strict=True):
            got[f"small.{what}.{name}"] = torch.cat(parts, 2 + axis).numpy()
    asked = case.tolerances
    means_within = asked["small means and targets: worst / scale"]
    tolerances = {
        "*.gradient": asked["small gradients: worst / scale"], "small.mean.*": means_within, "small.target.*": means_within,
        "*": asked["small values: relative"],
    }  # fmt: skip
    check(forge.compare(case.folder, got), tolerances)


def test_the_full_grid_gives_the_released_values(case: Case) -> None:
    said = case.inputs["full"]
    labels = forged_labels(said["target"])
    with torch.inference_mode():
        found = losses_of(case, forged_logits(said["logits"]), torch.from_numpy(labels)[None])
    got = {"full.target": labels, **{f"full.{name}": loss.numpy() for name, loss in found.items()}}
    check(forge.compare(case.folder, got), {"full.target": 0, "*": case.tolerances["full values: relative"]})
