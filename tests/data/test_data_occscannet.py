"""Occ-ScanNet: re-rooted records, the named protocols, lists and axes; and broken records, each refused in a sentence."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_indoor import HEIGHT, occ_record, occ_targets, room_depth, write_fake_occscannet
from wholescene.cli import main
from wholescene.data import open_dataset
from wholescene.data.check import check
from wholescene.data.config import DataConfig
from wholescene.data.occscannet import LISTS, PROTOCOLS, OccScanNet, read_list
from wholescene.errors import InputError
from wholescene.training.baselines import EverythingEmpty
from wholescene.training.evaluate import evaluate


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_occscannet(tmp_path_factory.mktemp("occscannet"))


@pytest.fixture
def own(fake: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fake, tmp_path / "own"))


def test_a_record_of_another_disk_gives_picture_camera_depth_and_labels(fake: Path) -> None:
    frame = OccScanNet(fake, "train", depth=True)[1]
    assert frame.name == "scene0001_00/00001"
    assert frame.main.picture.shape == (480, 640, 3)
    assert frame.depth is not None
    assert np.allclose(frame.depth, np.floor(1000 * room_depth()) / 1000, atol=1e-6)
    assert np.allclose(frame.main.camera.position, (1.0, 2.0, HEIGHT))
    # a point 3 m ahead (world x) and 1 m to the left (y): by hand in the recorded picture, then stretched with pixel centres kept
    u, v = 647.0 - 1170 / 3, 483.0
    pixel, depth = frame.main.camera.project(np.array([4.0, 3.0, HEIGHT]))
    assert np.allclose(pixel, ((u + 0.5) * 640 / 1296 - 0.5, (v + 0.5) * 480 / 968 - 0.5))
    assert depth == pytest.approx(3.0)
    assert (frame.targets[1] == occ_targets(1)["target_1_4"]).all()
    assert (frame.targets[4] == occ_targets(1)["target_1_16"]).all()
    index, _ = frame.grid.index_of(np.array([1.5 + 0.08 * 22.5, -0.4 + 0.08 * 12.5, -0.05 + 0.08 * 5.5]))
    assert frame.targets[1][tuple(index)] == 5


def test_the_order_of_the_stored_axes_is_a_named_choice(fake: Path) -> None:
    swapped, stored = OccScanNet(fake, "train")[0], OccScanNet(fake, "train", axes="x-y-z")[0]
    for scale in (1, 4):
        assert (swapped.targets[scale] == stored.targets[scale].transpose(1, 0, 2)).all()
        assert (swapped.targets[scale] != stored.targets[scale]).any()


def test_protocols_differ_in_unknown_voxels_only(fake: Path) -> None:
    known, empty, in_view = (OccScanNet(fake, "val", protocol=protocol)[0] for protocol in PROTOCOLS)
    seen = known.main.camera.sees(known.grid.centres())
    unknown = known.targets[1] == 255
    assert unknown.any()
    assert (empty.targets[1][unknown] == 0).all()
    assert not (empty.targets[4] == 255).any()
    assert (empty.targets[1][~unknown] == known.targets[1][~unknown]).all()
    assert (in_view.targets[1][seen] == known.targets[1][seen]).all()
    assert (in_view.targets[1][~seen] == 255).all()


def test_lists_are_named_and_the_mini_ones_are_the_first_lines_or_files_of_their_own(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"scene{i:04d}_00/{i:05d}" for i in range(3)]
    (own / "train_subscenes.txt").write_text("\n".join(f"/data/gathered_data/{name}.pkl" for name in names))
    assert OccScanNet(own, "train").names == names
    monkeypatch.setitem(LISTS["iso-mini"].first, "train", 2)
    assert OccScanNet(own, "train", lists="iso-mini").names == names[:2]
    assert OccScanNet(own, "train", lists="final-mini").names == ["scene0000_00/00000"]
    assert OccScanNet(own, "test").names == OccScanNet(own, "val").names == ["scene0002_00/00002"]
    assert OccScanNet(own, "train", exclude=names[:1]).names == names[1:]
    with pytest.raises(InputError, match=r"test_final\.txt does not exist"):
        OccScanNet(own, "val", lists="final")
    with pytest.raises(InputError, match="the nearest are 'iso-mini'"):
        OccScanNet(own, "val", lists="isomini")
    with pytest.raises(InputError, match=r"unknown protocol of Occ-ScanNet 'inview'; the nearest is 'in-view'"):
        OccScanNet(own, "val", protocol="inview")
    (own / "train_subscenes.txt").write_text("../../etc/passwd.pkl\n")
    with pytest.raises(InputError, match=r"line 1: .* is no frame"):
        read_list(own / "train_subscenes.txt")
    (own / "train_subscenes.txt").write_bytes(b"gathered_data/scene0000_00/0\0.pkl\n")
    with pytest.raises(InputError, match=r"line 1: .* is no frame"):
        read_list(own / "train_subscenes.txt")


def test_every_choice_is_printed_with_a_result(fake: Path) -> None:
    config = DataConfig(dataset="occscannet", root=str(fake), setting="iso-mini", protocol="unknown-as-empty", axes="x-y-z")
    said = evaluate(EverythingEmpty(), open_dataset(config, "val"), splits=False).provenance
    assert said["protocol"].startswith("unknown-as-empty: every voxel of the grid, unknown ones counted as empty (ISO")
    assert "lists iso-mini" in said["data revision"]
    assert "stored axes x-y-z" in said["data revision"]


def _changed(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda record: {**record, **fields}


class _Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_changed(img=_Runs()), "nothing of it was run"),
        (_changed(target_1_4=np.full((60, 60, 36), 100, np.uint8)), "target_1_4 holds the label 100"),
        (_changed(target_1_4=np.zeros((60, 36, 60), np.uint8)), r"target_1_4 has shape \(60, 36, 60\); expected \(60, 60, 36\)"),
        (_changed(target_1_4=[[1], [1, 2]]), r"target_1_4 has shape \(0,\)"),
        (_changed(target_1_16=np.zeros((15, 15), np.uint8)), r"target_1_16 has shape \(15, 15\)"),
        (_changed(cam_pose=np.full((4, 4), -np.inf)), "camera was lost"),
        (_changed(cam_pose=np.zeros((4, 4))), "no invertible 4x4 matrix"),
        (_changed(cam_pose=[[10**400] * 4] * 4), "not finite numbers"),
        (_changed(voxel_origin=np.full(3, 1e300)), "corner"),
        (_changed(intrinsic=np.eye(2)), r"intrinsic has shape \(2, 2\)"),
        (_changed(voxel_origin=np.zeros(2)), r"voxel_origin \(2,\)"),
        (_changed(img="/x/posed_images/../../../etc/passwd"), "leads out of its folder"),
        (_changed(img="/secret.jpg"), r"posed_images/secret\.jpg does not exist"),
        (_changed(depth_gt="/x/posed_images/s/" + "0" * 300 + ".png"), "leads out of its folder, or names no frame"),
        (_changed(depth_gt="/x/posed_images/" + "s/" * 3000), "leads out of its folder, or names no frame"),
        (_changed(depth_gt="/x/posed_images/s/\ud800.png"), "leads out of its folder, or names no frame"),
        (_changed(img=3), "its img is no path"),
        (lambda record: {k: v for k, v in record.items() if k != "depth_gt"}, "has no depth_gt"),
        (lambda record: [record], "holds a list; expected a record"),
    ],
)
def test_broken_records_are_refused_in_a_sentence(
    own: Path, spoil: Callable[[dict[str, Any]], Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own / "gathered_data/scene0002_00/00002.pkl"
    path.write_bytes(pickle.dumps(spoil(occ_record("scene0002_00", "00002", 2))))
    with pytest.raises(InputError, match=said):
        OccScanNet(own, "val")[0]
    assert main(["data", "check", str(own), "--dataset", "occscannet"]) == 2
    printed = capsys.readouterr().out
    assert "1 error," in printed
    assert not Path("executed").exists()


def test_broken_maps_are_refused_and_named(own: Path) -> None:
    depth = own / "posed_images/scene0002_00/00002.png"
    good = depth.read_bytes()
    depth.write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match=r"00002\.png is not a depth map"):
        OccScanNet(own, "val")[0]
    depth.unlink()
    assert OccScanNet(own, "val")[0].depth_target is None
    with pytest.raises(InputError, match=r"00002\.png does not exist"):
        OccScanNet(own, "val", depth=True)[0]


def test_the_check_tells_the_axes_by_the_depth_maps_and_counts_beside_the_published(fake: Path) -> None:
    report = check(fake, "occscannet")
    printed = str(report)
    assert report.ok, printed
    assert "train_subscenes.txt has 2 of 45,755" in printed
    assert "note: the depth maps fit stored axes y-x-z and not x-y-z" in printed


def test_the_check_says_so_where_the_stored_axes_are_not_swapped(own: Path) -> None:
    for path in (own / "gathered_data").rglob("*.pkl"):
        record = pickle.loads(path.read_bytes())  # noqa: S301  written a moment ago
        for name in ("target_1_4", "target_1_16"):
            record[name] = np.ascontiguousarray(record[name].transpose(1, 0, 2))
        path.write_bytes(pickle.dumps(record))
    assert "warning: the depth maps fit stored axes x-y-z and not y-x-z; set axes to x-y-z" in str(check(own, "occscannet"))
