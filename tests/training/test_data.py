"""How training frames are varied beside their preparation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.data.config import Augmentation
from wholescene.grid import GridPlacement
from wholescene.preparation import Preparation
from wholescene.structures import Frame, View
from wholescene.training.data import TrainingFrames
from wholescene.training.sampler import Draw

WIDTH, SEEN = 40, 32
COLUMNS = np.arange(WIDTH)


def _varied(epoch: int = 0, **fields: Any) -> Frame:
    """A frame whose picture and depth hold, in every pixel, the number of its column; cut to its left 32 columns, varied."""
    camera = Camera.from_fov(75, (WIDTH, 8)).on_ground(1.65, 2)
    picture = np.broadcast_to(COLUMNS[None, :, None], (8, WIDTH, 3)).astype(np.uint8)
    depth = np.broadcast_to(COLUMNS, (8, WIDTH)).astype(np.float32)
    frame = Frame("forged", {"main": View(picture, camera)}, GridPlacement((4, 4, 4), (1.0, 1.0, 1.0)).place(camera), depth)
    prepared = TrainingFrames([frame], Preparation("top-left", (SEEN, 8)), Augmentation(**{"jitter": 0.0, **fields}), seed=0)  # type: ignore[arg-type]
    return prepared[Draw(epoch, 0)][0]


def test_a_mirror_image_is_of_the_part_that_is_seen_and_as_released_of_the_whole_picture_beside_its_depth() -> None:
    fitted, whole = (_varied(mirror=1.0, mirror_of=kind) for kind in ("fitted", "whole"))
    for frame, first in ((fitted, SEEN - 1), (whole, WIDTH - 1)):
        assert frame.main.picture[3, :, 0].tolist() == list(range(first, first - SEEN, -1))
        assert frame.depth is not None
        assert frame.depth[3].tolist() == list(range(SEEN - 1, -1, -1))
    assert np.array_equal(fitted.main.camera.matrix, whole.main.camera.matrix)


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_which_frames_are_mirrored_and_how_they_are_jittered_is_the_same_whatever_is_mirrored(jitter: float) -> None:
    pairs = [[_varied(epoch, mirror=0.5, mirror_of=kind, jitter=jitter) for kind in ("fitted", "whole")] for epoch in range(12)]
    assert {a.main.camera.mirrored for a, _ in pairs} == {False, True}
    for fitted, whole in pairs:
        mirrored = fitted.main.camera.mirrored
        assert whole.main.camera.mirrored == mirrored
        beside = WIDTH - SEEN if mirrored else 0
        gap = fitted.main.picture[:, : SEEN - beside].astype(int) - whole.main.picture[:, beside:]
        assert np.ptp(gap) <= (2 if jitter else 0)  # contrast is taken around the mean of what is seen
