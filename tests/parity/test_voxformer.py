"""Both stages of VoxFormer-S against the released code: forged weights through the converters, every tap, and the losses.

Stage 1 costs about 3 s, stage 2 about 25 s and 2.5 GiB.
"""

from __future__ import annotations

from collections.abc import Callable

import forge
import numpy as np
import pytest
import torch
from torch import Tensor
from volumes import below, forged_occupancy, heights
from watching import SAMPLES_EQUAL, Places, Watch, check_inverse, counted, forged_into

from cases import Case, find_cases, forge_call
from wholescene.camera import Camera
from wholescene.checkpoints.voxformer import TABLES
from wholescene.data.collate import collate
from wholescene.grid import semantic_kitti_grid
from wholescene.structures import Batch, Frame, View
from wholescene.systems.voxformer.config import VoxFormerConfig
from wholescene.systems.voxformer.model import VoxFormer

pytestmark = pytest.mark.parity

_LIFT, _NET = "half_2d.lift", "half_3d.volume_net"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, system in (("stage_1", "VoxFormer stage 1 (QPN)"), ("stage_2", "VoxFormer stage 2")):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, find_cases(metafunc.config, lambda case, system=system: case.system == system), ids=str)


def exact(case: Case) -> Callable[[], VoxFormer]:
    """Stage 2 with the case's weights."""
    return lambda: VoxFormer(counted(VoxFormerConfig.preset("exact", "full", "completion-semantic-kitti"), case, "mlp_head.1.bias"))


def test_every_tap_of_stage_1_is_the_released_one(stage_1: Case) -> None:
    table = TABLES["proposals-semantic-kitti"]
    system, converted = forged_into(
        stage_1, table, lambda: VoxFormer(VoxFormerConfig.preset("exact", "full", "proposals-semantic-kitti", source="occupancy"))
    )
    check_inverse(stage_1, table, converted)
    said, grid = stage_1.inputs, semantic_kitti_grid()
    camera = Camera.from_fov(80, (4, 4)).on_ground(1.65)
    occupancy = forged_occupancy(said["occupancy"], grid.shape)
    targets = {1: np.zeros(grid.shape, np.uint8), 2: forge_call(said["target"].split(", 1..19")[0])}
    batch = collate([Frame("forged", {"main": View(np.zeros((4, 4, 3), np.uint8), camera)}, grid, occupancy=occupancy, targets=targets)])
    net = "proposer.net"
    places: Places = {
        **{f"Encoder_block{i + 1}": (f"{net}.down.{i}", "output") for i in range(4)},
        **{f"conv_out_scale_1_{s}": (f"{net}.out.{s}", "output") for s in (8, 4, 2)},
        **{f"deconv1_{s}": (f"{net}.enlarge.{s}", "output") for s in (8, 4)},
        **{f"conv1_{s}": (f"{net}.join.{s}", "output") for s in (4, 2)},
        "deconv_1_8__1_2": (f"{net}.leap.8_2", "output"),
        "seg_head_1_2.conv0": ("proposer.head.conv0", "output"),
        "seg_head_1_2.mixed": ("proposer.head.conv_classes", "input"),
    }
    watch = Watch(stage_1)
    with torch.inference_mode(), watch.hooked(system, places):
        prediction = system(batch)
    proposals = prediction.extras["proposals"]
    watch.compare("logits", prediction.extras["proposal_logits"])
    watch.compare("proposal", proposals.to(torch.uint8))
    watch.compare("packed", torch.from_numpy(np.packbits(proposals.numpy().reshape(-1))))
    watch.compare("loss_sc_level_1", system.losses(prediction, batch)["proposal"])
    said = stage_1.tolerances
    moved = said["proposal histogram, voxels moved"]
    equal = {name: said[name] or SAMPLES_EQUAL for name in ("proposal", "packed")}
    watch.check({**equal, "*": said["float taps"]}, moved={"proposal": moved, "packed": moved})


