"""A loss that is not finite ends a run with a sentence that says where to look."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from dial import MONOSCENE, Forged, ForMonoScene, recipe

from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.systems import create
from wholescene.training.guard import check_terms
from wholescene.training.run import train

STILL = {"data__augment__jitter": 0.0, "data__augment__mirror": 0.0}


def _train(out: Path, frames: Forged, **overrides: Any) -> Any:
    return train(recipe(**{**STILL, **overrides}), out, datasets={"train": frames, "val": Forged(2, 100)})


def test_the_guard_names_the_term_and_the_frame(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loss term smoothness \(inf\) is not finite at frame forged/3;.*data check") as caught:
        _train(tmp_path, Forged(5, poisoned=(3,)), batch_size=5)
    assert "cross_entropy" not in str(caught.value)


def test_the_guard_names_the_term_whose_gradient_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gradient of loss term steepness is not finite at frame forged/2 .*trunk"):
        _train(tmp_path, Forged(4, steep=(2,)), batch_size=1)


def test_weights_that_are_not_finite_are_named_instead_of_a_frame_to_blame() -> None:
    system = create("dial", recipe().system.config())
    torch.nn.init.constant_(system.get_parameter("head.bias"), torch.nan)
    batch = collate([Forged(2)[i] for i in range(2)])
    with pytest.raises(InputError, match=r"forged/0, forged/1, because weights are not \(head.bias\).*optimiser.lr"):
        check_terms(system, system.losses(system(batch), batch), batch)


def test_a_frame_without_a_known_voxel_trains_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = _train(tmp_path, Forged(3, blank=(1,)), batch_size=1)
    said = capsys.readouterr().out
    assert said.count("frame forged/1: no voxel is known") == 1
    assert "forged/0" not in said
    log = (tmp_path / "log/session-1/metrics.csv").read_text()
    assert "nan" not in log.lower()
    assert math.isfinite(made.evaluation.miou)


def test_monoscene_takes_a_step_on_frames_without_a_known_voxel(tmp_path: Path) -> None:
    """D09 of the cases: a mean over nothing must be 0, not NaN, in every term of the real losses."""
    made = recipe(**MONOSCENE, budget={"steps": 2}, validation__every=None)
    train(made, tmp_path, datasets={"train": ForMonoScene(2, blank=(0, 1)), "val": ForMonoScene(1)})
    rows = (tmp_path / "log/session-1/metrics.csv").read_text().lower()
    assert "train/relation" in rows
    assert "nan" not in rows
