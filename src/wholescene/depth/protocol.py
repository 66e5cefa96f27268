"""What a depth source is, which there are in words, and how a frame takes its depth from one. `sources` opens them by name.

Systems know this and nothing of the sources themselves: one of them is part of a system.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from wholescene.depth.files import UNITS, DepthUnit, Metres, Valid, unit_doubts
from wholescene.errors import InputError
from wholescene.structures import Frame


class DepthSource(Protocol):
    """Gives the depth of a frame's main picture."""

    @property
    def needs(self) -> frozenset[str]:
        """Inputs of a frame beside its main picture ("right")."""
        ...

    @property
    def identity(self) -> str:
        """Everything that decides its answers beside the frame; empty where an answer is not worth keeping."""
        ...

    def __call__(self, frame: Frame) -> tuple[Metres, Valid]:
        """(H, W) float32 metres along the optical axis, 0 where not valid; and (H, W) bool.

        Raises:
            InputError: the frame lacks what the source needs, or there is no depth for it.
        """
        ...


@dataclass(frozen=True)
class SourceRow:
    """One source of the table.

    Attributes:
        name: the word before the colon.
        argument: what stands behind the colon, for lists; in brackets where it may be left out.
        summary: one line.
    """

    name: str
    argument: str
    summary: str


SOURCES = {
    row.name: row
    for row in (
        SourceRow("files", "FOLDER[@UNIT]", "depth or disparity maps that lie in a folder, one a frame"),
        SourceRow("stereo", "[NEAREST_M]", "semi-global matching of a rectified pair, with a check from right to left (extra stereo)"),
        SourceRow("mono", "WEIGHTS", "a metric depth network, by folder or hub name (extra depth)"),
        SourceRow("iso", "FILE", "the metric depth network (for rooms) that converted weights of ISO hold"),
        SourceRow("truth", "", "what the frame itself knows (procedural worlds, depth cameras)"),
    )
}


def said_sources(*without: str) -> str:
    """The table in one line, for messages.

    >>> said_sources("files", "iso", "mono", "truth")
    'stereo[:NEAREST_M]'
    """
    return ", ".join(row.name + _said_argument(row.argument) for row in SOURCES.values() if row.name not in without)


def _said_argument(argument: str) -> str:
    return argument.replace("[", "[:", 1) if argument.startswith("[") else f":{argument}" if argument else ""


def with_depth(frame: Frame, source: DepthSource) -> Frame:
    """The frame with the depth that the source gives it, as an input.

    Raises:
        InputError: as the source; or it knows no depth at all for this frame.
    """
    metres, valid = source(frame)
    width, height = frame.main.camera.size
    if metres.shape != (height, width):
        raise InputError(f"{frame.name}: depth of {metres.shape[1]} x {metres.shape[0]} for a picture of {width} x {height} pixels; they must agree")
    if not valid.any():
        raise InputError(f"{frame.name}: no pixel has a depth; look at the input of the depth source, or take another one")
    return replace(frame, depth=metres)


def doubted(frame: Frame, unit: DepthUnit = UNITS["m"]) -> Frame:
    """The frame with a note on its main camera where its depth, read in that unit, is too far to be meant so."""
    said = () if frame.depth is None else unit_doubts(frame.depth, unit)
    return frame.with_main(frame.main.picture, frame.main.camera.noted(*said)) if said else frame
