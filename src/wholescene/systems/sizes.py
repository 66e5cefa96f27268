"""Pictures of unlike sizes in one batch: the 2D half sees each at its own size, without a pixel of padding; then what it made is stacked.

Padding is not nothing to a network: convolutions see a black border where a lone picture has none, pooled maps count it, attention looks at it, and a
share of the padded width is not one of the picture's. A half that never meets it needs no masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.structures import Batch, Lifted

Size = tuple[int, int]


def lift_by_size(half_2d: Callable[[Batch], Lifted], batch: Batch, shared: Iterable[str] = ()) -> Lifted:
    """What a 2D half makes of a batch, of frames of one picture size at a time.

    Args:
        half_2d: Batch to Lifted.
        batch: B frames.
        shared: entries of `Lifted.extras` that are the same for all frames.

    Returns:
        of all frames in their order. Where sizes differ, maps are padded with zeros at the bottom right, and `cells` says what of them is whose.
    """
    groups: dict[tuple[Size, ...], list[int]] = {}
    for frame in range(len(batch)):
        groups.setdefault(tuple(cameras[frame].size for cameras in batch.cameras.values()), []).append(frame)
    if len(groups) == 1:
        return half_2d(batch)
    parts = [half_2d(frames_of(batch, frames)) for frames in groups.values()]
    return _stacked(parts, list(groups.values()), batch, frozenset(shared))


def frames_of(batch: Batch, frames: Sequence[int]) -> Batch:
    """Some frames of a batch, all of one picture size, without padding."""

    def some(values: Any) -> Any:
        if values is None or isinstance(values, Tensor):
            return None if values is None else values[list(frames)]
        return tuple(values[frame] for frame in frames)

    def cut(maps: Tensor | None, view: str) -> Tensor | None:
        width, height = batch.cameras[view][frames[0]].size
        return None if maps is None else some(maps)[..., :height, :width]

    return Batch(
        some(batch.names),
        {view: cut(pictures, view) for view, pictures in batch.pictures.items()},  # type: ignore[misc]  # no picture is None
        {view: some(cameras) for view, cameras in batch.cameras.items()},
        some(batch.grids),
        cut(batch.depth, "main"),
        cut(batch.depth_target, "main"),
        **{name: some(getattr(batch, name)) for name in ("proposals", "occupancy", "points", "point_labels")},
        targets={scale: some(labels) for scale, labels in batch.targets.items()},
    )


def _stacked(parts: Sequence[Lifted], groups: Sequence[Sequence[int]], batch: Batch, shared: frozenset[str]) -> Lifted:
    """One of several, whose frames are those of the groups."""
    places = {frame: (group, row) for group, frames in enumerate(groups) for row, frame in enumerate(frames)}
    order = [places[frame] for frame in range(len(batch))]

    def stack(values: Sequence[Any]) -> Any:
        if not isinstance(values[0], Tensor):
            return values[0] if values[0] is None else tuple(values[group][row] for group, row in order)
        size = [max(value.shape[axis] for value in values) for axis in (-2, -1)]
        padded = [F.pad(value, (0, size[1] - value.shape[-1], 0, size[0] - value.shape[-2])) if value.dim() > 2 else value for value in values]
        return torch.stack([padded[group][row] for group, row in order])

    first = parts[0]
    pyramids = {name: [stack(level) for level in zip(*(part.pyramids[name] for part in parts), strict=True)] for name in first.pyramids}
    cells = tuple({name: [(m.shape[-2], m.shape[-1]) for m in maps] for name, maps in parts[group].pyramids.items()} for group, _ in order)
    fields = {
        name: stack([getattr(part, name) for part in parts]) for name in ("volume", "grid", "depth", "depth_distribution", "proposals", "queries")
    }
    extras = {name: value if name in shared else stack([part.extras[name] for part in parts]) for name, value in first.extras.items()}
    return Lifted(**fields, pyramids=pyramids, extras=extras, cells=cells)
