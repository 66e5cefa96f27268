"""Depth from one picture by the metric depth network that ISO's weights hold, for any system that needs depth."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from wholescene.checkpoints import native
from wholescene.depth.files import Metres, Valid
from wholescene.depth.mono import fingerprint_of
from wholescene.errors import InputError
from wholescene.structures import Frame
from wholescene.systems.iso.metric_depth import MetricDepth


class ISODepth:
    """A depth source: the network is loaded once, when the first frame comes, and the rest of the file is let go.

    It knows no camera: its metres are right for rooms, and for cameras like those it was trained with.

    Attributes:
        weights: one of our files of an ISO with its depth network.
    """

    needs: frozenset[str] = frozenset()

    def __init__(self, weights: str) -> None:
        """
        Raises:
            InputError: no file is named.
        """
        if not weights:
            raise InputError("the depth source iso needs weights: iso:FILE, of a released ISO that `wholescene convert` has read")
        self.weights = weights

    @property
    def identity(self) -> str:
        """As every source."""
        return f"iso {self.weights}, {fingerprint_of(self._network)}"

    @cached_property
    def _network(self) -> MetricDepth:
        system = native.load(self.weights)
        network = getattr(getattr(system, "half_2d", None), "metric_depth", None)
        if not isinstance(network, MetricDepth):
            raise InputError(
                f"{self.weights} ({system.name}) holds no metric depth network; expected a converted ISO checkpoint with net_depth in it"
            )
        return network

    def __call__(self, frame: Frame) -> tuple[Metres, Valid]:
        """As every source.

        Raises:
            InputError: weights that are not there, or without the network.
        """
        metres = self._network.predict(frame.main.picture)
        valid = np.isfinite(metres) & (metres > 0)
        return np.where(valid, metres, np.float32(0)), valid
