"""A scene checks itself, goes to a file and back, and refuses files that lie."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.labels import NYUV2, SEMANTIC_KITTI, LabelSet
from wholescene.scene import Scene


def small_scene(shape: tuple[int, int, int] = (4, 3, 2), seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 0, 1, 5, 11, 255], np.uint8), shape)
    camera = Camera.from_fov(65, (8, 6)).on_ground(1.65, 3, guesses=("height 1.65 m",)).resized((4, 3))
    return Scene(
        labels=labels,
        grid=VoxelGrid.from_corner((1.0, -2.0, 0.5), shape, (0.5, 0.25, 1.0), "xzy"),
        label_set=NYUV2,
        camera=camera,
        probability=rng.random(shape).astype(np.float16),
        probabilities=rng.random((12, *shape)).astype(np.float16),
        picture=rng.integers(0, 256, (3, 4, 3), dtype=np.uint8),
        name="küche/0001",
        provenance={"system": "monoscene", "share_in_view": np.float64(0.5), "guesses": ("height",), "note": ""},
    )


def pack(path: Path, arrays: dict[str, np.ndarray], meta: object = None, **more: bytes) -> Path:
    """An .npz with those arrays, a description if one is given, and raw members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if meta is not None:
            text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
            arrays = {**arrays, "meta": np.frombuffer(text, np.uint8)}
        for name, array in arrays.items():
            file = io.BytesIO()
            np.save(file, array)
            archive.writestr(f"{name}.npy", file.getvalue())
        for name, content in more.items():
            archive.writestr(f"{name}.npy", content)
    return path


