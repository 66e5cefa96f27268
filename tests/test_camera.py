"""The camera: projection against a loop in plain Python, the picture's history against real pictures, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wholescene.camera import Camera
from wholescene.errors import InputError

K = np.array([[50.0, 0.3, 31.0], [0, 48.0, 20.5], [0, 0, 1]])


def turned(yaw: float, pitch: float, roll: float, shift: tuple[float, float, float] = (0.3, -1.2, 2.0)) -> np.ndarray:
    """A rigid transform from three angles, by plain products."""
    c, s = (np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll]))
    about_z = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    about_y = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    about_x = np.array([[1, 0, 0], [0, c[2], -s[2]], [0, s[2], c[2]]])
    pose = np.eye(4)
    pose[:3, :3] = about_z @ about_y @ about_x
    pose[:3, 3] = shift
    return pose


def some_camera(**changed: object) -> Camera:
    return Camera(K, (64, 40), turned(0.4, -0.2, 1.1), np.array([4.0, -1.5, 0.02]), **changed)


def project_slowly(camera: Camera, point: np.ndarray) -> tuple[float, float, float]:
    """Number by number: world to camera, 3x4 projection, division; no history."""
    local = [sum(camera.T_cam_world[i][j] * (*point, 1.0)[j] for j in range(4)) for i in range(3)]
    u, v, w = (sum(camera.K[i][j] * local[j] for j in range(3)) + camera.offset[i] for i in range(3))
    return u / w, v / w, w


def test_projection_equals_a_slow_loop() -> None:
    camera = some_camera()
    points = np.random.default_rng(0).normal(size=(5, 4, 3)) * 5
    pixels, depth = camera.project(points)
    for index in np.ndindex(5, 4):
        assert np.allclose((*pixels[index], depth[index]), project_slowly(camera, points[index]))


def test_only_points_before_the_camera_and_inside_the_picture_are_seen() -> None:
    camera = Camera.from_intrinsics(10, 10, 3, 2, (7, 5))
    inside, left, behind = [-0.3499, 0, 1], [-0.3501, 0, 1], [0, 0, -1]
    below, last = [0, 0.2501, 1], [0.3499, 0.2499, 1]
    assert camera.sees(np.array([inside, left, behind, below, last, [0, 0, 0]])).tolist() == [True, False, False, False, True, False]


def test_the_position_is_the_point_that_has_no_pixel() -> None:
    camera = some_camera()
    assert np.allclose(camera.matrix @ (camera.T_cam_world @ np.append(camera.position, 1)), 0, atol=1e-9)
    plain = replace(camera, offset=np.zeros(3))
    assert np.allclose(plain.position, np.linalg.inv(camera.T_cam_world)[:3, 3])


@st.composite
def edited(draw: st.DrawFn) -> tuple[Camera, np.ndarray]:
    """A camera whose picture was cropped, padded and mirrored, and the picture itself: each pixel holds its number in the first one, 0 is new."""
    camera = some_camera()
    picture = np.arange(1, 64 * 40 + 1).reshape(40, 64)
    for kind in draw(st.lists(st.sampled_from(["crop", "pad", "mirror"]), max_size=4)):
        height, width = picture.shape
        if kind == "crop":
            left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
            w, h = draw(st.integers(1, width - left)), draw(st.integers(1, height - top))
            camera, picture = camera.cropped(left, top, w, h), picture[top : top + h, left : left + w]
        elif kind == "pad":
            left, top, right, bottom = (draw(st.integers(0, 5)) for _ in range(4))
            camera, picture = camera.padded(left, top, right, bottom), np.pad(picture, ((top, bottom), (left, right)))
        else:
            camera, picture = camera.mirror(), picture[:, ::-1]
    return camera, picture


@settings(max_examples=60, deadline=None)
@given(edited())
def test_a_point_keeps_its_picture_content_through_crops_pads_and_mirrors(case: tuple[Camera, np.ndarray]) -> None:
    camera, picture = case
    assert camera.size == (picture.shape[1], picture.shape[0])
    points = camera.unproject(np.full(picture.shape, 7.0))  # a point behind every pixel, row by row
    before, _ = some_camera().project(points)
    old = picture.ravel() > 0
    assert np.allclose(before[old], np.stack([(picture.ravel()[old] - 1) % 64, (picture.ravel()[old] - 1) // 64], 1), atol=1e-6)
    assert camera.sees(points).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 150), st.integers(8, 150))
def test_resizing_follows_pillow(width: int, height: int) -> None:
    """A ramp that holds its own coordinate, resized by Pillow, still tells where each new pixel was."""
    camera = Camera.from_intrinsics(30, 30, 31.5, 19.5, (64, 40))
    ramps = np.broadcast_to(np.arange(64, dtype=np.float32), (40, 64)), np.broadcast_to(np.arange(40, dtype=np.float32)[:, None], (40, 64))
    u, v = (np.asarray(Image.fromarray(np.ascontiguousarray(r)).resize((width, height), Image.Resampling.BILINEAR)) for r in ramps)
    resized = camera.resized((width, height))
    row, column = height // 2, width // 2  # clear of the borders, where Pillow's filter is cut
    ray = np.array([(u[row, column] - 31.5) / 30, (v[row, column] - 19.5) / 30, 1.0])
    # Pillow samples its filter, so its ramps are off by up to a tenth of a pixel; the rule without the half pixel is off by (scale - 1) / 2.
    assert np.allclose(resized.project(ray)[0], (column, row), atol=0.15)
    assert np.allclose(resized.resized((64, 40)).matrix, camera.matrix)


def test_a_mirrored_camera_says_so_and_mirroring_twice_undoes_it() -> None:
    camera = some_camera()
    mirrored = camera.mirror()
    assert mirrored.mirrored
    assert not camera.mirrored
    assert mirrored.intrinsics[0, 0] < 0
    assert np.allclose(mirrored.mirror().matrix, camera.matrix)
    point = np.array([[1.0, 2.0, 3.0]])
    assert np.allclose(mirrored.project(point)[0] + camera.project(point)[0] * (1, -1), (63, 0))


@settings(max_examples=25, deadline=None)
@given(edited(), st.integers(0, 2**31))
def test_unprojecting_is_the_inverse_of_projecting(case: tuple[Camera, np.ndarray], seed: int) -> None:
    camera = case[0]
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 40, (camera.height, camera.width))
    depth[rng.random(depth.shape) < 0.3] = rng.choice([0.0, -1.0, np.nan, np.inf])
    points = camera.unproject(depth)
    v, u = np.nonzero(np.isfinite(depth) & (depth > 0))
    pixels, again = camera.project(points)
    assert np.allclose(pixels, np.stack([u, v], 1), atol=1e-6)
    assert np.allclose(again, depth[v, u])


def test_unprojecting_takes_the_valid_pixels_only_and_refuses_another_size() -> None:
    camera = some_camera()
    valid = np.zeros((40, 64), bool)
    valid[3, 5] = True
    assert camera.unproject(np.ones((40, 64)), valid).shape == (1, 3)
    with pytest.raises(InputError, match="64 x 41 for a picture of 64 x 40"):
        camera.unproject(np.ones((41, 64)))


@pytest.mark.parametrize("height", [0.5, 1.65])
@pytest.mark.parametrize("pitch", [-10.0, 0.0, 20.0])
def test_a_positive_pitch_looks_down(height: float, pitch: float) -> None:
    camera = Camera.from_intrinsics(50, 50, 32, 20, (65, 41)).on_ground(height, pitch)
    assert camera.world == "ground"
    assert np.allclose(camera.position, (0, 0, height))
    # The point on the axis, 10 m along the ground, lies tan(pitch) * 10 below the camera.
    on_axis = np.array([10, 0, height - 10 * math.tan(math.radians(pitch))])
    assert np.allclose(camera.project(on_axis)[0], (32, 20))
    far_level, left, above = camera.project(np.array([[1e9, 0, 0], [10, 1, height], [10, 0, height + 1]]))[0]
    assert far_level[1] == pytest.approx(20 - 50 * math.tan(math.radians(pitch)))
    assert left[0] < 32
    assert above[1] < far_level[1]


def test_the_field_of_view_spans_the_whole_width() -> None:
    camera = Camera.from_fov(90, (101, 51))
    edge = camera.project(np.array([1.0, 0, 1]))[0]  # 45 degrees to the right: the outer border of the last pixel
    assert np.allclose(edge, (100.5, 25))


def test_plain_types_hold_the_whole_camera() -> None:
    camera = some_camera(guesses=("pitch",), world="lidar", source="a test").noted("a note").cropped(1, 2, 30, 30).mirror()
    again = Camera.from_dict(json.loads(json.dumps(camera.as_dict())))
    assert again.as_dict() == camera.as_dict()
    assert np.array_equal(again.matrix, camera.matrix)
    with pytest.raises(InputError, match="cannot be read"):
        Camera.from_dict({**camera.as_dict(), "focal": 3})
    with pytest.raises(InputError, match="cannot be read"):
        Camera.from_dict({**camera.as_dict(), "K": [[1, 2], [3]]})


def test_a_camera_without_pose_says_where_it_was_looked_for_until_it_gets_one() -> None:
    camera = Camera.from_intrinsics(50, 50, 32, 20, (64, 40)).noted("no pose: calib.txt holds P2 only", "scaled")
    with pytest.raises(InputError, match=r"calib\.txt holds P2 only.*--height.*--pitch"):
        camera.require_pose()
    placed = camera.on_ground(1.5, guesses=("pitch 0",))
    placed.require_pose()
    assert placed.notes == ("scaled",)
    assert placed.guesses == ("pitch 0",)


def rotated(**changes: float) -> np.ndarray:
    pose = np.eye(4)
    for name, value in changes.items():
        pose[int(name[1]), int(name[2])] = value
    return pose


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"K": np.eye(2)}, "not a finite 3x3"),
        ({"K": K * np.nan}, "not a finite 3x3"),
        ({"K": np.zeros((3, 3))}, "not calibrated.*--fov"),
        ({"K": np.diag([1.1, -1.1, -1.0])}, "negative or zero focal length.*OpenGL.*width / 2"),
        ({"K": K.T}, "is it transposed"),
        ({"K": K * 2}, "fx skew cx / 0 fy cy / 0 0 1"),
        ({"T_cam_world": np.eye(3)}, "4x4"),
        ({"T_cam_world": rotated(m30=1)}, "last row 0 0 0 1"),
        ({"T_cam_world": rotated(m00=2)}, "not a rotation"),
        ({"T_cam_world": rotated(m00=-1)}, "not a rotation"),
        ({"recorded_size": (0, 5)}, "0 x 5"),
        ({"recorded_size": (5, 70000)}, "65,536"),
        ({"offset": np.zeros(2)}, "offset"),
        ({"affine": np.zeros((3, 3))}, "history"),
    ],
)
def test_what_is_no_camera_is_refused_by_name(changed: dict, said: str) -> None:
    with pytest.raises(InputError, match=f"(?s)camera from a test.*{said}"):
        Camera(**{"K": K, "recorded_size": (64, 40), "source": "a test", **changed})


@pytest.mark.parametrize("bad", [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (101.0, 0.0), (1.0, 90.0), (1.0, math.nan)])
def test_heights_and_pitches_that_no_camera_has_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"camera height|pitch"):
        some_camera().on_ground(*bad)


def test_a_crop_to_nothing_and_an_impossible_field_of_view_are_refused() -> None:
    with pytest.raises(InputError, match="0 x 5 pixels is left"):
        some_camera().cropped(0, 0, 0, 5)
    with pytest.raises(InputError, match="between 1 and 179"):
        Camera.from_fov(180, (10, 10))
