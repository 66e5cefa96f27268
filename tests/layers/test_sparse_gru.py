"""The masked sparse GRU: slopes, what it leaves alone, and distance attention on a wall at a known depth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wholescene.geometry.surface import read_map, surface_distance
from wholescene.layers.distance_attention import DistanceAttention
from wholescene.layers.sparse_gru import MaskedSparseGRU
from wholescene.ops.neighbours import links_of_mask

SHAPE = (2, 4, 3, 3)


def _cell(width: int = 3) -> MaskedSparseGRU:
    torch.manual_seed(0)
    return MaskedSparseGRU(width, 2).double()


def _steps(cell: MaskedSparseGRU, state: Tensor, x: Tensor, masks: list[Tensor]) -> Tensor:
    for mask in masks:
        active = mask.reshape(-1).nonzero()[:, 0]
        state = cell(state, x[active], active, links_of_mask(mask))
    return state


def _masks(count: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.rand(SHAPE, generator=random) < 0.4 for _ in range(count)]


@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradients_of_one_and_of_three_steps_are_the_slopes(steps: int) -> None:
    cell = _cell()
    state, x = torch.randn(72, 3, dtype=torch.float64, requires_grad=True), torch.randn(72, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in cell.named_parameters()]

    def run(state: Tensor, x: Tensor, *parameters: Tensor) -> Tensor:
        with torch.nn.utils.stateless._reparametrize_module(cell, dict(zip(names, parameters, strict=True))):
            return _steps(cell, state, x, _masks(steps))

    assert torch.autograd.gradcheck(run, (state, x, *cell.parameters()), fast_mode=True)


def test_off_the_mask_the_state_is_the_same_bit_by_bit_and_its_gradient_passes_through() -> None:
    cell, (mask,) = _cell(), _masks(1)
    state = torch.randn(72, 3, dtype=torch.float64, requires_grad=True)
    after = _steps(cell, state, torch.randn(72, 2, dtype=torch.float64), [mask])
    off = ~mask.reshape(-1)
    assert torch.equal(after[off], state[off])
    assert not torch.equal(after[~off], state[~off])
    to = torch.randn_like(after)
    (slope,) = torch.autograd.grad(after, state, to)
    assert torch.equal(slope[off], to[off])


def test_an_empty_mask_keeps_everything_and_gives_weights_no_gradient() -> None:
    cell, nothing = _cell(), torch.zeros(SHAPE, dtype=torch.bool)
    state = torch.randn(72, 3, dtype=torch.float64, requires_grad=True)
    after = _steps(cell, state, torch.randn(72, 2, dtype=torch.float64), [nothing])
    assert torch.equal(after, state)
    after.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in cell.parameters())


def test_a_wall_at_a_known_depth_gets_one_two_thirds_and_one_third() -> None:
    depth, voxel = torch.full((6, 8), 2.0, dtype=torch.float64), 0.125
    metres = 2.0 + voxel * torch.tensor([0, 1, 2, 3, -1, -0.5], dtype=torch.float64)
    pixels = torch.tensor([[3.3, 2.6]], dtype=torch.float64).repeat(6, 1)
    delta, surface, seen, nearest = surface_distance(depth, pixels, metres, (8, 6), 2 * voxel)
    weights = DistanceAttention("tent").double()(delta, surface, voxel)
    torch.testing.assert_close(weights, torch.tensor([1, 2 / 3, 1 / 3, 0, 0, 0.5], dtype=torch.float64), atol=1e-7, rtol=0)
    ramp = DistanceAttention("ramp").double()(delta, surface, voxel)
    torch.testing.assert_close(ramp, torch.tensor([1, 2 / 3, 1 / 3, 0, 0, 0], dtype=torch.float64), atol=1e-7, rtol=0)
    assert seen.all()
    assert not nearest.any()


def test_unknown_depth_and_places_out_of_view_are_not_seen() -> None:
    depth = torch.zeros(6, 8)
    depth[:, 4:] = 5.0
    pixels = torch.tensor([[1.0, 1.0], [6.2, 3.0], [3.6, 2.0], [8.0, 3.0], [float("nan"), 1.0], [6.0, 3.0]])
    metres = torch.tensor([5.0, 5.0, 5.0, 5.0, 5.0, -1.0])
    delta, surface, seen, nearest = surface_distance(depth, pixels, metres, (8, 6), 1.0)
    assert seen.tolist() == [False, True, True, False, False, False]
    assert surface.tolist() == [0, 5, 5, 0, 0, 0], "beside the unknown the nearest pixel counts, not a mean with zero"
    assert nearest[2]
    assert not delta[~seen].any()


def test_reaches_widen_with_depth_and_learn() -> None:
    attention = DistanceAttention("tent", widening_m=10.0)
    delta, depth = torch.tensor([1.2, 1.2]), torch.tensor([5.0, 20.0])
    near, far = attention(delta, depth, 0.4).tolist()
    assert (near, far) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.5))
    attention(delta, depth, 0.4).sum().backward()
    assert attention.log_reach.grad is not None
    assert attention.log_reach.grad[0, 0] > 0


@pytest.mark.parametrize("profile", ["tent", "ramp", "gauss", "mlp", "none"])
def test_every_profile_gives_weights_between_nothing_and_one(profile: str) -> None:
    weights = DistanceAttention(profile)(torch.linspace(-2, 2, 41), torch.full((41,), 4.0), 0.2)  # type: ignore[arg-type]
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights == 1).all() == (profile == "none")


def test_a_map_is_read_between_the_centres_of_its_cells() -> None:
    features = torch.arange(12.0).view(1, 3, 4)  # cells of 4 x 4 pixels, centred on 1.5, 5.5, ...
    pixels = torch.tensor([[1.5, 1.5], [5.5, 1.5], [3.5, 1.5], [1.5, 3.5], [-0.5, 1.5], [40.0, 1.5]])
    assert read_map(features, pixels, (4, 4))[:, 0].tolist() == pytest.approx([0, 1, 0.5, 2, 0, 0], abs=1e-6)


def test_at_the_width_indoors_the_cell_has_the_parameters_of_three_convolutions() -> None:
    with torch.device("meta"):
        cell = MaskedSparseGRU(128, 128)
    assert sum(p.numel() for p in cell.parameters()) == 3 * (27 * 256 * 128 + 128) == 2_654_592
