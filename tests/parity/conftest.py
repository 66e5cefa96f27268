"""The option `--cases`: where the parity cases lie, so that the same tests also judge cases this repository does not carry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# `forge` and `cases` are plain modules beside the tests; no import mode of pytest puts this folder on the path for certain.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        action="append",
        metavar="FOLDER",
        help="a parity case (a folder with case.json and expected.npz) or a folder of such; may be repeated; default: the cases beside the tests",
    )
