"""ISO's depth loss, and what released ISO does with values that are not finite."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.geometry.lid import lid_bins
from wholescene.structures import Prediction

_FAR = 1e5  # metres: what an unknown depth counts as where the nearest of a block is looked for


def depth_labels(depth: Tensor, size: tuple[int, int], bins: int, most: float, block: int = 1) -> Tensor:
    """The bin of the true depth of every pixel of a map.

    Args:
        depth: (B, H, W) metres, 0 where unknown.
        size: (h, w) of the map; the truth is resized to block times it, nearest pixel.
        bins: of depth.
        most: metres, where the last ends.
        block: edge of the blocks of which the nearest known depth counts.

    Returns:
        (B, h, w) int64, 0 to bins - 1; `bins` where there is no label: unknown, or too far.
    """
    height, width = size
    depth = F.interpolate(depth[:, None].float(), (height * block, width * block), mode="nearest")
    nearest = -F.max_pool2d(-torch.where(depth == 0, _FAR, depth), block)
    return lid_bins(nearest[:, 0], bins, most)


def depth_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of every bin against its label, summed over the bins, averaged over the labelled pixels.

    Args:
        probabilities: (B, bins, h, w).
        labels: (B, h, w), of `depth_labels`.

    Returns:
        scalar; 0 where no pixel has a label.
    """
    bins = probabilities.shape[1]
    labelled = labels < bins
    chances = probabilities.movedim(1, -1)[labelled]  # (pixels, bins)
    with torch.autocast(chances.device.type, enabled=False):
        truth = F.one_hot(labels[labelled], bins).float()
        return F.binary_cross_entropy(chances.float(), truth, reduction="sum") / max(1, len(truth))


def zero_what_is_not_finite(prediction: Prediction) -> Prediction:
    """The prediction with 0 for logits that are infinite or not a number, and for relation logits and depth probabilities that are not a number."""
    extras = dict(prediction.extras)
    for name in ("relation_logits", "depth_distribution"):
        if name in extras:
            extras[name] = torch.where(extras[name].isnan(), 0.0, extras[name])
    logits = prediction.logits
    return replace(prediction, logits=None if logits is None else torch.where(logits.isfinite(), logits, 0.0), extras=extras)
