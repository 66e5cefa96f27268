"""What a command says of a scene, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wholescene.commands.printing import facts, percent, warn
from wholescene.files import writing
from wholescene.labels import EMPTY, UNKNOWN

if TYPE_CHECKING:
    from wholescene.camera import Camera
    from wholescene.scene import Scene
    from wholescene.systems.base import System

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MOST_CLASSES = 6


def report(scene: Scene, more: Iterable[tuple[str, object]] = ()) -> None:
    """Print camera, guesses, share of the grid in view and what was found; warn of what the system noted beyond the camera's own notes."""
    share = float(scene.provenance.get("share_in_view", 1.0))
    camera = camera_facts(scene.camera) if scene.camera is not None else []
    facts([*camera, ("in view", f"{percent(share)} of the grid"), ("found", found_in(scene)), *more])
    known = scene.camera.notes if scene.camera is not None else ()
    for note in scene.provenance.get("notes", ()):
        if note not in known:
            warn(f"{scene.name}: {note}")


def camera_facts(camera: Camera) -> list[tuple[str, str]]:
    """Lens, source and guesses of a camera, in words."""
    fx, fy = abs(camera.intrinsics[0, 0]), abs(camera.intrinsics[1, 1])
    fov = np.degrees(2 * np.arctan(camera.width / 2 / fx))
    focal = f"focal length {fx:.1f} px" if abs(fx - fy) < 0.05 else f"focal lengths {fx:.1f} and {fy:.1f} px"
    size = f"{camera.width} x {camera.height}"
    if camera.recorded_size != camera.size:
        size += f" (calibrated at {camera.recorded_size[0]} x {camera.recorded_size[1]}, scaled)"
    said = [("camera", f"{focal}, field of view {fov:.0f} degrees, picture {size}; from {camera.source}")]
    said += [("guessed", "; ".join(camera.guesses))] if camera.guesses else []
    return said + [("note", note) for note in camera.notes]


def found_in(scene: Scene) -> str:
    """How much is occupied, and by which classes, largest first, as shares of what is occupied."""
    counts = np.bincount(scene.labels.ravel(), minlength=256)
    counts[[EMPTY, UNKNOWN]] = 0
    total = int(counts.sum())
    if not total:
        return "nothing: every voxel is empty"
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    said = ", ".join(f"{scene.label_set.names[i]} {percent(counts[i] / total)}" for i in order[:_MOST_CLASSES])
    rest = len(order) - _MOST_CLASSES
    more = f" and {rest} more class{'es' if rest > 1 else ''}" if rest > 0 else ""
    return f"{total:,} voxels occupied ({percent(total / scene.labels.size)}): {said}{more}"


def write(scene: Scene, folder: Path, html: bool = True) -> list[Path]:
    """Write scene.npz, scene.ply, scene.png and (if asked) scene.html into a folder, each whole or not at all."""
    from wholescene.view.export import export
    from wholescene.view.render import render

    written = [folder / name for name in ("scene.npz", "scene.ply", *(["scene.html"] if html else []))]
    scene.save(written[0])
    for path in written[1:]:
        export(scene, path)
    save_picture(render(scene), folder / "scene.png")
    return [*written, folder / "scene.png"]


def save_picture(picture: Any, path: Path) -> None:
    """Save a PIL picture under a name with one of `PICTURE_SUFFIXES`, whole or not at all."""
    with writing(path) as temporary:
        picture.save(temporary)


def say_what_weights_know(system: System) -> None:
    """One sentence: what the weights were trained on, and so what their answer is worth."""
    name, note = system.card.get("name", ""), system.card.get("note", "")
    trained = system.card.get("trained_on", "")
    said = note or (f"Trained on {trained}." if trained else "These weights do not say what they were trained on; judge the result accordingly.")
    print(f"{name}: {said}" if name else said)
