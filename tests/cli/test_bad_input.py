"""What people and attackers hand in: one sentence, exit code 2, nothing half-written, nothing executed, no hang.

The `run` fixture checks every command for tracebacks and half-written files; `Ran.sentence` for the exit code and the single line.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .commanding import DepthReader, Echo, Run, says

as_root = os.geteuid() == 0 if hasattr(os, "geteuid") else False


# ---- options ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fov", "0"], ["field of view", "1 and 179"]),
        (["--fov", "180"], ["field of view", "1 and 179"]),
        (["--fov", "nan"], ["field of view", "1 and 179"]),
        (["--fov", "wide"], ["--fov", "wide"]),
        (["--fov"], ["--fov"]),
        (["--height", "-1.5"], ["height", "-1.5", "0 and 100"]),
        (["--height", "nan"], ["height", "nan"]),
        (["--height", "inf"], ["height", "inf"]),
        (["--pitch", "90"], ["pitch", "-89 and 89"]),
        (["--camera", "kiti"], ["kiti", "nearest", "'kitti'"]),
        (["--camera", "1,2,3"], ["3 numbers", "fx,fy,cx,cy"]),
        (["--camera", "nan,1,1,1"], ["four finite"]),
        (["--camera", "0,0,10,10"], ["focal length"]),
        (["--camera=-700,700,10,10"], ["focal length"]),
        (["--camera", "none/calib.txt"], ["none/calib.txt", "does not exist"]),
        (["--camera", "kitti", "--fov", "60"], ["--camera", "--fov", "one of them"]),
        (["--grid", "256x256"], ["--grid", "256x256x32@0.2"]),
        (["--grid", "0x256x32@0.2"], ["grid shape", "positive"]),
        (["--grid", "256x256x32@0"], ["voxel size", "positive"]),
        (["--grid", "9999999x9999999x9999999@0.2"], ["grid shape", "at most"]),
        (["--grid", "256x256x32@0.2:0,9000,0"], ["no voxel of the grid is in view"]),
        (["--fvo", "60"], ["--fvo", "--fov"]),
        (["--out", "drawn.gif"], ["drawn.gif", ".png"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else "",
)
def test_options_out_of_range(run: Run, picture: Path, words: list[str], said: list[str]) -> None:
    says(run("overlay", picture, *words).sentence, *said)
    assert not Path("photo-overlay.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda:9"], ["cuda:9", "cpu", "--device"]),
        (["--device", "toaster"], ["toaster", "cpu"]),
        (["--precision", "float8"], ["float8", "float32", "bf16"]),
        (["--steps=-1"], ["--steps", "coarse answer"]),
        (["--steps", "100000"], ["--steps 100000", "from 0 (the coarse answer) to 100", "try 3 to 5"]),
        (["--steps", "3"], ["monoscene", "does not refine"]),
        (["--depth-unit", "mm"], ["--depth-unit", "--depth FILE"]),
        (["--points", "x.bin"], ["monoscene", "leave --points out"]),
        (["--depth", "x.npy"], ["monoscene", "leave --depth out"]),
        (["--grid", "64x64x16@0.8"], ["grid of (32, 32, 16)", "found (64, 64, 16)"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else "",
)
def test_options_that_do_not_fit_the_weights(run: Run, picture: Path, tiny_weights: Path, words: list[str], said: list[str]) -> None:
    says(run("predict", picture, "--weights", tiny_weights, *words).sentence, *said)
    assert not Path("scenes").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict"], ["pictures"]),
        (["predic", "x.jpg"], ["predic", "predict"]),
        (["info", "monoscen"], ["monoscen", "nearest", "'monoscene'"]),
        (["info", "monoscene", "--size", "huge"], ["huge", "tiny"]),
        (["weights", "monoscene-street"], ["nearest", "monoscene-street-small"]),
        (["train"], ["recipe", "--list"]),
        (["train", "monoscene-street-tyni"], ["nearest", "monoscene-street-tiny"]),
        (["train", "monoscene-street-tiny", "--optimser.lr", "1"], ["optimser", "nearest", "'optimiser'"]),
        (["train", "monoscene-street-tiny", "--optimiser.lr", "fast"], ["optimiser.lr", "fast", "number"]),
        (["train", "monoscene-street-tiny", "--optimiser.lr", "-1"], ["lr -1", "positive"]),
        (["train", "monoscene-street-tiny", "--batch_size", "0"], ["batch_size"]),
        (["train", "monoscene-street-tiny", "--seed", "{"], ["--seed"]),
        (["train", "monoscene-street-tiny", "--resume", "nowhere"], ["nowhere", "does not exist"]),
        (["train", "--resume", "."], ["name the recipe", "recipe.yaml"]),
        (["train"], ["which recipe?"]),
        (["evaluate", "monoscene-semantic-kitti", "--weights", "w", "--root", "nowhere"], ["nowhere", "not a folder"]),
        (["evaluate", "monoscene-street-tiny", "--weights", "w", "--limit", "0"], ["--limit", "positive"]),
        (["evaluate", "monoscene-street-tiny"], ["--weights"]),
        (["submit", "monoscene-street-tiny", "--weights", "w", "--out", "o.zip"], ["street", "no server"]),
        (["convert", "a", "b"], ["--system"]),
        (["convert", "a", "b", "--system", "monoscen"], ["nearest", "'monoscene'"]),
        (["convert", "missing.ckpt", "b", "--system", "monoscene"], ["missing.ckpt"]),
        (["data", "check", "nowhere"], ["nowhere"]),
        (["data", "check", ".", "--dataset", "kiti"], ["kiti", "semantic-kitti"]),
        (["demo", "--seed", "-1"], ["-1", "0"]),
        (["view", "nowhere.npz", "--no-open"], ["nowhere.npz", "does not exist"]),
        (["study", "nowhere.yaml"], ["nowhere.yaml"]),
        (["evaluate", "monoscene-street-tiny", "--weights", "w", "--out", "/dev/null/x.json"], ["/dev/null", "no folder"]),
        (["evaluate", "monoscene-street-tiny", "--weights", "w", "--out", "/dev"], ["/dev", "is a folder"]),
        (["study", "rooms", "--costs", "--json", "/dev/null/x.json"], ["/dev/null", "no folder"]),
        (["train", "monoscene-street-tiny", "--system.fields.features", "0"], ["features is 0", "at least 1"]),
        (["predict", __file__, "--out", "/dev/null"], ["/dev/null", "no folder"]),
        (["train", "monoscene-street-tiny", "--system.fields.head_width", "-1"], ["head_width is -1", "at least 0"]),
        (["train", "ga-monossc-room-mini", "--system.fields.decoder_widths", "[16, 16, -16, 16]"], ["decoder_widths", "numbers of at least 0"]),
        (["train", "iso-room-mini", "--system.fields.depth_range_m", "0"], ["depth_range_m 0", "positive"]),
        (["train", "monoscene-street-tiny", "--system.fields.head_width", "0"], ["half_3d.head", "widths of at least 1"]),
        (["train", "monoscene-street-tiny", "--system.fields.features", "4000000000"], ["not enough memory"]),
        (["data", "check", "/dev/null"], ["/dev/null", "is a file"]),
    ],
    ids=lambda value: " ".join(value) if len(value) > 1 else "",
)
def test_commands_that_cannot_start(run: Run, words: list[str], said: list[str]) -> None:
    says(run(*words).sentence, *said)
    assert not list(Path().iterdir()), "nothing was written"


# ---- pictures --------------------------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one row of nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


PICTURES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing.png": (lambda path: None, ["does not exist"]),
    "empty.png": (lambda path: path.write_bytes(b""), ["empty"]),
    "words.jpg": (lambda path: path.write_text("a picture"), ["not a picture"]),
    "page.jpg": (lambda path: path.write_text("<!DOCTYPE html><html>"), ["web page"]),
    "phone.heic": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40), ["HEIC", "JPEG"]),
    "wide.png": (lambda path: path.write_bytes(png_header(70_000, 10)), ["too large", "70,000"]),
    "bomb.png": (lambda path: path.write_bytes(png_header(60_000, 60_000)), ["too large"]),
    "short.png": (lambda path: path.write_bytes(png_header(640, 480)), ["damaged or cut short"]),
    "float.tif": (lambda path: Image.fromarray(np.ones((8, 8), np.float32)).save(path), ["floating-point"]),
    "script.eps": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), ["not a picture"]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_are_none(run: Run, tmp_path: Path, tiny_weights: Path, name: str) -> None:
    make, said = PICTURES[name]
    make(tmp_path / name)
    says(run("predict", tmp_path / name, "--weights", tiny_weights).sentence, name, *said)
    assert not Path("scenes").exists()


def test_a_picture_of_one_pixel_is_predicted_or_refused_in_a_sentence(run: Run, tmp_path: Path, tiny_weights: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    ran = run("predict", tmp_path / "dot.png", "--weights", tiny_weights)
    assert ran.code in (0, 2)
    assert ran.code == 0 or "dot" in ran.sentence


def test_a_bad_camera_is_told_once_for_a_whole_folder(run: Run, cases: Path, tiny_weights: Path) -> None:
    says(run("predict", cases / "B09_folder", "--weights", tiny_weights, "--camera", cases / "A16_negative_K.json").sentence, "negative")


def test_a_name_that_is_no_text(run: Run, tmp_path: Path, picture: Path, tiny_weights: Path, undrawn: None) -> None:
    """On Linux a file name is bytes; these are not UTF-8."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/ph\xffto.png")
    Path(odd).write_bytes(picture.read_bytes())
    ran = run("predict", odd, "--weights", tiny_weights)
    assert ran.code == 0, ran.err
    assert len(list(Path("scenes").glob("ph*to/scene.html"))) == 1
    (tmp_path / "cut").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/cut/\xff.png")).write_bytes(b"no picture")
    assert run("predict", tmp_path / "cut", "--weights", tiny_weights).code == 2


