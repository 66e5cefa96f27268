"""The released training with mirrored pictures: the scene is mirrored where the camera ought to be (`mirrored_scene` in the configuration)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wholescene.structures import Batch


def mirrored_frames(batch: Batch) -> tuple[int, ...]:
    """Which frames of a batch show a mirror image."""
    return tuple(i for i, camera in enumerate(batch.cameras["main"]) if camera.mirrored)


def with_cameras_unmirrored(batch: Batch) -> Batch:
    """The batch with every camera as if its picture were not mirrored: what it projects then belongs to the mirrored scene. Made once a batch."""
    chosen = mirrored_frames(batch)
    if not chosen:
        return batch

    def make() -> Batch:
        main = tuple(camera.mirror() if camera.mirrored else camera for camera in batch.cameras["main"])
        return replace(batch, cameras={**batch.cameras, "main": main}, _memo={})

    return batch.once("cameras unmirrored", make)


def mirrored_back(volume: Tensor, frames: Sequence[int], axis: int) -> Tensor:
    """(B, ...) with those frames turned left to right along an array axis of the volume (0 to 2, the last three axes of the tensor)."""
    if not frames:
        return volume
    return torch.stack([one.flip(axis - 3) if i in frames else one for i, one in enumerate(volume)])
