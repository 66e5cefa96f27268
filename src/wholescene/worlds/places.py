"""Where something stands and which way it faces."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Place(NamedTuple):
    """A spot on the ground: world x, y, z and a heading there (a street's direction, a piece of furniture's front), radians."""

    x: float
    y: float
    z: float
    yaw: float

    def point(self, ahead: float, left: float, up: float) -> Array:
        """(3,) world point that lies so far ahead, left and up of here, along the heading."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([self.x + c * ahead - s * left, self.y + s * ahead + c * left, self.z + up])

    def turned(self, angle: float) -> Place:
        """The same spot with another heading."""
        return self._replace(yaw=self.yaw + angle)

    def moved(self, ahead: float, left: float, up: float = 0.0) -> Place:
        """The spot so far ahead, left and up of here, with the same heading."""
        x, y, z = (float(c) for c in self.point(ahead, left, up))
        return Place(x, y, z, self.yaw)
