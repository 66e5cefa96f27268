"""Disturbances are fixed, seeded, as strong as they say, and change nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.data.disturb import DISTURBANCES, DisturbedFrames, disturbance, suite, with_pictures
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View

CAMERA = Camera.from_fov(70, (160, 96)).on_ground(1.6, 3)


def _frame(name: str = "a", depth: bool = True) -> Frame:
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 190, (96, 160, 3), dtype=np.uint8)
    metres = rng.uniform(5, 30, (96, 160)).astype(np.float32)
    metres[:10] = 0
    grid = GridPlacement((8, 8, 4), (2.0, 2.0, 1.0), lidar_corner=None).place(CAMERA)
    return Frame(name, {"main": View(picture, CAMERA)}, grid, depth=metres if depth else None, targets={1: np.ones((8, 8, 4), np.uint8)})


def _change(name: str, severity: float) -> tuple[Frame, Frame]:
    before = _frame()
    return before, DISTURBANCES[name](before, severity)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_only_what_it_says_is_touched_and_always_alike(name: str) -> None:
    one = DISTURBANCES[name]
    before = _frame()
    for severity in one.severities:
        after, again = one(before, severity), one(_frame(), severity)
        parts = {
            "picture": np.array_equal(after.main.picture, before.main.picture),
            "depth": np.array_equal(after.depth, before.depth),  # type: ignore[arg-type]  # this frame has one
            "camera": np.array_equal(after.main.camera.matrix @ after.main.camera.T_cam_world, before.main.camera.matrix @ CAMERA.T_cam_world),
        }
        assert {part for part, same in parts.items() if not same} == {one.touches}
        assert np.array_equal(after.main.picture, again.main.picture)
        assert np.array_equal(after.depth, again.depth)  # type: ignore[arg-type]
        assert after.targets is before.targets
        assert after.grid == before.grid
        assert after.main.picture.dtype == np.uint8
    assert np.array_equal(before.main.picture, _frame().main.picture), "the frame that was given stays as it was"


def test_severities_are_the_published_list() -> None:
    assert {name: one.severities for name, one in DISTURBANCES.items() if name != "fog"} == {
        "noise": (0.04, 0.08, 0.12, 0.18, 0.26), "brightness": (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3), "contrast": (0.75, 0.5, 0.4),
        "motion-blur": (5, 9, 15), "occlusion": (0.05, 0.1, 0.2, 0.3), "depth-scale": (0.9, 0.95, 1.05, 1.1),
        "depth-noise": (0.02, 0.05, 0.1, 0.2), "depth-waves": (0.02, 0.05, 0.1, 0.2), "depth-holes": (0.05, 0.1, 0.2),
        "focal-length": (0.95, 0.98, 1.02, 1.05), "pitch": (-2.0, -1.0, 1.0, 2.0),
    }  # fmt: skip


def test_pictures_suffer_as_much_as_the_severity_says() -> None:
    before, noisy = _change("noise", 0.08)
    gap = noisy.main.picture.astype(float) - before.main.picture
    assert gap.std() == pytest.approx(0.08 * 255, rel=0.02)
    assert abs(gap.mean()) < 0.3
    before, lighter = _change("brightness", 0.2)
    assert (lighter.main.picture.astype(int) - before.main.picture == 51).all()
    before, flat = _change("contrast", 0.5)
    assert flat.main.picture.std() == pytest.approx(0.5 * before.main.picture.std(), rel=0.02)
    before, hidden = _change("occlusion", 0.2)
    assert (hidden.main.picture == 128).all(-1).mean() == pytest.approx(0.2, abs=0.01)
    before, blurred = _change("motion-blur", 9)
    expected = before.main.picture[:, 20:29].astype(float).mean(1)
    np.testing.assert_allclose(blurred.main.picture[:, 24], expected, atol=0.51)


def test_depth_suffers_as_much_as_the_severity_says_and_what_is_unknown_stays_so() -> None:
    for name, severity in (("depth-noise", 0.05), ("depth-waves", 0.1)):
        before, after = _change(name, severity)
        assert after.depth is not None
        assert before.depth is not None
        gap = (after.depth / np.where(before.depth > 0, before.depth, 1) - 1)[10:]
        assert gap.std() == pytest.approx(severity, rel=0.15)
        assert not after.depth[:10].any()
        steps = np.abs(np.diff(gap, axis=1)).mean() / gap.std()
        assert (steps < 0.2) == (name == "depth-waves"), "waves are smooth, noise is not"
    before, holed = _change("depth-holes", 0.2)
    assert (holed.depth[10:] == 0).mean() == pytest.approx(0.2, abs=0.12)  # type: ignore[index]
    assert (DISTURBANCES["depth-scale"](_frame(depth=False), 0.9)).depth is None


@pytest.mark.parametrize("axis", [0, 1])
def test_waves_of_depth_reach_as_far_along_rows_as_along_columns(axis: int) -> None:
    """Over many pictures depths half a wave's 40 pixels apart are wrong much alike, and those two waves apart are not."""
    frames = [_frame(str(i)) for i in range(40)]
    waves = [DISTURBANCES["depth-waves"](replace(f, depth=np.ones((96, 160), np.float32)), 0.05).depth for f in frames]
    gaps = np.moveaxis(np.stack([wave - 1 for wave in waves if wave is not None]), axis + 1, 1)

    def alike(pixels: int) -> float:
        return float((gaps[:, pixels:] * gaps[:, :-pixels]).mean() / (gaps**2).mean())

    assert 0.5 < alike(20) < 0.8
    assert abs(alike(80)) < 0.25