def taken_apart(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    return arrays, json.loads(arrays.pop("meta").tobytes())


def test_a_saved_scene_comes_back_whole(tmp_path: Path) -> None:
    scene = small_scene()
    scene.save(tmp_path / "a.npz")
    back = Scene.load(tmp_path / "a.npz")
    for name in ("labels", "probability", "probabilities", "picture"):
        assert np.array_equal(getattr(back, name), getattr(scene, name))
        assert getattr(back, name).dtype == getattr(scene, name).dtype
    assert back.grid == scene.grid
    assert back.label_set == scene.label_set
    assert back.camera is not None
    assert back.camera.as_dict() == scene.camera.as_dict()  # type: ignore[union-attr]
    assert back.name == "küche/0001"
    assert back.provenance == {"system": "monoscene", "share_in_view": 0.5, "guesses": ["height"], "note": ""}


def test_what_is_not_known_stays_unknown_in_the_file(tmp_path: Path) -> None:
    scene = Scene(np.zeros((2, 2, 2), np.uint8), VoxelGrid((2, 2, 2), (1, 1, 1)), SEMANTIC_KITTI)
    scene.save(tmp_path / "a.npz")
    back = Scene.load(tmp_path / "a.npz")
    assert back.camera is None
    assert back.probability is None
    assert back.probabilities is None
    assert back.picture is None
    assert dict(back.label_set.raw) == dict(SEMANTIC_KITTI.raw)


def test_arrays_in_column_order_are_read_in_place(tmp_path: Path) -> None:
    scene = small_scene()
    scene.save(tmp_path / "a.npz")
    arrays, meta = taken_apart(tmp_path / "a.npz")
    pack(tmp_path / "b.npz", {**arrays, "labels": np.asfortranarray(arrays["labels"])}, meta)
    assert np.array_equal(Scene.load(tmp_path / "b.npz").labels, scene.labels)


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_scene().save(tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()

    def full(file: io.BufferedWriter, **arrays: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(InputError, match="No space left"):
        small_scene(seed=1).save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_provenance_that_is_not_plain_is_refused(tmp_path: Path) -> None:
    scene = replace(small_scene(), provenance={"model": {"weights": object()}})
    with pytest.raises(InputError, match=r"provenance\['model'\]\['weights'\] holds a object"):
        scene.save(tmp_path / "a.npz")


def test_points_are_the_centres_of_what_is_occupied() -> None:
    scene = small_scene((5, 4, 3))
    points, labels = scene.points()
    occupied = (scene.labels > 0) & (scene.labels < 255)
    assert np.allclose(points, scene.grid.centres()[occupied])
    assert np.array_equal(labels, scene.labels[occupied])


def test_counts_cover_every_voxel() -> None:
    scene = small_scene((6, 5, 4))
    counts = scene.counts()
    assert list(counts) == [*NYUV2.names, "unknown"]
    assert sum(counts.values()) == scene.grid.voxels
    assert counts["chair"] == int((scene.labels == 5).sum())
    assert counts["unknown"] == int((scene.labels == 255).sum())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": np.zeros((4, 3, 3), np.uint8)}, r"labels have the shape \(4, 3, 3\); expected \(4, 3, 2\)"),
        ({"labels": np.zeros((4, 3, 2), np.int64)}, "labels must be a NumPy array of uint8; found int64"),
        ({"labels": np.full((4, 3, 2), 12, np.uint8)}, r"label 12 is not in the label set nyuv2; expected 0\.\.11"),
        ({"probability": np.zeros((4, 3), np.float16)}, "probability have the shape"),
        ({"probabilities": np.zeros((11, 4, 3, 2), np.float16)}, "probabilities have the shape"),
        ({"picture": np.zeros((3, 4), np.uint8)}, "picture have the shape"),
        ({"picture": [[0]]}, "picture must be a NumPy array of uint8; found list"),
    ],
)
def test_a_scene_refuses_parts_that_do_not_agree(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(small_scene(), **change)


# ---- plain volumes ----


def test_a_plain_volume_needs_labels_and_an_edge_length(cases: Path) -> None:
    scene = Scene.load(cases / "G01_chiral_scene.npz")
    assert scene.grid.shape == (4, 3, 2)
    assert scene.grid.voxel_size == (0.5, 0.5, 0.5)
    assert scene.name == "G01_chiral_scene"
    assert scene.label_set.names == ("empty", "class 1", "class 2", "class 3")
    assert len(set(scene.label_set.colours)) == 4
    named = Scene.load(cases / "G01_chiral_scene.npz", SEMANTIC_KITTI)
    assert named.counts()["car"] == 3


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"labels": np.zeros((2, 2, 2), np.uint8)}, "holds labels but no voxel_size"),
        ({"voxel_size": np.float64(1)}, "no labels"),
        ({"labels": np.zeros((2, 2, 2)), "voxel_size": np.float64(1)}, "labels holds float64; expected plain numbers"),
        ({"labels": np.zeros((2, 2), np.uint8), "voxel_size": np.float64(1)}, r"labels has the shape \(2, 2\); expected any x any x any"),
        ({"labels": np.full((2, 2, 2), 259), "voxel_size": np.float64(1)}, "from 259 to 259; .* map raw ids"),
        ({"labels": np.zeros((2, 2, 2), np.uint8), "voxel_size": np.float64(-1)}, "voxel size .* is not three positive lengths"),
        ({"labels": np.zeros((2, 2, 2), np.uint8), "voxel_size": np.ones(2)}, "voxel_size has 2 numbers"),
        ({"labels": np.zeros((2, 2, 2), np.uint8), "voxel_size": np.ones(3), "origin": np.array([0, 0, np.inf])}, "three finite numbers"),
        ({"labels": np.zeros((0, 2, 2), np.uint8), "voxel_size": np.ones(3)}, "grid shape .* is not three positive counts"),
    ],
)
def test_a_plain_volume_that_makes_no_sense_is_refused(tmp_path: Path, arrays: dict, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        Scene.load(pack(tmp_path / "v.npz", arrays))
    assert "v.npz" in str(caught.value)


# ---- hostile files ----


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HOSTILE = {
    "more than it holds": (lambda a, m: (a | {"labels": None}, m, {"labels": header("(4, 3, 2)") + bytes(23)}), "cut short or too long"),
    "more than it promises": (lambda a, m: (a | {"labels": None}, m, {"labels": header("(4, 3, 2)") + bytes(25)}), "cut short or too long"),
    "another shape": (lambda a, m: (a | {"labels": a["labels"][:3]}, m, {}), r"labels has the shape \(3, 3, 2\); expected 4 x 3 x 2"),
    "a huge shape": (lambda a, m: (a | {"labels": None}, m, {"labels": header("(99999, 99999, 99999)")}), "labels has the shape"),
    "a huge picture": (lambda a, m: (a | {"picture": None}, m, {"picture": header("(999999, 999999, 3)")}), "at most"),
    "a negative shape": (lambda a, m: (a | {"picture": None}, m, {"picture": header("(-2, -2, 3)")}), "picture would take"),
    "a header that is code": (lambda a, m: (a | {"labels": None}, m, {"labels": header("__import__('os')")}), "no readable array header"),
    "a header of 4 GiB": (lambda a, m: (a | {"labels": None}, m, {"labels": b"\x93NUMPY\x02\x00\xff\xff\xff\xff"}), "no readable array header"),
    "no array": (lambda a, m: (a | {"labels": None}, m, {"labels": b"hello"}), "no readable array header"),
    "objects": (lambda a, m: (a | {"labels": np.full((4, 3, 2), None)}, m, {}), "labels holds object; expected uint8"),
    "no labels": (lambda a, m: (a | {"labels": None}, m, {}), "holds no labels"),
    "a label beyond the set": (lambda a, m: (a | {"labels": a["labels"] * 0 + 77}, m, {}), "label 77 is not in the label set"),
    "other classes": (lambda a, m: (a | {"probabilities": a["probabilities"][:3]}, m, {}), "expected 12 x 4 x 3 x 2"),
    "doubles": (lambda a, m: (a | {"probability": a["probability"].astype(float)}, m, {}), "probability holds float64; expected float16"),
    "a newer version": (lambda a, m: (a, m | {"version": 2}, {}), "scene format 2; this wholescene reads 1 to 1; update"),
    "a version of text": (lambda a, m: (a, m | {"version": "1"}, {}), "scene format '1'"),
    "another format": (lambda a, m: (a, m | {"format": "mesh"}, {}), "an .npz of another kind"),
    "a list for a description": (lambda a, m: (a, [m], {}), "an .npz of another kind"),
    "no JSON": (lambda a, m: (a, b"\xff\xfe{", {}), "its description is no JSON"),
    "JSON too deep": (lambda a, m: (a, b"[" * 100_000, {}), "its description is no JSON"),
    "no grid": (lambda a, m: (a, {k: v for k, v in m.items() if k != "grid"}, {}), "its description is damaged"),
    "a grid of text": (lambda a, m: (a, m | {"grid": "big"}, {}), "its description is damaged"),
    "a grid too large": (lambda a, m: (a, m | {"grid": m["grid"] | {"shape": [10**6] * 3}}, {}), "grid shape"),
    "a pose of nothing": (lambda a, m: (a, m | {"grid": m["grid"] | {"T_world_grid": [[float("nan")] * 4] * 4}}, {}), "T_world_grid is not"),
    "a camera without focal length": (lambda a, m: (a, m | {"camera": m["camera"] | {"K": [[0, 0, 0]] * 3}}, {}), "K all zero"),
    "a thousand classes": (lambda a, m: (a, m | {"label_set": m["label_set"] | {"names": ["x"] * 1000}}, {}), "1000 names"),
    "a colour too bright": (lambda a, m: (a, m | {"label_set": m["label_set"] | {"colours": [[300, 0, 0]] * 12}}, {}), "colour"),
    "raw ids of other classes": (lambda a, m: (a, m | {"label_set": m["label_set"] | {"raw": [[7, 99]]}}, {}), "raw id"),
    "provenance of text": (lambda a, m: (a, m | {"provenance": "me"}, {}), "its description is damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_lies_is_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    change, says = HOSTILE[kind]
    small_scene().save(tmp_path / "good.npz")
    arrays, meta, raw = change(*taken_apart(tmp_path / "good.npz"))
    path = pack(tmp_path / "bad.npz", {k: v for k, v in arrays.items() if v is not None}, meta, **raw)
    with pytest.raises(InputError, match=says) as caught:
        Scene.load(path)
    assert "bad.npz" in str(caught.value)


def test_a_promise_of_gigabytes_allocates_nothing(tmp_path: Path) -> None:
    small_scene().save(tmp_path / "good.npz")
    _, meta = taken_apart(tmp_path / "good.npz")
    big = meta | {"grid": meta["grid"] | {"shape": [1024, 1024, 256]}}
    path = pack(tmp_path / "bad.npz", {}, big, labels=header("(1024, 1024, 256)") + bytes(1000))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="cut short"):
            Scene.load(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_file_is_never_opened(tmp_path: Path) -> None:
    bomb = np.empty((2, 2, 2), object)
    bomb[:] = _Bomb(tmp_path / "ran")
    path = pack(tmp_path / "bad.npz", {"labels": bomb, "voxel_size": np.float64(1)})
    with pytest.raises(InputError, match="labels holds object"):
        Scene.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "not a whole scene file"), (b"<!doctype html>", "not a whole scene file"), (b"PK\x03\x04" + bytes(40), "not a whole scene file")],
)
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=says):
        Scene.load(tmp_path / "a.npz")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz does not exist"):
        Scene.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="is a folder"):
        Scene.load(tmp_path)


