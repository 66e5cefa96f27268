"""NDC-Scene against the released code: forged weights through the converter, every tap of the whole forward; and every term of the training step.

The whole forward costs about 20 s and 5 GiB (in slabs 2 GiB), the terms about 25 s and 2 GiB.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor
from watching import Places, Watch, check_inverse, counted, forged_into

from cases import Case, find_cases, forge_call
from wholescene.camera import Camera
from wholescene.checkpoints.ndcscene import TABLES
from wholescene.data.collate import collate
from wholescene.geometry.counting import byte_labels
from wholescene.geometry.frustums import frustum_class_counts
from wholescene.grid import VoxelGrid, semantic_kitti_grid
from wholescene.labels import UNKNOWN
from wholescene.layers.fuse import fuse_for_inference
from wholescene.metrics import Counts
from wholescene.structures import Batch, Frame, Prediction, View
from wholescene.systems.ndcscene.config import NDCSceneConfig
from wholescene.systems.ndcscene.decoder import FrustumLevel
from wholescene.systems.ndcscene.model import NDCScene
from wholescene.systems.ndcscene.relations import NOT_TOLD, neighbour_relations
from wholescene.systems.ndcscene.sight import frustums_of, sight_of

pytestmark = pytest.mark.parity

_TRUNK, _DECODER, _NET, _HEAD = "half_2d.encoder.trunk", "half_2d.encoder.decoder", "half_3d.volume_net", "half_3d.head"
_LAST_BLOCK = {0: 3, 1: 6, 2: 6, 4: 9}  # of the trunk's stages that are returned
EXACT = NDCSceneConfig.preset("exact", "full")
TERMS = {
    "loss_relation_ce_super": "relation", "loss_ssc": "cross_entropy", "loss_sem_scal": "semantic_affinity", "loss_geo_scal": "geometric_affinity",
    "loss_frustums": "frustum_proportion",
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, forward in (("whole", True), ("step", False)):
        if name in metafunc.fixturenames:
            chosen = find_cases(metafunc.config, lambda case, f=forward: case.system == "NDC-Scene" and (case.folder / "keys.tsv").exists() == f)
            metafunc.parametrize(name, chosen, ids=str)


# ---- the whole forward


def exact(case: Case) -> Callable[[], NDCScene]:
    return lambda: NDCScene(counted(EXACT, case, "ssc_head.conv_classes.bias"))


def frame_of(case: Case) -> Frame:
    said = case.inputs
    size = said["picture"]
    camera = Camera(np.array(said["K"], np.float64), (size["width"], size["height"]), np.array(said["E"], np.float64), world="lidar")
    grid = semantic_kitti_grid()
    assert grid.coarser(2).shape == tuple(said["grid"])
    return Frame(str(case), {"main": View(forge.picture(size["name"], size["height"], size["width"]), camera)}, grid)


def forged(case: Case) -> tuple[NDCScene, Batch]:
    """The system with a case's forged weights, and its picture on its grid."""
    system, _ = forged_into(case, TABLES["semantic-kitti"], exact(case))
    assert isinstance(system, NDCScene)
    return system, collate([frame_of(case)])


def places() -> Places:
    middle = f"{_NET}.middle"
    return {
        **{f"encoder.{2 ** (i + 1)}": (f"{_TRUNK}.blocks.{s}.{_LAST_BLOCK[s]}", "output") for i, s in enumerate((0, 1, 2, 4))},
        "encoder.32": (f"{_TRUNK}.conv_head", "output"),
        "pr_1": (f"{_DECODER}.entry", "output"),
        "bl_1": (f"{_DECODER}.deepen.0", "output"),
        "bl_2": (f"{_DECODER}.deepen.1", "output"),
        "volume_32": (f"{_DECODER}.deepen.2", "output"),
        "volume_16": (f"{_DECODER}.dilate.0", "output"),
        "volume_8": (f"{_DECODER}.dilate.1", "output"),
        "flosp.sampled": ("half_2d.lift.conv", "input"),
        "flosp.x3d": ("half_2d.lift", "output"),
        "process_l1": (f"{_NET}.down.0", "output"),
        "process_l2": (f"{_NET}.down.1", "output"),
        "context.aspp": (f"{middle}.aspp", "output"),
        "up_13_l2": (f"{_NET}.up.1", "output"),
        "up_12_l1": (f"{_NET}.up.0", "output"),
        "up_l1_lfull": (f"{_HEAD}.up.0", "output"),
        "ssc_logit": (f"{_HEAD}.segment", "output"),
    }


