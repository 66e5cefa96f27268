"""Where `predict` takes depth from: a pair of pictures with a baseline or with both cameras, a folder; and what it says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .commanding import DepthReader, Run, says

WIDTH, HEIGHT, DISPARITY = 320, 96, 12
LENS = "250,250,159.5,47.5"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> tuple[Path, Path]:
    """A wall of noise, twelve pixels farther left in the right picture."""
    pytest.importorskip("cv2")
    monkeypatch.setattr("wholescene.weights.load", lambda *_: DepthReader())
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH + DISPARITY, 3), dtype=np.uint8)
    paths = tmp_path / "left.png", tmp_path / "right.png"
    for path, start in zip(paths, (0, DISPARITY), strict=True):
        Image.fromarray(noise[:, start : start + WIDTH]).save(path)
    return paths


def test_a_baseline_makes_depth_of_a_pair(run: Run, pair: tuple[Path, Path]) -> None:
    left, right = pair
    ran = run("predict", left, "--camera", LENS, "--right", right, "--baseline", 0.48, "--depth-source", "stereo")
    assert ran.code == 0, ran.err
    assert "by stereo: median 10.00 m" in ran.out  # 250 px x 0.48 m / 12 px
    scene = np.load("scenes/left/scene.npz", allow_pickle=False)
    assert scene["labels"].any()


def test_the_right_camera_of_a_calibration_does_the_same_wherever_the_left_one_is_put(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    left, right = pair
    K = "250 0 159.5 {} 0 250 47.5 0 0 0 1 0"
    (tmp_path / "calib.txt").write_text(f"P2: {K.format(45.0)}\nP3: {K.format(45.0 - 250 * 0.48)}\nTr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n")
    cameras = (
        "--camera",
        f"{tmp_path / 'calib.txt'}:P2",
        "--right",
        right,
        "--right-camera",
        f"{tmp_path / 'calib.txt'}:P3",
        "--depth-source",
        "stereo",
    )
    for placed in ((), ("--height", 1.5, "--pitch", 4)):
        ran = run("predict", left, *cameras, *placed)
        assert ran.code == 0, ran.err
        assert "by stereo: median 10.00 m" in ran.out


def test_a_folder_of_depth_is_found_by_the_pictures_name(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "left.npy", np.full((HEIGHT, WIDTH), 7.0))
    ran = run("predict", pair[0], "--camera", LENS, "--depth-source", f"files:{tmp_path}")
    assert ran.code == 0, ran.err
    assert "median 7.00 m" in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["depth-reader needs depth", "--depth FILE", "--depth-source", "stereo", "mono:WEIGHTS"]),
        (["--depth-source", "sterio"], ["nearest", "'stereo'"]),
        (["--depth-source", "stereo"], ["no right picture", "--right"]),
        (["--depth-source", "stereo", "--right", "RIGHT"], ["no baseline", "--baseline"]),
        (["--depth-source", "stereo", "--right", "RIGHT", "--baseline", "-1"], ["baseline of -1 m"]),
        (["--depth-source", "stereo", "--right", "RIGHT", "--baseline", "1", "--right-camera", "kitti"], ["--baseline 1 and --right-camera kitti"]),
        (["--depth-source", "stereo", "--baseline", "1"], ["no --right PICTURE"]),
        (["--depth-source", "stereo", "--right", "RIGHT", "--right-camera", "kity"], ["nearest", "'kitti'"]),
        (["--depth-source", "stereo", "--depth", "d.npy"], ["--depth d.npy and --depth-source stereo"]),
        (["--depth-source", "files:nowhere"], ["nowhere"]),
        (["--depth-source", "truth"], ["no depth of its own"]),
        (["--depth-source", "mono:nowhere/at-all", "--right", "RIGHT"], ["leave --right out"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else "",
)
def test_what_no_source_can_use_is_said_in_one_sentence(run: Run, pair: tuple[Path, Path], words: list[str], said: list[str]) -> None:
    left, right = pair
    says(run("predict", left, "--camera", LENS, *(right if w == "RIGHT" else w for w in words)).sentence, *said)
    assert not Path("scenes").exists()


def test_evaluate_takes_depth_where_it_is_told_and_says_where(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("embreex")
    monkeypatch.setattr("wholescene.weights.load", lambda *_: DepthReader())
    np.save(tmp_path / "1000000.npy", np.full((HEIGHT, 304), 9.0))
    for words, said in ((("--depth-source", f"files:{tmp_path}"), f"files:{tmp_path}"), ((), "the dataset's own")):
        ran = run("evaluate", "monoscene-street-tiny", "--weights", "w", "--limit", 1, *words)
        assert ran.code == 0, ran.err
        assert said in ran.out
    says(
        run("evaluate", "monoscene-semantic-kitti", "--weights", "w", "--root", tmp_path, "--depth-source", "sterio").sentence, "nearest", "'stereo'"
    )


def test_a_map_of_millimetres_that_is_read_as_metres_is_completed_with_a_note(
    run: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    monkeypatch.setattr("wholescene.weights.load", lambda *_: DepthReader())
    np.save(tmp_path / "d.npy", np.full((96, 320), 2100.0))
    ran = run("predict", picture, "--depth", tmp_path / "d.npy")
    assert ran.code == 0, ran.err
    assert "as mm 2.10 m" in ran.out
    assert "as mm" not in run("predict", picture, "--depth", tmp_path / "d.npy", "--depth-unit", "mm").out
