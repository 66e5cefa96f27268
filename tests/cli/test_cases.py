"""Every row of tests/cases/README.md, through the command line where its input is a command; the numbers are the rows'."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wholescene.camera import Camera
from wholescene.depth.files import read_depth
from wholescene.metrics import Counts
from wholescene.reading.cameras import read_camera
from wholescene.scene import Scene
from wholescene.systems import config_class, create

from .commanding import DepthReader, Ran, Run

KITTI_TR = [[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]]


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A picture of KITTI's size."""
    path = tmp_path / "img.png"
    Image.new("RGB", (1241, 376), (90, 110, 90)).save(path)
    return path


@pytest.fixture
def predicted(run: Run, tiny_weights: Path, undrawn: None) -> object:
    """`predicted(picture, *options)`: what the command said, and the scene that it wrote."""

    def go(picture: Path, *options: object) -> tuple[Ran, Scene]:
        ran = run("predict", picture, "--weights", tiny_weights, *options)
        assert ran.code == 0, ran.err
        return ran, Scene.load(f"scenes/{picture.stem}/scene.npz")

    return go


def camera_of(scene: Scene) -> Camera:
    assert scene.camera is not None
    return scene.camera


# ---- 1-10: cameras ---------------------------------------------------------------------------------------------------------------


def test_row_01_calibration_without_a_lidar_row(predicted, street: Path, cases: Path) -> None:
    ran, scene = predicted(street, "--camera", cases / "A01_no_tr" / "calib.txt")
    K = camera_of(scene).intrinsics
    assert np.allclose((K[0, 0], K[1, 1], K[0, 2], K[1, 2]), (718.856, 718.856, 607.1928, 185.2157))
    assert "height 1.65 m" in ran.out, "without a pose it stands on the ground, and that is called a guess"
    with pytest.raises(ValueError, match=r"P0, P1, P2, P3 but no .*Tr.*separate calibration archive.*--height"):
        read_camera(cases / "A01_no_tr" / "calib.txt", (1241, 376)).require_pose()


@pytest.mark.parametrize("file", ["A02_tracking/0000.txt", "A03_blank_line/calib.txt"])
def test_rows_02_and_03_separators_spellings_and_empty_lines(predicted, street: Path, cases: Path, file: str) -> None:
    _, scene = predicted(street, "--camera", cases / file)
    assert np.allclose(camera_of(scene).T_cam_world, KITTI_TR)
    assert np.allclose(camera_of(scene).intrinsics[0], (718.856, 0, 607.1928))


def test_row_04_raw_calibration_in_two_files(predicted, tmp_path: Path, cases: Path) -> None:
    picture = tmp_path / "raw.png"
    Image.new("RGB", (1242, 375)).save(picture)
    ran, scene = predicted(picture, "--camera", f"{cases / 'A05_raw'}/")
    rows = {}
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        for line in (cases / "A05_raw" / name).read_text().splitlines():
            key, _, values = line.partition(":")
            if key != "calib_time" and values.strip():
                rows[key] = np.array(values.split(), float)
    expected = np.eye(4)
    expected[:3] = rows["R_rect_00"].reshape(3, 3) @ np.column_stack([rows["R"].reshape(3, 3), rows["T"]])
    camera = camera_of(scene)
    assert np.allclose(camera.T_cam_world, expected, atol=1e-6)
    assert np.allclose((camera.K[0, 0], camera.K[0, 2], camera.K[1, 2]), (721.5377, 609.5593, 172.854))
    assert camera.recorded_size == (1242, 375)
    assert "scaled" not in ran.out


def test_row_05_opencv_storage(predicted, tmp_path: Path, cases: Path) -> None:
    picture = tmp_path / "cv.png"
    Image.new("RGB", (640, 360)).save(picture)
    ran, scene = predicted(picture, "--camera", cases / "A07_opencv_storage.yml")
    K = camera_of(scene).K
    assert (K[0, 0], K[1, 1], K[0, 2], K[1, 2]) == (500, 501, 320, 180)
    assert re.search(r"distortion .* up to [\d.]+ px", ran.out)