def released_relations(logits: Tensor) -> Tensor:
    """(B, R, M, N) to the released order (B, M, N, R)."""
    return logits.permute(0, 2, 3, 1)


def test_every_tap_is_the_released_one(whole: Case) -> None:
    table = TABLES["semantic-kitti"]
    system, converted = forged_into(whole, table, exact(whole))
    assert isinstance(system, NDCScene)
    check_inverse(whole, table, converted)
    system.half_2d.encoder.decoder.slab = system.half_3d.head.slab = None  # whole volumes, so that every tap exists at once
    batch, watch = collate([frame_of(whole)]), Watch(whole)
    handles = _watch_pairs(watch, system)
    with torch.inference_mode(), watch.hooked(system, places()):
        prediction = system(batch)
    for handle in handles:
        handle.remove()
    watch.compare("P_logits", released_relations(prediction.extras["neighbour_relation_logits"]))
    watch.compare("labels", prediction.logits.argmax(1).to(torch.uint8))
    sight = sight_of(batch, 2, EXACT)
    watch.compare("fov_mask_2", sight.in_view[0].to(torch.uint8))
    pixels = torch.cat([sight.pixels, sight.depth[..., None]], -1)[0]
    compare_exactly(watch, "projected_pix_2", torch.where(sight.in_view[0, :, None], pixels, 0.0))
    said = whole.tolerances
    tolerances = {"projected_pix_2": said["projected_pix_2"], "fov_mask_2": said["fov_mask_2"], "labels": said["labels"], "*": said["float taps"]}
    watch.check(tolerances, moved={"labels": said["labels histogram, voxels moved"]})


def compare_exactly(watch: Watch, tap: str, value: Tensor) -> None:
    """In float64, which `Watch.compare` would round."""
    watch.rows += forge.compare(watch.case.folder, {tap: value.numpy()})


def _watch_pairs(watch: Watch, system: NDCScene) -> list[Any]:
    """What leaves in pairs: both outputs of a joint step, the volume of the context prior, and the four levels, each with its own convolution."""

    def step(tap: str, with_map: bool) -> Any:
        def compare(module: object, args: object, out: tuple[Tensor, Tensor]) -> None:
            watch.compare(f"{tap}.volume" if with_map or tap == "up_5" else "volume_4", out[0])
            if with_map:
                watch.compare(f"{tap}.map", out[1])

        return compare

    def levels(module: Any, args: tuple[list[FrustumLevel], Any, Any]) -> None:
        for index, level in enumerate(args[0]):
            (volume,) = level.slabs
            watch.compare(f"lt_{index + 4}", module.narrow[index](volume))

    ups = system.half_2d.encoder.decoder.up
    return [
        ups[0].register_forward_hook(step("up_4", True)),
        ups[1].register_forward_hook(step("up_5", False)),
        ups[2].register_forward_hook(step("up_6", False)),
        system.half_2d.lift.register_forward_pre_hook(levels),
        system.half_3d.volume_net.middle.register_forward_hook(lambda module, args, out: watch.compare("context.x", out[0])),
    ]


@pytest.mark.slow  # one more forward
def test_slabs_and_folded_norms_leave_the_released_numbers(whole: Case) -> None:
    system, batch = forged(whole)
    fuse_for_inference(system)
    watch = Watch(whole)
    with torch.inference_mode():
        prediction = system(batch)
    watch.compare("ssc_logit", prediction.logits)
    watch.compare("P_logits", released_relations(prediction.extras["neighbour_relation_logits"]))
    assert all(row["worst"] <= whole.tolerances["float taps"] for row in watch.rows)
    watch.compare("labels", prediction.logits.argmax(1).to(torch.uint8))
    assert watch.rows[-1]["differ"] <= whole.tolerances["labels"]


