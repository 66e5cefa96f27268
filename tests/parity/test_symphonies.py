"""Symphonies against the released code: forged weights through the converter, every tap, the auxiliary outputs and the losses, in both settings.

Costs 30 to 60 s and 3 GiB a case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor
from watching import Places, Watch, check_inverse, counted, forged_into

from cases import Case, find_cases
from wholescene.camera import Camera
from wholescene.checkpoints.symphonies import TABLES
from wholescene.data.collate import collate
from wholescene.geometry.frustums import frustum_class_counts
from wholescene.geometry.occupancy import places_of_depth
from wholescene.geometry.projection import project_batch
from wholescene.grid import semantic_kitti_grid
from wholescene.layers.slabs import cut, gather
from wholescene.metrics import Counts
from wholescene.structures import Batch, Frame, Prediction, View
from wholescene.systems.base import System, normalise
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.model import Symphonies
from wholescene.systems.symphonies.sight import look, on_maps, released_points, seats_of, unravelled

pytestmark = pytest.mark.parity

_TRUNK, _NET, _HEAD = "half_2d.encoder.trunk", "half_3d.volume_net", "half_3d.head"
TERMS = ("cross_entropy", "semantic_affinity", "geometric_affinity", "frustum_proportion")
STEPS = {
    "a_queries": "instance_image",
    "b_voxels": "scene_instance",
    "c_voxels": "scene_self",
    "e_queries": "instance_scene",
    "f_queries": "instance_self",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: case.system == "Symphonies"), ids=str)


def frame_of(case: Case) -> Frame:
    """The case's picture, depth, camera and labels on its grid."""
    said = case.inputs
    held = said["camera"]
    rows = held.get("lidar_to_camera_rows") or held["camera_to_lidar_rows"]
    pose = np.vstack([np.array(rows, np.float64), (0, 0, 0, 1)])
    pose = pose if "lidar_to_camera_rows" in held else np.linalg.inv(pose)
    camera = Camera(np.array(held["K"], np.float64), (said["width"], said["height"]), pose, world="lidar")
    target = forge.labels(said["target"]["name"], tuple(said["target"]["shape"]), said["target"]["classes"])
    views = {"main": View(forge.picture(**said["picture"]), camera)}
    return Frame(str(case), views, semantic_kitti_grid(), forge.depth(**said["depth"]), targets={1: target})


def setting_of(case: Case) -> str:
    return "kitti-360" if "360" in case.setting else "semantic-kitti"


def exact(case: Case) -> Callable[[], Symphonies]:
    return lambda: Symphonies(counted(SymphoniesConfig.preset("exact", "full", setting_of(case)), case, "cls_head.2.bias"))


def forged(case: Case) -> tuple[System, Batch]:
    """The system with the case's weights, and its batch; for benchmarks."""
    return forged_into(case, TABLES[setting_of(case)], exact(case))[0], collate([frame_of(case)])


def places_of(system: Symphonies) -> Places:
    config = system.config
    volume = (1, config.features, *config.scene_shape)
    places: dict[str, Any] = {}
    for stage, (layer, blocks) in enumerate((("layer1", 3), ("layer2", 4), ("layer3", 6), ("layer4", 3))):
        places[f"res{stage + 2}"] = (f"{_TRUNK}.backbone.{layer}.{blocks - 1}", "output")
    places |= {f"input_proj{i}": (f"{_TRUNK}.pixel_decoder.entries.{i}", "output") for i in range(4)}
    places |= {f"encoder_layer{i}": (f"{_TRUNK}.pixel_decoder.layers.{i}", "output") for i in range(config.pixel_layers)}
    places |= {f"image_map{i}": (f"half_2d.encoder.projections.{i}", "output") for i in range(3)}
    places["scene_pos"] = ("half_2d.positions", "output", lambda table: table[None])
    places["proposed_voxels"] = ("half_2d.lift.attend", "output")
    places["scene_proposed"] = ("half_2d.lift", "output")
    for i in range(config.layers):
        for tap, name in STEPS.items():
            if getattr(system.half_3d.volume_net.layers[i], name) is not None:
                places[f"layer{i}_{tap}"] = (f"{_NET}.layers.{i}.{name}", "output")
        places[f"layer{i}_d_scene"] = (f"{_NET}.layers.{i}", "output", lambda out: out[0].T.reshape(volume))
    return places


