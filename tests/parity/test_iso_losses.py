"""ISO's losses on given outputs against the released training step: values, gradients, depth labels and bins, frustums, relations, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Case, check, find_cases
from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.geometry.frustums import frustum_class_counts, frustum_ids
from wholescene.geometry.lid import lid_bins
from wholescene.geometry.projection import ProjectionTable, project_grid
from wholescene.geometry.relations import relation_targets
from wholescene.grid import GridPlacement, VoxelGrid
from wholescene.losses import relation
from wholescene.metrics import Counts
from wholescene.structures import Batch, Frame, Prediction, View
from wholescene.systems.iso.config import ISOConfig
from wholescene.systems.iso.losses import depth_labels, depth_loss
from wholescene.systems.iso.model import ISO

pytestmark = pytest.mark.parity

FRUSTUMS, DIVISIONS, SIZE = 64, 8, (640, 480)
NAMES = {
    "depth": "loss_depth", "relation": "loss_relation_ce_super", "cross_entropy": "loss_ssc", "semantic_affinity": "loss_sem_scal",
    "geometric_affinity": "loss_geo_scal", "frustum_proportion": "loss_frustums",
}  # fmt: skip
AT_AN_EDGE = "the order of operations and the root decide at an edge: compared where float32 and float64 agree, and to one bin elsewhere"
Taps = dict[str, Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: "depth logits" in case.inputs), ids=str)


def uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return torch.from_numpy(forge.uniform(f"iso_losses|{name}", shape, low, high))


def depth_map() -> Tensor:
    metres = uniform("depth_gt", (2, 1, 24, 32), -1, 11.5).clamp(min=0)
    metres[0, 0, 0, 0], metres[0, 0, 0, 2], metres[1, 0, 2, 2] = 10, 10.000001, 0.0048
    return metres[:, 0]


def table() -> ProjectionTable:
    """Both items' pixels, as the README gives them."""
    found = []
    for item in range(2):
        u, v = (uniform(f"{axis}{item}", (1152,), -60, most).floor().long() for axis, most in (("u", 700), ("v", 540)))
        z = uniform(f"z{item}", (1152,), -1, 6)
        found.append((torch.stack([u, v], -1), z, (u >= 0) & (u < SIZE[0]) & (v >= 0) & (v < SIZE[1]) & (z > 0)))
    return ProjectionTable(*(torch.stack(part) for part in zip(*found, strict=True)))


def volumes() -> dict[str, Tensor]:
    labels = forge.labels
    return {
        "target": torch.from_numpy(np.stack([labels(f"iso_losses|target{i}", (12, 8, 12), 12, block=2) for i in range(2)])),
        "coarse": torch.from_numpy(np.stack([labels(f"iso_losses|coarse{i}", (4, 4, 4), 12, block=1) for i in range(2)])),
        "logits": uniform("logits", (2, 12, 12, 8, 12), -4, 4),
        "relations": uniform("relations", (2, 4, 8, 64), -4, 4),
        "probabilities": torch.softmax(uniform("depth", (2, 64, 12, 16), -3, 3), 1),
    }


def system_of(**fields: Any) -> ISO:
    """Only its losses are asked: the outputs are given."""
    grid = GridPlacement((16, 16, 16), (0.1, 0.1, 0.1), "xyz")
    return ISO(ISOConfig.preset("exact", "tiny", "occscannet", grid=grid, depth_bins=64, **fields))


def batch_of(system: ISO, held: Mapping[str, Tensor]) -> Batch:
    """The given targets, and the given pixels where the batch would look for its own."""
    camera = Camera.from_fov(60, SIZE).on_ground(1)
    grid = VoxelGrid.from_corner((0, 0, 0), (12, 8, 12), 0.1)
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    frames = [Frame(str(i), {"main": View(picture, camera)}, grid, targets={1: held["target"][i].numpy()}) for i in range(2)]
    batch = replace(collate(frames), depth_target=depth_map())
    batch.targets[4] = held["coarse"]
    batch.once(("projection", 1, system.config.rounding, system.config.use_offset, "main"), table)
    return batch


