"""Symphonies' recipes say what its paper and its released configuration say; its studies change what they name."""

from __future__ import annotations

import pytest

from wholescene.recipes import load
from wholescene.systems.symphonies.config import ATTENTIONS, SymphoniesConfig
from wholescene.training import study as studies


@pytest.mark.parametrize("setting", ["semantic-kitti", "kitti-360"])
def test_the_published_settings(setting: str) -> None:
    found = load(f"symphonies-{setting}")
    optimiser = found.optimiser
    assert (optimiser.name, optimiser.lr, optimiser.weight_decay, optimiser.betas, optimiser.eps) == ("adamw", 2e-4, 1e-4, (0.9, 0.999), 1e-3)
    assert [(group.pattern, group.lr_factor, group.decay) for group in optimiser.groups] == [("half_2d.encoder.trunk.*", 0.1, True)]
    assert [found.schedule.factor(epoch, 30) for epoch in (0, 24.99, 25, 29.99)] == [1, 1, pytest.approx(0.1), pytest.approx(0.1)]
    assert (found.budget.epochs, found.batch_size, found.clip, found.precision) == (30, 4, None, "32-true")
    assert (found.data.augment.jitter, found.data.augment.mirror) == (0, 0.5)
    config = found.system.config()
    assert isinstance(config, SymphoniesConfig)
    assert config == SymphoniesConfig.preset("exact", "full", setting)
    assert (config.classes, config.preparation.size) == {"semantic-kitti": (20, (1220, 370)), "kitti-360": (19, (1408, 376))}[setting]
    assert found.data.dataset == {"semantic-kitti": "semantic-kitti", "kitti-360": "sscbench-kitti-360"}[setting]


def test_the_study_of_attentions_leaves_each_out_in_turn() -> None:
    study = studies.load("symphonies-attentions")
    configs = {name: study.recipe_of(name, 0).system.config() for name in study.variants}
    for attention in ATTENTIONS:
        variant = "without-instance-queries" if attention == "scene-instance" else f"without-{attention}"
        assert not configs[variant].builds(attention, 0)
        left = {a for a in ATTENTIONS if configs[variant].builds(a, 0)}
        assert left == ({"scene-self"} if attention == "scene-instance" else set(ATTENTIONS) - {attention})
    assert study.recipe_of("stereo-depth", 0).data.depth == "stereo"
    assert not configs["line-of-sight-without-depth"].needs_depth
    clean = configs["symphonies"]
    assert configs["released-conventions"] == SymphoniesConfig.preset("exact", "tiny", grid=clean.grid, preparation=clean.preparation)


def test_the_study_of_conventions_changes_one_at_a_time() -> None:
    study = studies.load("symphonies-conventions")
    clean, exact = (study.recipe_of(name, 0).system.config() for name in ("symphonies", "all-of-them"))
    differing = {name for name, value in vars(exact).items() if value != getattr(clean, name)}
    changed = set()
    for variant in study.variants:
        own = {name for name, value in vars(study.recipe_of(variant, 0).system.config()).items() if value != getattr(clean, name)}
        assert len(own) == {"symphonies": 0, "all-of-them": len(differing)}.get(variant, 1)
        changed |= own if variant != "all-of-them" else set()
    assert differing - changed == {"use_offset"}  # streets are seen by a camera without one
