"""What to train or evaluate on, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wholescene.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """How training frames are varied; the defaults are MonoScene's (its released code; Cao and de Charette 2022).

    Attributes:
        jitter: brightness, contrast and saturation change by a factor within 1 - jitter .. 1 + jitter; 0 leaves pictures as they are.
        mirror: probability of a mirrored picture, 0..1.
        mirror_of: what a mirror image is of: the "fitted" picture that the system sees; or, as in Symphonies' released training, the "whole" one,
            from which its part is then cut, while depth and camera are mirrored after their cut: 6 to 22 columns beside them on SemanticKITTI.
        flip: probability, for the volume's forward axis and again for its left axis, that occupancy and targets are turned round; 0..1. Only for
            systems that look at no picture (LMSCNet: 0.5).
    """

    jitter: float = 0.4
    mirror: float = 0.5
    mirror_of: Literal["fitted", "whole"] = "fitted"
    flip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("jitter", "mirror", "flip"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"augmentation {name} is {value:g}; expected a number from 0 to 1")


@dataclass(frozen=True)
class DataConfig:
    """A dataset and its parts.

    What to take for a role is text, since sequence names are text ("08" is not the number 8): the name of a split ("train", "val", "test"),
    sequences separated by commas ("00,02"), or for procedural worlds seeds ("0..1999", both ends included, or "7,8,9").

    Attributes:
        dataset: name in the table of datasets: "semantic-kitti", "sscbench-kitti-360", "nyuv2", "occscannet", "street", "room".
        root: its folder; None for worlds that are made and for a root given later.
        train, val, test: what each role takes.
        setting: of a procedural world: "full", "half" or "mini" (streets), "nyuv2", "occscannet", "half", "half-all" or "mini" (rooms); of
            Occ-ScanNet, whose lists: "full", "iso-mini", "final" or "final-mini"; empty for its default.
        protocol: of Occ-ScanNet: what becomes of unknown voxels: "known", "unknown-as-empty" or "in-view"; empty for "known".
        axes: of Occ-ScanNet: the order of its stored targets, "y-x-z" or "x-y-z" (as ISO's loader reads them); empty for "y-x-z".
        scales: down-sampled targets to carry along (the target itself is scale 1); systems can pool what they need themselves.
        stride: take frames whose number is a multiple of it; None: five in KITTI's own sequences, every frame of any other recording.
        revision: of the volumes on disk: "v1.1" or "v1.0" (SemanticKITTI).
        exclude: frames to leave out, by name ("03/000125"), e.g. those in which the check found nothing known.
        depth: where depth comes from for a system that needs it: "stereo", "files:FOLDER[@UNIT]", "mono:WEIGHTS", "iso:FILE" or "truth"; empty:
            the dataset's own, where it has one.
        depth_cache: folder in which depth that was made is kept; None: it is made anew each time.
        augment: how training frames are varied.
    """

    dataset: str = "semantic-kitti"
    root: str | None = None
    train: str = "train"
    val: str = "val"
    test: str = "test"
    setting: str = ""
    protocol: str = ""
    axes: str = ""
    scales: tuple[int, ...] = ()
    stride: int | None = None
    revision: Literal["v1.1", "v1.0"] = "v1.1"
    exclude: tuple[str, ...] = ()
    depth: str = ""
    depth_cache: str | None = None
    augment: Augmentation = field(default_factory=Augmentation)

    def part(self, role: str) -> str:
        """What the role "train", "val" or "test" takes.

        Raises:
            InputError: another role.
        """
        if role not in ("train", "val", "test"):
            raise InputError(f"unknown role {role!r} of a dataset; known: train, val, test")
        return str(getattr(self, role))


def parse_names(text: str) -> tuple[str, ...]:
    """Names from text, separated by commas or blanks.

    >>> parse_names("00, 02,08")
    ('00', '02', '08')
    """
    return tuple(text.replace(",", " ").split())


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from text: numbers and ranges with both ends included.

    >>> parse_seeds("0..2,7")
    (0, 1, 2, 7)

    Raises:
        InputError: what is no number and no range, or more than ten million seeds.
    """
    seeds: list[int] = []
    for part in parse_names(text):
        first, dots, last = part.partition("..")
        if not first.isdecimal() or (dots and not last.isdecimal()) or len(part) > 40:  # Python reads no number of thousands of digits
            raise InputError(f"seeds {text[:80]!r}: {part[:80]!r} is neither a number nor a range; write for example '0..1999' or '7,8'")
        low, high = int(first), int(last or first)
        if high < low or high - low + len(seeds) >= 10_000_000:
            raise InputError(f"seeds {text!r}: the range {part!r} is empty or longer than ten million")
        seeds += range(low, high + 1)
    if not seeds:
        raise InputError("no seeds given; write for example '0..1999'")
    return tuple(seeds)
