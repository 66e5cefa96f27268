"""The exchange of halves: one field each, on the host's grid and classes, at the width of the half it meets; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from wholescene import recipes
from wholescene.camera import Camera
from wholescene.checkpoints import native
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.structures import Batch, Frame, Prediction, View
from wholescene.systems import create, preset
from wholescene.systems.config import HalfChoice
from wholescene.systems.halves import Half2D, Half3D, answer_and_target, build_halves, check_grid, merge_losses, said_halves, target_of
from wholescene.systems.lmscnet.config import LMSCNetConfig
from wholescene.systems.lmscnet.model import LMSCNet
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.model import MonoScene

ROOM = GridPlacement((12, 8, 20), (0.4, 0.4, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
HOST = MonoSceneConfig.preset("clean", "tiny", setting="nyuv2", grid=ROOM)
OUTDOORS = HalfChoice("monoscene", size="tiny", setting="semantic-kitti", fields={"features": 12})  # as it stands: other grid, labels, factor


def batch_of(config: MonoSceneConfig) -> Batch:
    rng = np.random.default_rng(0)
    camera = Camera.from_fov(75, (96, 64)).on_ground(1.2, 10)
    grid = config.grid.place(camera)
    labels = rng.choice([0, 0, 1, 3, 5, 255], grid.shape).astype(np.uint8)
    picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return collate([Frame("forged", {"main": View(picture, camera)}, grid, targets={1: labels})])


@pytest.mark.parametrize("kind", ["lift", "completion"])
def test_a_half_of_another_system_stands_on_the_hosts_grid_classes_and_width(kind: str) -> None:
    other = replace(OUTDOORS, fields={})
    system = MonoScene(replace(HOST, **{kind: other}))  # type: ignore[arg-type]
    half = system.half_2d if kind == "lift" else system.half_3d
    assert (half.width, half.factor) == (HOST.features, HOST.lift_factor)
    assert (half.config.grid, half.config.labels, half.config.class_weights) == (ROOM, HOST.labels, HOST.class_weights)
    assert half.config.camera_height_m == HOST.camera_height_m
    batch = batch_of(HOST)
    terms = system.losses(system(batch), batch)
    assert set(terms) == {"relation", "cross_entropy", "semantic_affinity", "geometric_affinity", "frustum_proportion"}
    assert all(torch.isfinite(term) for term in terms.values())


def test_the_choices_own_fields_come_last_and_a_pair_of_two_widths_is_refused() -> None:
    with pytest.raises(InputError, match=r"lifts 12 channels to a 1 times .* monoscene reads 8 channels"):
        MonoScene(replace(HOST, lift=OUTDOORS))


def test_both_halves_chosen_agree_with_each_other() -> None:
    system = MonoScene(replace(HOST, lift=replace(OUTDOORS, fields={"features": 16, "lift_factor": 1}), completion=replace(OUTDOORS, fields={})))
    assert (system.half_3d.width, system.half_3d.factor) == (16, 1)


def test_a_system_whose_halves_do_not_stand_alone_neither_gives_nor_takes_one() -> None:
    with pytest.raises(InputError, match="3D half of lmscnet does not stand alone"):
        MonoScene(replace(HOST, completion=HalfChoice("lmscnet")))
    with pytest.raises(InputError, match="2D half of lmscnet does not stand alone"):
        LMSCNet(replace(LMSCNetConfig(), lift=HalfChoice("monoscene")))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (HalfChoice("monoscen"), "the nearest (is|are) 'monoscene'"),
        (HalfChoice("monoscene", size="tyny"), "the nearest is 'tiny'"),
        (HalfChoice("monoscene", size="tiny", fields={"feature": 8}), "the nearest is 'features'"),
    ],
)
def test_a_choice_that_is_not_there_is_answered_with_the_nearest(choice: HalfChoice, said: str) -> None:
    with pytest.raises(InputError, match=said):
        MonoScene(replace(HOST, lift=choice))


def test_a_3d_half_is_refused_behind_a_2d_half_that_does_not_give_what_it_reads() -> None:
    class Blind(Half2D):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.width, self.factor = 8, 1

    class Reader(Half3D):
        reads = frozenset({"depth"})

        def __init__(self, config: Any) -> None:
            super().__init__()
            self.width, self.factor = 8, 1

    system = type("Forged", (MonoScene,), {"name": "forged", "Lift": Blind, "Completion": Reader})
    with pytest.raises(InputError, match="3D half of forged reads depth beside the volume, and the 2D half of forged gives nothing"):
        system(HOST)
    Blind.gives = frozenset({"depth", "queries"})  # type: ignore[misc]
    assert isinstance(build_halves(system, HOST)[0], Blind)


@pytest.mark.parametrize("completion", ["monoscene", "scanssc"])
def test_a_grid_that_is_not_equally_coarse_is_refused_before_another_half_is_built(completion: str) -> None:
    config = replace(preset("symphonies", "clean", "tiny"), completion=HalfChoice(completion, size="tiny"))
    with pytest.raises(InputError, match=r"\(2, 2, 4\) times coarser .* set height_factor to 1"), torch.device("meta"):
        create("symphonies", config)


def test_a_scene_and_a_score_say_whose_halves_stood_in() -> None:
    system = MonoScene(replace(HOST, lift=replace(OUTDOORS, fields={})))
    scene = system.predict(np.zeros((64, 96, 3), np.uint8), Camera.from_fov(75, (96, 64)))
    assert scene.provenance["system"] == "monoscene with the 2D half of monoscene"
    assert said_halves("iso", HOST) == "iso"
    both = replace(HOST, lift=HalfChoice("iso"), completion=HalfChoice("ga-monossc"))
    assert said_halves("monoscene", both) == "monoscene with the 2D half of iso and the 3D half of ga-monossc"


def test_two_terms_of_one_name_are_refused() -> None:
    one, two = {"depth": torch.ones(())}, {"relation": torch.ones(())}
    assert merge_losses(one, two) == {**one, **two}
    with pytest.raises(InputError, match="loss term depth"):
        merge_losses(one, dict(MappingProxyType(one)))


def test_a_choice_travels_through_recipes_and_weights_files(tmp_path: Any) -> None:
    over = {"system.fields.lift.system": "monoscene", "system.fields.lift.size": "tiny", "system.fields.lift.fields.decoder_width": 32}
    config = recipes.load("monoscene-street-tiny", over).system.config()
    assert config.lift == HalfChoice("monoscene", size="tiny", fields={"decoder_width": 32})
    system = MonoScene(replace(HOST, lift=replace(OUTDOORS, fields={"decoder_width": 32})))
    native.save(tmp_path / "exchanged.safetensors", system)
    again = native.load(tmp_path / "exchanged.safetensors")
    assert again.config == system.config
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in system.state_dict().items())


def test_a_batch_on_another_grid_without_labels_or_an_answer_is_refused() -> None:
    batch = batch_of(HOST)
    check_grid(batch, ROOM.shape)
    assert target_of(batch) is batch.targets[1]
    with pytest.raises(InputError, match=r"built for a grid of \(12, 8, 16\) voxels along .*; found \(12, 8, 20\)"):
        check_grid(batch, (12, 8, 16))
    with pytest.raises(InputError, match="forged have no target labels"):
        answer_and_target(Prediction(torch.zeros(1)), replace(batch, targets={}))
    with pytest.raises(InputError, match="prediction without logits"):
        answer_and_target(Prediction(None), batch)
