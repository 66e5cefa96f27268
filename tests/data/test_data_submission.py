"""The submission zip: what is written, and everything that the server would refuse."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from wholescene.data.layout import SPLITS
from wholescene.data.submission import check_submission, write_submission
from wholescene.data.volumes import SHAPE
from wholescene.errors import InputError
from wholescene.labels import SEMANTIC_KITTI

FRAME = "sequences/11/predictions/000000.label"


def prediction() -> np.ndarray:
    """Every class somewhere, the last at the last voxel."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 4, :20] = np.arange(20)
    labels[255, 255, 31] = 19
    return labels


def folders(sequences=SPLITS["test"]) -> dict[str, bytes]:
    return {"sequences/": b"", **{f"sequences/{s}/{sub}": b"" for s in sequences for sub in ("", "predictions/")}}


def zipped(path, entries: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def errors(path, root=None):
    return [f.line() for f in check_submission(path, root).findings if f.severity == "error"]


def test_the_zip_holds_folders_and_raw_ids_and_nothing_else(tmp_path, fake_kitti):
    path = tmp_path / "submission.zip"
    assert write_submission(path, [("11", "000000", prediction())]) == 1
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted([*folders(), FRAME])
        raw = np.frombuffer(archive.read(FRAME), "<u2")
    assert raw.size == 2_097_152
    assert raw[3 * 8192 + 4 * 32 :][:20].tolist() == list(SEMANTIC_KITTI.inverse)
    assert raw[-1] == 81
    assert errors(path, fake_kitti) == []
    again = tmp_path / "again.zip"
    write_submission(again, [("11", "000000", prediction())])
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([("08", "000000", np.zeros(SHAPE, np.uint8))], "sequence '08' is not one of 11"),
        ([("11", "../../0", np.zeros(SHAPE, np.uint8))], "is not six digits"),
        ([("11", "000000", np.zeros((60, 36, 60), np.uint8))], r"shape \(60, 36, 60\); expected \(256, 256, 32\)"),
        ([("11", "000000", np.full(SHAPE, 255, np.uint8))], r"labels must lie in 0\.\.19"),
        ([("11", "000000", np.zeros(SHAPE, np.uint8))] * 2, "predicted twice"),
    ],
)
def test_what_cannot_be_submitted_leaves_no_file(tmp_path, wrong, said):
    with pytest.raises(InputError, match=said):
        write_submission(tmp_path / "s.zip", wrong)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_extra_predictions_are_named(tmp_path, fake_kitti):
    path = tmp_path / "s.zip"
    write_submission(path, [("11", "000005", prediction()), ("12", "000000", prediction())])
    found = errors(path, fake_kitti)
    assert found[0] == "error: predictions are missing: 11/000000"
    assert found[1].startswith("error: predictions of frames that are not asked for (2): 11/000005, 12/000000")


GOOD = bytes(4_194_304)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({FRAME: GOOD}, r"directory entries are missing .*\(23\): sequences/, sequences/11/"),
        ({**folders(), "sequences/11/predicitons/000000.label": GOOD}, "the folder is called predictions, not predicitons"),
        ({**folders(), "mine/" + FRAME: GOOD}, "a folder above sequences/"),
        ({**folders(), "sequences/11/predictions/5.label": GOOD}, "with six digits"),
        ({**folders(), FRAME: GOOD, "notes.txt": b"x"}, "entries that are not wanted: 'notes.txt'"),
        ({**folders(), FRAME: GOOD[:-2]}, r"have not 4,194,304 bytes .*000000\.label 4,194,302"),
        ({**folders(), FRAME: (b"\x34\x00" + GOOD)[:-2]}, r"raw id 52 is not one of the twenty .*000000\.label 1 voxels"),
        ({**folders(), FRAME: GOOD, "../evil": b"x"}, r"would leave their folder when extracted: '\.\./evil'"),
        ({**folders(), FRAME: GOOD, "sequences\\11\\x": b"x"}, "would leave their folder"),
        ({**folders(), FRAME: GOOD, "/etc/x": b"x"}, "would leave their folder"),
        ({**folders(), "sequences/08/predictions/000000.label": GOOD}, r"sequences that are not asked for \(expected 11\.\.21\)"),
        (folders(), "there is no prediction"),
    ],
)
def test_every_reason_to_be_refused_is_found(tmp_path, entries, said):
    import re

    found = errors(zipped(tmp_path / "s.zip", entries))
    assert any(re.search(said, line) for line in found), found


def test_a_zip_that_lies_about_a_size_or_is_damaged_is_found(tmp_path):
    path = zipped(tmp_path / "s.zip", {**folders(), FRAME: GOOD})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(FRAME)
    content[entry.header_offset + 30 + len(FRAME) + 200] ^= 0xFF
    path.write_bytes(content)
    assert any("entries that cannot be read" in line for line in errors(path))
    short = io.BytesIO()
    with zipfile.ZipFile(short, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in folders():
            archive.writestr(name, b"")
        archive.writestr(FRAME, bytes(100))
        archive.getinfo(FRAME).file_size = len(GOOD)
    path.write_bytes(short.getvalue())
    assert any("have not 4,194,304 bytes" in line or "cannot be read" in line for line in errors(path))


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "s.zip").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="is not a zip"):
        check_submission(tmp_path / "s.zip")


def test_a_duplicate_entry_is_found(tmp_path):
    path = zipped(tmp_path / "s.zip", {**folders(), FRAME: GOOD})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(FRAME, GOOD)
    assert f"error: entries that are there twice: {FRAME}" in errors(path)
