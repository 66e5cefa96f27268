"""The page holds the scene, asks the network for nothing, and takes no text from outside for markup."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.grid import VoxelGrid
from wholescene.labels import NYUV2, SEMANTIC_KITTI, LabelSet
from wholescene.scene import Scene
from wholescene.view.html import _packed, write_html
from wholescene.view.sight import sight

FORBIDDEN = ("src=", "import", "fetch", "http")


def scene_with_photo(seed: int = 0, axes: str = "xyz") -> Scene:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((12, 10, 6)) < 0.3, rng.integers(1, 20, (12, 10, 6)), 0).astype(np.uint8)
    labels[0, 0, 0] = 255
    camera = Camera.from_fov(70, (160, 90)).on_ground(1.2, 5)
    photo = rng.integers(0, 256, (90, 160, 3), dtype=np.uint8)
    grid = VoxelGrid.from_corner((1e6, -2.5, 0), labels.shape, 0.5, axes)
    camera = camera.posed(camera.T_cam_world @ np.array([[1, 0, 0, -1e6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    return Scene(labels, grid, SEMANTIC_KITTI, camera=camera, picture=photo, name="photo 7", provenance={"system": "monoscene"})


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the text of the two scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.get_starttag_text() and data.strip():
            self.scripts.append(data)
        self.words += data

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


def page_of(path: Path, *arguments: object, **options: object) -> tuple[str, Page]:
    write_html(path, *arguments, **options)  # type: ignore[arg-type]
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def test_the_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    scene = scene_with_photo()
    text, page = page_of(tmp_path / "p.html", scene, scene)
    assert [word for word in FORBIDDEN if word in text.lower()] == []
    assert not any({"src", "href", "action", "srcset"} & set(attributes) for _, attributes in page.tags)
    addresses = re.findall(r"url\(\s*[\"']?([^\"')]{0,30})", text)
    assert addresses
    assert all(address.startswith(("data:image/jpeg;base64,", "${scene.picture.data}")) for address in addresses)


def test_the_page_holds_the_labels_and_what_the_camera_saw(tmp_path: Path) -> None:
    scene = scene_with_photo()
    truth = replace(scene_with_photo(1), camera=None)
    _, page = page_of(tmp_path / "p.html", scene, truth)
    volumes = page.data["volumes"]
    assert np.array_equal(unpacked(volumes["prediction"], scene.labels.shape), scene.labels)
    assert np.array_equal(unpacked(volumes["truth"], scene.labels.shape), truth.labels)
    assert np.array_equal(unpacked(volumes["prediction states"], scene.labels.shape), sight(scene))
    assert np.array_equal(unpacked(volumes["truth states"], scene.labels.shape), sight(replace(truth, camera=scene.camera)))
    assert [entry["name"] for entry in page.data["classes"]] == list(SEMANTIC_KITTI.names[1:])
    assert [state["value"] for state in page.data["states"]] == [1, 2, 0]


def test_visibility_that_is_given_is_taken(tmp_path: Path) -> None:
    scene = scene_with_photo()
    given = np.full(scene.grid.shape, 2, np.uint8)
    _, page = page_of(tmp_path / "p.html", scene, visibility=given)
    assert np.array_equal(unpacked(page.data["volumes"]["prediction states"], scene.labels.shape) == 2, scene.occupied)
    with pytest.raises(InputError, match=r"visibility of shape \(2, 2\)"):
        write_html(tmp_path / "q.html", scene, visibility=np.zeros((2, 2), np.uint8))
    assert not (tmp_path / "q.html").exists()


def test_without_a_camera_the_page_tells_no_states_apart(tmp_path: Path) -> None:
    _, page = page_of(tmp_path / "p.html", replace(scene_with_photo(), camera=None, picture=None))
    assert page.data["states"] == []
    assert set(page.data["volumes"]) == {"prediction"}
    assert page.data["picture"] is None
    assert page.data["camera"] is None


@pytest.mark.parametrize("axes", ["xyz", "xzy"])
def test_the_page_places_voxels_as_the_grid_does_up_to_a_shift(tmp_path: Path, axes: str) -> None:
    scene = scene_with_photo(axes=axes)
    _, page = page_of(tmp_path / "p.html", scene)
    place = np.array(page.data["place"]).reshape(4, 4).T
    index = np.argwhere(scene.occupied)
    placed = (index + 0.5) @ place[:3, :3].T + place[:3, 3]
    shift = scene.points()[0] - placed
    assert np.allclose(shift, shift[0], atol=1e-4)
    assert np.abs(placed).max() < 10  # near the page's origin, although the world's is a thousand kilometres away
    lattice = np.array(page.data["lattice"]).reshape(4, 4).T
    assert np.allclose(lattice @ place, np.eye(4), atol=1e-6)
    assert np.allclose(np.array(page.data["camera"]["position"]) + shift[0], scene.camera.position, atol=1e-4)  # type: ignore[union-attr]


def test_text_from_outside_is_text(tmp_path: Path) -> None:
    evil = '</script><img alt="x" onerror=alert(1)>{{data}}&amp;'
    names = ("empty", evil, *SEMANTIC_KITTI.names[2:])
    labels = LabelSet("evil", names, SEMANTIC_KITTI.colours)
    scene = replace(scene_with_photo(), name=evil, label_set=labels, provenance={"weights": evil, "note": evil, "guesses": [evil]})
    text, page = page_of(tmp_path / "p.html", scene)
    assert not any(tag == "img" or "onerror" in attributes for tag, attributes in page.tags)
    assert text.count("</script>") == 2
    assert len(page.scripts) == 2
    assert page.data["classes"][0]["name"] == evil
    assert page.words.count(evil) >= 4  # title, heading, and the provenance line, each as it was written


def test_a_word_that_base64_spells_by_chance_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    spelt = base64.b64decode("AAAAhttpAAAAImportfeTchHTTPAsrc=")
    monkeypatch.setattr(zlib, "compress", lambda content: spelt)
    text = _packed(np.zeros(1, np.uint8))
    assert [word for word in FORBIDDEN if word in text.lower()] == []
    assert base64.b64decode(text) == spelt


def test_a_room_is_shown_without_its_ceiling(tmp_path: Path) -> None:
    labels = np.ones((3, 2, 3), np.uint8)
    labels[:, 0] = 2
    _, page = page_of(tmp_path / "p.html", Scene(labels, VoxelGrid.from_corner((0, 0, 0), (3, 2, 3), 0.08, "xzy"), NYUV2))
    assert {entry["name"]: entry["shown"] for entry in page.data["classes"]} == {"ceiling": False, "floor": True}


def test_pages_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    long = Scene(np.ones((70_000, 1, 1), np.uint8), VoxelGrid((70_000, 1, 1), (1, 1, 1)), SEMANTIC_KITTI)
    with pytest.raises(InputError, match=r"at most 65,535 along an axis; export \.glb"):
        write_html(tmp_path / "p.html", long)
    with pytest.raises(InputError, match="cannot be compared"):
        write_html(tmp_path / "p.html", scene_with_photo(), long)
    assert list(tmp_path.iterdir()) == []
