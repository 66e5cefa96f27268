"""`demo`: a street or a room that the weights have never seen, completed from one picture and compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wholescene.commands.options import DEFAULT_WEIGHTS, Folder, Switch, shown
from wholescene.commands.printing import table
from wholescene.errors import InputError

if TYPE_CHECKING:
    from wholescene.scene import Scene
    from wholescene.structures import Frame
    from wholescene.systems.config import SystemConfig
    from wholescene.worlds.room import RoomSetting
    from wholescene.worlds.street import StreetSetting

_FIRST_SEED = 2_000_000  # recipes train on worlds from 0 on and score on those from 1,000,000 on
_BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
ROOM_WEIGHTS = "monoscene-room-small"


def demo(
    *,
    seed: Annotated[int | None, shown("N")] = None,
    room: Switch = False,
    out: Folder = Path("demo"),
    weights: Annotated[str | None, shown("NAME|FILE")] = None,
) -> None:
    """Complete a street, or a room, that the weights have never seen.

    The package carries one street and one room, each with its picture and its exact truth; with --seed another is made here (extra `worlds`).
    It is completed from the picture alone and compared with the truth. Open DIR/scene.html by double click; beside it lie image.png,
    scene.png (prediction and truth), scene.ply and scene.npz.

    Try: wholescene demo

    Try: wholescene demo --room

    Args:
        seed: make another one, 0 or more, instead of the one in the package.
        room: a room instead of a street, with the weights for rooms.
        out: folder for the results.
        weights: a name from `wholescene weights`, or a file; without it monoscene-street-small, with --room monoscene-room-small.
    """
    from PIL import Image

    from wholescene.commands.reporting import report, save_picture, say_what_weights_know
    from wholescene.geometry.visibility import OUT_OF_VIEW, visibility
    from wholescene.scene import Scene
    from wholescene.view.export import export
    from wholescene.view.html import write_html
    from wholescene.view.render import render_comparison
    from wholescene.view.scores import scores_in_words
    from wholescene.weights import load

    world = _WORLDS["room" if room else "street"]
    system = load(weights if weights is not None else ROOM_WEIGHTS if room else DEFAULT_WEIGHTS)
    frame = world.bundled(system.config) if seed is None else world.made(seed, system.config)
    scene = replace(system.predict(frame), name=frame.name)
    truth = Scene(frame.targets[1], frame.grid, scene.label_set, camera=frame.main.camera, picture=frame.main.picture, name=scene.name)
    state = visibility(truth.occupied, frame.main.camera, frame.grid)
    save_picture(Image.fromarray(frame.main.picture), out / "image.png")
    save_picture(render_comparison(scene, truth), out / "scene.png")
    export(scene, out / "scene.ply")
    write_html(out / "scene.html", scene, truth, state)
    scene.save(out / "scene.npz")
    print(f"{frame.name}: {'from the package' if seed is None else 'made here'}; the weights have never seen it")
    scores = scores_in_words(scene, truth, state != OUT_OF_VIEW) + f" (this {world.name} alone)"
    report(scene, [("scores", scores), ("wrote", f"{out}: scene.html (open by double click), scene.png, image.png, scene.ply, scene.npz")])
    table(("class", "IoU, %", "voxels in truth"), class_scores(scene, truth))
    say_what_weights_know(system)


@dataclass(frozen=True)
class World:
    """What the demo shows.

    Attributes:
        name: "street" or "room"; its files in the package are called so.
        labels: the label set of its truth.
        make: a frame from a seed and the config of the weights.
    """

    name: str
    labels: str
    make: Callable[[int, SystemConfig], Frame]

    def bundled(self, config: SystemConfig) -> Frame:
        """The one that the package carries.

        Raises:
            InputError: the weights were made for other classes or another grid.
        """
        from wholescene.reading.pictures import read_picture
        from wholescene.scene import Scene
        from wholescene.structures import Frame, View

        truth = Scene.load(_BUNDLED / f"{self.name}.npz")
        if config.labels != truth.label_set.name or config.grid.shape != truth.grid.shape:
            raise InputError(
                f"the {self.name} in the package has {truth.grid.shape} voxels of {truth.label_set.name}'s classes, these weights "
                f"{config.grid.shape} of {config.labels}'s; give --seed N to make a {self.name} for them"
            )
        assert truth.camera is not None
        picture = read_picture(_BUNDLED / f"{self.name}.jpg").array
        return Frame(truth.name, {"main": View(picture, truth.camera)}, truth.grid, targets={1: truth.labels})

    def made(self, seed: int, config: SystemConfig) -> Frame:
        """One made here, held out from training.

        Raises:
            InputError: a seed out of range, or weights for other classes.
            MissingExtraError: Embree is not installed.
        """
        if not 0 <= seed < 2**31:
            raise InputError(f"--seed {seed} is not a {self.name}; give a whole number from 0 to {2**31 - 1}")
        if config.labels != self.labels:
            raise InputError(
                f"these weights know the classes of {config.labels}; the demo is a {self.name}, so it needs weights for {self.labels}"
                + ("; leave --room away" if self.name == "room" else "; --room shows a room" if config.labels == "nyuv2" else "")
            )
        return replace(self.make(_FIRST_SEED + seed, config), name=f"{self.name} {_FIRST_SEED + seed}")


def _street(seed: int, config: SystemConfig) -> Frame:
    from wholescene.worlds.street import street

    return street(seed, setting_for(config))


def _room(seed: int, config: SystemConfig) -> Frame:
    from wholescene.worlds.room import room

    return room(seed, room_setting_for(config))


_WORLDS = {"street": World("street", "semantic-kitti", _street), "room": World("room", "nyuv2", _room)}


def class_scores(scene: Scene, truth: Scene) -> list[tuple[str, str, str]]:
    """Class, IoU, voxels in the truth, for classes that the truth holds."""
    from wholescene.metrics import Counts

    counts = Counts.zero(scene.label_set.classes)
    counts.update(scene.labels, truth.labels)
    held = truth.counts()
    scores = zip(scene.label_set.names[1:], counts.compute().class_iou, strict=True)
    return [(name, f"{100 * iou:.1f}", f"{held[name]:,}") for name, iou in scores if held.get(name)]


def setting_for(config: SystemConfig) -> StreetSetting:
    """The street setting whose grid and picture a system was made for: the preset with its number of voxels, on its own grid."""
    from wholescene.worlds.street import PRESETS

    alike = (setting for setting in PRESETS.values() if setting.grid.shape == config.grid.shape)
    return replace(next(alike, PRESETS["mini"]), grid=config.grid)


def room_setting_for(config: SystemConfig) -> RoomSetting:
    """The room setting that a system was made for, likewise."""
    from wholescene.worlds.room import PRESETS

    alike = (setting for setting in PRESETS.values() if setting.grid.shape == config.grid.shape)
    return replace(next(alike, PRESETS["mini"]), grid=config.grid)