def test_row_06_a_list_without_commas(run: Run, tmp_path: Path, cases: Path) -> None:
    picture = tmp_path / "pic.png"
    Image.new("RGB", (640, 480)).save(picture)
    ran = run("overlay", picture, "--camera", cases / "A09_no_commas.yaml")
    assert re.search(r"distortion .* up to [\d.]+ px", ran.out) or "distortion_coefficients.data" in ran.err


def test_row_07_a_camera_that_nobody_calibrated(run: Run, street: Path, cases: Path) -> None:
    sentence = run("overlay", street, "--camera", cases / "A12_uncalibrated.yaml").sentence
    assert "not calibrated (K all zero)" in sentence
    assert "--fov" in sentence


def test_row_08_a_picture_that_was_resized(predicted, cases: Path) -> None:
    ran, scene = predicted(cases / "A14_half_size" / "image.png", "--camera", cases / "A14_half_size" / "camera.json")
    K = camera_of(scene).intrinsics
    assert np.allclose((K[0, 0], K[0, 2], K[1, 2]), (359.138, 303.1016, 92.3579), atol=1e-3)
    assert "1241" in ran.out
    assert "620" in ran.out


@pytest.mark.parametrize(
    ("written", "share", "code"),
    [("cam_to_world_opencv", "69 %", 0), ("world_to_cam_opencv", "3.6 %", 0), ("cam_to_world_opengl", "", 2), ("world_to_cam_opengl", "3.6 %", 0)],
)
def test_row_09_a_pose_read_the_default_way(run: Run, street: Path, tmp_path: Path, cases: Path, written: str, share: str, code: int) -> None:
    ways = json.loads((cases / "A15_pose_readings.json").read_text())
    file = tmp_path / "camera.json"
    file.write_text(json.dumps({**{k: ways[k] for k in ("K", "width", "height")}, "pose": ways[written], "world": "lidar"}))
    ran = run("overlay", street, "--camera", file)
    assert ran.code == code, ran.err
    if code:
        assert "no voxel of the grid is in view" in ran.sentence
        assert re.search(r"OpenGL axes .*would see 69%", ran.sentence)
        return
    assert f"{share} of the grid" in ran.out
    assert ("would see 69%" in ran.err) == (share == "3.6 %"), "the warning names the reading that would see it"


def test_row_10_a_negative_normalised_matrix(run: Run, street: Path, cases: Path) -> None:
    sentence = run("overlay", street, "--camera", cases / "A16_negative_K.json").sentence
    assert "negative" in sentence
    assert "OpenGL" in sentence
    assert "width / 2" in sentence


# ---- 11-16: pictures -------------------------------------------------------------------------------------------------------------


def test_row_11_a_phone_picture_on_its_side(run: Run, predicted, cases: Path) -> None:
    _, scene = predicted(cases / "B01_orientation6.jpg")
    camera = camera_of(scene)
    assert camera.size == (480, 640)
    assert np.allclose((camera.K[0, 0], camera.K[1, 1]), 26 / 36 * 640)
    assert run("overlay", cases / "B01_orientation6.jpg").code == 0
    drawn = np.asarray(Image.open("B01_orientation6-overlay.png").convert("RGB")).astype(int)
    assert drawn.shape[:2] == (640, 480)
    red, green = drawn[10:40, -40:-10], drawn[-40:-10, 10:40]
    assert np.median(red[..., 0]) > 180
    assert np.median(red[..., 1]) < 90
    assert np.median(green[..., 1]) > 120
    assert np.median(green[..., 0]) < 90


