"""The page on own recordings: its code runs, and what it writes is what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from wholescene.labels import SEMANTIC_KITTI, UNKNOWN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_recordings.md"


@pytest.fixture
def names(tmp_path, monkeypatch) -> dict:
    """What the page's Python blocks define, run one after the other in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, PAGE.name, "exec"), names)
    return names


def test_a_recording_written_as_the_page_says_is_read_back(names):
    frame = names["frame"]
    assert np.array_equal(frame.targets[1], np.where(names["known"], names["labels"], UNKNOWN))
    car = np.argwhere(names["labels"] == SEMANTIC_KITTI.names.index("car"))
    pixels, depth = frame.main.camera.project(frame.grid.centres()[tuple(car.T)])
    assert (depth > 11).all()
    assert (pixels[:, 0] > 639.5).all()  # to the right, as the comment says
    assert names["report"].ok, names["report"]
    assert [f.text for f in names["report"].findings if f.severity == "warning"] == []


def test_the_page_lists_the_raw_ids_of_the_table():
    listed = dict(
        re.findall(r"([a-z][a-z ]*[a-z]) (\d+)[,.]", PAGE.read_text().split("not classes:")[1].split("`SEMANTIC_KITTI")[0].replace("\n", " "))
    )
    assert {name.strip().replace(" ", "-"): int(raw) for name, raw in listed.items()} == dict(
        zip(SEMANTIC_KITTI.names[1:], SEMANTIC_KITTI.inverse[1:], strict=True)
    )


def test_the_page_states_the_true_sizes(names):
    for suffix, said in re.findall(r"^\| `(\.\w+)` \| ([\d,]+) \|", PAGE.read_text(), re.MULTILINE):
        assert Path(f"my-data/dataset/sequences/drive-a/voxels/000000{suffix}").stat().st_size == int(said.replace(",", ""))