def test_a_wrong_pitch_turns_the_camera_in_its_place_and_a_wrong_focal_length_magnifies() -> None:
    _, down = _change("pitch", 2.0)
    np.testing.assert_allclose(down.main.camera.position, CAMERA.position, atol=1e-9)
    np.testing.assert_allclose(down.main.camera.T_cam_world, CAMERA.on_ground(1.6, 5).T_cam_world, atol=1e-9)
    _, long = _change("focal-length", 1.05)
    assert long.main.camera.intrinsics[0, 0] == pytest.approx(1.05 * CAMERA.intrinsics[0, 0])


def test_numbers_differ_between_frames_and_seeds_but_not_between_severities() -> None:
    noise = DISTURBANCES["noise"]
    first, second = (noise(_frame(name), 0.08).main.picture.astype(int) for name in ("a", "b"))
    assert (first != second).any()
    assert (noise(_frame(), 0.08, seed=1).main.picture != first).any()
    small, large = (noise(_frame(), severity).main.picture.astype(float) - _frame().main.picture for severity in (0.04, 0.12))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.98


def test_a_suite_is_all_a_kind_or_names_and_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert len(suite("all")) == len(DISTURBANCES)
    assert [d.name for d in suite("camera,noise")] == ["focal-length", "pitch", "noise"]
    with pytest.raises(InputError, match="nearest are 'noise'"):
        suite("nois")
    with pytest.raises(InputError, match="no disturbance") as refused:
        suite(" ")
    assert suite(str(refused.value).rpartition(" or ")[2])  # what it advises can be written


def test_an_own_disturbance_is_one_registered_function() -> None:
    @disturbance("fog", (0.2,), "picture", "share of the light lost to grey")
    def fog(frame: Frame, severity: float, rng: np.random.Generator) -> Frame:
        return with_pictures(frame, lambda values: values * (1 - severity) + 0.8 * severity)

    try:
        assert suite("fog")[0](_frame(), 1.0).main.picture.mean() == pytest.approx(204)
    finally:
        del DISTURBANCES["fog"]


def test_a_disturbed_dataset_has_the_names_and_length_of_its_frames() -> None:
    class Two:
        names, labels = ["a", "b"], None

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Frame:
            return replace(_frame(), name=self.names[index])

    frames = DisturbedFrames(Two(), DISTURBANCES["noise"], 0.1)
    assert (len(frames), frames.names, frames[1].name) == (2, ["a", "b"], "b")
