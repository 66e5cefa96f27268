"""Stochastic depth: whole samples are left out, the mean stays, evaluation is the identity."""

from __future__ import annotations

import torch

from wholescene.backbones.efficientnet import EfficientNet
from wholescene.layers.drop_path import DropPath


def test_whole_samples_are_left_out_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    branch = torch.ones(2000, 2, 3)
    drop = DropPath(0.3)
    found = drop(branch)
    of_sample = found.flatten(1)
    assert (of_sample == of_sample[:, :1]).all()
    assert set(of_sample[:, 0].unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.7)}
    assert abs(float(found.mean()) - 1) < 0.05
    assert torch.equal(drop.eval()(branch), branch)


def test_an_encoder_drops_more_the_deeper_it_is_and_nothing_in_evaluation() -> None:
    torch.manual_seed(0)
    trunk, plain = EfficientNet("tiny", drop_path=0.2), EfficientNet("tiny")
    plain.load_state_dict(trunk.state_dict())
    shares = [block.drop_path.share for stage in trunk.blocks for block in stage]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert abs(shares[-1] - 0.2) < 1e-6
    picture = torch.randn(16, 3, 32, 32)
    for one, other in zip(trunk.eval()(picture), plain.eval()(picture), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(trunk.train()(picture)[-1], plain.train()(picture)[-1])
