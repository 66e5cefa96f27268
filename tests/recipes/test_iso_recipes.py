"""ISO's recipes have the numbers of its released settings."""

from __future__ import annotations

import pytest

from wholescene.recipes import load
from wholescene.recipes.recipe import Group
from wholescene.systems.iso.config import ISOConfig


@pytest.mark.parametrize(
    ("name", "setting", "epochs", "drop"),
    [("iso-nyuv2", "nyuv2", 30, 20), ("iso-occscannet", "occscannet", 60, 40), ("iso-occscannet-mini", "occscannet", 60, 40)],
)
def test_iso_has_the_released_settings(name: str, setting: str, epochs: int, drop: int) -> None:
    found = load(name)
    assert (found.optimiser.name, found.optimiser.lr, found.optimiser.weight_decay) == ("adamw", 1e-4, 1e-4)
    assert found.optimiser.groups == (Group("half_2d.distribution.*", lr_factor=0.05, optional=True),)
    places = (0, drop - 0.01, drop, epochs - 0.01)
    assert [found.schedule.factor(epoch, epochs) for epoch in places] == [1, 1, pytest.approx(0.1), pytest.approx(0.1)]
    assert (found.budget.epochs, found.batch_size, found.clip, found.precision, found.seed) == (epochs, 4, None, "32-true", 658018589)
    assert (found.data.augment.jitter, found.data.augment.mirror) == (0.4, 0.5)
    config = found.system.config()
    assert config == ISOConfig.preset("exact", "full", setting)
    assert config.weights_of_classes() == (0.05, *[1.0] * 11)


@pytest.mark.parametrize("name", ["iso-monoscene-lift-nyuv2", "iso-monoscene-lift-occscannet-mini"])
def test_without_the_depth_branch_everything_else_stays(name: str) -> None:
    found, whole = load(name), load(name.replace("-monoscene-lift", ""))
    assert found.system.config().lift is not None
    assert (found.data, found.budget, found.schedule, found.seed) == (whole.data, whole.budget, whole.schedule, whole.seed)
    assert found.optimiser.groups == ()