# ---- the training step


class Step:
    """One part of the case: a batch with the forged targets, the system that judges it, and the forged logits."""

    def __init__(self, system: NDCScene, batch: Batch, logits: Tensor, told: Tensor) -> None:
        self.system, self.batch = system, batch
        self.logits, self.told = logits.requires_grad_(), told.requires_grad_()

    @property
    def config(self) -> NDCSceneConfig:
        return self.system.config

    def run(self) -> dict[str, Tensor]:
        terms = self.system.losses(Prediction(self.logits, extras={"neighbour_relation_logits": self.told.permute(0, 3, 1, 2)}), self.batch)
        sum(terms.values()).backward()
        return terms


def built(setting: str) -> NDCScene:
    with torch.device("meta"):
        return NDCScene(NDCSceneConfig.preset("exact", "full", setting))


def indoors(case: Case) -> Step:
    said = case.inputs["nyu"]
    frames, cameras = [], []
    for i, origin in enumerate(said["origins"]):
        target = forge_call(said["target"].replace("target nyu i", f"target nyu {i}"))
        size = tuple(said["picture"])
        picture = View(np.zeros((size[1], size[0], 3), np.uint8), Camera.from_fov(60, size))
        frames.append(Frame(f"nyu {i}", {"main": picture}, VoxelGrid.from_corner(origin, target.shape, said["voxel"], "xzy"), targets={1: target}))
        # the forged poses are rotations to 2e-3 only, which `Camera` rightly refuses
        pose = case.tap(f"nyu.T_world_2_cam.{i}").astype(np.float64)
        cameras.append(SimpleNamespace(K=np.array(said["camera"], np.float64), offset=np.zeros(3), affine=np.eye(3), T_cam_world=pose, size=size))
    batch = collate(frames)
    batch.cameras["main"] = tuple(cameras)  # type: ignore[assignment]
    return Step(built("nyuv2"), batch, *(torch.from_numpy(forge_call(said[name])) for name in ("logits", "relation logits")))


def outdoors(case: Case) -> Step:
    said = case.inputs["kitti"]
    size = tuple(said["picture"])
    camera = Camera(np.array(said["K"], np.float64), size, np.array(said["E"], np.float64), world="lidar")
    targets = {1: forge_call(said["target"]), 8: forge_call(said["target 1_8"])}
    view = View(np.zeros((size[1], size[0], 3), np.uint8), camera)
    batch = collate([Frame("kitti", {"main": view}, semantic_kitti_grid(), targets=targets)])
    return Step(built("semantic-kitti"), batch, *(torch.from_numpy(forge_call(said[name])) for name in ("logits", "relation logits")))


def in_world_order(values: Tensor, grid: VoxelGrid) -> Tensor:
    """(N, ...) in the grid's order to x slowest, z fastest."""
    order = (grid.forward, grid.left, grid.up)
    return values.unflatten(0, grid.shape).permute(*order, *range(3, values.dim() + 2)).flatten(0, 2)


