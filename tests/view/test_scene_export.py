"""Exports hold what other programs expect: byte types, linear light, a right-handed turn of the axes, and nothing hidden."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.labels import LabelSet
from wholescene.scene import Scene
from wholescene.view.export import GLTF_WORLD

ORANGE = LabelSet("one", ("empty", "clay\nend_header"), ((0, 0, 0), (245, 150, 100)))
CENTRES = {(10.25, 20.25, 30.25), (10.75, 20.25, 30.25), (11.25, 20.25, 30.25), (10.25, 20.75, 30.25), (10.25, 20.25, 30.75)}


def one_voxel() -> Scene:
    return Scene(np.ones((1, 1, 1), np.uint8), VoxelGrid((1, 1, 1), (1, 1, 1)), ORANGE)


def read_ply(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Header lines, vertices and quads, by the header's own words."""
    content = path.read_bytes()
    head, _, body = content.partition(b"\nend_header\n")
    lines = head.decode("ascii").splitlines()
    kinds = {"float": "<f4", "uchar": "u1"}
    counts = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("element")}
    fields = [(line.split()[2], kinds[line.split()[1]]) for line in lines if line.startswith("property") and "list" not in line]
    vertices = np.frombuffer(body, fields, counts["vertex"])
    quads = np.frombuffer(body[vertices.nbytes :], [("n", "u1"), ("at", "<i4", 4)], counts.get("face", 0))
    assert vertices.nbytes + quads.nbytes == len(body)
    return lines, vertices, quads


def read_glb(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert (kind, size % 4) == (b"JSON", 0)
    document = json.loads(content[20 : 20 + size])
    if "meshes" not in document:
        return document, {}
    start = 20 + size
    size, kind = struct.unpack_from("<I4s", content, start)
    assert (kind, size % 4) == (b"BIN\0", 0)
    binary = content[start + 8 : start + 8 + size]
    (primitive,) = document["meshes"][0]["primitives"]
    arrays = {}
    for name, number in {**primitive["attributes"], "indices": primitive["indices"]}.items():
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[accessor["componentType"]]
        flat = np.frombuffer(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]], kind)
        arrays[name] = flat.reshape(accessor["count"], width)
    return document, arrays


def test_ply_points_are_the_voxel_centres_in_the_world(cases: Path, tmp_path: Path) -> None:
    Scene.load(cases / "G01_chiral_scene.npz").export(tmp_path / "x.ply", points=True)
    lines, vertices, _ = read_ply(tmp_path / "x.ply")
    assert [line for line in lines if "uchar" in line][:3] == [f"property uchar {c}" for c in ("red", "green", "blue")]
    found = [(float(v["x"]), float(v["y"]), float(v["z"])) for v in vertices]
    assert set(found) == CENTRES
    assert len(found) == 5
    by_label = {int(v["label"]): (float(v["x"]), float(v["y"]), float(v["z"])) for v in vertices if v["label"] > 1}
    assert by_label == {2: (10.25, 20.75, 30.25), 3: (10.25, 20.25, 30.75)}


def test_ply_cubes_stand_around_the_same_centres_and_hide_inner_faces(cases: Path, tmp_path: Path) -> None:
    Scene.load(cases / "G01_chiral_scene.npz").export(tmp_path / "x.ply")
    lines, vertices, quads = read_ply(tmp_path / "x.ply")
    assert "property uchar red" in lines
    assert len(quads) == 5 * 6 - 2 * 4  # four neighbouring pairs
    places = np.stack([vertices["x"], vertices["y"], vertices["z"]], -1)
    arm = places[vertices["label"] == 2]
    assert np.array_equal(arm.min(0), (10.0, 20.5, 30.0))
    assert np.array_equal(arm.max(0), (10.5, 21.0, 30.5))


