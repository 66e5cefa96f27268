"""Depth from a rectified stereo pair: semi-global matching (Hirschmueller, PAMI 2008) by OpenCV, kept where both directions agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.depth.files import Metres, Valid
from wholescene.errors import InputError, require
from wholescene.structures import Frame

NEAREST_M = 2.5
_STEP = 16  # disparities come in multiples of this, and in sixteenths of a pixel
_BLOCK = 5
_MOST_DISPARITIES = 512


class SemiGlobalStereo:
    """Depth of the left picture where the right one confirms it.

    Attributes:
        nearest_m: metres of the nearest depth that is searched.
        agreement: pixels by which the disparities of both directions may differ.
    """

    needs: frozenset[str] = frozenset({"right"})

    def __init__(self, nearest_m: float = NEAREST_M, agreement: float = 1.0) -> None:
        self.nearest_m, self.agreement = nearest_m, agreement

    @property
    def identity(self) -> str:
        """As every source."""
        return f"semi-global matching, nearest {self.nearest_m:g} m, block {_BLOCK}, agreement {self.agreement:g} px, 1"

    def __call__(self, frame: Frame) -> tuple[Metres, Valid]:
        """As every source.

        Raises:
            InputError: no right view, one of another size, or cameras that are not a rectified pair with a baseline.
            MissingExtraError: OpenCV is not installed; install the extra `stereo`.
        """
        if "right" not in frame.views:
            raise InputError(f"{frame.name} has no right picture, which stereo makes depth from; give --right PICTURE, or take another depth source")
        left, right = frame.views["main"], frame.views["right"]
        if left.picture.shape != right.picture.shape:
            raise InputError(f"{frame.name}: the pictures of a rectified pair are of one size; found {left.camera.size} and {right.camera.size}")
        shift, focal_baseline = rectified(left.camera, right.camera, frame.name)
        reach = focal_baseline / self.nearest_m + max(shift, 0.0)
        disparity, valid = match(left.picture, right.picture, reach, self.agreement)
        valid &= disparity > shift
        metres = np.where(valid, focal_baseline / np.where(valid, disparity - shift, 1.0), 0.0).astype(np.float32)
        return metres, valid


def rectified(left: Camera, right: Camera, where: str) -> tuple[float, float]:
    """What turns the disparity of a rectified pair into depth: depth = focal_baseline / (disparity - shift).

    Args:
        left, right: cameras posed in one world; offsets and the pictures' histories count.
        where: for messages.

    Returns:
        shift: pixels by which the left principal point lies farther right than the right one.
        focal_baseline: focal length (pixels) times baseline (metres).

    Raises:
        InputError: rows that do not run along the baseline, no baseline, or a right camera that stands on the left.
    """
    first, second = (camera.matrix @ camera.T_cam_world for camera in (left, right))
    axis = first[2, :3]
    across = first[0] - second[0]
    shift = float(across[:3] @ axis)
    focal_baseline = float(across[3] - shift * first[2, 3])
    focal = abs(float(left.intrinsics[0, 0]))
    crooked = max(
        float(np.abs(across[:3] - shift * axis).max()) / focal,  # another direction or focal length
        float(np.abs(first[1] - second[1])[:3].max()) / focal,
        float(np.abs(first[2] - second[2])[:3].max()),
    )
    aside, ahead = abs(first[1, 3] - second[1, 3]), abs(first[2, 3] - second[2, 3])
    if crooked > 1e-3 or aside > 0.05 * abs(focal_baseline) + 1e-6 or ahead > 0.05:
        raise InputError(f"{where}: the two cameras are not a rectified pair, whose rows lie side by side; rectify the pictures first")
    if abs(focal_baseline) < 1e-6 * focal:
        raise InputError(
            f"{where}: the right picture's camera stands where the left one does, so there is no baseline; give the distance between them "
            "(--baseline METRES) or the right camera (--right-camera)"
        )
    if focal_baseline < 0:
        raise InputError(f"{where}: the right camera stands {-focal_baseline / focal:.3f} m to the left of the left one; exchange the two pictures")
    return shift, focal_baseline


def match(left: NDArray[np.uint8], right: NDArray[np.uint8], reach: float, agreement: float = 1.0) -> tuple[NDArray[np.float32], Valid]:
    """Disparities of the left picture.

    Args:
        left, right: (H, W, 3) uint8, rectified.
        reach: largest disparity that is searched, pixels.
        agreement: pixels by which the disparity of the right picture may differ.

    Returns:
        (H, W) float32 disparity in pixels, and (H, W) bool where it is one.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = require("cv2", extra="stereo")
    count = max(1, int(-(-min(reach, _MOST_DISPARITIES) // _STEP))) * _STEP
    matcher = cv2.StereoSGBM_create(
        minDisparity=0, numDisparities=count, blockSize=_BLOCK, P1=8 * _BLOCK**2, P2=32 * _BLOCK**2, disp12MaxDiff=-1, preFilterCap=31,
        uniquenessRatio=5, speckleWindowSize=100, speckleRange=2, mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )  # fmt: skip
    greys = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in (left, right)]
    of_left = _disparities(cv2, matcher, greys, count)
    # the right picture's disparities are those of a left one, seen in a mirror
    mirrored = [np.ascontiguousarray(grey[:, ::-1]) for grey in reversed(greys)]
    of_right = _disparities(cv2, matcher, mirrored, count)[:, ::-1]
    return of_left, agree(of_left, of_right, agreement)


def _disparities(cv2: Any, matcher: Any, greys: Sequence[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
    """(H, W) float32, negative where nothing matched. The pictures are widened first: the matcher answers nothing within `count` of the left edge."""
    widened = [cv2.copyMakeBorder(grey, 0, 0, count, 0, cv2.BORDER_REPLICATE) for grey in greys]
    return matcher.compute(*widened)[:, count:].astype(np.float32) / 16  # type: ignore[no-any-return]


def agree(of_left: NDArray[np.float32], of_right: NDArray[np.float32], agreement: float) -> Valid:
    """(H, W) bool: the left picture's disparity is positive, and the right picture has the same one where it points to."""
    rows, columns = np.indices(of_left.shape)
    there = np.rint(columns - of_left).astype(np.int64)
    inside = (of_left > 0) & (there >= 0)
    other = of_right[rows, np.where(inside, there, 0)]
    return inside & (other > 0) & (np.abs(of_left - other) <= agreement)
