"""The losses against their definitions over whole volumes, their gradients against autograd's, and what must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wholescene import losses
from wholescene.errors import InputError
from wholescene.labels import inverse_log_weights
from wholescene.losses import (
    VoxelSums,
    cross_entropy,
    frustum_proportion,
    geometric_affinity,
    relation,
    semantic_affinity,
)

K, FRUSTUMS, SHAPE = 4, 5, (2, 5, 4, 3)
WEIGHTS = torch.tensor([0.2, 1.0, 0.7, 1.5])
Losses = dict[str, Tensor]


def scene(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets with unknown voxels, frustum ids with voxels out of view; every class in each sample."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(SHAPE[0], K, *SHAPE[1:], generator=random, dtype=dtype)
    targets = torch.randint(0, K, SHAPE, generator=random)
    targets[torch.rand(SHAPE, generator=random) < 0.3] = 255
    targets[:, 0, 0] = torch.arange(3)
    return logits, targets, torch.randint(-1, FRUSTUMS, SHAPE, generator=random).short()


def all_of(logits: Tensor, targets: Tensor, ids: Tensor, weights: Tensor = WEIGHTS) -> Losses:
    sums = VoxelSums.of(logits, targets, ids, FRUSTUMS)
    return {
        "cross entropy": cross_entropy(sums, weights),
        "cross entropy over voxels": cross_entropy(sums, weights, over="voxels"),
        "semantic": semantic_affinity(sums),
        "geometric": geometric_affinity(sums),
        "geometric with epsilon": geometric_affinity(sums, 1e-5),
        "frustum": frustum_proportion(sums),
        "frustum of samples": frustum_proportion(sums, over="samples"),
    }


def affinity(p: Tensor, t: Tensor, epsilon: float = 0.0) -> Tensor:
    """Precision, recall and specificity of probabilities p for the voxels t, by their definition."""
    ratios = ((p * t).sum() / (p.sum() + epsilon), (p * t).sum() / (t.sum() + epsilon), ((1 - p) * (1 - t)).sum() / ((1 - t).sum() + epsilon))
    return -sum(torch.log(ratio) for ratio in ratios)  # type: ignore[return-value]


def proportion(shares: Tensor, targets: Tensor, ids: Tensor) -> list[Tensor]:
    """Divergence of every frustum that holds a known voxel, mask by mask."""
    found = []
    for frustum in range(FRUSTUMS):
        inside = (ids == frustum) & (targets != 255)
        if inside.any():
            mass = torch.stack([shares[:, k][inside].sum() for k in range(K)])
            truth = torch.stack([(targets[inside] == k).sum() for k in range(K)]).to(mass) / inside.sum()
            found.append(F.kl_div((mass / mass.sum()).log(), truth, reduction="sum"))
    return found


def plainly(logits: Tensor, targets: Tensor, ids: Tensor) -> Losses:
    """All losses as the paper defines them, with probabilities of the whole volume and autograd's gradients."""
    shares, known = logits.softmax(1), targets != 255
    p, y = shares.movedim(1, -1)[known], targets[known]
    weights = WEIGHTS.to(p)
    surprise = -weights[y] * p.gather(1, y[:, None])[:, 0].log()
    samples = [proportion(shares[b : b + 1], targets[b : b + 1], ids[b : b + 1]) for b in range(len(targets))]
    return {
        "cross entropy": F.cross_entropy(logits, targets, weights, ignore_index=255),
        "cross entropy over voxels": surprise.mean(),
        "semantic": torch.stack([affinity(p[:, k], (y == k).to(p)) for k in range(K)]).mean(),
        "geometric": affinity(1 - p[:, 0], (y != 0).to(p)),
        "geometric with epsilon": affinity(1 - p[:, 0], (y != 0).to(p), 1e-5),
        "frustum": torch.stack(proportion(shares, targets, ids)).mean(),
        "frustum of samples": torch.stack([*samples[0], *samples[1]]).mean(),
    }


def gradients(make: Callable[..., Losses], logits: Tensor, *rest: Tensor) -> Losses:
    logits = logits.detach().requires_grad_()
    return {name: torch.autograd.grad(loss, logits, retain_graph=True)[0] for name, loss in make(logits, *rest).items()}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([1, 7, 1000]))
