"""Where depth comes from: every source by its name.

    source = depth_source("stereo")            # or "files:FOLDER@kitti", "mono:WEIGHTS", "iso:FILE", "truth"
    metres, valid = source(frame)
    frame = with_depth(frame, source)

A source looks at a frame as it was recorded, before it is fitted for a network.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wholescene.depth.files import Metres, Valid
from wholescene.depth.protocol import SOURCES, DepthSource, said_sources, with_depth
from wholescene.errors import InputError, unknown_name
from wholescene.structures import Frame

__all__ = ["SOURCES", "DepthSource", "Truth", "depth_source", "said_sources", "with_depth"]


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


_OPENERS: dict[str, Callable[[str], DepthSource]] = {"files": _files, "stereo": _stereo, "mono": _mono, "iso": _iso, "truth": _truth}


def depth_source(text: str) -> DepthSource:
    """The source that a user or a recipe names: "stereo", "files:FOLDER@kitti", "mono:WEIGHTS", "iso:FILE", "truth".

    Raises:
        InputError: an unknown source (the nearest is named), or an argument that it cannot use.
    """
    name, _, argument = text.partition(":")
    if name not in SOURCES:
        raise unknown_name("depth source", name, SOURCES)
    return _OPENERS[name](argument)


def _metres(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not (np.isfinite(found) and found > 0):
        raise InputError(f"the nearest depth for stereo is {text!r}; expected metres above zero, such as stereo:2.5")
    return found