def test_row_12_zero_in_the_focal_tags(predicted, cases: Path) -> None:
    ran, _ = predicted(cases / "B02_focal_zero.jpg")
    assert "ignored" in ran.out
    assert re.search(r"guessed +field of view 65 degrees", ran.out)


def test_row_13_focal_length_from_the_sensor_of_a_resized_picture(predicted, cases: Path) -> None:
    _, scene = predicted(cases / "B03_no_35mm_resized.jpg")
    assert np.isclose(camera_of(scene).K[0, 0], 787.4, atol=0.05)


def test_row_14_sixteen_bit_grey(predicted, cases: Path) -> None:
    _, scene = predicted(cases / "B05_gray16.png")
    assert scene.picture is not None
    assert (scene.picture[..., 0] == scene.picture[..., 1]).all()
    stored = np.asarray(Image.open(cases / "B05_gray16.png")).astype(float)
    assert np.abs(scene.picture[..., 0] - stored / 257).max() <= 0.5
    assert scene.picture[0, 128, 0] == 128


def test_row_15_channels_beyond_three(predicted, cases: Path) -> None:
    ran, scene = predicted(cases / "B06_rgba_hidden_magenta.png")
    assert "transparent" in ran.out, "the background is stated"
    hidden = np.asarray(Image.open(cases / "B06_rgba_hidden_magenta.png"))[..., 3] == 0
    assert scene.picture is not None
    assert (scene.picture[hidden] == scene.picture[hidden][0]).all()
    assert tuple(scene.picture[hidden][0]) != (255, 0, 255)


@pytest.mark.parametrize("name", ["B07_cmyk.jpg", "B08_palette.png"])
def test_row_15_cmyk_and_palette_are_the_same_scene_as_rgb(predicted, cases: Path, tmp_path: Path, name: str) -> None:
    _, scene = predicted(cases / name)
    plain = tmp_path / "rgb.png"
    Image.open(cases / name).convert("RGB").save(plain)
    _, expected = predicted(plain)
    assert scene.picture is not None
    assert expected.picture is not None
    assert np.abs(scene.picture.astype(int) - expected.picture).max() <= 1
    assert (scene.labels == expected.labels).mean() > 0.99


def test_row_16_a_long_batch_with_broken_pictures(run: Run, cases: Path, tiny_weights: Path, undrawn: None) -> None:
    ran = run("predict", cases / "B09_folder", "--weights", tiny_weights)
    assert ran.code == 1
    assert "5 of 7 pictures done; failed: 4.jpg, 5.jpg" in ran.out
    assert "notes.txt" in ran.out
    assert ran.err.count("failed: ") == 2
    assert sorted(p.name for p in Path("scenes").iterdir()) == ["1", "10", "11", "2", "3"], "no half-grey scene of the cut picture"


# ---- 17-18: depth ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "metres"), [("256", 5.0), ("kitti", 5.0), ("1000", 1.28), ("mm", 1.28)])
def test_row_17_the_unit_of_depth_is_stated_and_printed(
    run: Run, tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch, unit: str, metres: float
) -> None:
    monkeypatch.setattr("wholescene.weights.load", lambda *_: DepthReader())
    Image.new("RGB", (64, 48)).save(tmp_path / "p.png")
    depth = ("predict", tmp_path / "p.png", "--fov", 60, "--height", 1.5, "--pitch", 0, "--grid", "64x64x32@0.1:0,-3.2,0", "--depth")
    sentence = run(*depth, cases / "B11_depth_5m_times_256.png").sentence
    assert "unit" in sentence
    assert "--depth-unit" in sentence
    ran = run(*depth, cases / "B11_depth_5m_times_256.png", "--depth-unit", unit)
    assert ran.code == 0, ran.err
    assert f"{1280 / metres:g} to a metre" in ran.out
    assert f"median {metres:.2f} m" in ran.out
    points, _ = Scene.load("scenes/p/scene.npz").points()
    assert len(points) > 100
    assert np.abs(points[:, 0] - metres).max() <= 0.05 + 1e-9


