"""Cameras in every spelling that people have, what is said about what they lack, and files that mean harm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import GridPlacement, semantic_kitti_grid
from wholescene.reading.cameras import PRESETS, parse_camera, read_camera
from wholescene.reading.kitti import read_rows

SIZE = (1241, 376)
LIDAR_TO_CAMERA = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
K = [[500, 0, 319.5], [0, 501, 179.5], [0, 0, 1]]
MINIMAL = {"K": K, "width": 640, "height": 360}


def written(tmp_path: Path, content: str | dict, name: str = "camera.json") -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def numbers_of(camera: Camera) -> tuple[float, ...]:
    return camera.intrinsics[0, 0], camera.intrinsics[1, 1], camera.intrinsics[0, 2], camera.intrinsics[1, 2]


# ---- KITTI ------------------------------------------------------------------------------------------------------------------------


def test_a_calibration_without_lidar_row_gives_intrinsics_and_says_where_the_row_is(cases: Path) -> None:
    camera = read_camera(cases / "A01_no_tr" / "calib.txt", SIZE)
    assert numbers_of(camera) == (718.856, 718.856, 607.1928, 185.2157)
    assert camera.offset[0] == 45.38225
    assert not camera.pose_known
    with pytest.raises(InputError, match=r"P0, P1, P2, P3.*Tr_velo_to_cam.*separate calibration archive.*--height.*--pitch"):
        GridPlacement().place(camera)
    assert not camera.on_ground(1.65).notes


@pytest.mark.parametrize("name", ["A02_tracking/0000.txt", "A03_blank_line/calib.txt"])
def test_separators_spellings_and_blank_lines_do_not_matter(cases: Path, name: str) -> None:
    camera = read_camera(cases / name, SIZE)
    assert numbers_of(camera) == (718.856, 718.856, 607.1928, 185.2157)
    assert np.array_equal(camera.T_cam_world, LIDAR_TO_CAMERA)
    assert (camera.world, camera.pose_known) == ("lidar", True)


def test_raw_data_calibration_joins_its_two_files(cases: Path) -> None:
    camera = read_camera(cases / "A05_raw")
    assert numbers_of(camera) == (721.5377, 721.5377, 609.5593, 172.854)
    assert camera.offset[0] == 44.85728
    assert camera.size == (1242, 375)
    assert np.allclose(camera.T_cam_world, LIDAR_TO_CAMERA)
    assert np.array_equal(read_camera(cases / "A05_raw" / "calib_cam_to_cam.txt").matrix, camera.matrix)


QUARTER = "0 -1 0 1 0 0 0 0 1"  # a quarter turn about z: large enough that forgetting it shows


@pytest.mark.parametrize(("key", "row", "turned"), [("R0_rect", "Tr_velo_to_cam", True), ("R_rect", "Tr_velo_cam", True), ("R_rect", "Tr", False)])
def test_rectification_is_multiplied_in_where_the_format_keeps_it_apart(tmp_path: Path, key: str, row: str, turned: bool) -> None:
    text = f"P2: 700 0 600 40 0 700 180 1 0 0 1 0.01\n{key}: {QUARTER}\n{row}: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
    camera = read_camera(written(tmp_path, text, "calib.txt"), SIZE)
    x, y, z = 12.0, -3.0, 0.5
    before = np.array([-y, -z - 0.08, x - 0.27])
    in_camera = np.array([-before[1], before[0], before[2]]) if turned else before
    w = in_camera[2] + 0.01
    pixel, depth = camera.project(np.array([x, y, z]))
    assert np.allclose(pixel, ((700 * in_camera[0] + 600 * in_camera[2] + 40) / w, (700 * in_camera[1] + 180 * in_camera[2] + 1) / w))
    assert depth == pytest.approx(w)


def test_raw_rectification_is_multiplied_in_and_a_missing_lidar_file_is_named(tmp_path: Path, cases: Path) -> None:
    text = (cases / "A05_raw" / "calib_cam_to_cam.txt").read_text().replace("R_rect_00: 1 0 0 0 1 0 0 0 1", f"R_rect_00: {QUARTER}")
    written(tmp_path, text, "calib_cam_to_cam.txt")
    assert "calib_velo_to_cam.txt is missing" in read_camera(tmp_path).notes[0]
    written(tmp_path, (cases / "A05_raw" / "calib_velo_to_cam.txt").read_text(), "calib_velo_to_cam.txt")
    expected = np.array([[0.0, 0, 1, 0.08], [0, -1, 0, 0], [1, 0, 0, -0.27], [0, 0, 0, 1]])
    assert np.allclose(read_camera(tmp_path).T_cam_world, expected)


def test_the_right_camera_is_taken_on_request(cases: Path) -> None:
    path = cases / "A03_blank_line" / "calib.txt"
    right = read_camera(path, SIZE, which="P3")
    assert right.offset[0] == -337.2877
    assert np.array_equal(parse_camera(f"{path}:P3", SIZE).matrix, right.matrix)
    assert np.array_equal(read_camera(path.parent, SIZE).matrix, read_camera(path, SIZE).matrix)
    with pytest.raises(InputError, match="no row P7; it holds P0, P1"):
        read_camera(path, SIZE, which="P7")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("P2: 1 2 3\n", "row P2 has 3 numbers; expected 3 x 4"),
        ("P0: 1 2 3\nTr: x\n", "row Tr holds a word"),
        ("P2: 700 0 600 0 0 700 180 0 0 0 1 nan\n", "row P2 holds a number that is not finite"),
        ("P0: 700 0 600 0 0 700 180 0 0 0 1 0\n", "no row P2; it holds P0"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"calib\.txt.*{said}"):
        read_camera(written(tmp_path, text, "calib.txt"), SIZE)


def test_a_date_in_a_calibration_is_passed_over_and_binary_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "calib_time: 09-Jan-2012 13:57:47\n\nP2: 1 2\n  R: 3 \n", "calib.txt")
    assert {k: v.tolist() for k, v in read_rows(path).items()} == {"P2": [1, 2], "R": [3]}
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not a text file"):
        read_rows(path)


def test_a_picture_far_from_the_principal_point_gets_a_note(cases: Path) -> None:
    path = cases / "A03_blank_line" / "calib.txt"
    assert read_camera(path, SIZE).notes == ()
    assert "far from the middle of this picture (620 x 188)" in read_camera(path, (620, 188)).notes[0]


def test_real_calibrations_agree_with_their_published_matrices(semantic_kitti_mini: Path, real_pictures: Path) -> None:
    entry = next(e for e in json.loads((real_pictures / "cameras.json").read_text()) if e["file"].endswith("kitti_grey_left.png"))
    camera = read_camera(semantic_kitti_mini / "sequences" / "00", SIZE, which="P0")
    points = np.random.default_rng(0).uniform((5, -8, -2), (40, 8, 1), (50, 3))
    homogeneous = np.hstack([points, np.ones((50, 1))]) @ (np.array(entry["P"]) @ np.array(entry["Tr_velo_to_rect0"])).T
    assert np.allclose(camera.project(points)[0], homogeneous[:, :2] / homogeneous[:, 2:], atol=0.01)


# ---- YAML and JSON ----------------------------------------------------------------------------------------------------------------


def test_opencv_storage_is_read_and_its_distortion_not_dropped_silently(cases: Path) -> None:
    camera = read_camera(cases / "A07_opencv_storage.yml")
    assert numbers_of(camera) == (500, 501, 320, 180)
    assert camera.size == (640, 360)
    shifts = []
    for u, v in [(0, 0), (639, 0), (0, 359), (639, 359)]:  # by hand: k1 -0.30, k2 0.09, p1 0.001, p2 -0.002
        x, y = (u - 320) / 500, (v - 180) / 501
        r2 = x * x + y * y
        radial = -0.30 * r2 + 0.09 * r2 * r2
        dx = x * radial + 2 * 0.001 * x * y - 0.002 * (r2 + 2 * x * x)
        dy = y * radial + 0.001 * (r2 + 2 * y * y) - 2 * 0.002 * x * y
        shifts.append(np.hypot(500 * dx, 501 * dy))
    assert f"up to {max(shifts):.1f} px" in camera.notes[0]


def test_a_list_without_commas_keeps_its_five_numbers(cases: Path, tmp_path: Path) -> None:
    text = (cases / "A09_no_commas.yaml").read_text()
    notes = read_camera(cases / "A09_no_commas.yaml").notes
    assert "distortion" in notes[0]
    proper = text.replace("[-0.3 0.09 0.001 -0.002 0.0]", "[-0.3, 0.09, 1e-3, -0.002, 0.0]")  # 1e-3 is text to YAML
    assert proper != text
    assert read_camera(written(tmp_path, proper, "A09_no_commas.yaml")).notes[0] == notes[0]
    damaged = text.replace("-0.002 0.0]", "-0.002 zero]")
    with pytest.raises(InputError, match=r"distortion_coefficients\.data holds 'zero'"):
        read_camera(written(tmp_path, damaged, "b.yaml"))
    short = text.replace("-0.002 0.0]", "-0.002]")
    with pytest.raises(InputError, match=r"distortion_coefficients\.data has 4 numbers.*1 x 5"):
        read_camera(written(tmp_path, short, "b.yaml"))


def test_an_uncalibrated_message_is_called_that(cases: Path) -> None:
    with pytest.raises(InputError, match=r"A12_uncalibrated\.yaml.*not calibrated \(K all zero\).*--fov"):
        read_camera(cases / "A12_uncalibrated.yaml", (640, 480))


def test_a_resized_picture_scales_each_axis_and_both_sizes_are_stated(cases: Path) -> None:
    camera = read_camera(cases / "A14_half_size" / "camera.json", (620, 188))
    assert numbers_of(camera) == pytest.approx((359.138, 359.428, 303.1016, 92.3579), abs=1e-3)
    assert any("1241 x 376" in note and "620 x 188" in note for note in camera.notes)
    cropped = read_camera(cases / "A14_half_size" / "camera.json", (620, 376))
    assert any("cropped" in note for note in cropped.notes)


def test_a_normalised_opengl_matrix_is_refused_with_its_conversion(cases: Path) -> None:
    with pytest.raises(InputError, match=r"A16_negative_K\.json.*negative.*OpenGL.*\|fx\| \* width / 2"):
        read_camera(cases / "A16_negative_K.json")


READINGS = ("cam_to_world_opencv", "world_to_cam_opencv", "cam_to_world_opengl", "world_to_cam_opengl")


@pytest.mark.parametrize("name", READINGS)
def test_each_named_pose_reading_is_the_same_camera(cases: Path, tmp_path: Path, name: str) -> None:
    plain = json.loads((cases / "A15_pose_readings.json").read_text())
    alone = {key: plain[key] for key in ("K", "width", "height", name)}
    camera = read_camera(written(tmp_path, alone))
    assert np.allclose(camera.T_cam_world, plain["world_to_cam_opencv"])
    assert semantic_kitti_grid().share_in_view(camera) == pytest.approx(0.693, abs=0.0005)
    assert np.allclose(read_camera(cases / "A15_pose_readings.json").T_cam_world, camera.T_cam_world)


@pytest.mark.parametrize(
    ("written_as", "share", "hint"),
    [
        ("cam_to_world_opencv", 0.693, None),
        ("world_to_cam_opencv", 0.036, "the other way round (camera to world for world to camera) would see 69%"),
        ("world_to_cam_opengl", 0.036, "the other way round and with OpenGL axes would see 69%"),
        ("cam_to_world_opengl", 0.0, "with OpenGL axes (y up, z backward) would see 69%"),
    ],
)
def test_a_misread_pose_is_noticed_by_what_is_in_view(cases: Path, tmp_path: Path, written_as: str, share: float, hint: str | None) -> None:
    from wholescene.structures import Frame, View
    from wholescene.systems.base import share_in_view, view_notes

    plain = json.loads((cases / "A15_pose_readings.json").read_text())
    camera = read_camera(written(tmp_path, {"K": plain["K"], "width": 1241, "height": 376, "pose": plain[written_as]}))
    frame = Frame("A15", {"main": View(np.zeros((376, 1241, 3), np.uint8), camera)}, semantic_kitti_grid())
    if share == 0:
        with pytest.raises(InputError) as refused:
            share_in_view(frame)
        assert hint in str(refused.value)
        return
    assert share_in_view(frame) == pytest.approx(share, abs=0.0005)
    notes = view_notes(frame, share_in_view(frame))
    assert (hint is None and notes == ()) or hint in notes[0]


@pytest.mark.parametrize(
    ("entry", "world"),
    [
        ({"T_cam_world": LIDAR_TO_CAMERA.tolist()}, "scene"),
        ({"extrinsics": LIDAR_TO_CAMERA[:3].tolist()}, "scene"),
        ({"lidar_to_cam": LIDAR_TO_CAMERA.tolist()}, "lidar"),
        ({"pose": np.linalg.inv(LIDAR_TO_CAMERA).tolist(), "world": "lidar"}, "lidar"),
        ({"T_world_cam": np.linalg.inv(LIDAR_TO_CAMERA).ravel().tolist()}, "scene"),
    ],
)
def test_poses_are_known_by_their_usual_names(tmp_path: Path, entry: dict, world: str) -> None:
    camera = read_camera(written(tmp_path, {**MINIMAL, **entry}))
    assert np.allclose(camera.T_cam_world, LIDAR_TO_CAMERA)
    assert camera.world == world


def test_a_height_and_a_pitch_in_the_file_put_the_camera_on_the_ground(tmp_path: Path) -> None:
    camera = read_camera(written(tmp_path, {**MINIMAL, "height_m": 1.4, "pitch_deg": 7}))
    assert np.allclose(camera.T_cam_world, Camera(np.array(K), (640, 360)).on_ground(1.4, 7).T_cam_world)
    assert read_camera(written(tmp_path, {**MINIMAL, "height_m": 1.4})).guesses == ("pitch 0 degrees",)


@pytest.mark.parametrize(
    "plain",
    [
        {"camera_matrix": {"rows": 3, "cols": 3, "data": np.ravel(K).tolist()}, "image_width": 640, "image_height": 360},
        {"cameraMatrix": K, "resolution": [640, 360]},
        {"k": np.ravel(K).tolist(), "d": [0, 0, 0, 0, 0], "width": 640, "height": 360},
        {"fx": 500, "fy": 501, "cx": 319.5, "cy": 179.5, "w": 640, "h": 360},
        {"fl_x": "5e2", "fl_y": 501, "cx": 319.5, "cy": 179.5, "w": 640, "h": 360, "k1": 0},
        {"cam0": {"camera_model": "pinhole", "intrinsics": [500, 501, 319.5, 179.5], "resolution": [640, 360]}},
        {"K": np.hstack([K, [[0], [0], [0]]]).tolist(), "width": 640.0, "height": "360"},
    ],
)
def test_intrinsics_are_known_by_their_usual_names(tmp_path: Path, plain: dict) -> None:
    camera = read_camera(written(tmp_path, plain))
    assert numbers_of(camera) == (500, 501, 319.5, 179.5)
    assert camera.size == (640, 360)
    assert not any("lens distortion" in note for note in camera.notes)


def test_one_of_several_cameras_is_chosen_by_name(tmp_path: Path) -> None:
    one = {"intrinsics": [500, 501, 319.5, 179.5], "resolution": [640, 360]}
    path = written(tmp_path, {"cam0": one, "cam1": {**one, "intrinsics": [400, 401, 300, 170]}})
    assert parse_camera(f"{path}:cam1", (640, 360)).K[0, 0] == 400
    with pytest.raises(InputError, match=r"several cameras.*cam0, cam1"):
        read_camera(path)


def test_the_rectified_projection_of_ros_is_taken_on_request_and_has_no_distortion(cases: Path) -> None:
    camera = read_camera(cases / "A09_no_commas.yaml", which="P")
    assert numbers_of(camera) == (480, 481, 321, 241)
    assert not any("lens distortion" in note for note in camera.notes)
    with pytest.raises(InputError, match="no projection_matrix"):
        read_camera(cases / "A07_opencv_storage.yml", which="P")


def test_our_own_description_of_a_camera_is_read_back(tmp_path: Path) -> None:
    camera = Camera(np.array(K), (640, 360), guesses=("pitch",)).on_ground(1.5, 3).cropped(10, 20, 300, 200).mirror()
    again = read_camera(written(tmp_path, camera.as_dict()))
    assert again.as_dict() == camera.as_dict()


def test_a_fisheye_is_measured_with_its_own_formula_and_unknown_lenses_are_refused(tmp_path: Path) -> None:
    plain = {**MINIMAL, "distortion_model": "equidistant", "D": [0.1, -0.02, 0, 0]}
    r = np.hypot(319.5 / 500, 179.5 / 501)
    angle = np.arctan(r)
    bent = angle + 0.1 * angle**3 - 0.02 * angle**5
    shift = np.hypot(319.5, 179.5) * (1 - bent / r)  # fx and fy nearly agree, so the corner moves along its radius
    said = float(read_camera(written(tmp_path, plain)).notes[0].split("up to ")[1].split(" px")[0])
    assert said == pytest.approx(shift, abs=0.2)
    with pytest.raises(InputError, match="unknown distortion model 'mei'"):
        read_camera(written(tmp_path, {**plain, "distortion_model": "mei"}))
    with pytest.raises(InputError, match="tilted"):
        read_camera(written(tmp_path, {**MINIMAL, "D": [0.1] * 14}))


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"K": K}, "no picture size"),
        ({**MINIMAL, "K": [1, 2, 3]}, "K has 3 numbers; expected 4 or 9"),
        ({**MINIMAL, "K": [True] * 9}, "K holds True"),
        ({**MINIMAL, "K": {"rows": 3}}, "K has no data"),
        ({**MINIMAL, "K": [[[[[1]]]]]}, "K holds"),
        ({**MINIMAL, "K": [1] * 100}, "K holds"),
        ({**MINIMAL, "K": [float("nan")] * 9}, "K holds"),
        ({**MINIMAL, "width": 1e9}, "picture size"),
        ({"focal": 3}, "no camera: its names are focal"),
        ({**MINIMAL, "pose": np.zeros((4, 4)).tolist()}, "cannot be inverted"),
        ({**MINIMAL, "pose": np.eye(4).tolist(), "w2c": LIDAR_TO_CAMERA.tolist()}, "disagree: pose and w2c"),
        ({**MINIMAL, "pose": np.eye(4).tolist(), "world": "moon"}, "world is 'moon'"),
        ([1, 2], "list at the top"),
        ("{", "cannot be read as JSON"),
        ("[" * 100000, "cannot be read as JSON"),
    ],
)
def test_descriptions_that_are_no_camera_are_refused_by_name(tmp_path: Path, plain: object, said: str) -> None:
    path = tmp_path / "camera.json"
    path.write_text(plain if isinstance(plain, str) else json.dumps(plain))
    with pytest.raises(InputError, match=rf"(?s)camera\.json.*{said}"):
        read_camera(path)


def test_yaml_runs_nothing_and_does_not_unfold_for_ever(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    for attack in (f"!!python/object/apply:pathlib.Path.touch [{trace}]", f"!!python/object/apply:os.system ['touch {trace}']"):
        with pytest.raises(InputError, match="cannot be read as YAML"):
            read_camera(written(tmp_path, f"K: {attack}\n", "a.yaml"))
    assert not trace.exists()
    levels = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9 if i else ['0'] * 9)}]" for i in range(30)]
    with pytest.raises(InputError, match="K holds"):
        read_camera(written(tmp_path, "\n".join([*levels, "K: *x29"]), "b.yaml"))
    with pytest.raises(InputError, match="1,048,576"):
        read_camera(written(tmp_path, "K: 0\n" + "#" * 2**20, "c.yaml"))
    with pytest.raises(InputError, match="cannot be read as YAML"):
        read_camera(written(tmp_path, "K: [1, 2\n", "d.yaml"))


# ---- one word -----------------------------------------------------------------------------------------------------------------------


def test_four_numbers_are_a_camera_in_the_pictures_own_pixels(tmp_path: Path) -> None:
    for text in ("500,501,319.5,179.5", "500 501 319.5 179.5", " 5e2; 501; 319.5; 179.5 "):
        camera = parse_camera(text, (640, 360))
        assert numbers_of(camera) == (500, 501, 319.5, 179.5)
        assert not camera.pose_known
    assert numbers_of(read_camera(written(tmp_path, "500 501 319.5 179.5\n", "k.txt"), (640, 360))) == (500, 501, 319.5, 179.5)
    assert numbers_of(read_camera(written(tmp_path, "500 0 319.5\n0 501 179.5\n0 0 1\n", "k.txt"), (640, 360))) == (500, 501, 319.5, 179.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kiti", "unknown camera preset 'kiti'; the nearest"),
        ("500,501,319.5", "3 numbers; expected fx,fy,cx,cy"),
        ("500,501,319.5,nan", "four finite"),
        ("here/calib.txt", "does not exist"),
        ("calib.yaml", "does not exist"),
    ],
)
def test_words_that_are_no_camera_are_answered(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_camera(text, (640, 360))


def test_a_folder_without_a_calibration_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"calib_cam_to_cam\.txt.*calib\.txt"):
        parse_camera(str(tmp_path), (640, 360))
    with pytest.raises(InputError, match="no picture size"):
        read_camera(written(tmp_path, "P2: 700 0 600 0 0 700 180 0 0 0 1 0\n", "calib.txt"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_own_picture_and_twice_that(name: str) -> None:
    for width, height, *numbers in PRESETS[name].variants or [(640, 480)]:
        camera = parse_camera(name, (width, height))
        assert camera.notes == ()
        assert not camera.pose_known
        assert 0.3 < camera.K[0, 0] / width < 1.3
        if numbers:
            assert numbers_of(camera) == pytest.approx(numbers)
    width, height = (PRESETS[name].variants or [(640, 480)])[0][:2]
    once, twice = (parse_camera(name, (n * width, n * height)) for n in (1, 2))
    assert np.allclose(np.array(numbers_of(twice)[:2]), 2 * np.array(numbers_of(once)[:2]))
    assert np.allclose(np.array(numbers_of(twice)[2:]) + 0.5, 2 * (np.array(numbers_of(once)[2:]) + 0.5))


@pytest.mark.parametrize(
    ("cx", "size", "said"),
    [(6072.0, (1241, 376), "the principal point (6072, 185) lies outside"), (15.0, (31, 17), "only 31 x 17 pixels"), (607.0, (1241, 376), None)],
)
def test_a_mistyped_principal_point_and_a_picture_of_a_few_pixels_are_noticed(cx: float, size: tuple[int, int], said: str | None) -> None:
    from wholescene.structures import Frame, View
    from wholescene.systems.base import view_notes

    width, height = size
    camera = Camera.from_intrinsics(718.9, 718.9, cx, min(185.0, height / 2), size).on_ground(1.65)
    frame = Frame("A", {"main": View(np.zeros((height, width, 3), np.uint8), camera)}, semantic_kitti_grid())
    notes = view_notes(frame, 0.5)
    assert (said is None and notes == ()) or said in notes[0]
