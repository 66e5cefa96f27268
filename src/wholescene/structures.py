"""Frame, Batch, the joints between rooms, and Prediction: what travels through the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.grid import VoxelGrid

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """One picture and the camera that took it.

    Attributes:
        picture: (H, W, 3) uint8, sRGB.
        camera: its camera, of the same size.
    """

    picture: NDArray[np.uint8]
    camera: Camera


@dataclass(frozen=True)
class Frame:
    """One example: pictures, where the grid lies, and whatever else is known. Everything but the main view and the grid may be absent.

    Attributes:
        name: unique in its dataset, e.g. "08/000005".
        views: "main", "right", "past-1", ...
        grid: the voxels to complete.
        depth: (H, W) float32 metres along the main view's optical axis, 0 where unknown: an input.
        proposals: (X, Y, Z) bool voxel query proposals: an input.
        depth_target: (H, W) float32 metres, 0 where unknown: supervision only.
        occupancy: (X, Y, Z) bool, e.g. of one LiDAR sweep: an input.
        points: (N, 3 or more) float32 metres, world (x, y, z, intensity, ...).
        point_labels: (N,) uint8 classes of `points`, 255 unknown.
        targets: scale -> (X/s, Y/s, Z/s) uint8 labels; 1 is the grid itself. What is not here is pooled by a named rule.
    """

    name: str
    views: Mapping[str, View]
    grid: VoxelGrid
    depth: NDArray[np.float32] | None = None
    proposals: NDArray[np.bool_] | None = None
    depth_target: NDArray[np.float32] | None = None
    occupancy: NDArray[np.bool_] | None = None
    points: NDArray[np.float32] | None = None
    point_labels: NDArray[np.uint8] | None = None
    targets: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def main(self) -> View:
        """The view that is completed."""
        return self.views["main"]

    def with_main(self, picture: NDArray[np.uint8], camera: Camera, **changed: Any) -> Frame:
        """The same frame with another main view (after a resize, a crop, a jitter, a mirror)."""
        return replace(self, views={**self.views, "main": View(picture, camera)}, **changed)


@dataclass
class Batch:
    """Frames of one grid shape, stacked. Pictures of different sizes are padded at the bottom right; the cameras know the true sizes.

    Attributes:
        names: B frame names.
        pictures: view -> (B, 3, H, W) uint8; normalised by the system, not here.
        cameras: view -> B cameras.
        grids: B grids of one shape.
        depth, depth_target: (B, H, W) float32 metres, 0 unknown.
        proposals, occupancy: (B, X, Y, Z) bool.
        points, point_labels: B tensors of their own lengths.
        targets: scale -> (B, X/s, Y/s, Z/s) uint8 labels, 255 unknown.
    """

    names: tuple[str, ...]
    pictures: dict[str, Tensor]
    cameras: dict[str, tuple[Camera, ...]]
    grids: tuple[VoxelGrid, ...]
    depth: Tensor | None = None
    depth_target: Tensor | None = None
    proposals: Tensor | None = None
    occupancy: Tensor | None = None
    points: tuple[Tensor, ...] | None = None
    point_labels: tuple[Tensor, ...] | None = None
    targets: dict[int, Tensor] = field(default_factory=dict)
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def device(self) -> Any:
        """Where the pictures lie."""
        return self.pictures["main"].device

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """`make()` the first time a key is asked for, the same object from then on: geometry tables are made once a batch."""
        if key not in self._memo:
            self._memo[key] = make()
        value: T = self._memo[key]
        return value

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The same batch on another device; what was memoised is made again there."""

        def moved(value: Any) -> Any:
            if hasattr(value, "to"):
                return value.to(device, non_blocking=non_blocking)
            if isinstance(value, dict):
                return {k: moved(v) for k, v in value.items()}
            if isinstance(value, tuple) and value and hasattr(value[0], "to"):
                return tuple(moved(v) for v in value)
            return value

        changed = {f.name: moved(getattr(self, f.name)) for f in fields(self) if f.name not in ("names", "cameras", "grids", "_memo")}
        return replace(self, **changed, _memo={})


@dataclass
class Lifted:
    """After encoder and lift: the joint between a 2D half and a 3D half.

    Attributes:
        volume: (B, C, X, Y, Z) features on `grid`; None where a 3D half starts from queries or occupancy alone.
        grid: the grids of `volume` (one a frame), often coarser than the batch's.
        pyramids: name -> list of (B, C, h, w), finest first.
        depth: (B, H, W) float32 metres the 2D half used or predicted, 0 unknown.
        depth_distribution: (B, D, h, w) probabilities over depth bins.
        proposals: (B, X, Y, Z) bool on `grid`.
        queries: (B, Q, C) instance queries.
        extras: whatever losses want.
        cells: for each frame the (h, w) that its maps truly have, named as `pyramids`; None where all frames have maps of one size.
    """

    volume: Tensor | None
    grid: tuple[VoxelGrid, ...]
    pyramids: dict[str, list[Tensor]] = field(default_factory=dict)
    depth: Tensor | None = None
    depth_distribution: Tensor | None = None
    proposals: Tensor | None = None
    queries: Tensor | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    cells: tuple[dict[str, list[tuple[int, int]]], ...] | None = None

    def maps_of(self, frame: int, name: str) -> list[Tensor]:
        """The maps (1, C, h, w) of one frame without what they were padded to, finest first."""
        maps = [level[frame : frame + 1] for level in self.pyramids[name]]
        if self.cells is None:
            return maps
        return [level[..., :height, :width] for level, (height, width) in zip(maps, self.cells[frame][name], strict=True)]


@dataclass
class Completed:
    """After volume net and head: the joint that `refine` works on.

    Attributes:
        volume: (B, C, x, y, z) features on `grid`, the last before the head.
        grid: the grids of `volume`.
        logits: (B, K, X, Y, Z) on the batch's grid.
        auxiliary: name -> logits of deep supervision or other scales; in eval on request only.
        extras: whatever losses want (relation logits, occupancy).
    """

    volume: Tensor
    grid: tuple[VoxelGrid, ...]
    logits: Tensor
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass
class Prediction:
    """What leaves a system.

    Attributes:
        logits: (B, K, X, Y, Z) on the batch's grid; None for a pre-training stage without a volume.
        auxiliary: name -> logits of deep supervision.
        extras: what the losses want of both halves.
    """

    logits: Tensor | None
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, lifted: Lifted, completed: Completed) -> Prediction:
        """From both joints; names must not collide."""
        return cls(completed.logits, dict(completed.auxiliary), {**lifted.extras, **completed.extras})
