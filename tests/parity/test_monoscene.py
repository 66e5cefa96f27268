"""MonoScene against the released code: forged weights through the converter, every tap of the whole forward, in both published settings.

A case folder says everything that changes from case to case; its `keys.tsv` says the sizes. Costs 15 to 40 s and 3 GiB a setting.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import forge
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from watching import with_classes

from cases import Case, check, find_cases
from wholescene.camera import Camera
from wholescene.checkpoints.monoscene import TABLES
from wholescene.checkpoints.native import fill
from wholescene.checkpoints.table import Converted
from wholescene.data.collate import collate
from wholescene.geometry.frustums import frustum_ids
from wholescene.geometry.projection import project_batch
from wholescene.grid import GridPlacement, VoxelGrid
from wholescene.layers.flosp import FLoSP
from wholescene.layers.fuse import fuse_for_inference
from wholescene.structures import Batch, Frame, View
from wholescene.systems.base import normalise
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.model import MonoScene

pytestmark = pytest.mark.parity

# integers are equal and geometry is tighter than the network; the rest is what the case itself allows
EXACT = {"img": 1e-6, "pix_in_view_*": 0, "fov_mask_*": 0, "frustum_ids": 0, "pix_z_*": 1e-6}
NOT_COMPARED = {"projected_pix_*": "raw pixels of voxels out of view mean nothing; those in view are compared as pix_in_view"}

# tap -> (module, what of it): trunk and decoder, then the 3D half with the stage names of each setting
_TRUNK, _DECODER = "half_2d.encoder.trunk", "half_2d.encoder.decoder"
_NET, _HEAD = "half_3d.volume_net", "half_3d.head"
STAGES = {"f1": 0, "f2": 1, "f3": 2, "block3": 3, "f4": 4, "block5": 5, "block6": 6}
TAPS = {
    "stem": (f"{_TRUNK}.act1", "output"),
    **{tap: (f"{_TRUNK}.blocks.{stage}.-1", "output") for tap, stage in STAGES.items()},
    "f5": (f"{_TRUNK}.conv_head", "output"),
    "decoder_conv2": (f"{_DECODER}.entry", "output"),
    **{f"up{scale}": (f"{_DECODER}.up.{i}", "output") for i, scale in enumerate((16, 8, 4, 2, 1))},
    **{f"map_1_{scale}": (f"{_DECODER}.out.{scale}", "output") for scale in (1, 2, 4, 8)},
    "flosp_sum": ("half_2d.lift", "output"),
    "crp_aspp": (f"{_NET}.middle.aspp", "output"),
    "crp_mega_context": (f"{_NET}.middle.mega_context", "output"),
    "crp_cat": (f"{_NET}.middle.merge", "input"),
    "crp_resize0": (f"{_NET}.middle.merge", "output"),
    "x": (f"{_NET}.middle.refine", "output"),
    "head_conv0": (f"{_HEAD}.segment.conv0", "output"),
    "head_aspp": (f"{_HEAD}.segment.conv_classes", "input"),
    "ssc_logit": (f"{_HEAD}.segment", "output"),
}
STAGE_TAPS = {
    "semantic-kitti": {"down": ("process_l1", "process_l2"), "up": ("up_13_l2", "up_12_l1"), "full": "up_l1_lfull"},
    "nyuv2": {"down": ("process_1_4", "process_1_8"), "up": ("up_1_16_1_8", "up_1_8_1_4"), "full": ""},
}


def taps_of(setting: str) -> dict[str, tuple[str, str]]:
    names = STAGE_TAPS[setting]
    taps = dict(TAPS)
    for i, stage in enumerate(names["down"]):
        taps[f"{stage}.0"], taps[f"{stage}.1"] = (f"{_NET}.down.{i}.process", "output"), (f"{_NET}.down.{i}.halve", "output")
    deep, shallow = names["up"]
    taps[deep], taps[f"{deep}_sum"] = (f"{_NET}.up.1", "output"), (f"{_NET}.up.0", "input")
    taps[shallow], taps[f"{shallow}_sum"] = (f"{_NET}.up.0", "output"), (_HEAD, "input")
    if names["full"]:
        taps[names["full"]] = (f"{_HEAD}.up.0", "output")
    return taps


@dataclass
class Loaded:
    """A case, built: its system with forged weights, and its picture on its grid."""

    case: Case
    setting: str
    keys: list[tuple[str, tuple[int, ...], str]]
    system: MonoScene
    converted: Converted
    batch: Batch
    rows: list[dict[str, Any]] = field(default_factory=list)

    def compare(self, tap: str, value: Tensor) -> None:
        """At once, so that no tap has to be kept."""
        array = value.detach().float().numpy() if value.is_floating_point() else value.numpy()
        self.rows += forge.compare(self.case.folder, {tap: array})

    def check(self) -> None:
        seen = {row["tap"] for row in self.rows}
        missing = [{"tap": tap, "error": "not given"} for tap in self.case.taps() if tap not in seen]
        check(self.rows + missing, tolerances_of(self.case), NOT_COMPARED)


def tolerances_of(case: Case) -> dict[str, float]:
    allowed = case.tolerances
    return {**EXACT, "labels": allowed["labels, share that may differ"], "*": allowed["float taps"]}


def setting_of(shapes: dict[str, tuple[int, ...]]) -> str:
    return "semantic-kitti" if any(".process_l1." in name for name in shapes) else "nyuv2"


def config_of(setting: str, shapes: dict[str, tuple[int, ...]], grid: VoxelGrid) -> MonoSceneConfig:
    """The exact preset with every size that the shapes say."""
    net = "net_3d_decoder"
    head, first = ("ssc_head", "process_l1") if setting == "semantic-kitti" else ("ssc_head_1_4", "process_1_4")
    classes = shapes[f"{net}.{head}.conv_classes.bias"][0]
    exact = MonoSceneConfig.preset("exact", "full", setting)
    placement = replace(exact.grid, shape=grid.shape, voxel_size=grid.voxel_size)
    sizes = {
        "grid": placement,
        "features": shapes[f"{net}.{first}.0.main.0.conv1.weight"][1],
        "head_width": shapes[f"{net}.{head}.conv0.weight"][0],
        "relations": sum(n.startswith(f"{net}.CP_mega_voxels.context_prior_logits.") and n.endswith("bias") for n in shapes),
        "decoder_width": shapes["net_rgb.decoder.conv2.bias"][0],
    }
    return with_classes(replace(exact, **sizes), classes)


def frame_of(case: Case, setting: str) -> Frame:
    """The case's picture, camera and output grid, in the setting's axis order."""
    said = case.inputs
    size = said["picture"]
    picture = forge.picture(size["name"], size["height"], size["width"])
    if "Tr" in said:
        pose = np.vstack([np.reshape(said["Tr"], (-1, 4))[:3], [0, 0, 0, 1]])
    else:
        pose = np.linalg.inv(np.asarray(said["camera_to_world"], np.float32).astype(np.float64))
    camera = Camera.from_intrinsics(said["fx"], said["fy"], said["cx"], said["cy"], (size["width"], size["height"]))
    camera = replace(camera.posed(pose), offset=np.asarray(said.get("P2_column_4", (0, 0, 0))))  # exact conventions leave the offset out
    edges = dict(zip("xyz", said["scene"], strict=True))
    axes = MonoSceneConfig.preset("exact", "full", setting).grid.axes
    shape = [round(edges[axis] / said["voxel"]) for axis in axes]
    return Frame(str(case), {"main": View(picture, camera)}, VoxelGrid.from_corner(said["origin"], shape, said["voxel"], axes))


def load(case: Case) -> Loaded:
    keys = forge.read_keys(case.folder / "keys.tsv")
    shapes = {name: shape for name, shape, _ in keys}
    setting = setting_of(shapes)
    frame = frame_of(case, setting)
    with torch.device("meta"):
        system = MonoScene(config_of(setting, shapes, frame.grid))
    state = {name: torch.from_numpy(array) for name, array in forge.weights(keys, **forge.recipe(case.folder)).items()}
    converted = TABLES[setting].convert(state, system.state_dict(), str(case))
    fill(system, converted.live, str(case))
    return Loaded(case, setting, keys, system.eval(), converted, collate([frame]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loaded" in metafunc.fixturenames:
        found = find_cases(metafunc.config, lambda case: case.system == "MonoScene" and (case.folder / "keys.tsv").exists())
        metafunc.parametrize("loaded", found, ids=str, indirect=True, scope="module")


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    made = load(request.param)
    yield made
    del made
    gc.collect()


def submodule(system: nn.Module, path: str) -> nn.Module:
    """As `get_submodule`, with -1 for the last of a sequence."""
    for step in path.split("."):
        system = list(system.children())[-1] if step == "-1" else system.get_submodule(step)
    return system


def test_a_released_state_comes_back_from_ours_name_by_name(loaded: Loaded) -> None:
    table = TABLES[loaded.setting]
    given_back = table.restore(loaded.converted.live, loaded.converted.dead, loaded.converted.order)
    assert list(given_back) == [name for name, _, _ in loaded.keys]
    assert all(tuple(given_back[name].shape) == shape for name, shape, _ in loaded.keys)
    stored = {"num_batches_tracked", "running_mean", "running_var"}
    parameters = sum(t.numel() for name, t in given_back.items() if name.rsplit(".", 1)[1] not in stored)
    assert parameters == loaded.case.facts["parameters"]
    assert len(given_back) == loaded.case.facts["state_entries"]


def test_every_tap_is_the_released_one(loaded: Loaded) -> None:
    system, batch, config = loaded.system, loaded.batch, loaded.system.config
    system.half_2d.encoder.decoder.band = system.half_3d.head.slab = None  # whole maps, so that every tap exists at once
    loaded.rows.clear()
    handles = [_watch(loaded, tap, *place) for tap, place in taps_of(loaded.setting).items()]
    handles.append(system.half_2d.lift.register_forward_hook(lambda module, args, out: _compare_scales(loaded, *args)))
    handles.append(system.half_2d.encoder.decoder.up[0].register_forward_hook(lambda module, args, out: _compare_dead_map(loaded, out)))
    try:
        with torch.inference_mode():
            prediction = system(batch)
    finally:
        for handle in handles:
            handle.remove()
    loaded.compare("P_logits", prediction.extras["relation_logits"])
    loaded.compare("labels", prediction.logits.argmax(1).to(torch.uint8))
    loaded.compare("img", normalise(batch.pictures["main"], config.preparation))
    _compare_geometry(loaded)
    loaded.check()


@pytest.mark.slow  # one more forward a setting
def test_slabs_and_folded_norms_leave_the_released_numbers(loaded: Loaded) -> None:
    system = fuse_for_inference(loaded.system)
    system.half_2d.encoder.decoder.band, system.half_3d.head.slab = 32, 4
    loaded.rows.clear()
    with torch.inference_mode():
        prediction = system(loaded.batch)
    loaded.compare("ssc_logit", prediction.logits)
    loaded.compare("P_logits", prediction.extras["relation_logits"])
    loaded.compare("labels", prediction.logits.argmax(1).to(torch.uint8))
    check(loaded.rows, tolerances_of(loaded.case))


def _watch(loaded: Loaded, tap: str, path: str, what: str) -> Any:
    module = submodule(loaded.system, path)
    if what == "input":
        return module.register_forward_pre_hook(lambda module, args: loaded.compare(tap, args[0]))
    return module.register_forward_hook(lambda module, args, out: loaded.compare(tap, out))


def _compare_scales(loaded: Loaded, pyramid: dict[int, Tensor], pixels: Tensor, in_view: Tensor, shape: tuple[int, ...]) -> None:
    for scale, features in pyramid.items():
        loaded.compare(f"flosp_{scale}", FLoSP.forward(loaded.system.half_2d.lift, {scale: features}, pixels, in_view, shape)[0])


def _compare_dead_map(loaded: Loaded, coarsest: Tensor) -> None:
    """The map at 1/16 is dead: made by released code and used by nothing. Its weights are carried, so it can still be compared."""
    weight, bias = (loaded.converted.dead[f"net_rgb.decoder.resize_output_1_16.{name}"] for name in ("weight", "bias"))
    loaded.compare("map_1_16", torch.nn.functional.conv2d(coarsest, weight, bias))


def _compare_geometry(loaded: Loaded) -> None:
    """Pixels, view mask, depth and frustums; the released lists run over world x, y, z whatever the axes of the volume."""
    config, batch = loaded.system.config, loaded.batch
    grid = batch.grids[0]
    world = [grid.forward, grid.left, grid.up]
    for factor in sorted({1, config.lift_factor}):
        table = project_batch(batch, factor, config.rounding, config.use_offset)
        shape = grid.coarser(factor).shape

        def listed(values: Tensor, shape: tuple[int, ...] = shape) -> Tensor:
            return values[0].unflatten(0, shape).permute(*world, *range(3, values.dim() + 1)).flatten(0, 2)

        mask = listed(table.in_view)
        loaded.compare(f"fov_mask_{factor}", mask)
        loaded.compare(f"pix_z_{factor}", listed(table.depth))
        loaded.compare(f"pix_in_view_{factor}", torch.where(mask[:, None], listed(table.pixels), -1))
        if factor == 1:
            ids = frustum_ids(table.pixels, table.in_view, batch.cameras["main"][0].size, config.frustum_divisions)
            loaded.compare("frustum_ids", ids[0].view(shape))


def test_the_taps_cover_both_settings() -> None:
    """A typo in the table of taps would otherwise only show in the long runs."""
    for setting in STAGE_TAPS:
        config = MonoSceneConfig.preset("exact", "full", setting)
        assert isinstance(config.grid, GridPlacement)
        with torch.device("meta"):
            system = MonoScene(config)
        assert all(isinstance(submodule(system, path), nn.Module) for path, _ in taps_of(setting).values())