def test_values_and_gradients_are_those_of_the_definitions(seed: int, voxels_at_a_time: int) -> None:
    before, losses._SLICE = losses._SLICE, voxels_at_a_time
    try:
        logits, targets, ids = scene(seed)
        torch.testing.assert_close(all_of(logits, targets, ids), plainly(logits, targets, ids), rtol=1e-10, atol=1e-12)
        found, wanted = gradients(all_of, logits, targets, ids), gradients(plainly, logits, targets, ids)
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
    finally:
        losses._SLICE = before


def test_volumes_in_another_order_of_memory_give_the_same() -> None:
    logits, targets, ids = scene()
    wanted = gradients(all_of, logits, targets, ids)
    for view in (logits.contiguous(memory_format=torch.channels_last_3d), logits.transpose(3, 4).contiguous().transpose(3, 4)):
        torch.testing.assert_close(gradients(all_of, view, targets.byte(), ids.flatten(1)), wanted, rtol=1e-12, atol=1e-14)


def test_unknown_voxels_change_nothing_and_get_no_gradient() -> None:
    logits, targets, ids = scene()
    unknown = (targets == 255)[:, None].expand_as(logits)
    spoilt = torch.where(unknown, torch.nan, logits)
    torch.testing.assert_close(all_of(spoilt, targets, ids), all_of(logits, targets, ids))
    for gradient in gradients(all_of, spoilt, targets, ids).values():
        assert (gradient[unknown] == 0).all()
        assert gradient[~unknown].any()


def test_a_voxel_in_no_frustum_counts_in_every_loss_but_the_frustums() -> None:
    logits, targets, ids = scene()
    whole, none = all_of(logits, targets, ids), all_of(logits, targets, torch.full_like(ids, -1))
    assert none.pop("frustum") == none.pop("frustum of samples") == 0
    torch.testing.assert_close(none, {name: loss for name, loss in whole.items() if name in none})


def test_only_classes_that_occur_count_in_the_semantic_affinity() -> None:
    logits, targets, _ = scene()
    targets[targets == 3] = 2
    p, y = logits.softmax(1).movedim(1, -1)[targets != 255], targets[targets != 255]
    wanted = sum(affinity(p[:, k], (y == k).to(p)) for k in range(3)) / 3
    torch.testing.assert_close(semantic_affinity(VoxelSums.of(logits, targets)), wanted)


DEGENERATE: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing known": lambda y: torch.full_like(y, 255),
    "nothing occupied": lambda y: torch.where(y == 255, y, 0),
    "nothing empty": lambda y: torch.where(y == 0, 1, y),
    "one sample unknown": lambda y: torch.where(torch.arange(2).view(2, 1, 1, 1) == 0, y, 255),
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("scale", [1.0, 200.0, 1e30])
def test_no_target_and_no_prediction_breaks_a_loss(kind: str, scale: float) -> None:
    logits, targets, ids = scene(dtype=torch.float32)
    targets = DEGENERATE[kind](targets)
    for name, loss in all_of(logits * scale, targets, ids).items():
        assert torch.isfinite(loss), name
        assert loss >= 0, name
    for name, gradient in gradients(all_of, logits * scale, targets, ids).items():
        assert torch.isfinite(gradient).all(), name


def test_what_the_targets_leave_undefined_is_left_out() -> None:
    logits, targets, _ = scene()
    p = logits.softmax(1)
    empty = VoxelSums.of(logits, torch.zeros_like(targets))
    # no voxel is occupied: only the recall of empty is left
    torch.testing.assert_close(geometric_affinity(empty), -p[:, 0].mean().log())
    torch.testing.assert_close(semantic_affinity(empty), -p[:, 0].mean().log())
    unknown = all_of(logits, torch.full_like(targets, 255), torch.zeros_like(targets).short())
    assert all(loss == 0 for loss in unknown.values())


def test_a_share_of_zero_costs_100_and_pulls_no_harder_than_the_library() -> None:
    share = torch.tensor([0.0, 1e-20, 1e-3, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    ours = losses._neg_log_share(share, torch.ones(5, dtype=torch.float64), 0.0)
    theirs = F.binary_cross_entropy(share, torch.ones(5, dtype=torch.float64), reduction="none")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), share), torch.autograd.grad(theirs.sum(), share))
    beyond = losses._neg_log_share(torch.tensor([1.0 + 1e-12]), torch.tensor([1.0]), 0.0)
    assert beyond.item() == 0


