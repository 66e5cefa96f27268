"""The check names what is wrong: one spoilt tree a test, and a whole one that gets no error."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from wholescene.data.check import check
from wholescene.data.volumes import pack_mask, read_mask, unshift
from wholescene.errors import InputError


def findings(report, severity):
    return [f.line() for f in report.findings if f.severity == severity]


def only_error(report):
    errors = findings(report, "error")
    assert len(errors) == 1, errors
    assert not report.ok
    return errors[0]


def cells(report, table):
    return next(t for t in report.tables if t.title.startswith(table)).rows


def test_a_whole_tree_has_no_error_and_its_counts_beside_the_published(fake_kitti):
    report = check(fake_kitti)
    assert report.ok
    assert report.unusable == ()
    assert cells(report, "Frames")[0] == ("00", "train", "2", "909", "yes", "10", "4,541")
    assert cells(report, "Frames")[2] == ("11", "test", "1", "185", "no", "5", "921")
    assert cells(report, "Cameras")[1][:6] == ("08", "1226x370", "707.0912", "601.8873", "183.1104", "46.8878")
    warned = " ".join(findings(report, "warning"))
    assert "00 has 2 of 909" in warned
    assert "split train that are not there" in warned
    text = str(report)
    assert text.endswith(": usable")
    assert "revision v1.1 (3): 00, 08, 11" in text


def test_class_shares_are_those_of_the_known_voxels(fake_kitti):
    from wholescene.data.semantic_kitti import SemanticKITTI

    rows = {row[0]: row for row in cells(check(fake_kitti, sequences=("00",)), "Voxels of 2 frames")}
    labels = np.stack([SemanticKITTI(fake_kitti, sequences=("00",))[i].targets[1] for i in range(2)])
    roads, known = int((labels == 9).sum()), int((labels != 255).sum())
    assert rows["road"][1:3] == (f"{roads:,}", f"{roads / known:.4%}")
    assert rows["road"][3] == f"{61688703 / 5.820817281e9:.4%}"
    assert rows["unknown, of all"][2] == f"{(labels == 255).mean():.1%}"


def test_missing_files_are_named_with_their_archives(own_copy):
    sequence = own_copy / "dataset/sequences/00"
    for name in ("image_2/000005.png", "voxels/000000.invalid", "voxels/000005.label"):
        (sequence / name).unlink()
    report = check(own_copy, sequences=("00",))
    errors = findings(report, "error")
    assert [re.search(r"(image_2|invalid|label)\S* are missing", e)[1] for e in errors] == ["invalid", "image_2", "label"]
    assert "data_odometry_color.zip" in errors[1]
    assert errors[1].endswith("00/000005")
    assert set(report.unusable) == {"00/000000", "00/000005"}


def test_broken_files_are_named(own_copy):
    sequence = own_copy / "dataset/sequences/08"
    picture = sequence / "image_2/000000.png"
    picture.write_bytes(picture.read_bytes()[:2000])
    (sequence / "voxels/000000.label").write_bytes(bytes(12))
    errors = findings(check(own_copy, sequences=("08",)), "error")
    assert any("image_2/000000.png" in e for e in errors)
    assert any("000000.label: 12 bytes, expected 4,194,304" in e for e in errors)


@pytest.mark.parametrize(
    ("tree", "severity", "said"),
    [
        ("D04_unpacked_invalid", "note", r"\.invalid holds one byte a voxel .*00/000000"),
        ("D05_label_as_bits", "error", r"000000\.invalid: 4,194,304 bytes, expected 262,144"),
        ("D06_point_labels", "error", r"509,620 bytes, expected 4,194,304 .*looks like point labels"),
        ("D08_unlisted_id", "warning", r"raw id 192 is not in the table; such voxels are unknown \(255\): 00/000000 voxel \(0, 0, 0\), 1 in all"),
        ("D09_all_unknown", "warning", r"nothing is known in these frames.*: 00/000000"),
    ],
)
def test_the_trees_that_people_have_are_named(volume_trees, add_cameras, tree, severity, said):
    report = check(add_cameras(volume_trees / tree))
    assert any(re.search(said, line) for line in findings(report, severity)), str(report)
    assert report.ok == (severity != "error")
    assert (report.unusable == ("00/000000",)) == (tree in ("D05_label_as_bits", "D06_point_labels", "D09_all_unknown"))


@pytest.mark.parametrize("tree", ["D01_root_without_dataset", "D01b_root_with_dataset"])
def test_a_root_at_either_level_is_found_and_one_off_is_told(volume_trees, add_cameras, tree):
    assert check(add_cameras(volume_trees / tree)).ok
    with pytest.raises(InputError, match="nearest folder that holds volumes"):
        check(volume_trees)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: ~m, "the mask is inverted"),
        (lambda m: np.concatenate([[False], m.ravel()[:-1]]).reshape(m.shape), "the mask is shifted by one voxel"),
        (
            lambda m: np.unpackbits(np.packbits(m.ravel(), bitorder="little")).astype(bool).reshape(m.shape),
            "the bits of each byte are in the wrong order",
        ),
    ],
)
def test_masks_that_contradict_the_labels_are_explained(own_copy, spoil, said):
    path = own_copy / "dataset/sequences/08/voxels/000000.invalid"
    path.write_bytes(pack_mask(spoil(read_mask(path))))
    errors = [e for e in findings(check(own_copy, sequences=("08",)), "error") if "labelled voxels are marked unknown" in e]
    assert len(errors) == 1
    assert said in errors[0]
    assert "08/000000" in errors[0]


def test_labels_and_occupancy_of_two_releases_are_noticed(own_copy):
    path = own_copy / "dataset/sequences/08/voxels/000000.label"
    raw = np.fromfile(path, "<u2")
    np.concatenate([[0], raw[:-1]]).astype("<u2").tofile(path)
    assert any(".label is one voxel higher than .bin" in e for e in findings(check(own_copy, sequences=("08",)), "error"))


def test_the_first_release_and_mixtures_are_errors(own_copy):
    voxels = own_copy / "dataset/sequences/00/voxels"
    for name in ("000005.invalid", "000005.bin"):
        flat = read_mask(voxels / name).ravel()
        (voxels / name).write_bytes(pack_mask(np.concatenate([[False], flat[:-1]]).reshape(256, 256, 32)))
        assert np.array_equal(unshift(read_mask(voxels / name)).ravel()[:-1], flat[:-1])
    assert any("both revisions are mixed" in e for e in findings(check(own_copy, sequences=("00",)), "error"))


def test_the_real_first_release_is_named_and_the_sample_is_not(semantic_kitti_mini):
    old = check(semantic_kitti_mini.parent / "released_v1.0")
    assert any("first release, v1.0" in e for e in findings(old, "error"))
    now = check(semantic_kitti_mini)
    assert now.ok, str(now)
    assert [row[2] for row in cells(now, "Frames")] == ["1", "1", "1", "2"]
    assert 0.42 < float(cells(now, "Voxels of 5 frames")[-1][2].rstrip("%")) / 100 < 0.45


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: "".join(line + "\n" for line in text.splitlines() if not line.startswith("Tr")), "has no row Tr"),
        (lambda text: text.replace("7.070912", "7.188560"), "published 707.091, 601.887, 183.11; calib.txt of another sequence"),
        (lambda text: text.split("Tr:")[0] + "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n", "0% of the grid is in view|of the grid is in view"),
    ],
)
def test_calibrations_that_would_lift_from_the_wrong_place_are_named(own_copy, edit, said):
    path = own_copy / "dataset/sequences/08/calib.txt"
    path.write_text(edit(path.read_text()))
    report = check(own_copy, sequences=("08",))
    assert any(re.search(said, line) for line in findings(report, "error") + findings(report, "warning")), str(report)


def test_a_resized_copy_of_the_pictures_is_noticed(own_copy):
    for path in (own_copy / "dataset/sequences/00/image_2").iterdir():
        Image.open(path).resize((620, 188)).save(path)
    warned = findings(check(own_copy, sequences=("00",)), "warning")
    assert any("pictures of 620x188, published 1241x376" in w for w in warned)
    assert any("does not fit pictures of 620x188" in w for w in warned)


def test_classes_in_place_of_raw_ids_and_255_for_unknown_are_noticed(own_copy):
    path = own_copy / "dataset/sequences/08/voxels/000000.label"
    raw = np.fromfile(path, "<u2")
    np.where(raw == 40, 9, np.where(raw > 0, 1, 0)).astype("<u2").tofile(path)
    assert any("look like classes 0..19; raw ids are expected" in e for e in findings(check(own_copy, sequences=("08",)), "error"))
    raw[np.flatnonzero(raw)[:1000]] = 255  # one voxel in thirty of the labelled, one in two thousand of all
    raw.tofile(path)
    assert any("raw id 255 fills" in w for w in findings(check(own_copy, sequences=("08",)), "warning"))


def test_only_some_frames_can_be_opened(own_copy):
    seen = []
    report = check(own_copy, sequences=("00",), most_frames=1, progress=lambda *step: seen.append(step))
    assert seen == [("00", 1, 1)]
    assert "at most 1 frames" in report.title
    with pytest.raises(InputError, match="unknown dataset to check 'nyu'"):
        check(own_copy, "nyu")
