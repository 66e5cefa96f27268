"""Depth sources: each gives metres and where they are valid, or a sentence that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wholescene.camera import Camera
from wholescene.depth.caching import Cached
from wholescene.depth.folder import DepthFiles
from wholescene.depth.sources import SOURCES, Truth, depth_source, said_sources, with_depth
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View

SIZE = (40, 30)


def frame(name: str = "08/000005", **more: object) -> Frame:
    camera = Camera.from_intrinsics(50, 50, 19.5, 14.5, SIZE).on_ground(1.6)
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    return Frame(name, {"main": View(picture, camera)}, GridPlacement((8, 8, 4), (2, 2, 1)).place(camera), **more)  # type: ignore[arg-type]


def metres(near: float = 2.0) -> np.ndarray:
    return np.linspace(near, 20, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE[::-1])


@pytest.mark.parametrize("place", ["sequences/08/000005", "08/000005", "000005"])
def test_files_are_found_in_every_published_layout(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    np.save(tmp_path / f"{place}.npy", metres())
    found = with_depth(frame(), depth_source(f"files:{tmp_path}")).depth
    assert np.array_equal(found, metres())


def test_a_unit_stands_behind_the_folder_and_a_baseline_takes_the_focal_length_of_the_frame(tmp_path: Path) -> None:
    stored = (metres() * 256).astype(np.uint16)
    stored[0, 0] = 0
    Image.fromarray(stored).save(tmp_path / "000005.png")
    depth, valid = depth_source(f"files:{tmp_path}@kitti")(frame())
    assert not valid[0, 0]
    np.testing.assert_allclose(depth[valid], stored[valid] / 256)
    with pytest.raises(InputError, match=r"000005\.png.*says no unit.*files:FOLDER@UNIT"):
        depth_source(f"files:{tmp_path}")(frame())
    (tmp_path / "d").mkdir()
    np.save(tmp_path / "d" / "000005.npy", 50 * 0.5 / metres())
    depth, _ = depth_source(f"files:{tmp_path / 'd'}@baseline:0.5")(frame())
    np.testing.assert_allclose(depth, metres(), rtol=1e-5)


def test_truth_is_what_the_frame_knows(tmp_path: Path) -> None:
    known = metres()
    known[0, 0], known[0, 1] = np.inf, -1
    depth, valid = Truth()(frame(depth_target=known))
    assert valid.sum() == known.size - 2
    assert depth[~valid].tolist() == [0, 0]
    with pytest.raises(InputError, match="has no depth of its own; take another source: files:"):
        Truth()(frame())


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "depth@home"
    folder.mkdir()
    np.save(folder / "one.npy", metres())
    np.save(folder / "two.npy", (1000 * metres()).astype(np.uint16))
    assert depth_source(f"files:{folder}")(frame(name="one"))[1].any()
    assert depth_source(f"files:{folder}@mm")(frame(name="two"))[1].any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stereoo", "the nearest is 'stereo'"),
        ("files", "depth folder '' is not there"),
        ("files:/nowhere", "/nowhere"),
        ("files:.@feet", "depth unit"),
        ("files:.@baseline:none", "baseline:METRES"),
        ("files:.@baseline:0", "baseline:METRES"),
        ("stereo:near", "metres above zero"),
        ("stereo:-1", "metres above zero"),
        ("truth:0", "nothing behind a colon"),
        ("mono", "needs weights"),
        ("iso", "needs weights: iso:FILE"),
    ],
)
def test_a_source_that_means_nothing_is_refused_with_what_would(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        depth_source(text)


def test_what_lies_nowhere_or_fits_no_picture_is_named(tmp_path: Path) -> None:
    source = DepthFiles(tmp_path)
    with pytest.raises(InputError, match=r"no depth map for 08/000005: looked for .*sequences/08/000005, .*\.npy"):
        source(frame())
    np.save(tmp_path / "000005.npy", metres()[:, 1:])
    with pytest.raises(InputError, match="depth of 39 x 30 for a picture of 40 x 30"):
        with_depth(frame(), source)
    np.save(tmp_path / "000005.npy", np.zeros(SIZE[::-1]))
    with pytest.raises(InputError, match="no pixel has a depth"):
        with_depth(frame(), source)


def test_listing_the_sources_imports_neither_torch_nor_opencv() -> None:
    assert set(SOURCES) == {"files", "stereo", "mono", "iso", "truth"}
    assert said_sources("files") == "stereo[:NEAREST_M], mono:WEIGHTS, iso:FILE, truth"
    code = (
        "import sys; from wholescene.depth.sources import depth_source; depth_source('stereo'); sys.exit(bool({'torch', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, check=False).returncode == 0


class Counting:
    """A source that counts how often it is asked."""

    def __init__(self, identity: str = "counting") -> None:
        self.identity, self.needs, self.asked = identity, frozenset({"right"}), 0

    def __call__(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        self.asked += 1
        depth = metres()
        depth[0, 0] = 0
        return depth, depth > 0


def test_depth_is_kept_under_all_that_it_depends_on(tmp_path: Path) -> None:
    source, one = Counting(), frame()
    one = replace(one, views={**one.views, "right": one.main})
    kept = Cached(source, tmp_path)
    depth, valid = kept(one)
    again, valid_again = kept(replace(one, name="another name"))
    assert source.asked == 1
    assert np.array_equal(depth, again)
    assert np.array_equal(valid, valid_again)
    assert not valid[0, 0]
    other = one.main.picture.copy()
    other[3, 3, 0] ^= 1
    for changed in (
        one.with_main(other, one.main.camera),
        one.with_main(one.main.picture, one.main.camera.beside(0.1)),
        replace(one, views={**one.views, "right": View(other, one.main.camera)}),
    ):
        before = source.asked
        kept(changed)
        assert source.asked == before + 1
    Cached(Counting("another"), tmp_path)(one)
    assert len(list(tmp_path.rglob("*.npy"))) == 5
    kept.path_of(one).write_bytes(b"cut off")
    before = source.asked
    assert np.array_equal(kept(one)[0], depth)
    assert source.asked == before + 1
    assert Cached(Counting(""), tmp_path / "none")(one)[1].any()
    assert not (tmp_path / "none").exists()
