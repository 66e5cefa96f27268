"""The contract of a system, and what all systems share: from a picture to a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.depth.protocol import DepthSource, doubted, said_sources, with_depth
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.preparation import Preparation, prepare
from wholescene.scene import Scene
from wholescene.structures import Batch, Completed, Frame, Lifted, Prediction, View
from wholescene.systems.config import SystemConfig
from wholescene.systems.halves import Half2D, Half3D, build_halves, merge_losses, refuse_choices, said_halves
from wholescene.systems.sizes import lift_by_size

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | Image | np.ndarray

LEAST_SHARE_IN_VIEW = 0.10
LEAST_PIXELS = 48  # of a picture's shorter side: below it the encoders' coarsest maps are a cell or two high


class System(nn.Module):
    """Base of all systems. A subclass sets `Config` and names its halves (`systems.halves`), or writes `joints` and `losses` itself; `predict` is
    the same for all.

    Attributes:
        Config: the frozen dataclass that builds it.
        name: its name in the table of systems.
        Lift, Completion: the classes of its 2D and 3D half, where they stand alone; None: `half_2d` and `half_3d` are its own affair.
        looks_at_picture: whether the picture changes the answer; False for what completes given voxels alone.
        progress: names of buffers that say how far a training is; a run that starts from other weights does not take them over.
        card: what its weights are (name, trained on, licence, a sentence for real photos); empty for fresh weights.
    """

    Config: ClassVar[type[SystemConfig]]
    name: ClassVar[str]
    Lift: ClassVar[type[Half2D] | None] = None
    Completion: ClassVar[type[Half3D] | None] = None
    looks_at_picture: ClassVar[bool] = True
    progress: ClassVar[frozenset[str]] = frozenset()
    half_2d: Any
    half_3d: Any

    def __init__(self, config: SystemConfig) -> None:
        """
        Raises:
            InputError: a chosen half that cannot be had, or that does not fit the other.
        """
        super().__init__()
        self.config = config
        self.card: dict[str, Any] = {}
        self.depth_source: DepthSource | None = None
        refuse_choices(type(self), config)
        if self.Lift is not None and self.Completion is not None:
            self.half_2d, self.half_3d = build_halves(type(self), config)

    @property
    def needs(self) -> frozenset[str]:
        """Raw inputs beside the picture that this configuration wants: "depth", "right", "past", "occupancy", "points"."""
        return frozenset() if self.Lift is None else self.half_2d.needs

    @property
    def supervision(self) -> frozenset[str]:
        """Raw inputs that only the losses want, where the data has them."""
        return frozenset() if self.Lift is None else self.half_2d.supervision

    @property
    def said(self) -> str:
        """The system by name, and what was exchanged in it or added to it: for provenance."""
        return said_halves(self.name, self.config)

    @property
    def completes(self) -> bool:
        """Whether this configuration makes a volume; False for a stage of training that ends before it."""
        return self.config.completes

    def forward(self, batch: Batch) -> Prediction:
        """Logits (B, K, X, Y, Z) on the batch's grid, and what the losses want. A stage of training without a volume overrides it."""
        return Prediction.of(*self.joints(batch))

    def joints(self, batch: Batch) -> tuple[Lifted, Completed]:
        """What the two halves make; the seam at which halves are exchanged and refinement begins."""
        lifted = self.lifted(batch)
        return lifted, self.half_3d(lifted, batch)

    def lifted(self, batch: Batch) -> Lifted:
        """What the 2D half makes; pictures of unlike sizes pass through it one size after another."""
        return lift_by_size(self.half_2d, batch, getattr(self.half_2d, "shared", ()))

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss terms of both halves, named as in the paper; their sum is what training minimises."""
        return merge_losses(self.half_2d.losses(prediction, batch), self.half_3d.losses(prediction, batch))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def predict(
        self,
        picture_or_frame: Picture | Frame | Sequence[Any],
        camera: Camera | None = None,
        *,
        depth: np.ndarray | None = None,
        right: Picture | View | None = None,
        baseline_m: float | None = None,
        points: np.ndarray | None = None,
        occupancy: np.ndarray | None = None,
        grid: VoxelGrid | None = None,
        steps: int | None = None,
        probabilities: bool = False,
    ) -> Any:
        """Complete the scene of one picture or frame (a Scene), or of each of a list (a list of Scenes).

        Args:
            picture_or_frame: a path, a PIL image, a (H, W, 3) uint8 array, a Frame, or a list of those.
            camera: its camera; None: the file's EXIF data, else a field of view of 65 degrees, called a guess in the result.
            depth: (H, W) metres along the optical axis, 0 where unknown, for systems that need depth.
            right: the right picture of a rectified stereo pair, or a view with its own camera; for systems or depth sources that look at it.
            baseline_m: metres from the camera to that of `right`, where it has none of its own.
            points: (N, 3+) float metres in the world, for systems that need points.
            occupancy: (X, Y, Z) bool on the grid, for systems that need it.
            grid: where the voxels lie; None: where the weights' card places them relative to the ground.
            steps: refinement steps, for systems that refine.
            probabilities: keep all classes' probabilities in the scene.

        Raises:
            InputError: a picture that cannot be read, an input that is missing, or a grid of which nothing is in view.
        """
        if isinstance(picture_or_frame, Sequence) and not isinstance(picture_or_frame, str):
            more: dict[str, Any] = {"depth": depth, "right": right, "baseline_m": baseline_m, "points": points, "occupancy": occupancy}
            return [self.predict(one, camera, **more, grid=grid, steps=steps, probabilities=probabilities) for one in picture_or_frame]
        if steps is not None:
            raise InputError(f"{self.name} does not refine, so it takes no steps; leave `steps` out")
        if isinstance(picture_or_frame, Frame):
            frame = picture_or_frame
        else:
            frame = self.frame_of(picture_or_frame, camera, right=right, baseline_m=baseline_m, grid=grid)
        given = {"depth": depth, "points": points, "occupancy": occupancy}
        frame = _with_inputs(frame, {k: v for k, v in given.items() if v is not None})
        if depth is not None:
            frame = doubted(frame)
        frame = self.supplied(frame)
        share = share_in_view(frame)
        fitted = prepare(frame, self.config.preparation)
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                logits = self(collate([fitted]).to(self.device)).logits
                if logits is None:
                    raise InputError(f"this {self.name} is a stage of training that makes no volume, so there is no scene to give; load a whole one")
                return self._scene(frame, logits[0], share, probabilities)
        finally:
            self.train(was_training)

    def frame_of(
        self,
        picture: Picture,
        camera: Camera | None = None,
        *,
        right: Picture | View | None = None,
        baseline_m: float | None = None,
        grid: VoxelGrid | None = None,
    ) -> Frame:
        """A frame from an own picture: reads it, finds or guesses its camera, puts the camera on the ground and the grid before it.

        A right view's own camera goes where the left one goes; without one it stands `baseline_m` to the right of it, or at its place.
        """
        from wholescene.reading.cameras import camera_of
        from wholescene.reading.pictures import read_picture

        read = read_picture(picture)
        camera = (camera if camera is not None else camera_of(read)).noted(*read.notes)
        if camera.size != (read.width, read.height):
            sizes = f"{camera.width} x {camera.height} pixels and the picture has {read.width} x {read.height}"
            camera = camera.resized((read.width, read.height)).noted(f"the camera is for {sizes}; it was scaled to them")
        recorded = camera
        if not camera.pose_known:
            height, pitch = self.config.camera_height_m, self.config.camera_pitch_deg
            camera = camera.on_ground(height, pitch, guesses=(f"height {height:g} m", f"pitch {pitch:g} degrees"))
        grid = grid if grid is not None else self.config.grid.place(camera, self.config.camera_height_m)
        views = {"main": View(read.array, camera)}
        if isinstance(right, View):
            views["right"] = View(right.picture, right.camera.moved_with(recorded, camera))
        elif right is not None:
            views["right"] = View(read_picture(right).array, camera if baseline_m is None else camera.beside(baseline_m))
        return Frame(read.name, views, grid)

    def supplied(self, frame: Frame) -> Frame:
        """The frame with depth from the weights' own source where it is needed and not there.

        Raises:
            InputError: an input that is missing even so.
        """
        if "depth" in self.needs and frame.depth is None and self.depth_source is not None:
            frame = with_depth(frame, self.depth_source)
        self._check_needs(frame)
        return frame

    def _check_needs(self, frame: Frame) -> None:
        held = {"right": "right" in frame.views, "past": any(n.startswith("past") for n in frame.views)}
        for need in sorted(self.needs):
            if not held.get(need, getattr(frame, need, None) is not None):
                said = f"{frame.name}: {self.name} needs {need} beside the picture and none was given; pass {need}=... (or --{need} FILE)"
                sources = f", or name a source of it (--depth-source): {said_sources('truth')}" if need == "depth" else ""
                raise InputError(said + sources + self.way_without(need))

    def way_without(self, need: str) -> str:
        """How this system can be used without an input that it wants, as the end of a sentence; empty if it cannot."""
        return ""

    def _scene(self, frame: Frame, logits: Tensor, share: float, probabilities: bool) -> Scene:
        labels, top = most_likely(logits)
        everything = torch.softmax(logits.float(), 0).half().cpu().numpy() if probabilities else None
        provenance = {
            "system": self.said,
            "weights": self.card.get("name", "fresh weights"),
            "share_in_view": round(share, 4),
            "guesses": list(frame.main.camera.guesses),
            "notes": [*frame.main.camera.notes, *view_notes(frame, share)],
            "note": self.card.get("note", ""),
        }
        return Scene(
            labels=labels.cpu().numpy(), grid=frame.grid, label_set=self.config.label_set, camera=frame.main.camera,
            probability=top.cpu().numpy(), probabilities=everything, picture=frame.main.picture, name=frame.name, provenance=provenance,
        )  # fmt: skip


def most_likely(logits: Tensor, slab: int = 32) -> tuple[Tensor, Tensor]:
    """Label (X, Y, Z) uint8 and its probability (X, Y, Z) float16 of logits (K, X, Y, Z), in slabs so that no second volume of K classes exists."""
    labels = torch.empty(logits.shape[1:], dtype=torch.uint8, device=logits.device)
    top = torch.empty(logits.shape[1:], dtype=torch.float16, device=logits.device)
    for start in range(0, logits.shape[1], slab):
        part = logits[:, start : start + slab].float()
        best, index = part.max(0)
        labels[start : start + slab] = index
        top[start : start + slab] = torch.exp(best - torch.logsumexp(part, 0))
    return labels, top


def share_in_view(frame: Frame) -> float:
    """Share of the grid's voxel centres that the main picture holds.

    Raises:
        InputError: none is; the message names the usual misreadings of a pose.
    """
    share = frame.grid.share_in_view(frame.main.camera)
    if share == 0:
        other = _other_readings(frame.main.camera, frame.grid)
        raise InputError(f"{frame.name}: no voxel of the grid is in view of the camera{other}; draw it with `wholescene overlay`")
    return share


def view_notes(frame: Frame, share: float) -> tuple[str, ...]:
    """Warnings where the camera or the picture was probably misread: next to nothing of the grid in view, a principal point that the picture does not
    hold, or a picture of a few pixels; nothing otherwise."""
    camera = frame.main.camera
    found, (width, height) = [], camera.recorded_size
    if not (0 <= camera.K[0, 2] <= width and 0 <= camera.K[1, 2] <= height):
        found.append(
            f"the principal point ({camera.K[0, 2]:g}, {camera.K[1, 2]:g}) lies outside the picture of {width} x {height} pixels; check cx, cy"
        )
    if min(camera.size) < LEAST_PIXELS:
        found.append(f"the picture has only {camera.width} x {camera.height} pixels: what is said of its scene is hardly more than what is usual")
    if share < LEAST_SHARE_IN_VIEW:
        other = _other_readings(camera, frame.grid)
        found.append(f"only {share:.1%} of the grid is in view of the camera{other}; `wholescene overlay` draws where it lies")
    return tuple(found)


def _other_readings(camera: Camera, grid: VoxelGrid) -> str:
    """Which other reading of the pose would see the grid, in words; empty if none does."""
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    T = camera.T_cam_world
    readings = {
        "the other way round (camera to world for world to camera)": np.linalg.inv(T),
        "with OpenGL axes (y up, z backward)": flip @ T,
        "the other way round and with OpenGL axes": flip @ np.linalg.inv(T),
    }
    seen = {name: grid.share_in_view(camera.posed(pose)) for name, pose in readings.items()}
    good = [f"{name} would see {share:.0%}" for name, share in seen.items() if share > LEAST_SHARE_IN_VIEW]
    return f" (its pose read {'; '.join(good)}: name the reading, such as cam_to_world_opengl)" if good else ""


def _with_inputs(frame: Frame, given: dict[str, Any]) -> Frame:
    """The frame with what `predict` was given beside the picture.

    Raises:
        InputError: no array of numbers, or one of another shape than the picture or the grid.
    """
    width, height = frame.main.camera.size
    shapes: dict[str, tuple[int, ...]] = {"depth": (height, width), "occupancy": frame.grid.shape}
    kinds = {"depth": np.float32, "points": np.float32, "occupancy": np.bool_}
    found: dict[str, Any] = {}
    for name, value in given.items():
        array = np.asarray(value)
        fits = array.shape == shapes[name] if name in shapes else array.ndim == 2 and array.shape[1] >= 3
        if not fits or array.dtype.kind not in "bfiu":
            said = str(shapes[name]) if name in shapes else "(N, 3) or wider"
            raise InputError(f"{frame.name}: {name} is {array.dtype} of shape {array.shape}; expected numbers of shape {said}")
        found[name] = array.astype(kinds[name], copy=False)
    return replace(frame, **found) if found else frame


def normalise(pictures: Tensor, preparation: Preparation) -> Tensor:
    """(B, 3, H, W) uint8 to float32: over 255, minus mean, over standard deviation."""
    mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (preparation.mean, preparation.std))
    return (pictures.float() / 255 - mean) / std
