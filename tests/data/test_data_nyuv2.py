"""NYUv2 in SSCNet's layout: run lengths, rotated depth, the frame; and broken files, each refused in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fake_indoor import HEIGHT, nyu_origin, nyu_pose, raw_volume, room_depth, volume_bytes, write_fake_nyuv2
from wholescene.cli import main
from wholescene.data import open_dataset
from wholescene.data.config import DataConfig
from wholescene.data.nyuv2 import NYUv2
from wholescene.data.nyuv2_volumes import decode
from wholescene.errors import InputError
from wholescene.labels import NYUV2

# SSCNet's 37 raw ids by name (Song et al. 2017) in the twelve classes of the benchmark, written out again from the published list.
TWELVE = [
    "empty", "ceiling", "floor", "wall", "window", "objects", "chair", "bed", "sofa", "table", "table", "furniture", "furniture", "furniture",
    "objects", "objects", "tvs", "table", *["objects"] * 9, "furniture", "furniture", "objects", "table", "furniture", "objects", "tvs",
    "objects", "objects", "objects",
]  # fmt: skip


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_nyuv2(tmp_path_factory.mktemp("nyu")).parent


@pytest.fixture
def own(fake: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fake, tmp_path / "own"))


def test_raw_ids_become_the_twelve_classes() -> None:
    runs = [(raw, 1000) for raw in range(37)] + [(255, 5000)]
    volume = decode(volume_bytes(nyu_origin(), nyu_pose(), np.array(runs)))
    flat = volume.labels.ravel()
    assert [NYUV2.names[flat[1000 * raw + 500]] for raw in range(37)] == TWELVE
    assert (flat[37000:42000] == 255).all()
    assert (volume.runs, volume.missing) == (38, flat.size - 42000)
    assert not flat[42000:].any()


def test_runs_are_decoded_as_a_loop_does() -> None:
    rng = np.random.default_rng(0)
    runs = np.stack([rng.choice([0, 3, 33, 255], 400), rng.choice([0, 1, 7, 900], 400)], axis=1)
    slow = [raw for raw, length in runs.tolist() for _ in range(length)]
    volume = decode(volume_bytes(nyu_origin(), nyu_pose(), runs))
    table = {0: 0, 3: 3, 33: 9, 255: 255}
    assert volume.labels.ravel()[: len(slow)].tolist() == [table[raw] for raw in slow]
    assert volume.missing == volume.labels.size - len(slow)


def test_a_frame_has_the_grid_camera_depth_and_targets_of_its_files(fake: Path) -> None:
    frame = NYUv2(fake, "train", depth=True)[1]
    assert frame.name == "NYU0003_0000"
    assert frame.main.picture.shape == (480, 640, 3)
    assert frame.depth is not None
    assert np.allclose(frame.depth, np.floor(1000 * room_depth()) / 1000, atol=1e-6)
    assert np.allclose(frame.main.camera.position, (0, 0, HEIGHT), atol=1e-6)
    assert (frame.targets[1].shape, frame.targets[4].shape) == ((60, 36, 60), (15, 9, 15))
    # a point of each thing, in metres of the world (x right, y ahead, z up), and what stands there
    points = {(0.0, 2.0, 0.0): 2, (2.0, 4.02, 2.0): 3, (-0.5, 4.02, 1.5): 4, (-1.5, 3.0, 0.3): 6, (1.2, 3.7, 0.4): 8, (1.3, 3.4, 1.0): 9}
    points |= {(0.0, 2.2, 0.5): 5, (0.0, 3.0, 1.5): 0, (0.0, 5.5, 1.0): 255}
    index, inside = frame.grid.index_of(np.array(list(points)))
    assert inside.all()
    assert frame.targets[1][tuple(index.T)].tolist() == list(points.values())
    assert frame.main.camera.sees(np.array([(0.0, 4.0, 1.0)])).all()
    assert np.allclose(frame.grid.T_world_grid[:3, 3], nyu_origin(), atol=1e-6)


def test_the_coarse_target_is_made_from_the_stored_voxels_by_the_95_rule(fake: Path) -> None:
    frame = NYUv2(fake, "train")[0]
    classes = NYUV2.from_raw(raw_volume(2))
    rng = np.random.default_rng(0)
    for factor, target in ((4, frame.targets[1]), (16, frame.targets[4])):
        for _ in range(200):
            at = [int(rng.integers(n)) for n in target.shape]
            block = classes[tuple(slice(i * factor, (i + 1) * factor) for i in at)].ravel().tolist()
            empty, unknown = block.count(0), block.count(255)
            things = sorted(set(block) - {0, 255})
            common = max(things, key=lambda label: (block.count(label), -label), default=0)
            void = empty + unknown > 0.95 * len(block)
            assert target[tuple(at)] == ((0 if empty > unknown else 255) if void else common), (factor, at)


def test_a_volume_that_was_cut_between_two_runs_is_told(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own / "depthbin/NYUtest/NYU0001_0000.bin"
    whole = NYUv2(own, "test")[0]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.warns(UserWarning, match=r"NYU0001_0000\.bin: its runs end [\d,]+ voxels before the volume does"):
        cut = NYUv2(own, "test")[0]
    assert cut.targets[1].shape == whole.targets[1].shape
    assert main(["data", "check", str(own), "--dataset", "nyuv2"]) == 0
    assert "voxels before the volume does" in capsys.readouterr().out


def test_a_volume_of_another_grid_is_refused(own: Path) -> None:
    path = own / "depthbin/NYUtest/NYU0001_0000.bin"
    path.write_bytes(volume_bytes(nyu_origin(), nyu_pose(), np.array([(0, 60 * 36 * 60)])))
    with pytest.raises(InputError, match=r"NYU0001_0000\.bin: its runs end .* or a volume of another grid; expected 240 x 144 x 240 voxels"):
        NYUv2(own, "test")[0]


def test_splits_names_and_what_is_left_out(fake: Path) -> None:
    config = DataConfig(dataset="nyuv2", root=str(fake), val="test", test="NYU0001_0000,NYU0003_0000", exclude=("NYU0002_0000",))
    assert open_dataset(config, "train").names == ["NYU0003_0000"]
    assert open_dataset(config, "val").names == ["NYU0001_0000"]
    assert open_dataset(config, "test", {"depth"})[0].depth is not None
    assert open_dataset(config, "val")[0].depth is None
    assert NYUv2(fake / "depthbin", "val").names == ["NYU0001_0000"]
    assert "published are 654" in NYUv2(fake, "val").notes[0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c[:-4], "no header of 76 bytes and whole runs"),
        (lambda c: c[:40], "no header"),
        (lambda c: c[:76], "no run of voxels"),
        (lambda c: c + np.array([3, 1], "<u4").tobytes(), "pass the end of the volume"),
        (lambda c: c + np.array([0, 2**32 - 1], "<u4").tobytes() * 3, "pass the end of the volume"),
        (lambda c: c[:76] + np.array([100, 5], "<u4").tobytes() + c[84:], "run 0 has the raw id 100"),
        (lambda c: c[:76] + np.array([65536 + 3, 5], "<u4").tobytes() + c[84:], "raw id 65539"),
        (lambda c: np.array([np.nan], "<f4").tobytes() + c[4:], "not finite"),
        (lambda c: c[:12] + bytes(64) + c[76:], "no invertible 4x4 matrix"),
    ],
)
def test_broken_volumes_are_refused_in_a_sentence(own: Path, spoil, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = own / "depthbin/NYUtest/NYU0001_0000.bin"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=said):
        NYUv2(own, "test")[0]
    assert main(["data", "check", str(own), "--dataset", "nyuv2"]) == 2
    assert said in capsys.readouterr().out


def test_broken_pictures_are_refused_and_named(own: Path) -> None:
    stem = own / "depthbin/NYUtest/NYU0001_0000"
    depth, colour = stem.with_suffix(".png"), Path(f"{stem}_color.jpg")
    good = depth.read_bytes()
    depth.write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match=r"NYU0001_0000\.png is not a depth map"):
        NYUv2(own, "test")[0]
    assert main(["data", "check", str(own), "--dataset", "nyuv2"]) == 2
    assert main(["evaluate", "monoscene-nyuv2", "--weights", str(own / "none.safetensors"), "--root", str(own)]) == 2
    depth.write_bytes(good)
    colour.write_bytes(colour.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"_color\.jpg is damaged or cut short"):
        NYUv2(own, "test")[0]
    colour.unlink()
    with pytest.raises(InputError, match=r"SSCNet's archive holds volumes and depth only"):
        NYUv2(own, "test")[0]


def test_wrong_roots_and_names_are_refused_with_what_is_known(fake: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        NYUv2(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match="holds neither NYUtrain nor NYUtest"):
        NYUv2(tmp_path, "train")
    with pytest.raises(InputError, match="the nearest is 'train'"):
        NYUv2(fake, "trains")
    with pytest.raises(InputError, match=r"the nearest .*'NYU0002_0000'"):
        NYUv2(fake, names=["NYU0002"])
    with pytest.raises(InputError, match="set the root"):
        open_dataset(DataConfig(dataset="nyuv2"), "train")


def test_the_real_frames_give_the_counts_that_were_measured_on_them(real_pictures: Path) -> None:
    root = real_pictures.parent / "nyu"
    counted = {"test": {0: 21113, 255: 102147, 1: 478, 2: 403, 3: 1308, 5: 555, 8: 57, 10: 2329, 11: 1210},
               "train": {0: 25223, 255: 102393, 2: 411, 3: 379, 5: 62, 8: 124, 11: 1008}}  # fmt: skip
    for split, counts in counted.items():
        frame = NYUv2(root, split)[0]
        found = np.bincount(frame.targets[1].ravel(), minlength=256)
        assert {int(label): int(found[label]) for label in np.flatnonzero(found)} == counts
        occupied = (frame.targets[1] > 0) & (frame.targets[1] < 255)
        assert frame.main.camera.sees(frame.grid.centres()[occupied]).mean() > 0.96
        assert frame.depth_target is not None
        index, inside = frame.grid.index_of(frame.main.camera.unproject(frame.depth_target))
        assert (frame.targets[1][tuple(index[inside].T)] != 255).mean() > 0.6, "what the sensor met is mostly known"
