"""Scene: what a user gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.grid import VoxelGrid
from wholescene.labels import LabelSet


@dataclass(frozen=True, eq=False)
class Scene:
    """A completed scene.

    Attributes:
        labels: (X, Y, Z) uint8: 0 empty, 1..K-1 classes, 255 unknown, in the grid's own axis order.
        grid: where the voxels lie.
        label_set: what the labels mean.
        camera: the camera of the picture, if known.
        probability: (X, Y, Z) float16 probability of the chosen label, if known.
        probabilities: (K, X, Y, Z) float16, on request.
        picture: (H, W, 3) uint8, the picture it was made from.
        name: of the frame or file.
        provenance: system, weights, share of the grid in view, what was guessed, notes.
    """

    labels: NDArray[np.uint8]
    grid: VoxelGrid
    label_set: LabelSet
    camera: Camera | None = None
    probability: NDArray[np.float16] | None = None
    probabilities: NDArray[np.float16] | None = None
    picture: NDArray[np.uint8] | None = None
    name: str = "scene"
    provenance: dict[str, Any] = field(default_factory=dict)
