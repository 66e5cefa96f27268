"""Depth maps from files: what their numbers mean is said by the user or by the layout, never guessed."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wholescene.errors import InputError, unknown_name
from wholescene.files import open_array, read_bytes

Metres = NDArray[np.float32]
Valid = NDArray[np.bool_]

_NEAR, _FAR = 0.1, 200.0  # metres; half of a picture that lies nearer, or farther, was hardly read in its own unit
_LIKELY = (0.3, 100.0)  # metres, of a median
_SATURATED = 2**16 - 1  # of sixteen bits, how some cameras write "nothing" (7-Scenes)
_MOST_PIXELS = 2**27
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class DepthUnit:
    """What the numbers of a depth file mean.

    Attributes:
        per_metre: numbers to a metre, for files of depth.
        focal_baseline: focal length (pixels) times baseline (metres), for files of disparity in pixels: depth = focal_baseline / disparity.
        rotated: the 16 bits are rotated left by three, as SSCNet's release of NYUv2 stores millimetres.
    """

    per_metre: float = 1.0
    focal_baseline: float | None = None
    rotated: bool = False

    def __str__(self) -> str:
        if self.focal_baseline is not None:
            return f"disparity in pixels, {self.focal_baseline:g} pixel-metres"
        return "metres" if self.per_metre == 1 else f"{self.per_metre:g} to a metre" + (", bits rotated by three" if self.rotated else "")


UNITS = {
    "m": DepthUnit(1.0),
    "mm": DepthUnit(1000.0),
    "kitti": DepthUnit(256.0),
    "tum": DepthUnit(5000.0),
    "sscnet": DepthUnit(1000.0, rotated=True),
}


def depth_unit(text: str | float | DepthUnit) -> DepthUnit:
    """The unit that a user names.

    Args:
        text: "m", "mm", "kitti" (256 to a metre), "tum" (5000), "sscnet" (millimetres, bits rotated); a number to a metre; or
            "disparity:388.18", disparity in pixels with focal length times baseline in pixel-metres.

    Raises:
        InputError: none of these.

    >>> str(depth_unit("kitti")), str(depth_unit(1000)), str(depth_unit("disparity:388.1823"))
    ('256 to a metre', '1000 to a metre', 'disparity in pixels, 388.182 pixel-metres')
    """
    if isinstance(text, DepthUnit):
        return text
    if text in UNITS:
        return UNITS[str(text)]
    found = re.fullmatch(r"(disparity:)?\s*([0-9.eE+-]+)", str(text).strip())
    try:
        number = float(found[2]) if found else None
    except ValueError:
        number = None
    if found is None or number is None:
        raise unknown_name("depth unit", text, [*UNITS, "256", "1000", "disparity:FOCAL_TIMES_BASELINE"])
    if not (np.isfinite(number) and number > 0):
        raise InputError(f"the depth unit {text!r} is not a positive number")
    return DepthUnit(focal_baseline=number) if found[1] else DepthUnit(number)


def read_depth(
    path: str | Path,
    unit: str | float | DepthUnit | None = None,
    focal_baseline: float | None = None,
    most_metres: float | None = None,
    *,
    option: str = "--depth-unit",
) -> tuple[Metres, Valid]:
    """Read a depth map.

    Args:
        path: a .npy file of floats (metres where no unit is given) or of integers, or a one-channel 16-bit picture (PNG, TIFF).
        unit: as for `depth_unit`; must be given for integers and pictures.
        focal_baseline: focal length (pixels) times baseline (metres): the file then holds disparity in pixels.
        most_metres: what is farther is not valid; None: no limit.
        option: how the user says the unit, for messages.

    Returns:
        (H, W) float32 metres along the optical axis, 0 where not valid; and (H, W) bool. Zero, negative, infinite and NaN numbers are not
        valid, nor is a disparity so small that its depth is infinite, nor 65,535 in sixteen bits of depth (saturated, or how a camera says nothing).

    Raises:
        InputError: no unit where one is needed, two units, or a file that is not a depth map; the file is named.
    """
    path = Path(path)
    if unit is not None and focal_baseline is not None:
        raise InputError(f"{path}: both a unit ({unit}) and focal length times baseline ({focal_baseline:g}) were given; give one of them")
    chosen = depth_unit(f"disparity:{focal_baseline}") if focal_baseline is not None else None if unit is None else depth_unit(unit)
    values = _array(path) if path.suffix.lower() == ".npy" else _picture(path)
    if chosen is None and not np.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"{path} holds whole numbers (up to {int(values.max()):,}) and says no unit; give {option}: mm (1000 to a metre), "
            "kitti (256), tum (5000), or any number to a metre"
        )
    return to_metres(values, chosen or UNITS["m"], most_metres)


def to_metres(values: NDArray[np.generic], unit: DepthUnit, most_metres: float | None = None) -> tuple[Metres, Valid]:
    """Numbers of that unit (any shape) to metres and validity, as `read_depth` returns them."""
    if unit.rotated:
        bits = values.astype(np.uint16)
        values = (bits >> 3) | (bits << 13)
    numbers = values.astype(np.float64)
    valid = (numbers > 0) & (values != _SATURATED) if values.dtype == np.uint16 and unit.focal_baseline is None else numbers > 0
    safe = np.where(valid, numbers, 1.0)
    with np.errstate(over="ignore", under="ignore"):
        metres = (safe / unit.per_metre if unit.focal_baseline is None else unit.focal_baseline / safe).astype(np.float32)
    valid &= np.isfinite(metres) & (metres > 0)
    if most_metres is not None:
        valid &= metres <= most_metres
    return np.where(valid, metres, np.float32(0)), valid


def unit_doubts(metres: Metres, unit: DepthUnit = UNITS["m"]) -> tuple[str, ...]:
    """A warning where the median is so near or far that the numbers were probably meant in another unit, with the likely ones.

    Args:
        metres: (H, W), 0 where unknown.
        unit: that the file was read in.

    >>> unit_doubts(np.full((2, 2), 6500, np.float32))[0]
    'the median depth is 6,500 m, farther than scenes reach; it would be as mm 6.50 m, as kitti 25.39 m, as tum 1.30 m: is one of these its unit?'
    """
    known = metres[metres > 0]
    median = float(np.median(known)) if known.size else _NEAR
    if _NEAR <= median <= _FAR:
        return ()
    said = (
        f"the median depth is {median:,.0f} m, farther than scenes reach"
        if median > _FAR
        else f"the median depth is {median:.2g} m, nearer than any scene"
    )
    if unit.focal_baseline is not None:
        return (f"{said}; are these disparities in pixels, and is {unit.focal_baseline:g} the focal length in pixels times the baseline in metres?",)
    others = {name: median * unit.per_metre / other.per_metre for name, other in UNITS.items() if not other.rotated and other != unit}
    likely = [f"as {name} {m:.2f} m" for name, m in others.items() if _LIKELY[0] <= m <= _LIKELY[1]]
    return (f"{said}; it would be {', '.join(likely)}: is one of these its unit?" if likely else f"{said}; check the unit of its numbers",)


def _array(path: Path) -> NDArray[np.generic]:
    values = open_array(path, "a .npy file of metres, (height, width)")
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.size == 0 or values.size > _MOST_PIXELS or values.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {values.dtype} of shape {values.shape}; expected numbers of shape (height, width)")
    return np.array(values)


def _picture(path: Path) -> NDArray[np.generic]:
    content = read_bytes(path, _MOST_BYTES, "depth file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused here by our own limit
            image = Image.open(io.BytesIO(content), formats=("PNG", "TIFF"))
            if image.width * image.height > _MOST_PIXELS:
                raise InputError(f"{path} has {image.width:,} x {image.height:,} pixels; a depth map has at most {_MOST_PIXELS:,}")
            image.load()
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, Image.DecompressionBombError) as error:
        said = "no PNG or TIFF" if isinstance(error, UnidentifiedImageError) else error  # Pillow's own words name an address in memory
        raise InputError(f"{path} is not a depth map that can be read ({said}); expected a 16-bit PNG or TIFF, or a .npy file") from error
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        raise InputError(
            f"{path} is an {image.mode} picture of 8 bits a channel: a drawing of depth and not depth itself; "
            "expected one channel of 16 bits, or a .npy file of metres"
        )
    return np.asarray(image)