def test_ply_keeps_the_bytes_of_a_colour_and_one_line_a_comment(tmp_path: Path) -> None:
    one_voxel().export(tmp_path / "x.ply")
    lines, vertices, quads = read_ply(tmp_path / "x.ply")  # a name that ends the header would break the reading
    assert {(int(v["red"]), int(v["green"]), int(v["blue"])) for v in vertices} == {(245, 150, 100)}
    assert "comment label 1 clay?end_header" in lines
    assert len(quads) == 6


def test_glb_colours_are_linear_and_the_material_is_no_metal(tmp_path: Path) -> None:
    one_voxel().export(tmp_path / "x.glb")
    document, arrays = read_glb(tmp_path / "x.glb")
    assert np.all(arrays["COLOR_0"][:, 1] == 19_987)
    assert np.rint(arrays["COLOR_0"][0] / 257).tolist() == [233, 78, 32, 255]
    assert document["accessors"][1]["normalized"]
    material = document["materials"][document["meshes"][0]["primitives"][0]["material"]]
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0


@pytest.mark.parametrize("axes", ["xyz", "xzy"])
def test_glb_turns_the_axes_without_a_reflection(axes: str, tmp_path: Path) -> None:
    assert np.linalg.det(GLTF_WORLD) == pytest.approx(1)
    labels = np.zeros((4, 3, 2), np.uint8)
    labels[:, 0, 0] = 1
    labels[0, 1, 0] = 1
    grid = VoxelGrid.from_corner((10, 20, 30), labels.shape, 0.5, axes)
    Scene(labels, grid, ORANGE).export(tmp_path / "x.glb")
    document, arrays = read_glb(tmp_path / "x.glb")
    corners = arrays["POSITION"]
    box = grid.corners()[[0, -1]]
    assert corners[:, 2].max() == pytest.approx(box[:, 0].max())  # forward is z
    assert corners[:, 0].min() == pytest.approx(20)  # left is x
    assert corners[:, 1].min() == pytest.approx(30)  # up is y
    assert document["accessors"][0]["min"] == corners.min(0).tolist()
    assert document["accessors"][0]["max"] == corners.max(0).tolist()
    a, b, c = np.moveaxis(corners[arrays["indices"].reshape(-1, 3)].astype(float), 1, 0)
    assert np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6 == pytest.approx(5 * 0.125)  # closed, and faces turned outward


def test_an_empty_scene_is_a_valid_file_of_every_kind(tmp_path: Path) -> None:
    empty = Scene(np.full((2, 2, 2), 255, np.uint8), VoxelGrid((2, 2, 2), (1, 1, 1)), ORANGE)
    for name in ("x.ply", "x.glb", "x.html", "x.png", "x.npz"):
        empty.export(tmp_path / name)
    assert len(read_ply(tmp_path / "x.ply")[1]) == 0
    document, arrays = read_glb(tmp_path / "x.glb")
    assert (document["nodes"], arrays) == ([{"name": "scene"}], {})


def test_trimesh_reads_the_same_cubes(cases: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    scene = Scene.load(cases / "G01_chiral_scene.npz")
    for name in ("x.ply", "x.glb"):
        scene.export(tmp_path / name)
        mesh = trimesh.load(tmp_path / name)
        mesh = mesh if isinstance(mesh, trimesh.Trimesh) else mesh.to_geometry()
        assert mesh.volume == pytest.approx(5 * 0.125)
        assert mesh.area == pytest.approx(22 * 0.25)


def test_the_suffix_chooses_and_unknown_ones_are_named(tmp_path: Path) -> None:
    one_voxel().export(tmp_path / "x.PNG", size=(300, 200))
    assert Image.open(tmp_path / "x.PNG").size == (300, 200)
    with pytest.raises(InputError, match=r"unknown suffix '\.obj'; known: \.ply, \.glb, \.html, \.png, \.npz"):
        one_voxel().export(tmp_path / "x.obj")
    with pytest.raises(InputError, match=r"\.glb export: .*unexpected keyword argument 'points'"):
        one_voxel().export(tmp_path / "x.glb", points=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.PNG"]