def test_row_18_disparities_that_mean_nothing(cases: Path) -> None:
    metres, valid = read_depth(cases / "B12_disparity.npy", "disparity:388.1823")
    assert np.allclose(metres[0, [1, 2, 3]], (38818.23, 776.36, 10.0), rtol=1e-4)
    assert valid[0].tolist() == [False, True, True, True, False, False]
    metres, valid = read_depth(cases / "B12_disparity.npy", "disparity:388.1823", most_metres=100)
    assert valid[0].tolist() == [False, False, False, True, False, False]
    assert np.isfinite(metres).all()
    camera = Camera.from_intrinsics(700, 700, 2.5, 0, (6, 1))
    assert np.allclose(camera.unproject(metres)[:, 2], 10), "one point, none at the origin"


# ---- 19-21: weights --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path: Path, cases: Path) -> Path:
    """C04, C05 and C06, written by the row's own script."""
    folder = tmp_path / "made"
    folder.mkdir()
    script = shutil.copy(cases / "C04_make_checkpoints.py", folder)
    runpy.run_path(str(script))
    return folder


@pytest.mark.parametrize("name", ["C04_prefix_model.pt", "C05_prefix_module_model.ckpt", "C06_namespace_numpy.ckpt"])
def test_row_19_none_of_the_tensors_match(run: Run, checkpoints: Path, name: str) -> None:
    sentence = run("convert", checkpoints / name, "out.safetensors", "--system", "monoscene").sentence
    assert re.search(r"\b0 of \d+", sentence)
    assert name in sentence
    assert not Path("out.safetensors").exists()


@pytest.mark.slow  # a whole MonoScene, 150 million numbers, through four files of 600 MB: about 30 s and 3 GB
@pytest.mark.parametrize("prefix", ["module.model."])
def test_row_19_known_wrappers_are_stripped_and_the_file_comes_back(run: Run, tmp_path: Path, prefix: str) -> None:
    from wholescene.checkpoints import native
    from wholescene.checkpoints.converting import table_of

    torch.manual_seed(3)
    config = config_class("monoscene").preset("exact", "full")  # type: ignore[attr-defined]
    with torch.device("meta"):
        shapes = create("monoscene", config).state_dict()
    trained = {n: torch.rand(t.shape) if t.is_floating_point() else torch.ones(t.shape, dtype=t.dtype) for n, t in shapes.items()}
    released = {prefix + name: tensor for name, tensor in table_of("monoscene", "semantic-kitti").restore(trained).items()}
    torch.save({"state_dict": released, "epoch": 3}, tmp_path / "released.ckpt")
    ran = run("convert", tmp_path / "released.ckpt", "ours.safetensors", "--system", "monoscene")
    assert ran.code == 0, ran.err
    assert prefix in ran.out, "what was stripped is reported"
    held = native.read("ours.safetensors")
    assert held.card["name"] == "monoscene-semantic-kitti"
    assert held.state.keys() == trained.keys()
    assert all(torch.equal(held.state[name], tensor) for name, tensor in trained.items())
    assert run("convert", "ours.safetensors", "again.ckpt", "--back").code == 0
    again = torch.load("again.ckpt", weights_only=True)["state_dict"]
    assert list(again) == list(released)
    assert all(torch.equal(again[name], tensor) for name, tensor in released.items())


def test_row_19b_foreign_types_are_named_and_their_code_is_not_run(checkpoints: Path) -> None:
    from wholescene.checkpoints.reading import read_foreign

    read = read_foreign(checkpoints / "C06_namespace_numpy.ckpt")
    assert set(read.state) >= {"0.weight", "0.bias", "1.running_mean"}
    assert any("argparse.Namespace" in note for note in read.notes)
    assert not any("weights_only=False" in note for note in read.notes)