def test_a_folder_without_a_picture(run: Run, tmp_path: Path, tiny_weights: Path) -> None:
    (tmp_path / "empty").mkdir()
    says(run("predict", tmp_path / "empty", "--weights", tiny_weights).sentence, "empty", "no picture")


def test_one_right_picture_for_many_left_ones(run: Run, tmp_path: Path, picture: Path, tiny_weights: Path) -> None:
    Image.open(picture).save(tmp_path / "b.png")
    says(run("predict", picture, tmp_path / "b.png", "--right", picture, "--weights", tiny_weights).sentence, "--right", "one picture", "2")


@pytest.mark.skipif(as_root, reason="root can read everything")
def test_a_picture_that_may_not_be_read(run: Run, picture: Path) -> None:
    picture.chmod(0)
    says(run("overlay", picture).sentence, "photo.png", "permission denied")


# ---- cameras ---------------------------------------------------------------------------------------------------------------------


def ros(K: object, width: int = 320, height: int = 96) -> str:
    return json.dumps({"K": K, "width": width, "height": height})


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))

CAMERAS: dict[str, tuple[bytes, list[str]]] = {
    "singular.json": (ros([[700, 0, 160], [0, 700, 48], [0, 0, 0]]).encode(), ["K"]),
    "nan.json": (b'{"K": [[NaN, 0, 1], [0, 1, 1], [0, 0, 1]], "width": 320, "height": 96}', ["finite"]),
    "short.json": (ros([700, 700, 160]).encode(), ["K", "3"]),
    "words.json": (ros("focal").encode(), ["K"]),
    "list.json": (b"[1, 2]", ["list"]),
    "cut.json": (b'{"K": [[700, 0,', ["JSON"]),
    "deep.json": (b"[" * 100_000, ["JSON"]),
    "huge.json": (ros([[700, 0, 160], [0, 700, 48], [0, 0, 1]], 10**9, 10**9).encode(), ["picture size"]),
    "latin.yaml": ("K: [700, 0, 160]\nname: Kamera für Süd".encode("latin-1"), ["latin.yaml", "YAML"]),
    "bomb.yaml": (BOMB.encode(), ["bomb.yaml"]),
    "code.yaml": (b"!!python/object/apply:os.system ['touch ran']", ["code.yaml"]),
    "empty.txt": (b"", ["empty.txt"]),
    "binary.txt": (bytes(range(256)) * 10, ["binary.txt"]),
    "rows.txt": (b"P2: 700 0 160 0 0 700 48 0 0 0\n", ["P2"]),
    "pose.json": (
        b'{"K": [[700,0,160],[0,700,48],[0,0,1]], "width": 320, "height": 96, "pose": [[2,0,0,0],[0,2,0,0],[0,0,2,0],[0,0,0,1]]}',
        ["rotation"],
    ),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_cameras_that_are_none(run: Run, tmp_path: Path, picture: Path, name: str) -> None:
    content, said = CAMERAS[name]
    (tmp_path / name).write_bytes(content)
    says(run("overlay", picture, "--camera", tmp_path / name).sentence, *said)
    assert not list(Path().iterdir()), "nothing was written, and no code ran"


def test_a_folder_that_is_no_calibration(run: Run, tmp_path: Path, picture: Path) -> None:
    (tmp_path / "calibration").mkdir()
    says(run("overlay", picture, "--camera", tmp_path / "calibration").sentence, "calib_cam_to_cam.txt", "calib.txt")


# ---- depth -----------------------------------------------------------------------------------------------------------------------


def lying_npy(path: Path, shape: tuple[int, ...], promised: tuple[int, ...]) -> None:
    """An array whose header promises more than there is."""
    array = np.ones(shape, np.float32)
    np.save(path, array)
    content = path.read_bytes()
    head, body = content[: -array.nbytes], content[-array.nbytes :]
    old, new = str(shape).encode(), str(promised).encode()
    path.write_bytes(head.replace(old + b", }" + b" " * (len(new) - len(old)), new + b", }") + body)


DEPTHS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "size.npy": (lambda path: np.save(path, np.ones((10, 10))), ["10 x 10", "320 x 96"]),
    "lies.npy": (lambda path: lying_npy(path, (2, 3), (200000, 300000)), ["lies.npy"]),
    "objects.npy": (lambda path: np.save(path, np.array([{"a": 1}], object), allow_pickle=True), ["objects.npy"]),
    "nothing.npy": (lambda path: np.save(path, np.full((96, 320), np.nan)), ["no valid depth"]),
    "complex.npy": (lambda path: np.save(path, np.ones((96, 320), complex)), ["complex"]),
    "cube.npy": (lambda path: np.save(path, np.ones((96, 320, 3))), ["height, width"]),
    "drawing.png": (lambda path: Image.new("RGB", (320, 96)).save(path), ["8 bits"]),
    "unit.png": (lambda path: Image.fromarray(np.full((96, 320), 1280, np.uint16)).save(path), ["--depth-unit"]),
    "missing.npy": (lambda path: None, ["missing.npy"]),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_maps_that_are_none(run: Run, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make, said = DEPTHS[name]
    make(tmp_path / name)
    monkeypatch.setattr("wholescene.weights.load", lambda *_: DepthReader())
    says(run("predict", picture, "--depth", tmp_path / name).sentence, *said)
    assert not Path("scenes").exists()


@pytest.mark.parametrize("unit", ["furlong", "-1", "nan", "disparity:0"])
def test_units_of_depth_that_are_none(run: Run, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    np.save(tmp_path / "d.npy", np.ones((96, 320)))
    monkeypatch.setattr("wholescene.weights.load", lambda *_: DepthReader())
    says(run("predict", picture, "--depth", tmp_path / "d.npy", f"--depth-unit={unit}").sentence, "unit", unit)


POINTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing.bin": (lambda path: None, ["missing.bin"]),
    "odd.bin": (lambda path: path.write_bytes(b"\0" * 100), ["100 bytes", "points"]),
    "nan.bin": (lambda path: np.full((9, 4), np.nan, "<f4").tofile(path), ["finite"]),
    "nan.npy": (lambda path: np.save(path, np.full((9, 3), np.nan)), ["finite"]),
    "flat.npy": (lambda path: np.save(path, np.ones(12)), ["(N, 3)"]),
    "objects.npy": (lambda path: np.save(path, np.array([[{}] * 3], object), allow_pickle=True), ["objects.npy"]),
    "lies.npy": (lambda path: lying_npy(path, (2, 3), (200000000, 3)), ["lies.npy"]),
    "zip.npy": (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), ["zip.npy", "(N, 3)"]),
    "far.npy": (lambda path: np.save(path, np.full((9, 3), 1e4)), ["no point lies in the grid"]),
    "empty.bin": (lambda path: path.write_bytes(b""), ["point"]),
}


@pytest.mark.parametrize("name", POINTS)
def test_points_that_are_none(run: Run, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make, said = POINTS[name]
    make(tmp_path / name)
    monkeypatch.setattr("wholescene.weights.load", lambda *_: Echo())
    says(run("predict", picture, "--points", tmp_path / name).sentence, *said)
    assert not Path("scenes").exists()


# ---- recipes and datasets --------------------------------------------------------------------------------------------------------

RECIPES: dict[str, tuple[bytes, list[str]]] = {
    "latin.yaml": ("name: Straße".encode("latin-1"), ["UTF-8"]),
    "bomb.yaml": (BOMB.encode(), ["alias"]),
    "code.yaml": (b"name: !!python/object/apply:os.system ['touch ran']", ["tag"]),
    "twice.yaml": (b"name: a\nname: b\n", ["twice"]),
    "list.yaml": (b"- name\n", ["mapping"]),
    "cut.yaml": (b"system: {name: monoscene\n", ["line"]),
    "deep.yaml": (b"a: " + b"[" * 5000, ["deep"]),
    "large.yaml": (b"# " + b"x" * 300_000, ["bytes"]),
    "unknown.yaml": (b"name: a\nsystem: {name: monoscene}\nbudget: {steps: 1}\nlearning_rate: 1\n", ["learning_rate", "known"]),
    "system.yaml": (b"name: a\nsystem: {name: monosceen}\nbudget: {steps: 1}\n", ["nearest", "'monoscene'"]),
    "budget.yaml": (b"name: a\nsystem: {name: monoscene}\nbudget: {}\n", ["budget", "limit"]),
    "missing.yaml": (b"name: a\nsystem: {name: monoscene}\n", ["budget", "missing"]),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_are_none(run: Run, tmp_path: Path, name: str) -> None:
    content, said = RECIPES[name]
    (tmp_path / name).write_bytes(content)
    says(run("train", tmp_path / name).sentence, *said)
    assert not list(Path().iterdir())


def test_a_run_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-000004.ckpt").write_bytes(b"somebody's work")
    says(run("train", "monoscene-street-tiny", "--out", tmp_path / "run").sentence, "already holds a run")
    assert (folder / "step-000004.ckpt").read_bytes() == b"somebody's work"


def test_a_dataset_folder_that_is_a_file(run: Run, picture: Path, tiny_weights: Path) -> None:
    says(run("data", "check", picture).sentence, "photo.png")
    says(run("evaluate", "monoscene-semantic-kitti", "--weights", tiny_weights, "--root", picture).sentence, "photo.png", "not a folder")


def test_a_dataset_folder_that_is_empty(run: Run, tmp_path: Path, tiny_weights: Path) -> None:
    (tmp_path / "data").mkdir()
    says(run("evaluate", "monoscene-semantic-kitti", "--weights", tiny_weights, "--root", tmp_path / "data").sentence, "data", "sequences")
    says(run("submit", "monoscene-semantic-kitti", "--weights", tiny_weights, "--root", tmp_path / "data", "--out", "o.zip").sentence, "sequences")
    assert not Path("o.zip").exists()


@pytest.mark.parametrize(
    ("extra", "module", "words"),
    [("train", "lightning", ["train", "monoscene-street-tiny"]), ("worlds", "embreex", ["demo", "--seed", "1", "--weights"])],
    ids=["train", "worlds"],
)
def test_an_extra_that_is_not_installed(
    run: Run, monkeypatch: pytest.MonkeyPatch, tiny_weights: Path, extra: str, module: str, words: list[str]
) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == module] + [module]:
        monkeypatch.setitem(sys.modules, name, None)
    says(run(*words, *([tiny_weights] if words[-1] == "--weights" else [])).sentence, module, f"wholescene[{extra}]")
    assert not list(Path().iterdir())


def test_an_installation_without_torch(picture: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from wholescene.cli import main; sys.exit(main(sys.argv[1:]))"
    ran = subprocess.run([sys.executable, "-c", code, "overlay", picture], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert len(ran.stderr.strip().splitlines()) == 1
    says(ran.stderr, "torch", "wholescene doctor")