def test_other_packing_and_other_members_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("meta.npy", header("(2,)") + b"{}")
    with pytest.raises(InputError, match="packed in a way that NumPy does not write"):
        Scene.load(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    with pytest.raises(InputError, match="other things than named arrays"):
        Scene.load(tmp_path / "b.npz")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_gives_a_scene_or_one_sentence(tmp_path: Path, data: st.DataObject) -> None:
    good = tmp_path / "good.npz"
    if not good.exists():
        small_scene().save(good)
    content = bytearray(good.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "bad.npz").write_bytes(content)
    try:
        scene = Scene.load(tmp_path / "bad.npz")
    except InputError as error:
        assert "bad.npz" in str(error)  # noqa: PT017  both outcomes are right
    else:
        assert scene.labels.shape == scene.grid.shape


def test_a_label_set_of_an_own_scene_travels_with_it(tmp_path: Path) -> None:
    own = LabelSet("garden", ("empty", "lawn"), ((0, 0, 0), (1, 2, 3)), raw={7: 1}, inverse=(0, 7), voxels=(5, 6))
    Scene(np.ones((1, 2, 3), np.uint8), VoxelGrid((1, 2, 3), (1, 1, 1)), own).save(tmp_path / "a.npz")
    assert Scene.load(tmp_path / "a.npz").label_set == own
