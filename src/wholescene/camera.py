"""Camera: one pinhole camera, what was recorded of it, and what has been done to its picture since."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError

Array = NDArray[np.float64]

# OpenCV axes (x right, y down, z forward) of a level camera, in a world with x forward, y left, z up.
LEVEL = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])

_NO_POSE = "no pose"  # how a reader's note begins that says where it looked for the pose; a pose makes it void


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera: the recorded calibration, its pose, and its picture's history as one affine.

    Pixel (u, v) is right, down; the centre of the top-left pixel is (0, 0). Camera frame: x right, y down, z forward (OpenCV).

    Attributes:
        K: (3, 3) float64, recorded intrinsics in pixels of the recorded picture.
        recorded_size: (width, height) of the recorded picture.
        T_cam_world: (4, 4) float64, world (metres) to camera.
        offset: (3,) float64, fourth column of a 3x4 projection matrix P (pixel-metres; KITTI's rectified cameras), else zero.
        affine: (3, 3) float64, recorded pixels to pixels of the picture as it is now (resize, crop, pad, mirror).
        now: (width, height) of the picture as it is now.
        guesses: what of this camera nobody measured, in words; empty if everything was given.
        pose_known: False where only intrinsics are known (`T_cam_world` then is the identity and means nothing).
        world: what the world frame is: "ground" (z = 0 is the ground), "lidar" (a sensor above it) or "scene" (a dataset's own).
        source: where it came from, for messages.
        notes: what its user should know (a size that was scaled, a distortion that was left in), in sentences.
    """

    K: Array
    recorded_size: tuple[int, int]
    T_cam_world: Array = field(default_factory=lambda: np.eye(4))
    offset: Array = field(default_factory=lambda: np.zeros(3))
    affine: Array = field(default_factory=lambda: np.eye(3))
    now: tuple[int, int] | None = None
    guesses: tuple[str, ...] = ()
    pose_known: bool = True
    world: str = "scene"
    source: str = "given"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        K, pose, offset, affine = (np.array(m, dtype=np.float64) for m in (self.K, self.T_cam_world, self.offset, self.affine))
        where = f"camera from {self.source}"
        if K.shape != (3, 3) or not np.all(np.isfinite(K)):
            raise InputError(f"{where}: K is not a finite 3x3 matrix; expected fx 0 cx / 0 fy cy / 0 0 1 in pixels")
        if not K.any():
            raise InputError(f"{where}: camera not calibrated (K all zero); calibrate it, or give --fov DEGREES for a guess")
        if K[0, 0] <= 0 or K[1, 1] <= 0:
            raise InputError(
                f"{where}: negative or zero focal length (fx {K[0, 0]:g}, fy {K[1, 1]:g}), probably a normalised OpenGL matrix; "
                "expected pixels: fx_pixels = |fx| * width / 2, cx_pixels = (1 - cx) * width / 2 - 0.5, and likewise with the height"
            )
        if not np.allclose(K[2], (0, 0, 1)) or not np.isclose(K[1, 0], 0, atol=1e-3 * K[0, 0]):
            raise InputError(f"{where}: K is {K.tolist()}; expected fx skew cx / 0 fy cy / 0 0 1 in pixels (is it transposed?)")
        if pose.shape != (4, 4) or not np.all(np.isfinite(pose)) or not np.allclose(pose[3], (0, 0, 0, 1)):
            raise InputError(f"{where}: the pose is not a finite 4x4 matrix with last row 0 0 0 1")
        rotation = pose[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
            raise InputError(f"{where}: the pose's 3x3 part is not a rotation (orthonormal, determinant +1); check scale and axis order")
        if offset.shape != (3,) or affine.shape != (3, 3) or not np.all(np.isfinite(offset)) or not abs(np.linalg.det(affine)) > 1e-12:
            raise InputError(f"{where}: its offset is not 3 finite numbers, or its picture's history is not an invertible 3x3 matrix")
        width, height = (int(n) for n in self.recorded_size)
        if width < 1 or height < 1 or width > 65536 or height > 65536:
            raise InputError(f"{where}: picture size {width} x {height} is not between 1 and 65,536 pixels on each side")
        for matrix in (K, pose, offset, affine):
            matrix.setflags(write=False)
        now = (width, height) if self.now is None else (int(self.now[0]), int(self.now[1]))
        if min(now) < 1:
            raise InputError(f"{where}: a picture of {now[0]} x {now[1]} pixels is left after cropping or resizing; expected at least 1 x 1")
        derived = {"K": K, "T_cam_world": pose, "offset": offset, "affine": affine, "recorded_size": (width, height), "now": now}
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    # ---- making one -------------------------------------------------------------------------------------------------------------

    @classmethod
    def from_intrinsics(cls, fx: float, fy: float, cx: float, cy: float, size: tuple[int, int], **more: Any) -> Camera:
        """A camera from four numbers in pixels and the picture's (width, height)."""
        return cls(np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), size, **{"pose_known": False, **more})

    @classmethod
    def from_fov(cls, horizontal_deg: float, size: tuple[int, int], **more: Any) -> Camera:
        """A camera with square pixels and its axis in the middle, from a horizontal field of view in degrees (between 1 and 179)."""
        if not 1 <= horizontal_deg <= 179:
            raise InputError(f"a horizontal field of view of {horizontal_deg:g} degrees is not between 1 and 179; a phone has about 65")
        width, height = size
        focal = width / 2 / math.tan(math.radians(horizontal_deg) / 2)
        return cls.from_intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2, size, **more)

    def on_ground(self, height_m: float, pitch_deg: float = 0.0, guesses: Sequence[str] = ()) -> Camera:
        """This camera `height_m` metres above flat ground, looking along world x, `pitch_deg` degrees down (positive) and without roll.

        The world's origin lies on the ground below the camera: x forward, y left, z up, ground z = 0.

        Raises:
            InputError: height not in (0, 100] metres or pitch not within 89 degrees.
        """
        if not 0 < height_m <= 100 or not math.isfinite(height_m):
            raise InputError(f"a camera height of {height_m:g} m is not between 0 and 100 m above the ground; a car's camera is at about 1.65")
        if not abs(pitch_deg) <= 89:
            raise InputError(f"a pitch of {pitch_deg:g} degrees is not between -89 and 89; positive looks down")
        angle = math.radians(pitch_deg)
        down = np.array([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
        pose = np.eye(4)
        pose[:3, :3] = down @ LEVEL
        pose[:3, 3] = -pose[:3, :3] @ np.array([0.0, 0.0, height_m])
        return replace(self.posed(pose, "ground"), guesses=(*self.guesses, *guesses))

    def posed(self, T_cam_world: NDArray[Any], world: str = "scene") -> Camera:
        """The same camera with another pose, (4, 4) world to camera, in a world of that kind (see the attribute)."""
        notes = tuple(note for note in self.notes if not note.startswith(_NO_POSE))
        return replace(self, T_cam_world=np.asarray(T_cam_world, dtype=np.float64), pose_known=True, world=world, notes=notes)

    def beside(self, baseline_m: float) -> Camera:
        """The right camera of a rectified pair whose left one this is, so many metres to the right.

        Raises:
            InputError: a baseline that is not between 0 and 100 metres.
        """
        if not 0 < baseline_m <= 100:
            raise InputError(f"a baseline of {baseline_m:g} m is not between 0 and 100 m; KITTI's colour cameras stand 0.53 m apart")
        return replace(self, offset=self.offset - self.K[:, 0] * baseline_m)

    def moved_with(self, before: Camera, after: Camera) -> Camera:
        """This camera, after another one that it is fixed to was placed anew: where no pose is known of either, the two look the same way."""
        known = self.pose_known and before.pose_known
        relative = self.T_cam_world @ np.linalg.inv(before.T_cam_world) if known else np.eye(4)
        return self.posed(relative @ after.T_cam_world, after.world)

    def noted(self, *notes: str) -> Camera:
        """The same camera with more notes; one that it has already is not repeated."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))))

    def require_pose(self) -> None:
        """Refuse a camera of which only the intrinsics are known.

        Raises:
            InputError: saying what was looked for and where it usually is, and offering height and pitch instead.
        """
        if not self.pose_known:
            why = next((note for note in self.notes if note.startswith(_NO_POSE)), f"{_NO_POSE}: only its intrinsics are known")
            raise InputError(f"camera from {self.source} has {why}; give that, or its --height METRES above the ground and its --pitch DEGREES")

    # ---- the picture's history --------------------------------------------------------------------------------------------------

    def _edited(self, edit: Sequence[Sequence[float]], size: tuple[int, int]) -> Camera:
        return replace(self, affine=np.asarray(edit, dtype=np.float64) @ self.affine, now=size)

    def resized(self, size: tuple[int, int]) -> Camera:
        """After resizing the picture to (width, height); half-pixel rule: u' = (u + 0.5) s - 0.5 on each axis."""
        sx, sy = size[0] / self.width, size[1] / self.height
        return self._edited([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]], size)

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """After cutting out the box whose top-left pixel is (left, top); negative or oversized boxes pad."""
        return self._edited([[1, 0, -left], [0, 1, -top], [0, 0, 1]], (width, height))

    def padded(self, left: int, top: int, right: int, bottom: int) -> Camera:
        """After adding that many pixels on each side."""
        return self.cropped(-left, -top, self.width + left + right, self.height + top + bottom)

    def mirror(self) -> Camera:
        """After mirroring the picture left to right: u -> width - 1 - u. Targets stay as they are: right for any grid and pose."""
        return self._edited([[-1, 0, self.width - 1], [0, 1, 0], [0, 0, 1]], self.now)  # type: ignore[arg-type]  # set in __post_init__

    @property
    def mirrored(self) -> bool:
        """Whether the picture is a mirror image of the recorded one."""
        return bool(np.linalg.det(self.affine) < 0)

    # ---- what is in force -------------------------------------------------------------------------------------------------------

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture as it is now."""
        assert self.now is not None
        return self.now

    @property
    def width(self) -> int:
        """Columns of the picture as it is now."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Rows of the picture as it is now."""
        return self.size[1]

    @property
    def matrix(self) -> Array:
        """(3, 4) float64, the projection in force: camera-frame metres to homogeneous pixels of the picture as it is now."""
        return self.affine @ np.column_stack([self.K, self.offset])

    @property
    def intrinsics(self) -> Array:
        """(3, 3) float64, K in force (without the offset); its fx is negative where the picture is mirrored."""
        return self.affine @ self.K

    @property
    def position(self) -> Array:
        """(3,) float64, the centre of projection in the world, metres."""
        centre = -np.linalg.solve(self.K, self.offset)  # in the camera frame: where K p + offset vanishes
        return np.asarray((np.linalg.inv(self.T_cam_world) @ np.append(centre, 1.0))[:3])

    def project(self, points: NDArray[Any]) -> tuple[Array, Array]:
        """World points to pixels.

        Args:
            points: (..., 3) metres, world.

        Returns:
            (..., 2) float64 pixels (u, v) of the picture as it is now, and (...) float64 depth along the optical axis in metres.
            Pixels of points at or behind the camera plane mean nothing.
        """
        points = np.asarray(points, dtype=np.float64)
        local = points @ self.T_cam_world[:3, :3].T + self.T_cam_world[:3, 3]
        matrix = self.matrix
        pixels = local @ matrix[:, :3].T + matrix[:, 3]
        depth = pixels[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return pixels[..., :2] / depth[..., None], depth

    def sees(self, points: NDArray[Any]) -> NDArray[np.bool_]:
        """(...) whether world points (..., 3) lie before the camera and inside the picture (rounded pixels)."""
        pixels, depth = self.project(points)
        with np.errstate(invalid="ignore"):
            u, v = np.rint(pixels[..., 0]), np.rint(pixels[..., 1])
            return (depth > 0) & (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)

    def unproject(self, depth: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Array:
        """A depth map to world points.

        Args:
            depth: (H, W) metres along the optical axis, for the picture as it is now; what is not finite or not positive is left out.
            valid: (H, W) which pixels to take; all by default.

        Returns:
            (N, 3) float64 world points in metres, row by row.
        """
        depth = np.asarray(depth, dtype=np.float64)
        if depth.shape != (self.height, self.width):
            raise InputError(f"depth map of {depth.shape[1]} x {depth.shape[0]} for a picture of {self.width} x {self.height}; they must agree")
        keep = np.isfinite(depth) & (depth > 0)
        keep = keep if valid is None else keep & valid
        v, u = np.nonzero(keep)
        metres = depth[v, u]
        matrix = self.matrix
        scaled = np.stack([u * metres, v * metres, metres]) - matrix[:, 3:]
        local = np.linalg.solve(matrix[:, :3], scaled)
        return np.asarray(((local - self.T_cam_world[:3, 3:]).T) @ self.T_cam_world[:3, :3])  # R^T (p - t), R orthonormal

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `Camera.from_dict` is its inverse."""
        return {
            "K": self.K.tolist(), "recorded_size": list(self.recorded_size), "T_cam_world": self.T_cam_world.tolist(),
            "offset": self.offset.tolist(), "affine": self.affine.tolist(), "now": list(self.size), "guesses": list(self.guesses),
            "pose_known": self.pose_known, "world": self.world, "source": self.source,
            "notes": list(self.notes),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Camera:
        """The inverse of `as_dict`.

        Raises:
            InputError: fields are missing or unknown, or hold what no camera has.
        """
        try:
            fields: dict[str, Any] = {k: tuple(v) if k in ("recorded_size", "now", "guesses", "notes") else v for k, v in plain.items()}
            return cls(**fields)
        except InputError:
            raise
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(f"a camera's fields cannot be read ({error}); expected what Camera.as_dict writes") from error