def test_row_20_a_web_page_under_the_name_of_weights(run: Run, street: Path, cases: Path) -> None:
    sentence = run("predict", street, "--weights", cases / "C01_html_page.pth").sentence
    assert "web page" in sentence


def test_row_20_and_21_say_the_same_when_converting(run: Run, cases: Path) -> None:
    assert "web page" in run("convert", cases / "C01_html_page.pth", "o", "--system", "monoscene").sentence
    assert "Git LFS pointer" in run("convert", cases / "C02_lfs_pointer.ckpt", "o", "--system", "monoscene").sentence


def test_converting_asks_for_the_setting_where_there_is_no_usual_one(run: Run, cases: Path) -> None:
    assert "--setting: nyuv2 or occscannet" in run("convert", cases / "C02_lfs_pointer.ckpt", "o", "--system", "iso").sentence


def test_row_21_a_pointer_instead_of_weights(run: Run, street: Path, cases: Path) -> None:
    sentence = run("predict", street, "--weights", cases / "C02_lfs_pointer.ckpt").sentence
    assert "Git LFS pointer" in sentence
    assert "598,234,112" in sentence
    assert "git lfs pull" in sentence


# ---- 22-26: volumes --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """D01 to D09, written by the rows' own script (60 MB), removed after these tests."""
    folder = tmp_path_factory.mktemp("volumes")
    script = Path(__file__).parents[1] / "cases" / "D01_make_volumes.py"
    before, sys.argv = sys.argv, [str(script), str(folder)]
    try:
        runpy.run_path(str(script))
    finally:
        sys.argv = before
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("root", ["D01_root_without_dataset", "D01b_root_with_dataset"])
def test_row_22_a_root_with_or_without_dataset(run: Run, volumes: Path, root: str) -> None:
    ran = run("data", "check", volumes / root)
    assert re.search(r"\b00\b.*\b1\b", ran.out), ran.out


def test_row_22_a_root_with_nothing_names_where_it_looked_and_the_nearest(run: Run, volumes: Path) -> None:
    sentence = run("data", "check", volumes).sentence
    assert "sequences" in sentence
    assert "D01" in sentence


def test_row_23_label_bytes_where_bits_belong(run: Run, volumes: Path) -> None:
    ran = run("data", "check", volumes / "D05_label_as_bits")
    assert ran.code == 2
    assert "4,194,304" in ran.out
    assert "262,144" in ran.out


def test_row_23_one_byte_a_voxel_is_accepted_with_a_note(run: Run, volumes: Path) -> None:
    ran = run("data", "check", volumes / "D04_unpacked_invalid")
    assert re.search(r"(?m)^note: \.invalid holds one byte a voxel", ran.out)
    assert not re.search(r"(?m)^error: .*\.invalid", ran.out), "the case has no pictures and no calibration, which are other errors"


def test_row_24_point_labels_where_voxel_labels_belong(run: Run, volumes: Path) -> None:
    ran = run("data", "check", volumes / "D06_point_labels")
    assert ran.code == 2
    assert "509,620 bytes" in ran.out
    assert "4,194,304" in ran.out
    assert "point labels" in ran.out


def test_row_25_a_raw_id_that_no_table_has(run: Run, volumes: Path) -> None:
    said = run("data", "check", volumes / "D08_unlisted_id").out
    assert re.search(r"raw id 192 is not in the table; such voxels are unknown \(255\): 00/000000 voxel \(0, 0, 0\)", said)


def test_row_26_a_frame_of_which_nothing_is_known(run: Run, volumes: Path) -> None:
    said = run("data", "check", volumes / "D09_all_unknown").out
    assert re.search(r"nothing is known in these frames; .*: 00/000000", said)


