"""SSCNet's volumes to MonoScene's targets against the released reader: integers and copied floats, all equal."""

from __future__ import annotations

from functools import cache

import forge
import numpy as np
import pytest

from cases import Case, check, find_cases
from wholescene.data.nyuv2 import targets_of
from wholescene.data.nyuv2_volumes import decode

pytestmark = pytest.mark.parity

# README of the case: corner and pose of the two files.
ORIGIN = (-2.13, 0.42, -0.06)
POSE = (0.997656, 0.001611, -0.068406, 0.110000, 0.067234, -0.208841, 0.975636, -0.060000, -0.012714, -0.977948, -0.208460, 1.340000, 0, 0, 0, 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", find_cases(metafunc.config, lambda case: "volume" in case.inputs and "runs" in case.inputs), ids=str)


@cache
def forged_volume(tag: str, shape: tuple[int, int, int]) -> bytes:
    """The file that is not stored: maximal runs of a forged room whose last 100,000 voxels are missing."""
    room = forge.labels(f"{tag} room", shape, 37, block=20, unknown=0, empty=0.45)
    things = forge.labels(f"{tag} things", shape, 37, block=6, unknown=0, empty=0.95)
    seen = forge.labels(f"{tag} seen", shape, 3, block=30, unknown=0, empty=0.5)
    raw = np.where(seen == 2, 255, np.where(things > 0, things, room)).ravel()[:-100_000]
    starts = np.concatenate([[0], np.flatnonzero(raw[1:] != raw[:-1]) + 1])
    runs = np.stack([raw[starts], np.diff(np.append(starts, raw.size))], axis=1)
    return np.array(ORIGIN, "<f4").tobytes() + np.array(POSE, "<f4").tobytes() + runs.astype("<u4").tobytes()


def taps(prefix: str, content: bytes) -> dict[str, np.ndarray]:
    volume = decode(content, prefix)
    targets = targets_of(volume)
    return {
        f"{prefix}.origin": volume.origin, f"{prefix}.pose": volume.pose, f"{prefix}.run_count": np.array(volume.runs),
        f"{prefix}.file_bytes": np.array(len(content)), f"{prefix}.classes_full": volume.labels,
        f"{prefix}.target_1_4": targets[1], f"{prefix}.target_1_16": targets[4],
    }  # fmt: skip


def test_volumes_become_the_released_targets(case: Case) -> None:
    said = case.inputs
    stored = (case.folder / said["runs"]["file"]).read_bytes()
    got = taps("volume", forged_volume(said["tag"], tuple(said["grid"]))) | taps("runs", stored)
    check(forge.compare(case.folder, got, whole=True), {"*": 0})
