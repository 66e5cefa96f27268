"""How `predict` comes to depth: given, by a source, or by a sentence that says which sources there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.checkpoints import native
from wholescene.depth.stereo import SemiGlobalStereo
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View
from wholescene.systems import create
from wholescene.systems.base import System
from wholescene.systems.voxformer.config import VoxFormerConfig
from wholescene.weights import load

GRID = GridPlacement((16, 16, 8), (1.6, 1.6, 0.8), lidar_corner=None)
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
LENS = Camera.from_intrinsics(60, 60, 47.5, 31.5, (96, 64))


@pytest.fixture
def system() -> System:
    torch.manual_seed(0)
    return create("voxformer", VoxFormerConfig.preset("clean", "tiny", grid=GRID))


class Baseline:
    """A source that tells the distance of the two cameras as depth."""

    needs, identity = frozenset({"right"}), ""

    def __call__(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        left, right = (frame.views[n].camera for n in ("main", "right"))
        metres = np.full(PICTURE.shape[:2], np.linalg.norm(right.position - left.position), np.float32)
        return metres, metres > 0


def test_a_source_is_asked_only_where_no_depth_is_given(system: System) -> None:
    with pytest.raises(InputError, match=r"voxformer needs depth.*--depth FILE.*--depth-source\): files:.*stereo.*mono:WEIGHTS"):
        system.predict(PICTURE, LENS)
    system.depth_source = Baseline()
    one = system.predict(PICTURE, LENS, right=PICTURE, baseline_m=6.0)
    given = system.predict(PICTURE, LENS, depth=np.full(PICTURE.shape[:2], 6.0, np.float32))
    assert np.array_equal(one.labels, given.labels)
    several = system.predict([PICTURE, PICTURE], LENS, right=PICTURE, baseline_m=6.0)
    assert all(np.array_equal(s.labels, given.labels) for s in several)
    with pytest.raises(InputError, match="no pixel has a depth"):
        system.predict(PICTURE, LENS, right=PICTURE)  # the right camera stands where the left one does


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("depth", np.ones((10, 10)), r"depth is float64 of shape \(10, 10\); expected numbers of shape \(64, 96\)"),
        ("depth", np.ones((128, 192)), r"\(128, 192\)"),
        ("depth", np.ones((64, 96, 1)), r"\(64, 96, 1\)"),
        ("depth", "street.npy", "<U10"),
        ("points", np.ones(3), r"\(N, 3\)"),
        ("occupancy", np.ones((4, 4, 4), bool), r"\(16, 16, 8\)"),
    ],
)
def test_what_is_given_beside_the_picture_must_fit_it(system: System, name: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        system.predict(PICTURE, LENS, **{name: value})


def test_depth_may_be_of_any_kind_of_number(system: System) -> None:
    whole = np.full(PICTURE.shape[:2], 6)
    assert np.array_equal(system.predict(PICTURE, LENS, depth=whole).labels, system.predict(PICTURE, LENS, depth=whole.astype(np.float32)).labels)
    assert np.array_equal(system.predict(PICTURE, LENS, depth=whole.tolist()).labels, system.predict(PICTURE, LENS, depth=whole).labels)


def test_the_right_camera_goes_where_the_left_one_goes(system: System) -> None:
    frame = system.frame_of(PICTURE, LENS, right=PICTURE, baseline_m=0.5)
    left, right = (frame.views[n].camera for n in ("main", "right"))
    assert left.T_cam_world[:3, :3] @ (right.position - left.position) == pytest.approx((0.5, 0, 0))
    own = system.frame_of(PICTURE, LENS, right=View(PICTURE, LENS.beside(0.5)))
    assert own.views["right"].camera.position == pytest.approx(right.position)
    posed = LENS.on_ground(2.0, 10)
    turned = np.eye(4)
    turned[0, 3] = -0.3  # 0.3 m to the right, by its pose and not by an offset
    other = LENS.posed(turned @ posed.T_cam_world, posed.world)
    kept = system.frame_of(PICTURE, posed, right=View(PICTURE, other))
    assert np.allclose(kept.views["right"].camera.T_cam_world, other.T_cam_world)
    assert np.allclose(other.moved_with(posed, left).T_cam_world, turned @ left.T_cam_world)


def test_weights_trained_with_stereo_ask_for_the_right_picture_and_no_file_names_a_folder_or_a_hub(system: System, tmp_path: Path) -> None:
    for named, kind in (("stereo", SemiGlobalStereo), ("mono:someones/network", type(None)), ("files:/etc", type(None)), ("", type(None))):
        native.save(tmp_path / "w.safetensors", system, card={"depth_source": named})
        assert isinstance(load(tmp_path / "w.safetensors").depth_source, kind)


def test_a_scene_says_where_the_camera_was_scaled_and_where_depth_is_hardly_in_metres(system: System) -> None:
    depth = np.full(PICTURE.shape[:2], 6.0, np.float32)
    whole = system.predict(PICTURE, LENS, depth=depth)
    assert not whole.provenance["notes"]
    half = system.predict(PICTURE, LENS.resized((48, 32)), depth=depth)
    assert "the camera is for 48 x 32 pixels and the picture has 96 x 64; it was scaled to them" in half.provenance["notes"]
    assert np.array_equal(half.labels, whole.labels)
    far = system.predict(PICTURE, LENS, depth=1000 * depth)
    assert any("as mm 6.00 m" in note for note in far.provenance["notes"])
