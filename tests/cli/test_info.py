"""`info`: counts without content must equal counts of the real thing."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wholescene.data.collate import collate
from wholescene.info import Info, measure_config
from wholescene.preparation import prepare
from wholescene.systems import config_class, create, list_systems
from wholescene.systems.config import SystemConfig
from wholescene.systems.shapes import Shapes, example_frame

from .commanding import GRID, Run


def _config(size: str) -> SystemConfig:
    return config_class("monoscene").preset("clean", size, grid=GRID)  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def tiny() -> Info:
    return measure_config("monoscene", _config("tiny"))


def test_parameters_are_those_of_the_built_system(tiny: Info) -> None:
    assert tiny.parameters == sum(p.numel() for p in create("monoscene", _config("tiny")).parameters())


def test_multiply_adds_are_those_of_the_real_computation(tiny: Info) -> None:
    system = create("monoscene", _config("tiny")).eval()
    batch = collate([prepare(example_frame(system), system.config.preparation)])
    with FlopCounterMode(display=False) as counter:  # with gradients: the plain form, without the shortcuts that a CPU takes in inference
        system(batch)
    assert tiny.multiply_adds == counter.get_total_flops() / 2
    assert {p.name for p in tiny.parts if p.multiply_adds == 0} == {"lift"}, "FLoSP gathers and adds"


def test_memory_follows_the_lives_of_tensors() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1))
    picture, plane = torch.zeros(1, 3, 50, 40), 4 * 50 * 40
    shapes, flops = Shapes(), FlopCounterMode(display=False)
    with torch.no_grad(), shapes, flops:
        out = net(picture)
    assert flops.get_total_flops() / 2 == (8 * 3 * 9 + 16 * 8 * 9) * 50 * 40
    assert shapes.peak == (8 + 16) * plane  # the ReLU's output while the second convolution writes
    assert shapes.now == 16 * plane
    del out
    assert shapes.now == 0


def test_training_takes_more_than_predicting_and_small_more_than_tiny(tiny: Info) -> None:
    small = measure_config("monoscene", _config("small"))
    assert tiny.predicting < tiny.training
    assert tiny.parameters < small.parameters
    assert tiny.multiply_adds < small.multiply_adds


@pytest.mark.parametrize("system", [name for name in list_systems() if name != "dial"])
def test_info_prints_the_whole_and_its_parts_of_every_system(run: Run, system: str) -> None:
    ran = run("info", system, "--size", "tiny")
    assert ran.code == 0, ran.err
    rows = {name: int(count.replace(",", "")) for name, count in re.findall(r"(?m)^(\w+) +([\d,]+) +[\d,.]+$", ran.out)}
    assert rows.pop("all") == sum(rows.values()) == sum(p.numel() for p in _built(system).parameters())
    assert "memory to train" in ran.out


def _built(system: str) -> nn.Module:
    with torch.device("meta"):
        return create(system, config_class(system).preset("clean", "tiny"))  # type: ignore[attr-defined]
