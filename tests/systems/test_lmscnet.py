"""What is LMSCNet's own: scales, voxel revisions, axis orders, where its voxels come from. The numbers are held by the parity cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wholescene.camera import Camera
from wholescene.checkpoints.converting import convert, convert_file, restore
from wholescene.checkpoints.lmscnet import TABLES
from wholescene.checkpoints.native import load, save
from wholescene.data.collate import collate
from wholescene.data.volumes import unshift
from wholescene.errors import InputError
from wholescene.geometry.occupancy import occupancy_of_points
from wholescene.geometry.pyramid import pool_labels
from wholescene.grid import GridPlacement
from wholescene.structures import Batch, Frame, View
from wholescene.systems.lmscnet.config import LMSCNetConfig
from wholescene.systems.lmscnet.model import LMSCNet

GRID = GridPlacement((16, 24, 8), (1.6, 1.6, 0.8), lidar_corner=None)


def system(conventions: str = "clean", setting: str = "semantic-kitti", **fields: Any) -> LMSCNet:
    torch.manual_seed(0)
    made = LMSCNet(LMSCNetConfig.preset(conventions, "tiny", setting, **{"grid": GRID, **fields}))
    for name, value in made.state_dict().items():  # answers that differ from voxel to voxel
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.dim() > 1:
            value.normal_(0, 1.4 / value[0].numel() ** 0.5)
    return made.eval()


def frame(grid: GridPlacement = GRID, **inputs: Any) -> Frame:
    camera = Camera.from_fov(75, (64, 48)).on_ground(1.65)
    return Frame("forged", {"main": View(np.zeros((48, 64, 3), np.uint8), camera)}, grid.place(camera), **inputs)


def occupancy(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(GRID.shape) < 0.2


def labelled(seed: int = 0) -> Batch:
    labels = np.random.default_rng(seed).choice([0, 0, 1, 9, 15, 255], GRID.shape).astype(np.uint8)
    return collate([frame(occupancy=occupancy(), targets={1: labels})])


def logits_of(model: LMSCNet, given: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return model(collate([frame(model.config.grid, occupancy=given)])).logits[0]


def test_coarser_scales_are_made_in_training_and_on_request() -> None:
    model, batch = system(), labelled()
    with torch.no_grad():
        assert model(batch).auxiliary == {}
        model.half_3d.auxiliary = True
        asked = model(batch).auxiliary
        model.half_3d.auxiliary = False
        trained = model.train()(batch).auxiliary
    shapes = {f"1_{s}": (1, 20, *(n // s for n in GRID.shape)) for s in (2, 4, 8)}
    assert {name: tuple(x.shape) for name, x in asked.items()} == shapes == {name: tuple(x.shape) for name, x in trained.items()}


def test_the_loss_is_the_mean_over_scales_of_majority_pooled_targets() -> None:
    model, batch = system().train(), labelled()
    prediction = model(batch)
    weights = torch.tensor(model.config.weights_of_classes())
    target = batch.targets[1]
    expected = F.cross_entropy(prediction.logits, target.long(), weights, ignore_index=255)
    for scale in (2, 4, 8):
        pooled = pool_labels(target, scale, "majority").long()
        expected = expected + F.cross_entropy(prediction.auxiliary[f"1_{scale}"], pooled, weights, ignore_index=255)
    torch.testing.assert_close(sum(model.losses(prediction, batch).values()), expected / 4)


def test_the_small_form_has_one_scale_and_the_same_network() -> None:
    whole, small = system(), system(setting="ss-semantic-kitti")
    assert list(small.half_3d.head) == ["1"]
    small.load_state_dict({name: value for name, value in whole.state_dict().items() if name in small.state_dict()})
    assert torch.equal(logits_of(small, occupancy()), logits_of(whole, occupancy()))
    assert list(small.train().losses(small(labelled()), labelled())) == ["cross_entropy_1_1"]


def test_height_in_the_middle_is_only_another_order_of_axes() -> None:
    X, Y, Z = GRID.shape
    other = system(grid=replace(GRID, shape=(X, Z, Y), voxel_size=(1.6, 0.8, 1.6), axes="xzy"))
    expected = logits_of(system(), occupancy())
    torch.testing.assert_close(logits_of(other, occupancy().transpose(0, 2, 1)).transpose(2, 3), expected)


def test_weights_of_the_old_revision_see_and_answer_todays_voxels() -> None:
    """v1.0 wrote everything one voxel late: what such weights make of a late input is late too."""
    new, old = system(), system("exact")
    assert (new.config.revision, old.config.revision) == ("v1.1", "v1.0")
    given = occupancy()
    late = np.concatenate([[False], given.reshape(-1)[:-1]]).reshape(given.shape)
    found = logits_of(old, given).flatten(1)
    assert torch.equal(found[:, :-1], logits_of(new, late).flatten(1)[:, 1:])  # the last voxel is the one that v1.0 lost
    labels = logits_of(new, late).argmax(0).numpy()
    assert np.array_equal(found.argmax(0)[:-1].numpy(), unshift(labels).reshape(-1)[:-1])
    assert (logits_of(new, given).flatten(1).argmax(0) != found.argmax(0)).float().mean() > 0.05


def test_the_old_revision_trains_its_coarse_scales_where_they_stand() -> None:
    model, batch = system("exact").train(), labelled()
    prediction = model(batch)
    late = torch.cat([torch.tensor([255], dtype=torch.uint8), batch.targets[1].flatten()[:-1]]).view(batch.targets[1].shape)
    weights = torch.tensor(model.config.weights_of_classes())
    pooled = pool_labels(late, 4, "majority").long()
    expected = F.cross_entropy(prediction.auxiliary["1_4"], pooled, weights, ignore_index=255)
    torch.testing.assert_close(model.losses(prediction, batch)["cross_entropy_1_4"] * 4, expected)


def test_voxels_may_come_from_points_or_depth() -> None:
    points = np.random.default_rng(0).uniform((0, -15, -1, 0), (20, 15, 5, 1), (400, 4)).astype(np.float32)
    model = system(source="points")
    assert model.needs == {"points"}
    scene = model.predict(frame(points=points))
    given = occupancy_of_points(torch.from_numpy(points), frame().grid).numpy()
    assert np.array_equal(scene.labels, logits_of(system(), given).argmax(0).numpy())
    with pytest.raises(InputError, match="lmscnet needs depth beside the picture"):
        system(source="depth").predict(frame(points=points))


def test_what_cannot_work_is_refused_when_it_is_built() -> None:
    with pytest.raises(InputError, match="must be a multiple of 8"):
        system(grid=replace(GRID, shape=(16, 20, 8)))
    for scales in ((2, 4), (1, 3), (1, 1)):
        with pytest.raises(InputError, match="expected 1 and any of"):
            system(scales=scales)
    with pytest.raises(InputError, match="nearest"):
        LMSCNetConfig.preset(setting="ss-semantic-kitt")
    other = frame(replace(GRID, shape=(16, 16, 8)), occupancy=np.zeros((16, 16, 8), bool))
    with pytest.raises(InputError, match="set the grid in its config"):
        system()(collate([other]))


def test_what_the_authors_save_converts_and_comes_back(tmp_path: Any) -> None:
    """Their file is a dictionary of the training's state, with the weights under "model"."""
    model = LMSCNet(LMSCNetConfig.preset("exact"))
    state = TABLES["semantic-kitti"].restore(model.state_dict())
    torch.save({"startEpoch": 3, "model": state, "optimizer": {"state": {}}, "config_dict": {"MODEL": {"TYPE": "LMSCNet"}}}, tmp_path / "w.pth")
    converted = convert(tmp_path / "w.pth", "lmscnet").system
    assert converted.config == model.config
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in converted.state_dict().items())
    convert_file(tmp_path / "w.pth", tmp_path / "ours", "lmscnet")
    assert {name: tuple(value.shape) for name, value in restore(tmp_path / "ours").items()} == {name: tuple(v.shape) for name, v in state.items()}
    with pytest.raises(InputError, match=r"does not fit LMSCNet-SS for SemanticKITTI: 0 tensors missing, \d+ unknown"):
        convert(tmp_path / "w.pth", "lmscnet", "ss-semantic-kitti")


def test_a_saved_system_is_the_same_system(tmp_path: Any) -> None:
    model = system("exact", "ss-semantic-kitti")
    save(tmp_path / "w.safetensors", model)
    again = load(tmp_path / "w.safetensors")
    assert again.config == model.config
    assert isinstance(again, LMSCNet)
    assert torch.equal(logits_of(again, occupancy()), logits_of(model, occupancy()))