def test_row_26_its_losses_are_zero_and_finite() -> None:
    from wholescene.data.collate import collate
    from wholescene.grid import GridPlacement
    from wholescene.structures import Frame, View

    config = config_class("monoscene").preset("clean", "tiny", grid=GridPlacement((32, 32, 16), (1.6, 1.6, 0.4)))  # type: ignore[attr-defined]
    system = create("monoscene", config)
    camera = Camera.from_fov(70, (96, 64)).on_ground(1.65)
    grid = config.grid.place(camera)
    frame = Frame("blank", {"main": View(np.zeros((64, 96, 3), np.uint8), camera)}, grid, targets={1: np.full(grid.shape, 255, np.uint8)})
    batch = collate([frame])
    terms = system.losses(system(batch), batch)
    assert {name: term.item() for name, term in terms.items() if name != "relation"} == dict.fromkeys(set(terms) - {"relation"}, 0.0)
    assert all(torch.isfinite(term) for term in terms.values())


# ---- 27-29: numbers, runs, recipes -----------------------------------------------------------------------------------------------


def test_row_27_a_class_that_is_seen_nowhere(cases: Path) -> None:
    example = json.loads((cases / "E01_absent_class.json").read_text())
    truth, prediction = (np.array(example[k], np.uint8)[..., None] for k in ("truth", "prediction"))
    counts = Counts.zero(4)
    counts.update(prediction, truth)
    by_rule = {rule: counts.compute(rule) for rule in ("semantic-kitti", "seen-only")}  # type: ignore[arg-type]
    assert np.isclose(by_rule["semantic-kitti"].miou, 1 / 3)
    assert np.isclose(by_rule["seen-only"].miou, 0.5)
    assert by_rule["semantic-kitti"].iou == 4 / 5
    assert "mIoU (semantic-kitti)" in dict(by_rule["semantic-kitti"].rows(example["classes"]))


@pytest.mark.slow  # two short trainings and a prediction: about 15 s
def test_row_28_resuming_into_a_new_folder_leaves_the_old_one_alone(run: Run) -> None:
    short = ("--data.train", "0..1", "--data.val", "1000000", "--checkpoint_every", 1, "--batch_size", 1)
    ran = run("train", "monoscene-street-tiny", *short, "--budget.steps", 2, "--out", "A")
    assert ran.code == 0, ran.err
    before = hashes(Path("A"))
    ran = run("train", "--resume", "A", "--out", "B", "--budget.steps", 3)
    assert ran.code == 0, ran.err
    assert "the recipe differs in budget\n" in ran.out
    assert hashes(Path("A")) == before
    assert Path("B/final.safetensors").exists()
    assert "going on from A" in ran.out
    predicting = run("demo", "--seed", 1, "--weights", "B/final.safetensors")
    assert predicting.code == 0, predicting.err


