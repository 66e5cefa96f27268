"""The Scan Loss against a slow version of equations 7 and 8, voxel by voxel, forward and gradient."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.layers.scan import Order
from wholescene.systems.scanssc import losses as module
from wholescene.systems.scanssc.losses import near_to_far_weights, scan_loss, weighted_cross_entropy

Axis = Literal["depth", "width", "height"]
FAR_TO_NEAR: dict[Axis, tuple[int, Order]] = {
    "depth": (0, "last-to-first"),
    "width": (1, "sides-to-centre"),
    "height": (2, "first-to-last"),
}
SHAPES = [(4, 6, 3), (3, 5, 2), (1, 3, 5), (5, 1, 1)]


def scanned(axis: Axis, place: tuple[int, int, int], shape: tuple[int, int, int], backwards: bool) -> list[tuple[int, int, int]]:
    """The voxels over which equation 7 averages at a place (indices from 0): from the far end of its line to it; or from the near end to it."""
    x, y, z = place
    X, Y, Z = shape
    if axis == "depth":  # far is the back
        return [(i, y, z) for i in (range(x + 1) if backwards else range(x, X))]
    if axis == "height":  # far is the bottom
        return [(x, y, i) for i in (range(z, Z) if backwards else range(z + 1))]
    half = Y // 2  # far are the sides
    if y < half:
        return [(x, i, z) for i in (range(y, half) if backwards else range(y + 1))]
    return [(x, i, z) for i in (range(half, y + 1) if backwards else range(y, Y))]


def slow_loss(logits: Tensor, targets: Tensor, axis: Axis, *, backwards: bool = False, count_unknown: bool = False) -> Tensor:
    B, K, *shape = logits.shape
    terms = []
    for b in range(B):
        for place in [(x, y, z) for x in range(shape[0]) for y in range(shape[1]) for z in range(shape[2])]:
            if targets[(b, *place)] == 255 and not count_unknown:
                continue
            line = [p for p in scanned(axis, place, tuple(shape), backwards) if count_unknown or targets[(b, *p)] != 255]
            mean = sum(logits[(b, slice(None), *p)] for p in line) / len(line)
            truth = torch.zeros(K, dtype=logits.dtype)
            for p in line:
                if targets[(b, *p)] != 255:
                    truth[int(targets[(b, *p)])] += 1 / len(line)
            shares = mean.exp() / mean.exp().sum()
            terms.append(-sum(t * torch.log(s) for t, s in zip(truth, shares, strict=True)))
    return sum(terms) / len(terms) if terms else logits.sum() * 0


def forged(shape: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, *shape, dtype=torch.float64, generator=source, requires_grad=True)
    labels = torch.randint(0, 4, (2, *shape), generator=source)
    return logits, torch.where(labels == 3, 255, labels).to(torch.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count_unknown", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("axis", FAR_TO_NEAR)
def test_every_scan_is_the_slow_one(axis: Axis, backwards: bool, count_unknown: bool, shape: tuple[int, int, int]) -> None:
    logits, targets = forged(shape)
    number, order = FAR_TO_NEAR[axis]
    turned: dict[Order, Order] = {
        "last-to-first": "first-to-last", "first-to-last": "last-to-first", "sides-to-centre": "centre-to-sides",
    }  # fmt: skip
    found = scan_loss(logits, targets, number, turned[order] if backwards else order, count_unknown=count_unknown)
    expected = slow_loss(logits, targets, axis, backwards=backwards, count_unknown=count_unknown)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    one, other = (torch.autograd.grad(loss * 3, logits)[0] for loss in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_the_pseudocode_scans_the_whole_width() -> None:
    """Algorithm G.2 halves the first axis, that of the classes: with more rows of voxels than classes, one half is whole and the other empty."""
    logits, targets = forged((2, 8, 2))
    P, Y = 3, 8
    for b in range(2):
        logit = logits[b].detach()
        cum_l = torch.cumsum(logit[: Y // 2], dim=2)
        cum_r = torch.cumsum(logit[Y // 2 :].flip(2), dim=2)
        assert cum_l.shape[0] == P
        assert cum_r.numel() == 0
        cum = cum_l / torch.arange(1, Y + 1).view(1, 1, -1, 1)
        known = targets[b] != 255
        hot = torch.nn.functional.one_hot(torch.where(known, targets[b], 0).long(), P) * known[..., None]
        truth = torch.cumsum(hot.permute(3, 0, 1, 2).double(), 2) / torch.arange(1, Y + 1).view(1, 1, -1, 1)
        expected = torch.nn.functional.cross_entropy(cum[None], truth[None])
        found = scan_loss(logits[b : b + 1].detach(), targets[b : b + 1], 1, "first-to-last", count_unknown=True)
        torch.testing.assert_close(found, expected)


def test_unknown_voxels_do_not_change_the_loss_nor_get_a_gradient() -> None:
    logits, targets = forged((4, 5, 3))
    targets[:, 2] = 255
    changed = torch.where((targets == 255)[:, None], logits.detach() + 7, logits.detach())
    for axis, order in FAR_TO_NEAR.values():
        found = scan_loss(logits, targets, axis, order)
        assert torch.equal(found.detach(), scan_loss(changed, targets, axis, order))
        (gradient,) = torch.autograd.grad(found, logits)
        assert gradient.movedim(1, -1)[targets == 255].eq(0).all()
        assert gradient.movedim(1, -1)[targets != 255].ne(0).any()


def test_nothing_known_costs_nothing() -> None:
    logits, targets = forged((2, 3, 2))
    loss = scan_loss(logits, torch.full_like(targets, 255), 0, "last-to-first")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert gradient.eq(0).all()


@pytest.mark.parametrize("axis", FAR_TO_NEAR)
def test_slabs_leave_the_numbers(axis: Axis, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = forged((5, 4, 3))
    number, order = FAR_TO_NEAR[axis]
    whole = scan_loss(logits, targets, number, order)
    (gradient,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(module, "_MOST", {"cpu": 70})
    cut = scan_loss(logits, targets, number, order)
    torch.testing.assert_close(cut, whole)
    torch.testing.assert_close(torch.autograd.grad(cut, logits)[0], gradient)


def test_a_perfect_prediction_costs_the_least_there_is() -> None:
    _, targets = forged((4, 4, 4))
    targets[targets == 255] = 0
    right = 30.0 * torch.nn.functional.one_hot(targets.long(), 3).movedim(-1, 1).double()
    wrong = 30.0 * torch.nn.functional.one_hot((targets.long() + 1) % 3, 3).movedim(-1, 1).double()
    for axis, order in FAR_TO_NEAR.values():
        assert scan_loss(right, targets, axis, order) < scan_loss(wrong, targets, axis, order) / 5


def test_far_voxels_weigh_most_in_table_d2() -> None:
    weights = near_to_far_weights((3, 5, 3), ("first-to-last", "centre-to-sides", "last-to-first"))
    for x, y, z in [(0, 2, 2), (2, 0, 0), (1, 3, 2), (2, 4, 1)]:
        assert weights[x, y, z] == pytest.approx((x / 2 + abs(y - 2) / 2 + (2 - z) / 2) / 3)
    assert (weights.min(), weights.max()) == (0, 1)


def test_voxel_weights_of_one_leave_the_cross_entropy() -> None:
    logits, targets = forged((3, 4, 2))
    classes = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(logits, targets.long(), classes, ignore_index=255)
    torch.testing.assert_close(weighted_cross_entropy(logits, targets, classes, torch.ones(3, 4, 2)), expected)
    far = torch.zeros(3, 4, 2)
    far[2] = 1.0
    (gradient,) = torch.autograd.grad(weighted_cross_entropy(logits, targets, classes, far), logits)
    assert gradient[:, :, :2].eq(0).all()
    assert gradient[:, :, 2].ne(0).any()


def test_what_is_no_label_is_refused() -> None:
    logits, targets = forged((2, 3, 2))
    targets[0, 0, 0, 0] = 3
    with pytest.raises(InputError, match="neither one of the classes"):
        scan_loss(logits, targets, 0, "last-to-first")
    with pytest.raises(InputError, match="of the same voxels"):
        scan_loss(logits, targets[:, :1], 0, "last-to-first")
