"""Frames to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.structures import Batch, Frame


def collate(frames: Sequence[Frame]) -> Batch:
    """Stack frames of one grid shape.

    Pictures (and depth maps) of different sizes are padded with zeros at the bottom and right to the largest; each camera keeps its true size,
    so that nothing projects into the padding.

    Raises:
        InputError: no frame, grids of different shapes, or an input that only some of the frames have.
    """
    if not frames:
        raise InputError("cannot make a batch of no frames")
    shapes = {f.grid.shape for f in frames}
    if len(shapes) > 1:
        raise InputError(f"a batch needs grids of one shape; found {sorted(shapes)}; use batch size 1 or one dataset")
    names = [n for n in frames[0].views if all(n in f.views for f in frames)]
    scales = [s for s in frames[0].targets if all(s in f.targets for f in frames)]
    return Batch(
        names=tuple(f.name for f in frames),
        pictures={n: _stack_padded([np.moveaxis(f.views[n].picture, -1, 0) for f in frames]) for n in names},
        cameras={n: tuple(f.views[n].camera for f in frames) for n in names},
        grids=tuple(f.grid for f in frames),
        targets={s: torch.from_numpy(np.stack([f.targets[s] for f in frames])) for s in scales},
        **{n: _optional(frames, n, stacked=True) for n in ("depth", "depth_target", "proposals", "occupancy")},
        **{n: _optional(frames, n, stacked=False) for n in ("points", "point_labels")},
    )


def _stack_padded(arrays: Sequence[np.ndarray]) -> Tensor:
    """(B, ..., H, W) from arrays (..., h, w) that differ in their last two axes."""
    height, width = (max(a.shape[axis] for a in arrays) for axis in (-2, -1))
    out = np.zeros((len(arrays), *arrays[0].shape[:-2], height, width), arrays[0].dtype)
    for i, array in enumerate(arrays):
        out[i, ..., : array.shape[-2], : array.shape[-1]] = array
    return torch.from_numpy(out)


def _optional(frames: Sequence[Frame], name: str, stacked: bool) -> Any:
    values = [getattr(f, name) for f in frames]
    if all(v is None for v in values):
        return None
    lacking = [f.name for f, v in zip(frames, values, strict=True) if v is None]
    if lacking:
        raise InputError(f"frames {', '.join(lacking)} have no {name} and others of the batch have; give it for all or none")
    return _stack_padded(values) if stacked else tuple(torch.from_numpy(np.ascontiguousarray(v)) for v in values)
