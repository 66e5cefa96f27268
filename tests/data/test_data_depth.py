"""Depth for frames whose dataset has none: from its right pictures, from folders, kept between epochs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from wholescene.data import open_dataset
from wholescene.data.config import DataConfig
from wholescene.errors import InputError


def config(root: Path, **more: object) -> DataConfig:
    return DataConfig("semantic-kitti", str(root), train="00", val="08", **more)  # type: ignore[arg-type]


def test_stereo_takes_the_right_pictures_of_semantic_kitti_and_its_two_calibrated_cameras(fake_kitti: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    frames = open_dataset(config(fake_kitti, depth="stereo", depth_cache=str(tmp_path / "kept")), "val", {"depth"})
    frame = frames[0]
    assert set(frame.views) == {"main"}
    assert frames.names == ["08/000000"]
    assert frames.revision == "v1.1"  # type: ignore[attr-defined]
    known = frame.depth > 0
    points = frame.main.camera.unproject(frame.depth)
    index, inside = frame.grid.index_of(points)
    filled = frame.targets[1] % 255 > 0
    grown = filled.copy()
    for axis in range(3):
        grown |= np.roll(filled, 1, axis) | np.roll(filled, -1, axis)
    near = inside & (np.linalg.norm(points, axis=1) < 15)
    assert near.sum() > 5000
    assert grown[tuple(index[near].T)].mean() > 0.7  # the drawn street's own voxels, or their neighbours
    assert known.mean() > 0.2
    assert len(list((tmp_path / "kept").rglob("*.npy"))) == 1
    shutil.rmtree(tmp_path / "kept")
    both = open_dataset(config(fake_kitti, depth="stereo"), "val", {"depth", "right"})[0]
    assert set(both.views) == {"main", "right"}
    assert np.array_equal(both.depth, frame.depth)


def test_depth_folders_of_the_published_layout_are_read_in_metres(fake_kitti: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sequences" / "00"
    folder.mkdir(parents=True)
    for name, value in (("000000", 5.0), ("000005", 7.5)):
        np.save(folder / f"{name}.npy", np.full((376, 1241), value, np.float32))
    frames = open_dataset(config(fake_kitti, depth=f"files:{tmp_path}"), "train", {"depth"})
    assert [float(frames[i].depth[3, 4]) for i in range(len(frames))] == [5.0, 7.5]


@pytest.mark.parametrize(
    ("depth", "said"),
    [("", r"set data\.depth to one of: files:.*stereo.*mono"), ("truth", "needs depth of each frame"), ("sterio", "nearest is 'stereo'")],
)
def test_without_a_source_a_sentence_says_which_to_use(fake_kitti: Path, depth: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(config(fake_kitti, depth=depth), "val", {"depth"})
    assert open_dataset(config(fake_kitti, depth=depth), "val")[0].depth is None


def test_a_source_takes_the_place_of_a_datasets_own_depth(tmp_path: Path) -> None:
    pytest.importorskip("embreex")
    street = DataConfig("street", train="3", setting="mini", depth=f"files:{tmp_path}")
    np.save(tmp_path / "3.npy", np.full((96, 304), 4.0, np.float32))
    assert (open_dataset(street, "train", {"depth"})[0].depth == 4.0).all()
    for name in ("", "truth"):
        own = open_dataset(DataConfig("street", train="3", setting="mini", depth=name), "train", {"depth"})[0].depth
        assert len(np.unique(own)) > 1000
    with pytest.raises(InputError, match="needs right of each frame, which nyuv2 does not give"):
        open_dataset(DataConfig("nyuv2", depth="stereo"), "train", {"depth"})


def test_stereo_of_a_street_is_near_its_truth() -> None:
    pytest.importorskip("embreex")
    pytest.importorskip("cv2")
    found, true = (open_dataset(DataConfig("street", train="3", setting="mini", depth=d), "train", {"depth"})[0] for d in ("stereo", "truth"))
    known = (found.depth > 0) & (true.depth > 0) & (true.depth < 50)
    assert set(found.views) == {"main"}
    assert known.mean() > 0.5
    assert np.median(np.abs(found.depth - true.depth)[known] / true.depth[known]) < 0.1
