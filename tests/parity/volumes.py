"""Voxels that several cases describe in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cases import forge_call


def below(text: str) -> np.ndarray:
    """What `uniform(...) < share` says."""
    call, share = text.rsplit(" < ", 1)
    return forge_call(call) < float(share)


def heights(text: str) -> np.ndarray:
    """What `floor(depth(...))` says: a whole number a column."""
    assert text.startswith("floor(")
    return np.floor(forge_call(text.removeprefix("floor(").removesuffix(")"))).astype(np.int64)


def forged_occupancy(said: Mapping[str, Any], shape: Sequence[int]) -> np.ndarray:
    """(X, Y, Z) bool: one voxel a column where the surface is hit, and strays."""
    surface, hit = heights(said["surface"]), below(said["hit"])
    occupancy = below(said["stray"])
    x, y = np.nonzero(hit)
    occupancy[x, y, surface[x, y]] = True
    assert occupancy.shape == tuple(shape)
    return occupancy