def test_nearly_certain_predictions_keep_their_precision() -> None:
    # 1 - p is a millionth of p here: sums in float32 would lose it
    logits = torch.zeros(1, 2, 32, 32, 32)
    logits[:, 0] = 14
    targets = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    targets[..., :2] = 1
    p = logits.softmax(1)[:, 0].double()
    wanted = affinity(1 - p, targets.double())
    torch.testing.assert_close(geometric_affinity(VoxelSums.of(logits, targets)).double(), wanted, rtol=1e-6, atol=0)


def test_half_precision_and_autocast_compute_in_float32() -> None:
    logits, targets, ids = scene(dtype=torch.float32)
    relations = torch.rand(1, 2, 6, 3) < 0.5
    wanted, half = all_of(logits, targets, ids), logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = all_of(logits, targets, ids)
        by_relation = relation(relations.transpose(2, 3).float(), relations)
    torch.testing.assert_close(inside, wanted, rtol=0, atol=0)
    assert by_relation.dtype == torch.float32
    torch.testing.assert_close(all_of(half, targets, ids), all_of(half.float(), targets, ids), rtol=0, atol=0)
    gradient = gradients(all_of, half, targets, ids)["cross entropy"]
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient, gradients(all_of, half.float(), targets, ids)["cross entropy"].bfloat16(), rtol=0, atol=0)


def test_no_tensor_of_the_volume_is_kept_for_the_backward_pass() -> None:
    logits, targets, ids = scene(dtype=torch.float32)
    logits.requires_grad_()
    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        all_of(logits, targets, ids)
    floats = [t for t in held if t.is_floating_point() and t.numel() >= logits.numel()]
    assert all(t.data_ptr() == logits.data_ptr() for t in floats)


def test_relations_weigh_zeros_over_ones_and_one_without_ones_has_its_zeros_only() -> None:
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, 6, generator=random, dtype=torch.float64).requires_grad_()
    targets = torch.rand(2, 3, 6, 4, generator=random) < 0.3
    targets[:, 2] = False
    terms = []
    for r in range(3):
        x, t = logits[:, r], targets[:, r].transpose(1, 2)
        weight = (~t).sum() / t.sum() if t.any() else 0.0
        terms.append(torch.where(t, -weight * F.logsigmoid(x), -F.logsigmoid(-x)))
    wanted, found = torch.stack(terms).mean(), relation(logits, targets)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(wanted, logits))
    torch.testing.assert_close(relation(logits, targets, 1e-5), found, rtol=1e-5, atol=0)
    assert relation(logits, targets, 1e3) < found


def test_class_weights_are_the_published_ones() -> None:
    weights = torch.tensor(inverse_log_weights([5417730330, 15783539, 125136]))
    torch.testing.assert_close(weights, torch.tensor([0.044617077, 0.060333725, 0.085199512]), rtol=1e-7, atol=0)
    assert inverse_log_weights([100.0], 0.5)[0] == pytest.approx(1 / math.log(100.5))
    for wrong in ([5.0, 0.0], [math.inf], [math.nan]):
        with pytest.raises(InputError, match="class weights"):
            inverse_log_weights(wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    scene_here = scene(dtype=torch.float32)
    scene_there = tuple(t.cuda() for t in scene_here)
    for make in (all_of, lambda *tensors: gradients(all_of, *tensors)):
        there = {name: t.cpu() for name, t in make(*scene_there).items()}
        torch.testing.assert_close(there, make(*scene_here), rtol=1e-5, atol=1e-7)


def test_tensors_that_do_not_fit_are_refused() -> None:
    logits, targets, ids = scene()
    with pytest.raises(InputError, match=r"\(2, 5, 4, 2\)"):
        VoxelSums.of(logits, targets[..., :2])
    with pytest.raises(InputError, match="label 4"):
        VoxelSums.of(logits, torch.where(targets == 3, 4, targets))
    with pytest.raises(InputError, match=r"-1\.\.3"):
        VoxelSums.of(logits, targets, ids, 4)
    with pytest.raises(InputError, match="not of the same voxels"):
        VoxelSums.of(logits, targets, ids[:, 1:], FRUSTUMS)
    with pytest.raises(InputError, match="40000 frustums"):
        VoxelSums.of(logits, targets, ids, 40000)
    with pytest.raises(InputError, match="relation logits"):
        relation(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
