"""The config of `Dial`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from wholescene.grid import GridPlacement
from wholescene.preparation import Preparation
from wholescene.systems.config import SystemConfig

GRID = GridPlacement((6, 6, 4), (4.0, 4.0, 1.0))


@dataclass(frozen=True)
class DialConfig(SystemConfig):
    """Config of `Dial`.

    Attributes:
        width: channels.
        plain: without batch norm and dropout, so that a step depends on its frames alone, not on how they are shared out.
    """

    width: int = 4
    plain: bool = False

    @classmethod
    def preset(cls, conventions: str = "clean", size: str = "full", **fields: Any) -> DialConfig:
        return replace(cls(grid=GRID, preparation=Preparation(fit="none")), **fields)
