"""What a picture file says of its lens: EXIF 2.32 tags, and the focal length in pixels that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import ExifTags, Image

# The rule of the film equivalent: its frame is 36 mm along the longer side. (By the diagonal it would be 4 % more for a 4:3 picture;
# phone makers differ, and the longer side is what most of them use.)
FILM_MM = 36.0

_PIXELS_PER_MM = {2: 1 / 25.4, 3: 1 / 10, 4: 1.0, 5: 1000.0}  # FocalPlaneResolutionUnit: inch, centimetre, millimetre, micrometre


@dataclass(frozen=True)
class ExifFacts:
    """The lens as the file describes it; None for what is missing or zero.

    Attributes:
        stored: (width, height) of the pixels in the file, before they are turned upright.
        orientation: EXIF orientation, 1 (upright) to 8; from 5 on the stored picture lies on its side.
        focal_mm: focal length, millimetres.
        focal_35mm: focal length of the lens of the same view on 35 mm film, millimetres.
        pixels_per_mm: sensor resolution along the sensor's longer side, for the picture as it was taken.
        taken: (width, height) of the picture as it was taken, before any resizing, in pixels.
    """

    stored: tuple[int, int]
    orientation: int = 1
    focal_mm: float | None = None
    focal_35mm: float | None = None
    pixels_per_mm: float | None = None
    taken: tuple[int, int] | None = None


def read_exif(image: Image.Image) -> tuple[ExifFacts, tuple[str, ...]]:
    """The facts of an opened picture, and a note for each tag that was there and could not be used (zero, 0/0, not a number)."""
    notes: list[str] = []
    try:
        tags = image.getexif()
        lens = tags.get_ifd(ExifTags.IFD.Exif)
    except (ValueError, TypeError, KeyError, SyntaxError, OSError, OverflowError, ZeroDivisionError) as error:
        return ExifFacts(image.size), (f"the EXIF data cannot be read ({error}) and were ignored",)

    def positive(tag: ExifTags.Base) -> float | None:
        if tag not in lens:
            return None
        try:
            value = float(lens[tag])
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            value = math.nan
        if math.isfinite(value) and value > 0:  # Pillow makes NaN of 0/0, which is truthy
            return value
        notes.append(f"the EXIF tag {tag.name} holds {value:g} and was ignored")
        return None

    focal_mm, focal_35mm = positive(ExifTags.Base.FocalLength), positive(ExifTags.Base.FocalLengthIn35mmFilm)
    resolution = positive(ExifTags.Base.FocalPlaneXResolution)
    width, height = positive(ExifTags.Base.ExifImageWidth), positive(ExifTags.Base.ExifImageHeight)
    unit = lens.get(ExifTags.Base.FocalPlaneResolutionUnit, 2)
    if resolution is not None and unit not in _PIXELS_PER_MM:
        notes.append(f"the EXIF tag FocalPlaneResolutionUnit holds {unit!r}, which is no unit, so the sensor's resolution was ignored")
        resolution = None
    orientation = tags.get(ExifTags.Base.Orientation, 1)
    facts = ExifFacts(
        stored=image.size,
        orientation=orientation if orientation in range(1, 9) else 1,
        focal_mm=focal_mm,
        focal_35mm=focal_35mm,
        pixels_per_mm=None if resolution is None else resolution * _PIXELS_PER_MM[unit],
        taken=None if width is None or height is None else (round(width), round(height)),
    )
    return facts, tuple(notes)


def focal_pixels(facts: ExifFacts) -> tuple[float | None, tuple[str, ...]]:
    """The focal length in pixels of the picture as stored (and turned: pixels are square), with how it was found and what speaks against it.

    The film equivalent comes first: f = f35 / 36 * longer side. Else f = focal_mm * pixels_per_mm at the size the picture was taken
    at, times now over then.

    Returns:
        pixels, or None where the tags do not suffice or give a lens that nobody makes; and notes.
    """
    longer = max(facts.stored)
    notes = _cropped(facts)
    if facts.focal_35mm is not None:
        pixels = facts.focal_35mm / FILM_MM * longer
        how = f"focal length {pixels:.1f} px from the EXIF film equivalent of {facts.focal_35mm:g} mm"
    elif facts.focal_mm is not None and facts.pixels_per_mm is not None:
        scale = longer / max(facts.taken) if facts.taken else 1.0
        pixels = facts.focal_mm * facts.pixels_per_mm * scale
        how = f"focal length {pixels:.1f} px from the EXIF focal length of {facts.focal_mm:g} mm at {facts.pixels_per_mm:.4g} px/mm"
        how += f", taken {max(facts.taken)} and now {longer} pixels long" if facts.taken and scale != 1 else ""
    else:
        return None, ()
    if not 0.1 <= pixels / longer <= 100:
        return None, (f"EXIF gives a focal length of {pixels:g} px for a picture {longer} pixels long, which no lens has; it was ignored",)
    return pixels, (f"{how}; principal point taken in the middle", *notes)


def _cropped(facts: ExifFacts) -> tuple[str, ...]:
    if facts.taken is None:
        return ()
    then, now = (max(size) / min(size) for size in (facts.taken, facts.stored))
    if abs(then / now - 1) < 0.02:
        return ()
    sizes = f"taken at {facts.taken[0]} x {facts.taken[1]}, now {facts.stored[0]} x {facts.stored[1]}"
    return (f"the picture was cropped after it was taken ({sizes}), so its focal length in pixels and its middle are uncertain",)