def sight_taps(step: Step, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Projections (B, N, 3), 0 out of view, and masks (B, N), as the released lists run."""
    sight = sight_of(step.batch, factor, step.config)
    placed = torch.where(sight.in_view[..., None], torch.cat([sight.pixels, sight.depth[..., None]], -1), 0.0)
    grids = [grid.coarser(factor) for grid in step.batch.grids]
    listed = [(in_world_order(p, g), in_world_order(m, g)) for p, m, g in zip(placed, sight.in_view, grids, strict=True)]
    return np.stack([p.numpy() for p, _ in listed]), np.stack([m.numpy() for _, m in listed]).astype(np.uint8)


def relation_taps(step: Step, sample: int) -> dict[str, np.ndarray]:
    """The released bits, of which those of pairs that are not told are only in `relations` and are taken from the labels, as released."""
    labels = byte_labels(step.system.half_3d._coarse_target(step.batch), "labels")[sample : sample + 1]
    told = neighbour_relations(labels)[0]
    valid = told != NOT_TOLD
    # everything known, and outside of the grid label 0: so the same function answers for the pairs that are not told
    padded = torch.nn.functional.pad(labels, (4,) * 6)
    known = torch.where(padded == UNKNOWN, 254, padded)
    everywhere = neighbour_relations(known)[0].unflatten(1, padded.shape[1:])[:, 4:-4, 4:-4, 4:-4].flatten(1)
    assert torch.equal(everywhere[valid], told[valid])
    bits = torch.stack([everywhere == r for r in range(4)] + [valid], -1)
    counted = torch.stack([(told == r).sum() for r in range(4)])
    return {"relations": bits.to(torch.uint8).numpy(), "relations.counts": bits.sum((0, 1)).numpy(), "relations.valid_counts": counted.numpy()}


def frustum_taps(step: Step, sample: int) -> dict[str, np.ndarray]:
    ids = frustums_of(step.batch, step.config)[sample].view(step.batch.grids[0].shape)
    target = step.batch.targets[1][sample]
    known = torch.where(target == UNKNOWN, -1, ids)
    classes = frustum_class_counts(ids[None], target[None], 64, step.config.classes)[0]
    masks = torch.stack([known == f for f in range(64)]).to(torch.uint8)
    return {"frustum.voxels": masks.sum((1, 2, 3)).numpy(), "frustum.masks": masks.numpy(), "frustum.classes": classes.numpy()}


def scores(step: Step) -> dict[str, np.ndarray]:
    counts = Counts.zero(step.config.classes)
    counts.update(step.logits.detach().argmax(1), step.batch.targets[1])
    found = counts.compute("semantic-kitti")
    empty = int(counts.tp[0]) / int((counts.tp + counts.fp + counts.fn)[0])  # the released meter lists the empty class too, ours does not score it
    return {"metrics": np.array([found.precision, found.recall, found.iou, found.miou]), "iou_ssc": np.array([empty, *found.class_iou])}


def taps_of(step: Step) -> dict[str, Any]:
    terms = step.run()
    taps: dict[str, Any] = {released: terms[ours].detach()[None].numpy() for released, ours in TERMS.items()}
    taps["loss"] = sum(terms.values()).detach()[None].numpy()
    taps["ssc_logit.grad"], taps["P_logits.grad"] = step.logits.grad.numpy(), step.told.grad.numpy()
    return taps | scores(step)


def test_every_term_of_the_training_step_is_the_released_one(step: Case) -> None:
    rows = []
    room = indoors(step)
    found = {f"nyu.{name}": value for name, value in taps_of(room).items()}
    found["nyu.projected_pix"], found["nyu.fov_mask"] = sight_taps(room, 1)
    for sample in range(len(room.batch)):
        found |= {f"nyu.{name}.{sample}": value for name, value in (relation_taps(room, sample) | frustum_taps(room, sample)).items()}
    rows += forge.compare(step.folder, found)
    street = outdoors(step)
    found = {f"kitti.{name}": value for name, value in (taps_of(street) | relation_taps(street, 0) | frustum_taps(street, 0)).items()}
    for factor in (1, 2):
        projected, mask = sight_taps(street, factor)
        found[f"kitti.projected_pix_{factor}"], found[f"kitti.fov_mask_{factor}"] = projected[0], mask[0]
    rows += forge.compare(step.folder, found)
    said = step.tolerances
    tolerances = {
        "kitti.projected_pix*": said["projected_pix kitti"], "nyu.projected_pix": said["projected_pix nyu"],
        "*.loss*": said["losses"], "*.grad": said["gradients"], "*.metrics": said["metrics"], "*.iou_ssc": said["metrics"],
        "*": said["integers and masks"],
    }  # fmt: skip
    watch = Watch(step, rows)
    watch.check(tolerances, skip={"nyu.T_world_2_cam.*": "an input here: released code inverts the pose in float32"})