def batch_of(case: Case) -> Batch:
    said, grid = case.inputs, semantic_kitti_grid()
    size = said["picture"]
    camera = Camera(np.array(said["K"], np.float64), (size["width"], size["height"]), np.array(said["E"], np.float64), world="lidar")
    shape = tuple(n // 2 for n in grid.shape)
    rule = said["proposals"]
    surface, z = heights(rule["surface"])[..., None], np.arange(shape[2])
    proposals = (below(rule["hit"])[..., None] & (surface - 6 <= z) & (z <= surface)) | below(rule["stray"])
    assert proposals.sum() == rule["count"]
    target = forge.labels(said["target"]["name"], tuple(said["target"]["shape"]), said["target"]["classes"])
    picture = forge.picture(size["name"], size["height"], size["width"])
    return collate([Frame(str(case), {"main": View(picture, camera)}, grid, proposals=proposals, targets={1: target})])


def forged(case: Case) -> tuple[VoxFormer, Batch]:
    """Stage 2 with the case's weights, and its batch, for benchmarks."""
    system, _ = forged_into(case, TABLES["completion-semantic-kitti"], exact(case))
    return system.eval(), batch_of(case)


def places_of_stage_2(system: VoxFormer) -> Places:
    backbone = "half_2d.encoder.backbone"
    places: dict[str, tuple] = {
        "backbone.stem": (f"{backbone}.maxpool", "output"),
        **{f"backbone.{stage}": (f"{backbone}.{stage}.{blocks - 1}", "output") for stage, blocks in (("layer1", 3), ("layer2", 4), ("layer3", 6))},
        "neck": ("half_2d.encoder", "output"),
        "cross.queries": (f"{_LIFT}.layers.0", "input"),
        "completed": (_NET, "input", lambda volume: volume.flatten(2).transpose(1, 2)),
    }
    for name, layers, count in (("cross", f"{_LIFT}.layers", system.config.cross_layers), ("self", f"{_NET}.layers", system.config.self_layers)):
        for i in range(count):
            places[f"{name}.{i}.attention"] = (f"{layers}.{i}.norm1", "input")
            places[f"{name}.{i}"] = (f"{layers}.{i}", "output")
    return places


def test_every_tap_of_stage_2_is_the_released_one(stage_2: Case) -> None:
    table = TABLES["completion-semantic-kitti"]
    system, converted = forged_into(stage_2, table, exact(stage_2))
    assert isinstance(system, VoxFormer)
    check_inverse(stage_2, table, converted)
    batch = batch_of(stage_2)
    for layer in system.half_3d.volume_net.layers:
        layer.part = None  # all voxels at once, so that every tap exists
    watch = Watch(stage_2)
    with torch.inference_mode():
        with watch.hooked(system, places_of_stage_2(system)):
            prediction = system(batch)
        _compare_geometry(watch, system, batch)
        terms = system.losses(prediction, batch)
    watch.compare("ssc_logit", prediction.logits)
    watch.compare("labels", prediction.logits.argmax(1).to(torch.uint8))
    for tap, name in (("ssc", "cross_entropy"), ("sem_scal", "semantic_affinity"), ("geo_scal", "geometric_affinity")):
        watch.compare(f"loss_{tap}", terms[name])
    said = stage_2.tolerances
    tolerances = {
        "in_view": said["in_view"], "positions": said["positions"], "labels": said["labels"],
        "cross.*": said["cross.*"], "completed": said["cross.*"],
        "self.*": said["self.* and ssc_logit"], "ssc_logit": said["self.* and ssc_logit"],
        "*": said["losses"],
    }  # fmt: skip
    watch.check(tolerances, moved={"labels": said["labels histogram, voxels moved"]})


def _compare_geometry(watch: Watch, system: VoxFormer, batch: Batch) -> None:
    """Where the proposed voxels fall, and the table of positions."""
    proposed = batch.proposals.flatten()
    references, in_view = (t[:, proposed] for t in system.half_2d.sight(batch, (24, 77)))
    watch.compare("in_view", in_view[None, ..., None].to(torch.uint8))
    watch.compare("projected", torch.where(in_view[..., None], references, 0.0)[None, :, :, None])
    seats = system.half_3d.volume_net.seats
    positions: Tensor = seats(torch.arange(seats.shape[0] * seats.shape[1]))
    watch.compare("positions", positions.T.unflatten(1, seats.shape)[None])


@pytest.mark.slow  # one more forward
def test_parts_leave_the_released_numbers(stage_2: Case) -> None:
    system, _ = forged_into(stage_2, TABLES["completion-semantic-kitti"], exact(stage_2))
    with torch.inference_mode():
        logits = system(batch_of(stage_2)).logits
    watch = Watch(stage_2)
    watch.compare("ssc_logit", logits)
    assert watch.rows[0]["worst"] <= stage_2.tolerances["self.* and ssc_logit"]
