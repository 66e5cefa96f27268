"""The Mamba blocks: parameters as published, causality in both directions, parts of a sequence as the whole, padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from wholescene.errors import InputError
from wholescene.layers import mamba
from wholescene.layers.mamba import BidirectionalMamba, GatedNorm, Mamba, Mamba2

MAKES: dict[str, Callable[[], nn.Module]] = {
    "forward": lambda: Mamba(16),
    "reverse": lambda: Mamba(16, reverse=True),
    "both": lambda: BidirectionalMamba(16),
    "dual": lambda: Mamba2(16, state=8, head=8),
    "dual, reverse": lambda: Mamba2(16, state=8, head=8, groups=2, reverse=True),
}


@pytest.fixture(params=MAKES)
def block(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    return request.param, MAKES[request.param]().double()


@pytest.mark.parametrize(("width", "parameters"), [(200, 272_400), (400, 1_044_000)])
def test_a_block_has_as_many_parameters_as_published(width: int, parameters: int) -> None:
    assert sum(p.numel() for p in Mamba(width).parameters()) == parameters


def test_parts_of_a_sequence_are_the_whole(block: tuple[str, nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = block
    tokens, lengths = torch.randn(2, 53, 16, dtype=torch.float64), torch.tensor([53, 20])
    whole = made(tokens, lengths)
    for step in (1, 2, 10, 53):
        monkeypatch.setattr(mamba, "_PART", step)
        with torch.no_grad():
            torch.testing.assert_close(made(tokens, lengths), whole, rtol=1e-10, atol=1e-12)


def test_tokens_reach_only_what_their_direction_says(block: tuple[str, nn.Module]) -> None:
    name, made = block
    tokens = torch.randn(1, 40, 16, dtype=torch.float64)
    moved = tokens.clone()
    moved[:, 20] += 1
    changed = (made(tokens) != made(moved)).any(2)[0]
    before, after = changed[:20], changed[21:]
    assert bool(changed[20])
    assert bool(before.any()) == (name != "forward" and name != "dual")
    assert bool(after.any()) == (not name.endswith("reverse"))


def test_padding_changes_nothing(block: tuple[str, nn.Module]) -> None:
    _, made = block
    tokens = torch.randn(1, 30, 16, dtype=torch.float64)
    padded = torch.cat([tokens, torch.randn(1, 12, 16, dtype=torch.float64)], 1)
    found = made(padded, torch.tensor([30]))
    torch.testing.assert_close(found[:, :30], made(tokens), rtol=1e-10, atol=1e-12)
    assert torch.count_nonzero(found[:, 30:]) == 0


def test_both_directions_are_two_scans_of_which_one_reads_backwards() -> None:
    both, one = BidirectionalMamba(16).double(), Mamba(16).double()
    tokens = torch.randn(1, 25, 16, dtype=torch.float64)
    shared = {name: value for name, value in both.state_dict().items() if name in one.state_dict()}
    one.load_state_dict(shared)
    forward = one(tokens)
    names = {"conv1d_b": "conv1d", "x_proj_b": "x_proj", "dt_proj_b": "dt_proj", "A_b_log": "A_log", "D_b": "D"}
    own = {new + name.removeprefix(old): v for name, v in both.state_dict().items() for old, new in names.items() if name.startswith(old)}
    one.load_state_dict({**shared, **own})
    backward = one(tokens.flip(1)).flip(1)
    torch.testing.assert_close(both(tokens), forward + backward, rtol=1e-10, atol=1e-12)


def test_step_sizes_start_between_a_thousandth_and_a_tenth() -> None:
    torch.manual_seed(0)
    for bias in (Mamba(200).dt_proj.bias, Mamba2(200, head=50).dt_bias):
        steps = nn.functional.softplus(bias.detach())
        assert 1e-3 * 0.999 <= float(steps.min()) < float(steps.max()) <= 0.1001


def test_the_gated_norm_scales_each_group_to_one() -> None:
    y, z = torch.randn(5, 12, dtype=torch.float64), torch.randn(5, 12, dtype=torch.float64)
    found = GatedNorm(12, 3, eps=0.0).double()(y, z)
    torch.testing.assert_close(found.unflatten(1, (3, 4)).square().mean(2), torch.ones(5, 3, dtype=torch.float64))
    assert torch.equal(found.sign(), (y * z.sigmoid() * z).sign())


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="each must divide"):
        Mamba2(200)
