"""Losses, gradients and metric against the released training step, and what became of it where that step broke down.

A case says its names, its sizes and its sets of classes; the volumes and the degenerate targets are those that the case's README describes.
"""

from __future__ import annotations

from collections.abc import Callable

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.geometry.relations import relation_targets
from wholescene.labels import SEMANTIC_KITTI, UNKNOWN, inverse_log_weights
from wholescene.losses import (
    VoxelSums,
    cross_entropy,
    frustum_proportion,
    geometric_affinity,
    relation,
    semantic_affinity,
)
from wholescene.metrics import Counts

pytestmark = pytest.mark.parity

FRUSTUMS = 64
VOXEL_LOSSES = ("ce", "semantic", "geometric", "frustum")
CLASS_WEIGHTS = {20: torch.tensor(inverse_log_weights(SEMANTIC_KITTI.voxels)), 12: torch.tensor([0.05] + [1.0] * 11)}
Volumes = dict[str, Tensor]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = find_cases(metafunc.config, lambda case: {"sets", "coarse", "odd"} <= case.inputs.keys())
    if "chosen" in metafunc.fixturenames:
        metafunc.parametrize("case, chosen", [(case, chosen) for case in found for chosen in case.inputs["sets"]], ids=str)
    elif "case" in metafunc.fixturenames:
        metafunc.parametrize("case", found, ids=str)


