"""Where depth comes from: one protocol, one table of names.

    source = depth_source("stereo")            # or "files:FOLDER@kitti", "mono:WEIGHTS", "iso:FILE", "truth"
    metres, valid = source(frame)
    frame = with_depth(frame, source)

A source looks at a frame as it was recorded, before it is fitted for a network.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from wholescene.depth.files import Metres, Valid
from wholescene.errors import InputError, unknown_name
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
        open: makes the source from the argument (empty where none was given).
    """

    name: str
    argument: str
    summary: str
    open: Callable[[str], DepthSource]


class Truth:
    """What the frame itself knows, as procedural worlds do."""

    needs: frozenset[str] = frozenset({"depth"})
    identity = ""

    def __call__(self, frame: Frame) -> tuple[Metres, Valid]:
        """As every source."""
        known = frame.depth if frame.depth is not None else frame.depth_target
        if known is None:
            raise InputError(f"{frame.name} has no depth of its own; take another source: {said_sources('truth')}")
        valid = np.isfinite(known) & (known > 0)
        return np.where(valid, known, np.float32(0)), valid


def _files(argument: str) -> DepthSource:
    from wholescene.depth.folder import DepthFiles

    folder, at, unit = argument.rpartition("@")
    is_whole = not at or Path(argument).expanduser().is_dir()  # a folder may have an @ in its name
    return DepthFiles(argument) if is_whole else DepthFiles(folder, unit)


def _stereo(argument: str) -> DepthSource:
    from wholescene.depth.stereo import SemiGlobalStereo

    return SemiGlobalStereo(_metres(argument)) if argument else SemiGlobalStereo()


def _mono(argument: str) -> DepthSource:
    from wholescene.depth.mono import MetricNetwork

    return MetricNetwork(argument)


def _iso(argument: str) -> DepthSource:
    # by name, as the table of systems does: the network is part of a system, which this package knows nothing of
    found: DepthSource = importlib.import_module("wholescene.checkpoints.iso_depth").ISODepth(argument)
    return found


def _truth(argument: str) -> DepthSource:
    if argument:
        raise InputError(f"the depth source truth takes nothing behind a colon; found {argument!r}")
    return Truth()


SOURCES = {
    row.name: row
    for row in (
        SourceRow("files", "FOLDER[@UNIT]", "depth or disparity maps that lie in a folder, one a frame", _files),
        SourceRow("stereo", "[NEAREST_M]", "semi-global matching of a rectified pair, with a check from right to left (extra stereo)", _stereo),
        SourceRow("mono", "WEIGHTS", "a metric depth network, by folder or hub name (extra depth)", _mono),
        SourceRow("iso", "FILE", "the metric depth network (for rooms) that converted weights of ISO hold", _iso),
        SourceRow("truth", "", "what the frame itself knows (procedural worlds, depth cameras)", _truth),
    )
}


def depth_source(text: str) -> DepthSource:
    """The source that a user or a recipe names: "stereo", "files:FOLDER@kitti", "mono:WEIGHTS", "iso:FILE", "truth".

    Raises:
        InputError: an unknown source (the nearest is named), or an argument that it cannot use.
    """
    name, _, argument = text.partition(":")
    if name not in SOURCES:
        raise unknown_name("depth source", name, SOURCES)
    return SOURCES[name].open(argument)


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


def _metres(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not (np.isfinite(found) and found > 0):
        raise InputError(f"the nearest depth for stereo is {text!r}; expected metres above zero, such as stereo:2.5")
    return found
