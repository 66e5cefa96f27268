"""The pre-training stage: depth from LiDAR, and the classes of its points from the context (CGFormer, supplement)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.geometry.sweeps import labels_of_points
from wholescene.labels import EMPTY, UNKNOWN
from wholescene.structures import Batch
from wholescene.systems.cgformer.config import GeometryConfig

_STEPS = 3  # doublings, from stride 8 to the picture


class PointSegmentation(nn.Sequential):
    """Context (B, C, h, w) to class logits (B, K, 8 h, 8 w): three transposed convolutions with batch norm and ReLU, a 1x1 convolution."""

    def __init__(self, config: GeometryConfig) -> None:
        layers: list[nn.Module] = []
        width = config.features
        for step in range(_STEPS):
            out = config.features // 2**step
            layers += [nn.ConvTranspose2d(width, out, 2, 2, bias=False), nn.BatchNorm2d(out, eps=1e-3), nn.ReLU(inplace=True)]
            width = out
        super().__init__(*layers, nn.Conv2d(width, config.classes, 1))


def segmentation_loss(logits: Tensor, batch: Batch, config: GeometryConfig) -> Tensor:
    """Cross-entropy of the class of the nearest point of each pixel: the mean over each picture's points, averaged over the pictures that have some.

    Args:
        logits: (B, K, H, W) of the pictures, padded at the bottom and right.
        batch: with points and their labels.
        config: what becomes of points without a class.

    Raises:
        InputError: frames without labelled points.
    """
    if batch.points is None or batch.point_labels is None:
        raise InputError(f"frames {', '.join(batch.names)} have no points with labels, which this stage of training learns from; give both")
    terms = []
    for own, points, labels, camera in zip(logits.float(), batch.points, batch.point_labels, batch.cameras["main"], strict=True):
        labels = torch.where(labels == UNKNOWN, EMPTY, labels) if config.unlabelled_points == "empty" else labels
        truth = labels_of_points(points, labels, camera).long()
        if (truth != UNKNOWN).any():
            terms.append(F.cross_entropy(own[None, :, : camera.height, : camera.width], truth[None], ignore_index=UNKNOWN))
    return torch.stack(terms).mean() if terms else logits.sum() * 0.0
