"""Training targets, scores and losses at SemanticKITTI's size, beside a plain form of each written from its definition; both in one run.

Run: `python benchmarks/targets.py [--threads 1] [--repeats 3] [--only "frustum targets"]`

The plain forms are what a careful reader of the definitions writes first: one mask a frustum, one comparison a child voxel, three masks a class, and
losses over the probabilities of the whole volume. They agree with ours (checked in the run) and are nobody's released code.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import best_of, processor
from torch import Tensor

from wholescene import losses
from wholescene.camera import Camera
from wholescene.geometry.frustums import frustum_class_counts, frustum_ids
from wholescene.geometry.projection import project_grid
from wholescene.geometry.pyramid import pool_labels
from wholescene.geometry.relations import relation_targets
from wholescene.grid import semantic_kitti_grid
from wholescene.labels import SEMANTIC_KITTI, UNKNOWN
from wholescene.losses import VoxelSums
from wholescene.metrics import Counts

CLASSES, SHAPE, DIVISIONS = SEMANTIC_KITTI.classes, (256, 256, 32), 8
# the public calibration of SemanticKITTI's sequence 08
LIDAR_TO_CAMERA = (
    (-1.857739385241e-3, -9.999659513510e-1, -8.039975204516e-3, -4.784029760483e-3),
    (-6.481465826011e-3, 8.051860151134e-3, -9.999466081774e-1, -7.337429464231e-2),
    (9.999773098287e-1, -1.805528627661e-3, -6.496203536139e-3, -3.339968064433e-1),
    (0, 0, 0, 1),
)
CAMERA = Camera.from_intrinsics(707.0912, 707.0912, 601.8873, 183.1104, (1220, 370)).posed(np.array(LIDAR_TO_CAMERA))


@dataclass(frozen=True)
class Scene:
    """One frame's worth of inputs: pixels (N, 2), in view (N), truth and prediction (X, Y, Z) uint8, coarse truth (x, y, z)."""

    pixels: np.ndarray
    in_view: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    coarse: np.ndarray

    @classmethod
    def made(cls) -> Scene:
        random = np.random.default_rng(0)

        def blocks() -> np.ndarray:
            label = np.where(random.random([n // 4 for n in SHAPE]) < 0.6, 0, random.integers(1, CLASSES, [n // 4 for n in SHAPE]))
            return np.kron(label, np.ones((4, 4, 4), np.uint8)).astype(np.uint8)

        truth, prediction = blocks(), blocks()
        truth[random.random(SHAPE) < 0.276] = UNKNOWN  # the share of SemanticKITTI's training split
        table = project_grid(CAMERA, semantic_kitti_grid(), use_offset=False)
        return cls(table.pixels[0].numpy(), table.in_view[0].numpy(), truth, prediction, pool_labels(truth, 8))


def plain_frustums(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """(64, X, Y, Z) bool and (64, K): one mask a frustum, and the classes in it."""
    (width, height), target = CAMERA.size, scene.truth.reshape(-1)
    u, v = scene.pixels[:, 0], scene.pixels[:, 1]
    masks, counts = [], []
    for row, column in product(range(DIVISIONS), repeat=2):
        inside = (u >= column * width / DIVISIONS) & (u < (column + 1) * width / DIVISIONS)
        inside &= (v >= row * height / DIVISIONS) & (v < (row + 1) * height / DIVISIONS)
        inside &= scene.in_view & (target != UNKNOWN)
        masks.append(inside.reshape(SHAPE))
        counts.append(np.bincount(target[inside], minlength=CLASSES))
    return np.stack(masks), np.stack(counts)


def our_frustums(scene: Scene) -> tuple[Tensor, Tensor]:
    ids = frustum_ids(torch.from_numpy(scene.pixels)[None], torch.from_numpy(scene.in_view)[None], CAMERA.size, DIVISIONS)
    return ids, frustum_class_counts(ids, torch.from_numpy(scene.truth)[None], DIVISIONS**2, CLASSES)


def plain_relations(scene: Scene) -> np.ndarray:
    """(4, N, M) bool: every voxel's label compared with that of each child of each mega voxel."""
    labels = scene.coarse.reshape(-1)
    mega = [n // 2 for n in scene.coarse.shape]
    known, empty = labels != UNKNOWN, labels == 0
    target = np.zeros((4, len(labels), int(np.prod(mega))), bool)
    for j, (x, y, z) in enumerate(product(*map(range, mega))):
        for child in scene.coarse[2 * x : 2 * x + 2, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2].ravel():
            if child == UNKNOWN:
                continue
            same = labels == child
            if child == 0:
                target[2, :, j] |= same
                target[3, :, j] |= known & ~empty
            else:
                target[0, :, j] |= same
                target[1, :, j] |= known & ~empty & ~same
                target[3, :, j] |= empty
    return target


def our_relations(scene: Scene) -> Tensor:
    return relation_targets(torch.from_numpy(scene.coarse)[None])


def plain_scores(scene: Scene) -> np.ndarray:
    """(3, K + 1): tp, fp, fn of completion and of every class, by masks over the known voxels."""
    known = scene.truth != UNKNOWN
    truth, prediction = scene.truth[known], scene.prediction[known]
    pairs = [(prediction != 0, truth != 0), *((prediction == k, truth == k) for k in range(CLASSES))]
    return np.array([[(p & t).sum(), (p & ~t).sum(), (~p & t).sum()] for p, t in pairs]).T


def our_scores(scene: Scene) -> np.ndarray:
    counts = Counts.zero(CLASSES)
    counts.update(scene.prediction, scene.truth)
    classes = torch.stack([counts.tp, counts.fp, counts.fn]).numpy()
    return np.column_stack([counts.completion, classes])


def plain_ratio(p: Tensor, t: Tensor) -> Tensor:
    """-ln precision - ln recall - ln specificity."""
    return -((p * t).sum() / p.sum()).log() - ((p * t).sum() / t.sum()).log() - (((1 - p) * (1 - t)).sum() / (1 - t).sum()).log()


def plain_losses(logits: Tensor, truth: Tensor, masks: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy, both affinities and the frustums, over the probabilities of the whole volume."""
    known = truth != UNKNOWN
    shares, y = logits.softmax(1).movedim(1, -1)[known], truth[known]
    total = F.cross_entropy(logits, truth.long(), ignore_index=UNKNOWN)
    present = [k for k in range(CLASSES) if (y == k).any()]
    total = total + torch.stack([plain_ratio(shares[:, k], (y == k).float()) for k in present]).mean()
    total = total + plain_ratio(1 - shares[:, 0], (y != 0).float())
    divergences = []
    for inside, count in zip(masks, counts, strict=True):
        if count.sum() > 0:
            mass, held = shares[inside[known[0]]].sum(0), count > 0
            divergences.append(F.kl_div((mass / mass.sum()).log()[held], (count / count.sum())[held], reduction="sum"))
    return total + torch.stack(divergences).mean()


def our_losses(logits: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
    sums = VoxelSums.of(logits, truth, ids, DIVISIONS**2)
    affinities = losses.semantic_affinity(sums) + losses.geometric_affinity(sums)
    return losses.cross_entropy(sums) + affinities + losses.frustum_proportion(sums)


def loss_steps(scene: Scene) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Both forms, forward and backward, on the same logits; each gives its value and gradient."""
    logits = torch.randn(1, CLASSES, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    truth = torch.from_numpy(scene.truth)[None]
    masks, counts = (torch.from_numpy(part) for part in plain_frustums(scene))
    ids, _ = our_frustums(scene)

    def step(loss: Callable[[], Tensor]) -> tuple[float, Tensor]:
        value = loss()
        (gradient,) = torch.autograd.grad(value, logits)
        return value.item(), gradient

    return (lambda: step(lambda: plain_losses(logits, truth, masks, counts.float()))), (lambda: step(lambda: our_losses(logits, truth, ids)))


def agree(name: str, plain: Any, ours: Any) -> bool:
    if name == "frustum targets":
        masks, counts = plain
        ids = np.where(masks.any(0), masks.argmax(0), -1).reshape(-1)
        known = np.where(masks.any(0).reshape(-1), ours[0][0].numpy(), -1)
        return np.array_equal(ids, known) and np.array_equal(counts, ours[1][0].numpy())
    if name == "losses and gradients":
        scale = plain[1].abs().max()
        return abs(plain[0] - ours[0]) <= 1e-5 * plain[0] and bool(((plain[1] - ours[1]).abs().max() / scale) <= 1e-5)
    return np.array_equal(np.asarray(plain), np.asarray(ours).reshape(np.shape(plain)))


def main(arguments: Sequence[str] | None = None) -> None:
    names = ("frustum targets", "relation targets", "scores", "losses and gradients")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of torch; NumPy uses one")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--only", choices=names, action="append", help="default: all")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    scene = Scene.made()
    forms: dict[str, Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]] = {
        "frustum targets": lambda: (lambda: plain_frustums(scene), lambda: our_frustums(scene)),
        "relation targets": lambda: (lambda: plain_relations(scene), lambda: our_relations(scene)),
        "scores": lambda: (lambda: plain_scores(scene), lambda: our_scores(scene)),
        "losses and gradients": lambda: loss_steps(scene),
    }
    print(processor())
    print(f"grid {'x'.join(map(str, SHAPE))}, {CLASSES} classes, {DIVISIONS}x{DIVISIONS} frustums, batch 1; fastest of {given.repeats}")
    print(f"{'':22}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}")
    for name in given.only or names:
        plain, ours = forms[name]()
        if not agree(name, plain(), ours()):
            raise SystemExit(f"{name}: the plain form and ours do not agree")
        slow, fast = best_of(plain, given.repeats), best_of(ours, given.repeats)
        print(f"{name:22}{1e3 * slow:10.1f}{1e3 * fast:10.1f}{slow / fast:8.1f}", flush=True)


if __name__ == "__main__":
    main()
