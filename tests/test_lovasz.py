"""Lovász-softmax beyond its parity case: against set functions, against the usual code, and what degenerate targets do."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.lovasz import _from_large_to_small, lovasz, lovasz_softmax


def usual(p: Tensor, labels: Tensor) -> Tensor:
    """Cumulative differences, as most code has it."""
    losses = []
    for k in labels.unique().tolist():
        foreground = (labels == k).to(p.dtype)
        errors, order = torch.sort((foreground - p[:, k]).abs(), 0, descending=True)
        hit = foreground[order]
        jaccard = 1 - (hit.sum() - hit.cumsum(0)) / (hit.sum() + (1 - hit).cumsum(0))
        losses.append(torch.dot(errors, torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])))
    return torch.stack(losses).mean()


def jaccard_loss(missed: frozenset[int], foreground: set[int]) -> float:
    """Of predicting exactly the voxels in `missed` wrong: 1 - |right foreground| / |foreground or wrong|."""
    return 1 - len(foreground - missed) / len(foreground | missed) if foreground | missed else 0.0


def test_at_the_corners_it_is_the_jaccard_loss_itself() -> None:
    """Errors of 0 and 1 alone: the extension must equal the set function it extends, for every set of mistakes."""
    foreground = {0, 2}
    labels = torch.tensor([[1 if i in foreground else 0 for i in range(5)]])
    for missed in map(frozenset, itertools.chain.from_iterable(itertools.combinations(range(5), n) for n in range(6))):
        said = torch.tensor([[float((i in foreground) != (i in missed)) for i in range(5)]], dtype=torch.float64)
        _, of_class = lovasz(torch.stack([1 - said, said], 1), labels)
        assert float(of_class[1]) == pytest.approx(jaccard_loss(missed, foreground), abs=1e-12)


def test_value_and_gradient_are_those_of_the_usual_code_in_float64() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 4, (2, 4, 3, 2))  # class 4 does not occur
    labels[0, 0] = 255
    known = labels.reshape(-1) != 255
    p = torch.softmax(logits, 1).movedim(1, -1).reshape(-1, 5)[known]
    expected, found = usual(p, labels.reshape(-1)[known]), lovasz_softmax(logits, labels)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (wanted,) = torch.autograd.grad(expected, logits)
    (got,) = torch.autograd.grad(3 * found, logits)
    torch.testing.assert_close(got, 3 * wanted, rtol=1e-10, atol=1e-12)
    assert not got[0, :, 0].any()


def test_float32_and_half_precision_logits_give_the_float64_loss() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 4, 6, 5, 4, dtype=torch.float64), torch.randint(0, 4, (1, 6, 5, 4))
    exact = lovasz_softmax(logits, labels)
    assert float(lovasz_softmax(logits.float(), labels)) == pytest.approx(float(exact), rel=1e-6)
    half = logits.bfloat16().requires_grad_()
    loss = lovasz_softmax(half, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_the_quick_order_is_the_stable_one() -> None:
    random = torch.Generator().manual_seed(0)
    errors, foreground = torch.randint(0, 50, (4000,), generator=random).float() / 50, torch.rand(4000, generator=random) < 0.3
    errors[::7] = 1e-42  # not normal
    ordered, hit, order = _from_large_to_small(errors, foreground)
    assert torch.equal(order, torch.sort(errors, descending=True, stable=True).indices)
    assert torch.equal(ordered, errors[order])
    assert torch.equal(hit, foreground[order])


def test_nothing_known_costs_nothing_and_pulls_nowhere() -> None:
    logits = torch.randn(1, 3, 2, 2, 2, requires_grad=True)
    loss = lovasz_softmax(logits, torch.full((1, 2, 2, 2), 255))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()  # type: ignore[union-attr]  # set by backward


def test_certain_logits_give_a_loss_of_nothing_and_finite_gradients() -> None:
    labels = torch.randint(0, 3, (1, 4, 4, 4))
    logits = (1e4 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()).requires_grad_()
    loss = lovasz_softmax(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]  # set by backward


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="of the same voxels"):
        lovasz_softmax(torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 2, 2, 3, dtype=torch.long))
