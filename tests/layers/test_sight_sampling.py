"""Reading maps between their cells, and how much each cell is read."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from wholescene.layers.sight_sampling import footprint, read_between


def places(n: int = 50) -> torch.Tensor:
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1  # some outside


def test_reading_is_bilinear_between_centres_and_zero_outside() -> None:
    features, shares = torch.randn(3, 5, 7, dtype=torch.float64), places()
    expected = F.grid_sample(features[None], 2 * shares[None, None] - 1, align_corners=False, padding_mode="zeros")[0, :, 0].T
    torch.testing.assert_close(read_between(features, shares), expected)
    centre = torch.tensor([[2.5 / 7, 3.5 / 5]], dtype=torch.float64)
    torch.testing.assert_close(read_between(features, centre)[0], features[:, 3, 2])


def test_the_footprint_is_what_all_readings_together_take_of_each_cell() -> None:
    features, shares = torch.randn(3, 5, 7, dtype=torch.float64), places()
    weights = torch.rand(50, dtype=torch.float64, requires_grad=True)
    found = (features * footprint(shares, (5, 7), weights)).sum((1, 2))
    expected = (read_between(features, shares) * weights[:, None]).sum(0)
    torch.testing.assert_close(found, expected)
    own, other = (torch.autograd.grad(value.sum(), weights)[0] for value in (found, expected))
    torch.testing.assert_close(own, other)
    torch.testing.assert_close(footprint(shares, (5, 7)), footprint(shares, (5, 7), torch.ones(50, dtype=torch.float64)))
