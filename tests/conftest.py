"""Shared by all tests: where the research data lie, and tests that need them skipped by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

if not Path("/dev/nvidiactl").exists():  # no GPU: Triton's kernels run in its interpreter, which counts only from before its first import
    os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("shared machine", deadline=None)  # a test that waits for a core is no failure
settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parents[1]
CASES = Path(__file__).resolve().parent / "cases"


def research_data(part: str) -> Path:
    """A folder of the research samples, which are under terms that keep them out of the repository; skips the test where it is missing."""
    root = Path(os.environ.get("WHOLESCENE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (root / part).exists():
        pytest.skip(f"research data {part!r} is not here (set WHOLESCENE_TEST_DATA)")
    return root / part


@pytest.fixture
def cases() -> Path:
    """Inputs that people really have."""
    return CASES


@pytest.fixture
def semantic_kitti_mini() -> Path:
    """A miniature SemanticKITTI in its published layout."""
    return research_data("semantickitti_mini/dataset")


@pytest.fixture
def real_pictures() -> Path:
    """Real pictures with cameras.json."""
    return research_data("images")


@pytest.fixture
def lmscnet_weights() -> Path:
    """Weights that LMSCNet's authors trained, and a recorded prediction."""
    return research_data("weights_lmscnet")
