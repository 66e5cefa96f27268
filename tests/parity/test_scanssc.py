"""ScanSSC whole against the released code: forged weights through the converter, every tap in the order of the data, and the losses.

About 60 s and 3 GiB a case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import forge
import numpy as np
import pytest
import torch
from test_cgformer import check_taps, compare_end, compare_geometry, frame_of, places_of_attention, places_of_lift
from watching import Places, Watch, check_trainable, counted, forged_into

from cases import Case, find_cases
from wholescene.checkpoints.scanssc import TABLES
from wholescene.data.collate import collate
from wholescene.structures import Batch, Frame, Prediction
from wholescene.systems.base import System
from wholescene.systems.scanssc.config import ScanSSCConfig
from wholescene.systems.scanssc.model import ScanSSC

pytestmark = pytest.mark.parity

_SCAN = "half_3d.volume_net.scan"
AXES = ("depth", "height", "width")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        found = find_cases(metafunc.config, lambda case: case.system == "ScanSSC")
        metafunc.parametrize("case", found, ids=str)


def with_lidar(case: Case, frame: Frame) -> Frame:
    """The frame with the sparse depth that the depth loss compares with."""
    said, size = case.inputs["lidar"], case.inputs["picture"]
    shape = (size["height"], size["width"])
    depth = forge.depth(said["name"], *shape, said["near"], said["far"])
    kept = forge.uniform(said["kept"]["name"], shape, 0, 1) < said["kept"]["below"]
    return replace(frame, depth_target=np.where(kept, depth, 0).astype(np.float32))


def exact(case: Case) -> Callable[[], ScanSSC]:
    return lambda: ScanSSC(counted(ScanSSCConfig.preset("exact"), case, "occ_convs.0.3.weight"))


def forged(case: Case) -> tuple[System, Batch]:
    """The system with the case's weights, and its batch."""
    system, _ = forged_into(case, TABLES["semantic-kitti"], exact(case))
    return system, collate([with_lidar(case, frame_of(case))])


def places_of_scan(system: ScanSSC) -> Places:
    fusion = system.half_3d.volume_net.scan.fusion
    places: dict[str, tuple] = {}
    for axis in AXES:
        places[f"scan.{axis}"] = (f"{_SCAN}.blocks.{axis}", "output")
        places[f"mixed.{axis}"] = (f"{_SCAN}.mixers.{axis}", "output")
    places["fusion.weights"] = (f"{_SCAN}.fusion", "input", lambda features: fusion.weights(features).softmax(1))
    places["fusion"] = (f"{_SCAN}.fusion", "output")
    places["head.half_logits"] = ("half_3d.head.classify", "output")
    return places


def test_every_tap_is_the_released_one(case: Case) -> None:
    system, converted = forged_into(case, TABLES["semantic-kitti"], exact(case))
    assert isinstance(system, ScanSSC)
    check_trainable(case, TABLES["semantic-kitti"], converted, system)
    del converted
    batch = collate([with_lidar(case, frame_of(case))])
    for layer in system.half_3d.volume_net.attention.layers:
        layer.part = None  # all voxels at once, so that every tap exists
    watch = Watch(case)
    with torch.inference_mode():
        with watch.hooked(system, {**places_of_lift(), **places_of_attention(), **places_of_scan(system)}):
            lifted, completed = system.joints(batch)
        compare_geometry(watch, system, batch, lifted)
        terms = system.losses(Prediction.of(lifted, completed), batch)
    compare_end(watch, completed.logits, terms)
    for axis in AXES:
        watch.compare(f"loss.scan.{axis}", terms[f"scan_{axis}"][None])
    watch.compare("loss.scan", sum(terms[f"scan_{axis}"] for axis in AXES)[None])  # type: ignore[index]  # three tensors
    watch.compare("loss.depth", terms["depth"][None])
    check_taps(watch, case)
