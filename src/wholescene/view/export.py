"""Scenes for other programs: PLY (points or cubes), GLB, and by the same door the page, the picture and the scene's own file.

Both mesh formats are written here, in a few lines of NumPy, so that they need nothing beyond the core and say exactly what viewers expect: colours as
`uchar red green blue` in PLY, and in GLB linear COLOR_0 with a material that is not metallic.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.files import write_bytes
from wholescene.scene import Scene
from wholescene.view.faces import exposed_faces

# World (x forward, y left, z up) to glTF (x left, y up, z forward): a rotation, determinant +1.
GLTF_WORLD = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def export(scene: Scene, path: str | Path, **options: Any) -> None:
    """Write a scene for other programs, whole or not at all.

    Args:
        scene: what to write; unknown voxels are left out.
        path: its suffix chooses: .ply (cubes in world metres; `points=True`: one point a voxel), .glb (cubes, for 3D viewers), .html (one page that
            holds everything; `truth=`, `visibility=` as for `write_html`), .png (a picture; options as for `render`), .npz (the scene itself).
        options: of that writer.

    Raises:
        InputError: an unknown suffix or option, or a place that cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[..., None]] = {".ply": write_ply, ".glb": write_glb, ".html": _write_html, ".png": _write_png, ".npz": _write_npz}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"cannot export to {path.name!r}: unknown suffix {path.suffix!r}; known: {', '.join(writers)}")
    try:
        writer(scene, path, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"{path.suffix} export: {str(error).split(') ')[-1]}; leave the option out") from error


def write_ply(scene: Scene, path: str | Path, points: bool = False) -> None:
    """Write occupied voxels as binary PLY in world metres (x forward, y left, z up), with sRGB colours and the label at each vertex.

    Args:
        scene: what to write.
        path: of the file.
        points: one vertex at each voxel's centre, in the order of the array, instead of the exposed faces of cubes.
    """
    if points:
        where, labels = scene.points()
        corners: NDArray[np.int64] | None = None
    else:
        faces = exposed_faces(scene.occupied)
        where = faces.corners(scene.grid).reshape(-1, 3)  # four own vertices a face, so that viewers shade it flat
        labels = np.repeat(scene.labels[tuple(faces.voxels.T)], 4)
        corners = np.arange(len(where)).reshape(-1, 4)
    vertices = np.empty(len(where), [("xyz", "<f4", 3), ("rgb", "u1", 3), ("label", "u1")])
    vertices["xyz"], vertices["rgb"], vertices["label"] = where, scene.label_set.palette()[labels], labels
    head = ["ply", "format binary_little_endian 1.0", "comment wholescene: metres, x forward, y left, z up"]
    head += [f"comment label {label} {_ascii(scene.label_set.names[label])}" for label in np.unique(labels).tolist()]
    head += [f"element vertex {len(vertices)}", *(f"property float {axis}" for axis in "xyz")]
    head += [*(f"property uchar {colour}" for colour in ("red", "green", "blue")), "property uchar label"]
    body = vertices.tobytes()
    if corners is not None:
        head += [f"element face {len(corners)}", "property list uchar int vertex_indices"]
        polygons = np.empty(len(corners), [("count", "u1"), ("corners", "<i4", 4)])
        polygons["count"], polygons["corners"] = 4, corners
        body += polygons.tobytes()
    write_bytes(path, "\n".join([*head, "end_header", ""]).encode("ascii") + body)


def write_glb(scene: Scene, path: str | Path) -> None:
    """Write the exposed faces of occupied voxels as binary glTF 2.0 (y up, z forward, metres), flat shaded, with linear vertex colours.

    glTF reads COLOR_0 as linear light, so the label set's sRGB colours are converted (16 bit, or dark ones would band), and its default
    material is a metal, which shows black without surroundings: the material here is not.
    """
    faces = exposed_faces(scene.occupied)
    quads = faces.corners(scene.grid) @ GLTF_WORLD.T
    labels = scene.labels[tuple(faces.voxels.T)]
    # Faces of one colour share their corners; without normals a viewer shades flat, as the standard demands.
    keys = np.ravel_multi_index(tuple(np.moveaxis(faces.lattice(), -1, 0)), tuple(n + 1 for n in scene.grid.shape)) * 256 + labels[:, None]
    if np.linalg.det(scene.grid.T_world_grid[:3, :3]) < 0:
        keys = keys[:, ::-1]  # as `corners` turns them
    kept, first, index = np.unique(keys, return_index=True, return_inverse=True)
    triangles = index.reshape(-1, 4)[:, [0, 1, 2, 0, 2, 3]].astype("<u4")
    positions = quads.reshape(-1, 3)[first].astype("<f4")
    colours = np.full((len(kept), 4), 65535, "<u2")
    colours[:, :3] = np.rint(linear(scene.label_set.palette())[kept % 256] * 65535)
    write_bytes(path, _glb(positions, colours, triangles.reshape(-1), _ascii(scene.name)))


def linear(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """sRGB bytes to linear light in 0..1 (IEC 61966-2-1)."""
    encoded = colours / 255.0
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _glb(positions: NDArray[Any], colours: NDArray[Any], indices: NDArray[Any], name: str) -> bytes:
    """A GLB of one mesh; of an empty scene, which glTF can only write as a node without one, where there is no face."""
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "wholescene"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name}],
    }
    binary = b""
    if len(indices):
        parts = [(positions, 5126, "VEC3", 34962), (colours, 5123, "VEC4", 34962), (indices, 5125, "SCALAR", 34963)]
        views, accessors = [], []
        for number, (array, component, kind, target) in enumerate(parts):
            views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes, "target": target})
            accessors.append({"bufferView": number, "componentType": component, "count": len(array), "type": kind})
            binary += array.tobytes()  # every part is a multiple of four bytes, as alignment asks
        accessors[0] |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
        accessors[1]["normalized"] = True
        material = {"name": "voxels", "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0, "roughnessFactor": 1}}
        primitive = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0, "mode": 4}
        document["nodes"][0]["mesh"] = 0
        document |= {"meshes": [{"primitives": [primitive]}], "materials": [material], "accessors": accessors, "bufferViews": views}
        document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if binary:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def _ascii(text: str) -> str:
    """One line of printable ASCII: a name from outside must not add lines to a header."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:200]


def _write_html(scene: Scene, path: Path, **options: Any) -> None:
    from wholescene.view.html import write_html

    write_html(path, scene, **options)


def _write_png(scene: Scene, path: Path, **options: Any) -> None:
    from wholescene.files import writing
    from wholescene.view.render import render

    picture = render(scene, **options)
    with writing(path) as temporary:
        picture.save(temporary, format="PNG")


def _write_npz(scene: Scene, path: Path) -> None:
    scene.save(path)