def stacked(case: Case, make: Callable[[int], np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack([make(i) for i in range(case.inputs["batch"])]))


def volumes_of(case: Case, chosen: str) -> Volumes:
    """What the README says is forged for one set of classes."""
    said, classes = case.inputs, case.inputs["sets"][chosen]["classes"]
    name, batch, grid, coarse, odd = f"{said['tag']} {classes}", said["batch"], tuple(said["grid"]), tuple(said["coarse"]), tuple(said["odd"])
    frustums = stacked(case, lambda i: forge.labels(f"{name} frustums {i}", grid, 40, block=2, unknown=0.1, empty=0.2)).short()

    def relations(kind: str, shape: tuple[int, ...], count: int) -> Tensor:
        mega = int(np.prod([n // 2 for n in shape]))
        return torch.from_numpy(forge.uniform(f"{name} {kind}", (batch, count, mega, int(np.prod(shape))), -3, 3))

    return {
        "logits": torch.from_numpy(forge.uniform(f"{name} logits", (batch, classes, *grid), -4, 4)),
        "targets": stacked(case, lambda i: forge.labels(f"{name} labels {i}", grid, classes)),
        "ids": torch.where(frustums == 255, -1, frustums),
        "coarse": stacked(case, lambda i: forge.labels(f"{name} coarse {i}", coarse, classes, block=2)),
        "relation logits": relations("relations", coarse, 4),
        "odd": stacked(case, lambda i: forge.labels(f"{name} odd {i}", odd, classes, block=2)),
        "two relations": relations("two relations", odd, 2),
    }


def degenerate(kind: str, volumes: Volumes) -> Volumes:
    """The volumes with targets (for `saturated_empty`: logits) as the README's list of degenerate targets says."""
    made = {name: volume.clone() for name, volume in volumes.items()}
    for name, place in (("targets", (3, 4, 5)), ("coarse", (1, 2, 2))):
        labels = made[name]
        if kind == "all_unknown":
            labels.fill_(UNKNOWN)
        elif kind == "all_empty":
            labels.fill_(0)
        elif kind == "empty_and_unknown":
            labels[labels != UNKNOWN] = 0
        elif kind == "no_empty":
            labels[labels == 0] = 1
        elif kind == "one_sample_unknown":
            labels[1] = UNKNOWN
        elif kind == "one_voxel_occupied":
            labels.fill_(0)
            labels[(0, *place)] = volumes["logits"].shape[1] - 1
        else:
            assert kind == "saturated_empty", f"the case has degenerate targets {kind!r} that this test does not know"
    if kind == "saturated_empty":
        made["logits"].zero_()[:, 0] = 200
    return made


def losses_of(volumes: Volumes, weights: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Loss -> its value and the logits that it is differentiated by, each with a graph of its own."""
    found = {}
    for name in VOXEL_LOSSES:
        logits = volumes["logits"].clone().requires_grad_()
        sums = VoxelSums.of(logits, volumes["targets"], volumes["ids"], FRUSTUMS)
        losses = {"ce": cross_entropy(sums, weights), "semantic": semantic_affinity(sums), "geometric": geometric_affinity(sums)}
        found[name] = ({**losses, "frustum": frustum_proportion(sums)}[name], logits)
    for name, coarse, count, given in (("relation", "coarse", 4, "relation logits"), ("relation2", "odd", 2, "two relations")):
        logits = volumes[given].clone().requires_grad_()
        found[name] = (relation(logits, relation_targets(volumes[coarse], count)), logits)
    return found


def valued(found: dict[str, tuple[Tensor, Tensor]], prefix: str) -> dict[str, np.ndarray]:
    """Values and gradients under the tap names of a case."""
    taps = {}
    for name, (loss, logits) in found.items():
        (gradient,) = torch.autograd.grad(loss, logits)
        taps[f"{prefix}.{name}"], taps[f"{prefix}.{name}.gradient"] = loss.detach().numpy(), gradient.numpy()
    return taps


def total_of(volumes: Volumes, weights: Tensor, prefix: str) -> dict[str, np.ndarray]:
    """All five from one pass, as a training step has them."""
    logits, relation_logits = volumes["logits"].clone().requires_grad_(), volumes["relation logits"].clone().requires_grad_()
    sums = VoxelSums.of(logits, volumes["targets"], volumes["ids"], FRUSTUMS)
    total = cross_entropy(sums, weights) + semantic_affinity(sums) + geometric_affinity(sums) + frustum_proportion(sums)
    total = total + relation(relation_logits, relation_targets(volumes["coarse"], 4))
    total.backward()
    gradients = {"gradient": logits.grad, "gradient_relations": relation_logits.grad}
    return {f"{prefix}.total": total.detach().numpy(), **{f"{prefix}.total.{name}": g.numpy() for name, g in gradients.items()}}


def metric_of(volumes: Volumes, prefix: str) -> dict[str, np.ndarray]:
    counts = Counts.zero(volumes["logits"].shape[1])
    counts.update(volumes["logits"].argmax(1), volumes["targets"])
    scores = counts.compute("semantic-kitti")
    empty = counts.tp[0] / (counts.tp + counts.fp + counts.fn)[0]  # the released meter lists the empty class too, ours does not score it
    return {
        f"{prefix}.metric.tp_fp_fn": torch.stack([counts.tp, counts.fp, counts.fn]).numpy(),
        f"{prefix}.metric.completion_tp_fp_fn": np.array(counts.completion),
        f"{prefix}.metric.precision_recall_iou_miou": np.array([scores.precision, scores.recall, scores.iou, scores.miou]),
        f"{prefix}.metric.class_iou": np.array([float(empty), *scores.class_iou]),
    }


def test_every_tap_is_the_released_one(case: Case) -> None:
    got, skip = {}, {}
    for chosen, said in case.inputs["sets"].items():
        volumes, weights = volumes_of(case, chosen), torch.from_numpy(case.tap(f"{chosen}.class_weights"))
        got |= valued(losses_of(volumes, weights), chosen) | total_of(volumes, weights, chosen) | metric_of(volumes, chosen)
        if said["classes"] in CLASS_WEIGHTS:
            got[f"{chosen}.class_weights"] = CLASS_WEIGHTS[said["classes"]].numpy()
        else:
            skip[f"{chosen}.class_weights"] = "an input here: no published label set has this number of classes"
        for kind, outcomes in case.facts.get("degenerate", {}).get(chosen, {}).items():
            released = {name for name, outcome in outcomes.items() if outcome.startswith("finite")}
            found = losses_of(degenerate(kind, volumes), weights)
            got |= valued({name: found[name] for name in released}, f"{chosen}.{kind}")
    said = case.tolerances
    tolerances = {
        "*.metric.*tp_fp_fn": said["metric integers"], "*.metric.*": said["metric ratios"],
        "*.gradient*": said["gradients"], "*": said["values"],
    }  # fmt: skip
    rows = forge.compare(case.folder, got, whole=True)
    with np.load(case.folder / "expected.npz", allow_pickle=False) as held:
        for row in rows:  # its statistics over their own largest: the one voxel, 0.999, is no sample, and the largest of these is 0.001
            if row["tap"].endswith(".one_voxel_occupied.semantic.gradient") and "off" in row:
                row["off"] *= row["scale"] / max(row["scale"], float(np.abs(held[f"{row['tap']}.stats"]).max()))
    check(rows, tolerances, skip)


def test_targets_that_broke_the_released_step_give_finite_losses_and_gradients(case: Case, chosen: str) -> None:
    volumes, weights = volumes_of(case, chosen), torch.from_numpy(case.tap(f"{chosen}.class_weights"))
    broken = 0
    for kind, outcomes in case.facts.get("degenerate", {}).get(chosen, {}).items():
        found = losses_of(degenerate(kind, volumes), weights)
        for name, outcome in outcomes.items():
            loss, logits = found[name]
            (gradient,) = torch.autograd.grad(loss, logits)
            assert torch.isfinite(loss), f"{kind} {name}: {loss}"
            assert torch.isfinite(gradient).all(), f"{kind} {name}: the gradient is not finite"
            broken += not outcome.startswith("finite")
    assert broken, "the case has no target that broke the released step"
