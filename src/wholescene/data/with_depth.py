"""A dataset whose frames get their depth from a source: what the dataset itself does not give."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from wholescene.data.config import DataConfig
from wholescene.depth.caching import Cached
from wholescene.depth.sources import DepthSource, depth_source, said_sources, with_depth
from wholescene.errors import InputError
from wholescene.labels import LabelSet
from wholescene.structures import Frame

if TYPE_CHECKING:
    from wholescene.data import Dataset


class WithDepth:
    """Frames of a dataset, with depth.

    Attributes:
        revision, protocol: of the dataset, where it states them.
    """

    def __init__(self, frames: Dataset, source: DepthSource, unwanted: Collection[str] = ()) -> None:
        """
        Args:
            frames: the dataset.
            source: of depth.
            unwanted: views that only the source looks at; they leave the frames again.
        """
        self.frames, self.source, self.unwanted = frames, source, frozenset(unwanted)
        self.revision, self.protocol = getattr(frames, "revision", ""), getattr(frames, "protocol", "")

    @property
    def names(self) -> list[str]:
        """Of the frames, in order."""
        return self.frames.names

    @property
    def labels(self) -> LabelSet:
        """What the targets' numbers mean."""
        return self.frames.labels

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        frame = with_depth(self.frames[index], self.source)
        return replace(frame, views={name: view for name, view in frame.views.items() if name not in self.unwanted})


def source_of(config: DataConfig, gives: Collection[str]) -> DepthSource:
    """The depth source of a config, for a dataset that gives such inputs.

    Raises:
        InputError: none is named, an unknown one, or one that needs what the dataset does not give.
    """
    if not config.depth:
        raise InputError(f"{config.dataset} has no depth of its own and the system needs one; set data.depth to one of: {said_sources('truth')}")
    source = depth_source(config.depth)
    lacking = sorted(source.needs - frozenset(gives))
    if lacking:
        raise InputError(
            f"the depth source {config.depth} needs {' and '.join(lacking)} of each frame, which {config.dataset} does not give; "
            f"set data.depth to another of: {said_sources()}"
        )
    return Cached(source, config.depth_cache) if config.depth_cache else source
