"""Label sets: what the numbers in a volume mean, in which colours they are drawn, and which raw ids they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError, unknown_name

EMPTY = 0
UNKNOWN = 255


@dataclass(frozen=True)
class LabelSet:
    """Classes of a dataset: 0 is empty, 1..K-1 are classes, 255 is unknown.

    Attributes:
        name: with dashes.
        names: K class names; the first is "empty".
        colours: K colours (red, green, blue), 0..255, sRGB.
        raw: raw id -> class, as the dataset's files write them; empty where a dataset has none.
        inverse: class -> the raw id written in a submission.
        voxels: how often each class occurs in the published training split, for class weights; empty where unpublished.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    raw: Mapping[int, int] = field(default_factory=dict)
    inverse: tuple[int, ...] = ()
    voxels: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """K, with empty."""
        return len(self.names)

    def from_raw(self, volume: NDArray[Any]) -> NDArray[np.uint8]:
        """Raw ids (any shape, integers below 65,536) to classes; every id that is not in the table becomes unknown (255)."""
        table = np.full(65536, UNKNOWN, np.uint8)
        for raw, label in self.raw.items():
            table[raw] = label
        return table[np.asarray(volume).astype(np.uint16, copy=False)]

    def to_raw(self, labels: NDArray[Any]) -> NDArray[np.uint16]:
        """Classes (any shape) to the raw ids that the test server reads.

        Raises:
            InputError: a label outside 0..K-1 (unknown cannot be submitted), or a set without raw ids.
        """
        if not self.inverse:
            raise InputError(f"the label set {self.name} has no raw ids to write")
        labels = np.asarray(labels)
        if labels.size and (labels.min() < 0 or labels.max() >= self.classes):
            raise InputError(f"labels must lie in 0..{self.classes - 1} for {self.name}; found {int(labels.min())}..{int(labels.max())}")
        return np.asarray(self.inverse, np.uint16)[labels]

    def palette(self) -> NDArray[np.uint8]:
        """(256, 3) colours by label; what is no class is grey."""
        table = np.full((256, 3), 128, np.uint8)
        table[: self.classes] = np.asarray(self.colours, np.uint8)
        return table


_STREET = (
    ("empty", (0, 0, 0)), ("car", (100, 150, 245)), ("bicycle", (100, 230, 245)), ("motorcycle", (30, 60, 150)),
    ("truck", (80, 30, 180)), ("other-vehicle", (0, 0, 255)), ("person", (255, 30, 30)), ("bicyclist", (255, 40, 200)),
    ("motorcyclist", (150, 30, 90)), ("road", (255, 0, 255)), ("parking", (255, 150, 255)), ("sidewalk", (75, 0, 75)),
    ("other-ground", (175, 0, 75)), ("building", (255, 200, 0)), ("fence", (255, 120, 50)), ("vegetation", (0, 175, 0)),
    ("trunk", (135, 60, 0)), ("terrain", (150, 240, 80)), ("pole", (255, 240, 150)), ("traffic-sign", (255, 0, 0)),
)  # fmt: skip

SEMANTIC_KITTI = LabelSet(
    name="semantic-kitti",
    names=tuple(name for name, _ in _STREET),
    colours=tuple(colour for _, colour in _STREET),
    raw={
        0: 0, 10: 1, 252: 1, 11: 2, 15: 3, 18: 4, 258: 4, 13: 5, 16: 5, 20: 5, 256: 5, 257: 5, 259: 5, 30: 6, 254: 6, 31: 7, 253: 7,
        32: 8, 255: 8, 40: 9, 60: 9, 44: 10, 48: 11, 49: 12, 50: 13, 51: 14, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19,
    },
    inverse=(0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81),
    voxels=(
        5417730330, 15783539, 125136, 118809, 646799, 821951, 262978, 283696, 204750, 61688703, 4502961, 44883650, 2269923, 56840218,
        15719652, 158442623, 2061623, 36970522, 1151988, 334146,
    ),
)  # fmt: skip