def step(system: ISO, held: Mapping[str, Tensor], prefix: str, leave: tuple[str, ...] = ()) -> Taps:
    """All terms of a training step and the gradient of their sum."""
    outputs = [held[name].clone().requires_grad_() for name in ("logits", "relations", "probabilities")]
    prediction = Prediction(outputs[0], extras={"relation_logits": outputs[1], "depth_distribution": outputs[2]})
    terms = {name: term for name, term in system.losses(prediction, batch_of(system, held)).items() if name not in leave}
    total = sum(terms.values(), torch.zeros(()))
    total.backward()
    taps = {f"{prefix}.{NAMES[name]}": term.detach().view(1).numpy() for name, term in terms.items()}
    gradients = zip(("grad_ssc_logit", "grad_P_logits", "grad_depth_probability"), outputs, strict=True)
    return {**taps, f"{prefix}.loss": total.detach().view(1).numpy(), **{f"{prefix}.{n}": o.grad.numpy() for n, o in gradients}}  # type: ignore[union-attr]


def broken(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made = {name: value.clone() for name, value in held.items()}
    for place, value in (((0, 3, 1, 2, 3), "inf"), ((1, 0, 4, 4, 4), "-inf"), ((0, 7, 5, 5, 5), "nan")):
        made["logits"][place] = float(value)
    made["relations"][0, 1, 2, 3] = made["probabilities"][0, 5, 3, 4] = float("nan")
    return made


def alone(system: ISO, held: Mapping[str, Tensor]) -> Taps:
    """Each term differentiated by itself; and the relation term where no relation but one has an example."""
    taps: Taps = {}
    for name, tap in (("cross_entropy", "ssc"), ("semantic_affinity", "sem_scal"), ("geometric_affinity", "geo_scal"), ("relation", "relation")):
        given = {n: held[n].clone().requires_grad_() for n in ("logits", "relations")}
        prediction = Prediction(given["logits"], extras={"relation_logits": given["relations"]})
        system.losses(prediction, batch_of(system, held))[name].backward()
        taps[f"alone.grad_{tap}"] = given["relations" if name == "relation" else "logits"].grad.numpy()  # type: ignore[union-attr]
    logits = held["relations"].clone().requires_grad_()
    loss = relation(logits, relation_targets(torch.zeros_like(held["coarse"]), 4), 1e-5)
    loss.backward()
    return {**taps, "empty.relation_loss": loss.detach().view(1).numpy(), "empty.grad_relation": logits.grad.numpy()}  # type: ignore[union-attr]


def depth_taps(held: Mapping[str, Tensor]) -> Taps:
    labels = partial(depth_labels, bins=64, most=10.0)
    probabilities, size = held["probabilities"], (12, 16)
    blocks = uniform("blocks", (1, 1, 48, 64), -2, 12).clamp(min=0)[:, 0]
    special = torch.tensor([float("nan"), float("inf"), -1.0, -1e-7, 0.0])
    return {
        "depth.label": labels(depth_map(), size).numpy(),
        "depth.loss_three_axes": depth_loss(probabilities, labels(depth_map(), size)).view(1).numpy(),
        "depth.loss_no_label": depth_loss(probabilities, labels(torch.zeros(2, 24, 32), size)).view(1).numpy(),
        "depth.label_blocks_of_4": labels(blocks, size, block=4)[0].numpy(),
        "bins.special": lid_bins(special, 64, 10.0).numpy(),
    }


def target_taps(held: Mapping[str, Tensor]) -> Taps:
    found = table()
    ids = frustum_ids(found.pixels, found.in_view, SIZE, DIVISIONS)
    known = torch.where(held["target"].flatten(1) == 255, -1, ids)
    masks = torch.stack([known == f for f in range(FRUSTUMS)], 1).unflatten(2, (12, 8, 12))
    return {
        "relation.matrix": relation_targets(held["coarse"], 4).to(torch.uint8).numpy(),
        "frustum.masks": masks.to(torch.uint8).numpy(),
        "frustum.counts": frustum_class_counts(ids, held["target"], FRUSTUMS, 12).numpy(),
    }


def scene_taps(case: Case, setting: str) -> Taps:
    """A whole grid with the camera of the setting's own case."""
    said = Case.read(case.folder.parent / f"iso_{'nyu' if setting == 'nyuv2' else setting}").inputs["camera"]
    config = ISOConfig.preset("exact", "full", setting)
    name = "nyu" if setting == "nyuv2" else setting
    pose = np.asarray(said["pose camera to world"], said["pose dtype"]).astype(np.float64)
    grid = VoxelGrid.from_corner(said["voxel origin"], config.grid.shape, said["voxel"], config.grid.axes)
    found = project_grid(Camera(np.array(said["K"]), SIZE, np.linalg.inv(pose)), grid, config.rounding, config.use_offset)
    coarse = tuple(n // 4 for n in grid.shape)
    target = torch.from_numpy(forge.labels(f"iso_losses|{name}|target", grid.shape, 12))[None]
    relations = torch.from_numpy(forge.labels(f"iso_losses|{name}|coarse", coarse, 12, block=1))[None]
    if setting == "occscannet":
        target, relations = (torch.where(labels == 255, 0, labels) for labels in (target, relations))
    ids = frustum_ids(found.pixels, found.in_view, SIZE, DIVISIONS)
    counts = frustum_class_counts(ids, target, FRUSTUMS, 12)[0]
    known = torch.where((target.flatten(1) == 255) | (ids < 0), 255, ids)
    matrix = relation_targets(relations, 4)[0]
    return {
        f"scene_{name}.frustum_counts": counts.numpy(),
        f"scene_{name}.frustum_sizes": counts.sum(1).numpy(),
        f"scene_{name}.frustum_index": known[0].to(torch.uint8).view(grid.shape).numpy(),
        f"scene_{name}.relation_matrix": matrix.to(torch.uint8).numpy(),
        f"scene_{name}.relation_counts": matrix.sum((1, 2)).numpy(),
    }


def metric_taps(held: Mapping[str, Tensor]) -> Taps:
    counts = Counts.zero(12)
    counts.update(held["logits"].argmax(1), held["target"])
    scores = counts.compute("semantic-kitti")
    empty = counts.tp[0] / ((counts.tp + counts.fp + counts.fn)[0] + 1e-5)  # the released meter lists the empty class too
    ratios = {"precision": scores.precision, "recall": scores.recall, "iou": scores.iou, "iou_ssc_mean": scores.miou}
    return {**{f"metric.{n}": np.array([v]) for n, v in ratios.items()}, "metric.iou_ssc": np.array([float(empty), *scores.class_iou])}


def test_every_tap_is_the_released_one(case: Case) -> None:
    held, system = volumes(), system_of()
    got = step(system, held, "train") | step(system, held, "test", leave=("frustum_proportion",)) | step(system, broken(held), "infinite")
    got |= alone(system, held) | depth_taps(held) | target_taps(held) | metric_taps(held)
    for setting in ("nyuv2", "occscannet"):
        got |= scene_taps(case, setting)
    said = case.tolerances
    integers = ("depth.label*", "bins.*", "relation.matrix", "frustum.*", "scene_*")
    tolerances = {
        **dict.fromkeys(integers, said["integers"]), "metric.iou_ssc*": 1e-6, "metric.*": said["metrics"],
        "*grad*": said["gradients, worst of scale"], "*": said["losses"],
    }  # fmt: skip
    skip = {"bins.values": "an input", "bins.float*": AT_AN_EDGE}
    check(forge.compare(case.folder, got, whole=True), tolerances, skip)


def test_bins_are_the_released_ones_where_precision_does_not_decide(case: Case) -> None:
    values, single, double = (case.tap(f"bins.{name}") for name in ("values", "float32", "float64"))
    place = (np.sqrt(1 + 4 * 64 * 65 * np.maximum(values.astype(np.float64), 0) / 10) - 1) / 2
    told, inside = single == double, ~(np.abs(place - np.round(place)) < 1e-5)  # nearer an edge than float32 tells, the root of the processor decides
    for kind, released, sure in ((torch.float32, single, told & inside), (torch.float64, double, told)):
        found = lid_bins(torch.from_numpy(values).to(kind), 64, 10.0).numpy()
        assert np.array_equal(found[sure], released[sure])
        assert np.abs(found[~sure] - released[~sure].astype(int)).max() <= 1
    assert told.sum() >= 560


def test_without_the_released_defence_a_broken_step_is_not_finite(case: Case) -> None:
    """So that training stops and names the frame, where released code goes on as if nothing had happened."""
    taps = step(system_of(zero_what_is_not_finite=False), broken(volumes()), "broken")
    assert not np.isfinite(taps["broken.loss"]).any()