def hashes(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_row_29_scientific_numbers_and_words_in_yaml(run: Run, cases: Path) -> None:
    from wholescene.recipes.reading import read_yaml

    read = read_yaml(cases / "F01_scientific.yaml")
    assert read["optimizer"]["lr"] == 1e-4
    assert read["optimizer"]["eps"] == 1e-8
    assert read["classes"] == ["no", "car", "on"]
    assert read["sequences"] == ["07", "08", "010"]
    assert "F01_scientific.yaml" in run("train", cases / "F01_scientific.yaml").sentence


# ---- 30-34: exports --------------------------------------------------------------------------------------------------------------

CENTRES = {(10.25, 20.25, 30.25), (10.75, 20.25, 30.25), (11.25, 20.25, 30.25), (10.25, 20.75, 30.25), (10.25, 20.25, 30.75)}


def test_rows_30_and_33_colours_and_places_in_a_ply(run: Run, cases: Path) -> None:
    assert run("export", cases / "G01_chiral_scene.npz", "x.ply", "--points").code == 0
    head, _, body = Path("x.ply").read_bytes().partition(b"end_header\n")
    for name in (b"red", b"green", b"blue"):
        assert b"property uchar " + name in head
    properties = re.findall(rb"property (\w+) (\w+)", head)
    kinds = {b"float": "<f4", b"uchar": "u1"}
    vertices = np.frombuffer(body, [(n.decode(), kinds[k]) for k, n in properties])
    assert {tuple(float(v[a]) for a in "xyz") for v in vertices} == CENTRES


def _glb(path: Path) -> tuple[dict[str, object], bytes]:
    content = path.read_bytes()
    length = struct.unpack_from("<I", content, 12)[0]
    return json.loads(content[20 : 20 + length]), content[20 + length + 8 :]


def test_rows_31_and_32_colours_and_material_of_a_glb(run: Run, tmp_path: Path) -> None:
    from wholescene.grid import VoxelGrid
    from wholescene.labels import LabelSet

    colours = LabelSet("one", ("empty", "a"), ((0, 0, 0), (245, 150, 100)))
    Scene(np.ones((1, 1, 1), np.uint8), VoxelGrid((1, 1, 1), (1.0, 1.0, 1.0)), colours).save(tmp_path / "one.npz")
    assert run("export", tmp_path / "one.npz", "x.glb").code == 0
    document, binary = _glb(Path("x.glb"))
    primitive = document["meshes"][0]["primitives"][0]  # type: ignore[index]
    accessor = document["accessors"][primitive["attributes"]["COLOR_0"]]  # type: ignore[index]
    view = document["bufferViews"][accessor["bufferView"]]  # type: ignore[index]
    kind, most = ("<u2", 65535) if accessor["componentType"] == 5123 else ("u1", 255)
    colour = np.frombuffer(binary, kind, 3, view["byteOffset"])
    assert np.rint(colour / most * 255).tolist() == [233, 78, 32]
    if most == 65535:
        assert int(colour[1]) == 19_987
    assert document["materials"][primitive["material"]]["pbrMetallicRoughness"]["metallicFactor"] == 0  # type: ignore[index]
    assert run("export", tmp_path / "one.npz", "x.ply").code == 0
    assert bytes((245, 150, 100)) in Path("x.ply").read_bytes()


def test_row_33_left_is_left_in_the_picture_and_no_axis_is_mirrored(run: Run, cases: Path) -> None:
    assert run("export", cases / "G01_chiral_scene.npz", "x.glb").code == 0
    document, binary = _glb(Path("x.glb"))
    primitive = document["meshes"][0]["primitives"][0]  # type: ignore[index]
    accessor = document["accessors"][primitive["attributes"]["POSITION"]]  # type: ignore[index]
    view = document["bufferViews"][accessor["bufferView"]]  # type: ignore[index]
    points = np.frombuffer(binary, "<f4", 3 * accessor["count"], view["byteOffset"]).reshape(-1, 3)
    # The longest arm (x, three voxels) and the two shorter ones must come from a rotation of the world: +x to some axis a, +y to b, +z to a x b.
    low, high = points.min(0), points.max(0)
    forward = int(np.argmax(high - low))
    world_of = {}
    for axis in range(3):
        values = points[:, axis]
        for world, corner in enumerate((10, 20, 30)):
            for sign in (1, -1):
                if np.isclose(sign * values, corner).any() and ((sign * values >= corner - 1e-4) & (sign * values <= corner + 1.6)).all():
                    world_of[axis] = (world, sign)
    assert world_of[forward][0] == 0
    change = np.zeros((3, 3))
    for axis, (world, sign) in world_of.items():
        change[axis, world] = sign
    assert np.isclose(np.linalg.det(change), 1)


def test_row_34_a_page_that_asks_for_nothing(run: Run, cases: Path) -> None:
    assert run("export", cases / "G01_chiral_scene.npz", "x.html").code == 0
    page = Path("x.html").read_text()
    assert not re.search(r"""\bsrc\s*=\s*["'](?!data:)""", page)
    assert not re.search(r"\bfetch\s*\(|\bimport\s*[\({\"']|https?://(?!www\.(apache|w3)\.org)", page)
