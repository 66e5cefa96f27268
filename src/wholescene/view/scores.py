"""The two scores of one scene, for the eye; benchmarks are counted elsewhere, over whole splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholescene.labels import UNKNOWN
from wholescene.scene import Scene


def scores(prediction: Scene, truth: Scene, where: NDArray[np.bool_] | None = None) -> tuple[float, float, int]:
    """Scene completion IoU, mIoU over the classes that the truth has, and how many those are.

    Args:
        prediction: (X, Y, Z) labels.
        truth: on the same grid; its unknown voxels do not count.
        where: (X, Y, Z) bool, the voxels that count; all by default.

    Returns:
        Both IoU as shares (NaN where nothing counts) and the number of classes; of one scene, so no benchmark's mIoU.
    """
    counted = truth.labels != UNKNOWN if where is None else (truth.labels != UNKNOWN) & where
    pairs = truth.labels[counted].astype(np.int64) * 256 + prediction.labels[counted]
    table = np.bincount(pairs, minlength=65536).reshape(256, 256)
    occupied = table[1:, 1:].sum()
    either = table.sum() - table[0, 0]
    right = np.diag(table)[1:UNKNOWN]
    true, said = table.sum(1)[1:UNKNOWN], table.sum(0)[1:UNKNOWN]
    there = true > 0
    each = right[there] / (true + said - right)[there]
    return (float(occupied / either) if either else float("nan")), (float(each.mean()) if there.any() else float("nan")), int(there.sum())


def scores_in_words(prediction: Scene, truth: Scene, in_view: NDArray[np.bool_] | None = None) -> str:
    """The scores as one line, over everything known and, if given, over the (X, Y, Z) voxels in view."""
    completion, mean, classes = scores(prediction, truth)
    text = f"completion IoU {_percent(completion)} · mIoU of its {classes} classes {_percent(mean)}"
    if in_view is not None:
        completion, mean, _ = scores(prediction, truth, in_view)
        text += f" · in view {_percent(completion)} and {_percent(mean)}"
    return text


def _percent(share: float) -> str:
    return "undefined" if np.isnan(share) else f"{share:.1%}"
