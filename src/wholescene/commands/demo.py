"""`demo`: a street that the weights have never seen, completed from one picture and compared with the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wholescene.commands.options import DEFAULT_WEIGHTS, Folder, shown
from wholescene.errors import InputError

if TYPE_CHECKING:
    from wholescene.systems.config import SystemConfig
    from wholescene.worlds.street import StreetSetting

_FIRST_SEED = 2_000_000  # recipes train on streets from 0 on and score on those from 1,000,000 on


def demo(
    *, seed: Annotated[int, shown("N")] = 0, out: Folder = Path("demo"), weights: Annotated[str, shown("NAME|FILE")] = DEFAULT_WEIGHTS
) -> None:
    """Complete a street that the weights have never seen.

    The street is made here from its seed, completed from one picture of it, and compared with the truth. Open DIR/scene.html by double
    click; beside it lie comparison.png, scene.npz, scene.ply and scene.png.

    Try: wholescene demo --seed 3

    Args:
        seed: which street, 0 or more.
        out: folder for the results.
        weights: a name from `wholescene weights`, or a file.
    """
    from wholescene.commands.reporting import report, save_picture, say_what_weights_know, write
    from wholescene.geometry.visibility import OUT_OF_VIEW, visibility
    from wholescene.scene import Scene
    from wholescene.view.html import write_html
    from wholescene.view.render import render_comparison
    from wholescene.view.scores import scores_in_words
    from wholescene.weights import load
    from wholescene.worlds.street import street

    if not 0 <= seed < 2**31:
        raise InputError(f"--seed {seed} is not a street; give a whole number from 0 to {2**31 - 1}")
    system = load(weights)
    frame = street(_FIRST_SEED + seed, setting_for(system.config))
    scene = replace(system.predict(frame), name=f"street {seed}")
    truth = Scene(frame.targets[1], frame.grid, scene.label_set, camera=frame.main.camera, picture=frame.main.picture, name=scene.name)
    seen = visibility(truth.occupied, frame.main.camera, frame.grid)
    written = write(scene, out, html=False)
    write_html(out / "scene.html", scene, truth, seen)
    save_picture(render_comparison(scene, truth), out / "comparison.png")
    print(f"street {seed}, made here; the weights have never seen it")
    scores = scores_in_words(scene, truth, seen != OUT_OF_VIEW) + " (this street alone)"
    names = ["scene.html (open by double click)", "comparison.png", *(p.name for p in written)]
    report(scene, [("scores", scores), ("wrote", f"{out}: {', '.join(names)}")])
    say_what_weights_know(system)


def setting_for(config: SystemConfig) -> StreetSetting:
    """The street setting whose grid and picture a system was made for: the preset with its number of voxels, on its own grid.

    Raises:
        InputError: its classes are not those of a street.
    """
    from wholescene.worlds.street import PRESETS

    if config.labels != "semantic-kitti":
        raise InputError(f"these weights know the classes of {config.labels}; the demo is a street, so it needs weights for semantic-kitti")
    alike = (setting for setting in PRESETS.values() if setting.grid.shape == config.grid.shape)
    return replace(next(alike, PRESETS["mini"]), grid=config.grid)
