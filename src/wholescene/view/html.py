"""One page that holds a whole scene: opens by double click, offline, on any machine with a browser; labels travel deflated inside it."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import zlib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wholescene.camera import Camera
from wholescene.errors import InputError
from wholescene.files import write_text
from wholescene.labels import EMPTY
from wholescene.scene import Scene
from wholescene.view.render import box_of, checked_pair, render
from wholescene.view.scores import scores_in_words
from wholescene.view.sight import HIDDEN, OUT_OF_VIEW, SEEN, sight
from wholescene.view.style import SUN, drawn_classes, present, what_was_guessed
from wholescene.view.viewpoint import Lines, camera_lines, floor_outline, heading

_LONGEST_AXIS = 65535  # the page packs a face's place into 16 bits an axis
_STATES = [
    {"value": SEEN, "name": "seen by the camera", "mark": "seen"},
    {"value": HIDDEN, "name": "hidden behind something", "mark": "hidden"},
    {"value": OUT_OF_VIEW, "name": "out of view", "mark": "outside"},
]

_BY_CHANCE = re.compile("http|fetch|import|src=", re.IGNORECASE)  # words that mean a request; in a page that makes none, base64 must not spell them


def write_html(path: str | Path, prediction: Scene, truth: Scene | None = None, visibility: NDArray[np.uint8] | None = None) -> None:
    """Write one self-contained page that shows a scene in 3D (WebGL2), with the picture, a legend and switches; a still picture without WebGL.

    Args:
        path: of the page; nothing else is written, and the page asks the network for nothing.
        prediction: the scene.
        truth: what was there, on the same grid, to switch to; its unknown voxels are not drawn.
        visibility: (X, Y, Z) uint8, 0 out of view, 1 seen, 2 hidden, for both; None: what the scene's camera saw of each (see `sight`).

    Raises:
        InputError: grids or label sets that differ, a grid longer than 65,535 voxels, or a page that cannot be written.
    """
    grid = prediction.grid
    if truth is not None:
        checked_pair(prediction, truth)
    if max(grid.shape) > _LONGEST_AXIS:
        raise InputError(f"a grid of {grid.shape} voxels does not fit the page; at most {_LONGEST_AXIS:,} along an axis; export .glb instead")
    if visibility is not None and (visibility.shape != grid.shape or visibility.dtype != np.uint8):
        raise InputError(f"visibility of shape {visibility.shape} and type {visibility.dtype}; expected {grid.shape} of uint8")
    data = _data(prediction, truth, visibility)
    template = resources.files("wholescene.view").joinpath("viewer.html").read_text(encoding="utf-8")
    words = {
        "title": html.escape(prediction.name),
        "caption": html.escape(_caption(prediction)),
        "provenance": _provenance(prediction, truth),
        "still": _jpeg(render(prediction, (960, 540))),
        "data": _inside_script(json.dumps(data, separators=(",", ":"))),
    }
    # One pass, so that text from outside which looks like a place in the template is never filled in.
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda match: words[match[1]], template))


def _data(prediction: Scene, truth: Scene | None, visibility: NDArray[np.uint8] | None) -> dict[str, Any]:
    grid, scenes = prediction.grid, [prediction] if truth is None else [prediction, truth]
    box = box_of(scenes)
    middle = box.mean(0)  # the page's origin: float32 on a graphics card is exact enough near it, wherever the world's own origin lies
    place = grid.T_world_grid @ np.diag([*grid.voxel_size, 1.0])
    place[:3, 3] -= middle
    drawn = drawn_classes(scenes)
    volumes = {}
    for kind, scene in zip(("prediction", "truth"), scenes, strict=False):
        volumes[kind] = _packed(scene.labels)
        states = sight(replace(scene, camera=prediction.camera)) if visibility is None else np.where(scene.occupied, visibility, EMPTY)
        if states is not None:
            volumes[f"{kind} states"] = _packed(states.astype(np.uint8))
    return {
        "shape": list(grid.shape),
        "place": _columns(place),
        "lattice": _columns(np.linalg.inv(place)),
        "box": {"low": _short(box.min(0) - middle), "high": _short(box.max(0) - middle)},
        "floor": _segments(floor_outline(grid, float(box[:, 2].min())), middle),
        "camera_lines": _segments(camera_lines(prediction.camera, 0.08 * float(grid.extent.max())), middle),
        "behind": -heading(prediction.camera),
        "camera": _own_view(prediction.camera, middle),
        "sun": _short(SUN),
        "classes": [_class(prediction, label, bool(drawn[label])) for label in present(scenes)],
        "states": _STATES if "prediction states" in volumes else [],
        "volumes": volumes,
        "picture": _picture(prediction.picture),
    }


def _class(scene: Scene, label: int, drawn: bool) -> dict[str, Any]:
    return {"label": label, "name": scene.label_set.names[label], "colour": list(scene.label_set.colours[label]), "shown": drawn}


def _own_view(camera: Camera | None, middle: NDArray[np.float64]) -> dict[str, Any] | None:
    """Where the scene's camera stood and looked, for the page's third view: radians; without roll."""
    if camera is None or not camera.pose_known:
        return None
    x, y, z = camera.T_cam_world[2, :3]  # the optical axis in the world
    field = 2 * np.arctan(camera.width / 2 / abs(camera.intrinsics[0, 0]))
    yaw, pitch = np.arctan2(-y, x), np.arcsin(np.clip(-z, -1, 1))
    return {"position": _short(camera.position - middle), "yaw": float(yaw), "pitch": float(pitch), "field": float(field)}


def _caption(scene: Scene) -> str:
    grid = scene.grid
    length, width, height = (grid.extent[axis] for axis in (grid.forward, grid.left, grid.up))
    edges = sorted(set(grid.voxel_size))
    edge = f"{edges[0]:g} m" if len(edges) == 1 else f"{edges[0]:g} to {edges[-1]:g} m"
    source = "From the one photo in the corner" if scene.picture is not None else "From one photo"
    return (
        f"{source}, a class (or “empty”) for every {edge} voxel of a box of {length:.3g} × {width:.3g} × {height:.3g} m before the camera: "
        "also for what it cannot see."
    )


def _provenance(prediction: Scene, truth: Scene | None) -> str:
    lines = [what_was_guessed(prediction), str(prediction.provenance.get("note") or "")]
    if truth is not None:
        lines.append(f"This scene against the truth: {scores_in_words(prediction, truth)}.")
    lines.append("Made with wholescene. Left is left when you look forward, away from the camera.")
    return "<br>".join(html.escape(line) for line in lines if line)


def _picture(picture: NDArray[np.uint8] | None, longest: int = 640) -> dict[str, Any] | None:
    if picture is None or 0 in picture.shape:
        return None
    image = Image.fromarray(picture)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return {"width": image.width, "height": image.height, "data": _jpeg(image)}


def _jpeg(image: Image.Image) -> str:
    """A picture as a data address, in which a word spelt by chance gets its first letter written as %xx."""
    file = io.BytesIO()
    image.convert("RGB").save(file, format="JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + _BY_CHANCE.sub(_spelt, base64.b64encode(file.getvalue()).decode())


def _spelt(match: re.Match[str]) -> str:
    return f"%{ord(match[0][0]):02x}{match[0][1:]}"


def _packed(volume: NDArray[np.uint8]) -> str:
    """A volume as deflated base64, as the page's script unpacks it; broken by a space where its letters spell a word by chance."""
    letters = base64.b64encode(zlib.compress(np.ascontiguousarray(volume).tobytes())).decode()
    return _BY_CHANCE.sub(lambda match: f"{match[0][0]} {match[0][1:]}", letters)


def _inside_script(text: str) -> str:
    """JSON that no HTML parser takes for markup."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _columns(matrix: NDArray[Any]) -> list[float]:
    return [float(f"{x:.9g}") for x in matrix.T.ravel()]


def _short(values: NDArray[np.float64]) -> list[float]:
    return [round(float(x), 5) for x in values]


def _segments(pairs: Lines, middle: NDArray[np.float64]) -> list[float]:
    return [x for pair in pairs for point in pair for x in _short(point - middle)]