KITTI_360 = LabelSet(
    name="kitti-360",
    names=(
        "empty", "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "road", "parking", "sidewalk", "other-ground", "building",
        "fence", "vegetation", "terrain", "pole", "traffic-sign", "other-structure", "other-object",
    ),
    colours=(
        (0, 0, 0), (100, 150, 245), (100, 230, 245), (30, 60, 150), (80, 30, 180), (0, 0, 255), (255, 30, 30), (255, 0, 255), (255, 150, 255),
        (75, 0, 75), (175, 0, 75), (255, 200, 0), (255, 120, 50), (0, 175, 0), (150, 240, 80), (255, 240, 150), (255, 0, 0), (255, 150, 0),
        (50, 255, 255),
    ),
    raw={
        0: 0, 10: 1, 252: 1, 11: 2, 15: 3, 18: 4, 258: 4, 13: 5, 16: 5, 20: 5, 256: 5, 257: 5, 259: 5, 30: 6, 254: 6, 40: 7, 60: 7, 44: 8,
        48: 9, 49: 10, 50: 11, 51: 12, 70: 13, 72: 14, 80: 15, 81: 16, 52: 17, 99: 18,
    },
    inverse=(0, 10, 11, 15, 18, 20, 30, 40, 44, 48, 49, 50, 51, 70, 72, 80, 81, 52, 99),
    voxels=(
        2264087502, 20098728, 104972, 96297, 1149426, 4051087, 125103, 105540713, 16292249, 45297267, 14454132, 110397082, 6766219, 295883213,
        50037503, 1561069, 406330, 30516166, 1950115,
    ),
)  # fmt: skip

NYUV2 = LabelSet(
    name="nyuv2",
    names=("empty", "ceiling", "floor", "wall", "window", "chair", "bed", "sofa", "table", "tvs", "furniture", "objects"),
    colours=(
        (22, 191, 206), (214, 38, 40), (43, 160, 43), (158, 216, 229), (114, 158, 206), (204, 204, 91), (255, 186, 119), (147, 102, 188),
        (30, 119, 181), (188, 188, 33), (255, 127, 12), (196, 175, 214),
    ),
    # SSCNet's 37 raw ids (Song et al. 2017): empty, ceiling, floor, wall, window, door, chair, bed, sofa, table, side table, ...
    raw=dict(enumerate((
        0, 1, 2, 3, 4, 11, 5, 6, 7, 8, 8, 10, 10, 10, 11, 11, 9, 8, 11, 11, 11, 11, 11, 11, 11, 11, 11, 10, 10, 11, 8, 10, 11, 9, 11, 11, 11,
    ))),
    voxels=(43744234, 80205, 1070052, 905632, 116952, 180994, 436852, 279714, 254611, 28247, 1805949, 850724),
)  # fmt: skip

_LABEL_SETS = {s.name: s for s in (SEMANTIC_KITTI, KITTI_360, NYUV2)}


def label_set(name: str) -> LabelSet:
    """The label set of that name.

    Raises:
        InputError: naming the nearest ones.
    """
    if name not in _LABEL_SETS:
        raise unknown_name("label set", name, _LABEL_SETS)
    return _LABEL_SETS[name]


def inverse_log_weights(counts: Sequence[float], epsilon: float = 0.001) -> tuple[float, ...]:
    """Class weights 1 / ln(count + epsilon) (MonoScene, section 3.4; epsilon 1e-6 in Symphonies), of a number of training voxels a class.

    Raises:
        InputError: a count for which the logarithm is not positive.
    """
    if not all(math.isfinite(n) and n + epsilon > 1 for n in counts):
        raise InputError(f"class weights 1/ln(count) need finite counts above 1 for every class; found {list(counts)}")
    return tuple(1 / math.log(n + epsilon) for n in counts)