def compare_geometry(watch: Watch, system: Symphonies, batch: Batch) -> None:
    """Everything before the first learned number, and the picture."""
    config = system.config
    watch.compare("img", normalise(batch.pictures["main"], config.preparation))
    for factor in (2, 1):
        table = project_batch(batch, factor, "released-kitti", use_offset=False)
        watch.compare(f"projected_pix_{factor}", table.pixels)
        watch.compare(f"fov_mask_{factor}", table.in_view)
    watch.compare("pix_z_1", table.depth)
    grid, camera = batch.grids[0].coarser(config.factors), batch.cameras["main"][0]
    points = released_points(places_of_depth(batch.depth[0], camera, grid)[0], config)
    watch.compare("voxel_point", points.flatten(0, 1)[None])
    sight = look(batch, config)
    watch.compare("voxel_index", sight.voxels.flatten(1, 2))
    watch.compare("proposal_mask_bits", torch.from_numpy(np.packbits(sight.proposed()[0].numpy())))
    watch.compare("fov_mask_bits", torch.from_numpy(np.packbits(sight.in_view[0].numpy())))
    cells = [[-(-n // 4) for n in batch.pictures["main"].shape[-2:]]]
    references = on_maps(sight.pixels, sight.sizes, (4,), cells, config.pixel_alignment)[:, :, 0]
    watch.compare("ref_pix", references)
    watch.compare("ref_pix_proposed", references[:, sight.proposed()[0]])
    places = system.half_2d.instances.places()[None]
    watch.compare("ref_2d", on_maps(places * sight.sizes - 0.5, sight.sizes, (4,), cells, config.pixel_alignment)[:, :, 0])
    watch.compare("ref_3d", seats_of(sight.voxels_of_points(places), sight.shape, config.voxel_seats))
    everything = unravelled(torch.arange(grid.voxels), sight.shape)
    watch.compare("voxel_grid", seats_of(everything, sight.shape, config.voxel_seats).T.reshape(3, *sight.shape))


def compare_losses(watch: Watch, system: Symphonies, prediction: Prediction, batch: Batch) -> None:
    terms = system.losses(prediction, batch)
    weighted = []
    for layer in range(system.config.layers):
        last = layer == system.config.layers - 1
        own = torch.stack([terms[term if last else f"layer{layer}_{term}"] for term in TERMS])
        watch.compare(f"losses{layer}", own if last else own / system.config.auxiliary_weight)
        weighted.append(own)
    watch.compare("losses_weighted", torch.cat(weighted))
    watch.compare("loss_total", torch.cat(weighted).sum())
    ids = system.half_3d._frustums(batch)
    watch.compare("frustum_counts", frustum_class_counts(ids, batch.targets[1].flatten(1), 64, system.config.classes).float())
    watch.compare("target", batch.targets[1])


def compare_gradient(watch: Watch, system: Symphonies, logits: Tensor, batch: Batch) -> None:
    if "logits_gradient" not in watch.case.taps():
        return
    logits = logits.clone().requires_grad_()
    sum(system.losses(Prediction(logits), batch).values()).backward()
    watch.compare("logits_gradient", logits.grad)


def check_scores(case: Case, prediction: Tensor, batch: Batch, classes: int) -> None:
    counts = Counts.zero(classes)
    counts.update(prediction, batch.targets[1])
    allowed = case.tolerances["metric_counts, metric_class_counts (voxels that may differ)"]
    assert np.abs(np.asarray(counts.completion) - case.tap("metric_counts")[0]).max() <= allowed
    found = torch.stack([counts.tp, counts.fp, counts.fn]).numpy()
    assert np.abs(found - case.tap("metric_class_counts")).max() <= allowed


def tolerances_of(case: Case) -> dict[str, float]:
    said = case.tolerances
    allowed = {key: value for names, value in said.items() for key in names.split(", ") if " " not in key}
    labels = {name: said[f"{name} (share that may differ)"] for name in ("labels", "voxel_index")}
    return {**labels, "losses*": said["losses*, loss_total (relative)"], "loss_total": said["losses*, loss_total (relative)"], **allowed}


def test_every_tap_is_the_released_one(case: Case) -> None:
    setting = setting_of(case)
    system, converted = forged_into(case, TABLES[setting], exact(case))
    assert isinstance(system, Symphonies)
    check_inverse(case, TABLES[setting], converted)
    batch, watch = collate([frame_of(case)]), Watch(case)
    head, outputs = system.half_3d.head, iter(range(system.config.layers))

    def first_stage(module: Any, args: Any) -> None:
        watch.compare(f"output{next(outputs)}_head0", gather(head.up[0].stream(cut(args[0], 8)), args[0].shape[2]))

    handle = head.register_forward_pre_hook(first_stage)
    system.half_3d.auxiliary = True
    for layer in system.half_3d.volume_net.layers:
        layer.part = None  # all voxels at once, so that every tap exists
    with torch.no_grad():
        compare_geometry(watch, system, batch)
        with watch.hooked(system, places_of(system)):
            lifted, completed = system.joints(batch)
        handle.remove()
        prediction = Prediction.of(lifted, completed)
        watch.compare("aspp", completed.volume)
        for layer, logits in enumerate((*prediction.auxiliary.values(), prediction.logits)):
            watch.compare(f"output{layer}_logits", logits)
        labels = prediction.logits.argmax(1).to(torch.uint8)
        watch.compare("labels", labels)
        compare_losses(watch, system, prediction, batch)
    compare_gradient(watch, system, prediction.logits, batch)
    check_scores(case, labels, batch, system.config.classes)
    moved = int(case.tolerances["labels (share that may differ)"] * labels.numel())
    skip = {"metric*": "counted from the labels in check_scores, which may differ in a few voxels"}
    watch.check(tolerances_of(case), skip, {"labels": moved})


def test_a_batch_of_two_is_two_of_one(case: Case) -> None:
    system, _ = forged(case)
    one = frame_of(case)
    height, width = one.main.picture.shape[:2]
    picture, depth = forge.picture("another picture", height, width), forge.depth("another depth", height, width, 3.0, 40.0)
    other = replace(one, views={"main": View(picture, one.main.camera)}, depth=depth)
    with torch.inference_mode():
        together = system(collate([one, other])).logits
        apart = [system(collate([frame])).logits for frame in (one, other)]
    assert not torch.equal(apart[0], apart[1])
    assert (together - torch.cat(apart)).abs().max() <= case.tolerances["output*"] * together.abs().max()
