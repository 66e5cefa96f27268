"""Datasets by name, from plain configs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from wholescene.configuring import from_plain, to_plain
from wholescene.data import DATASETS, open_dataset
from wholescene.data.config import DataConfig, parse_names, parse_seeds
from wholescene.errors import InputError


def test_roles_open_splits_or_sequences_with_what_is_needed(fake_kitti):
    config = DataConfig(root=str(fake_kitti), val="00,08", scales=(8,), exclude=("00/000000",))
    assert open_dataset(config, "train").names == ["00/000005"]
    frame = open_dataset(config, "val", needs={"occupancy"}, wishes={"depth"})[1]
    assert frame.name == "08/000000"
    assert frame.occupancy is not None
    assert frame.points is None
    assert sorted(frame.views) == ["main"]
    assert sorted(frame.targets) == [1, 8]
    assert open_dataset(config, "test", needs={"right"})[0].views["right"].picture.shape == (370, 1226, 3)


def test_unknown_names_and_missing_roots_are_refused():
    with pytest.raises(InputError, match="unknown dataset 'semantic-kiti'; the nearest is 'semantic-kitti'"):
        open_dataset(DataConfig(dataset="semantic-kiti"), "train")
    with pytest.raises(InputError, match="no folder is given for semantic-kitti"):
        open_dataset(DataConfig(), "train")
    with pytest.raises(InputError, match="unknown role 'dev'"):
        open_dataset(DataConfig(), "dev")


def test_configs_survive_plain_types_and_refuse_numbers_for_sequences():
    config = DataConfig(root="x", train="00,01", scales=(1, 8))
    assert from_plain(DataConfig, to_plain(config)) == config
    with pytest.raises(InputError, match=r"data\.val is 8 \(int\); expected text"):
        from_plain(DataConfig, {"val": 8}, "data")


def test_names_and_seeds_are_parsed_as_text():
    assert parse_names("07, 08 010") == ("07", "08", "010")
    assert parse_seeds("7,10..12") == (7, 10, 11, 12)
    for wrong in ("", "a", "5..", "9..3", "-1", "0..99999999999", "1..2..3"):
        with pytest.raises(InputError, match="seed"):
            parse_seeds(wrong)


def test_listing_reading_and_checking_need_no_torch():
    code = (
        "import sys, wholescene.data, wholescene.data.config, wholescene.data.semantic_kitti, wholescene.data.check, wholescene.data.submission,"
        "wholescene.data.nyuv2, wholescene.data.occscannet, wholescene.data.check_indoor;"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr == ""


def test_frames_of_two_cameras_make_one_batch(fake_kitti):
    from wholescene.data.collate import collate

    batch = collate([open_dataset(DataConfig(root=str(fake_kitti), train="00,08"), "train")[i] for i in (0, 2)])
    assert batch.names == ("00/000000", "08/000000")
    assert tuple(batch.pictures["main"].shape) == (2, 3, 376, 1241)
    assert not batch.pictures["main"][1, :, 370:].any()
    assert [c.size for c in batch.cameras["main"]] == [(1241, 376), (1226, 370)]
    assert tuple(batch.targets[1].shape) == (2, 256, 256, 32)


def test_every_dataset_of_the_table_says_what_it_is():
    assert set(DATASETS) >= {"semantic-kitti", "nyuv2", "occscannet", "street"}
    assert all(row.summary for row in DATASETS.values())


def test_streets_open_by_seed():
    pytest.importorskip("embreex")
    dataset = open_dataset(DataConfig(dataset="street", setting="mini", train="0..1"), "train")
    assert dataset.names == ["street/0", "street/1"]
    frame = dataset[1]
    assert frame.name == "street/1"
    assert frame.targets[1].shape == frame.grid.shape == (64, 64, 16)
    assert np.isin(frame.targets[1], [*range(20), 255]).all()
    with pytest.raises(InputError, match="setting"):
        open_dataset(DataConfig(dataset="street", setting="tiny", train="0"), "train")
