"""`predict` and `overlay`: from own pictures to scenes."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from wholescene.commands.inputs import Given
from wholescene.commands.options import DEFAULT_WEIGHTS, CameraOptions, File, Folder, check_device, placement, shown
from wholescene.commands.printing import as_text, facts, percent, warn
from wholescene.errors import InputError, WholesceneError
from wholescene.files import check_place

if TYPE_CHECKING:
    from wholescene.scene import Scene
    from wholescene.systems.base import System


def predict(
    pictures: Annotated[list[Path], shown("PICTURE|FOLDER")],
    /,
    *,
    weights: Annotated[str, shown("NAME|FILE")] = DEFAULT_WEIGHTS,
    out: Folder = Path("scenes"),
    lens: CameraOptions = CameraOptions(),  # noqa: B008  frozen, and cyclopts reads the default
    grid: Annotated[str | None, shown("X,Y,Z@M[:x,y,z]")] = None,
    depth: File | None = None,
    depth_unit: Annotated[str | None, shown("U")] = None,
    depth_source: Annotated[str | None, shown("S")] = None,
    right: Annotated[Path | None, shown("PICTURE")] = None,
    baseline: Annotated[float | None, shown("M")] = None,
    right_camera: Annotated[str | None, shown("FILE[:NAME]")] = None,
    points: File | None = None,
    device: Annotated[str, shown("D")] = "cpu",
    precision: Literal["float32", "bf16"] = "float32",
    steps: Annotated[int | None, shown("N")] = None,
) -> int:
    """Complete the scenes of pictures.

    Every voxel of the grid before the camera gets a class or "empty", also behind what the camera sees. Each picture gets a folder DIR/NAME
    with scene.npz (all of it), scene.ply (3D programs), scene.png (a look) and scene.html (turn it, offline). Printed are the camera and
    where it came from, what was guessed, how much of the grid is in view, and what was found. Of several pictures, those that fail are
    named, the rest is done, and the exit code is 1.

    Try: wholescene predict photo.jpg

    Try: wholescene predict street.png --camera 718.9,718.9,607.2,185.2 --height 1.65

    Args:
        pictures: pictures, or folders of which all pictures are taken.
        weights: a name from `wholescene weights`, or a file.
        out: folder for the results.
        grid: voxels forward, left, up @ metres, and the lower corner seen from the ground below the camera: 256,256,32@0.2:0,-25.6,-0.3
        depth: depth map of the picture, for systems that need one.
        depth_unit: what its numbers mean; a unit is never guessed.
        depth_source: where depth comes from if no map is given: stereo (of the right picture), mono:WEIGHTS (a metric depth network),
            iso:FILE (that of ISO's weights), files:FOLDER[@UNIT].
        right: the right picture of a rectified stereo pair.
        baseline: metres between the two cameras of the pair.
        right_camera: instead, the right picture's own camera, as for --camera (KITTI: calib.txt:P3).
        points: LiDAR points (.bin or .npy), for systems that need them.
        device: cpu, cuda, cuda:1 or mps.
        precision: numbers that the network computes with.
        steps: refinement steps, for systems that refine.
    """
    from wholescene.commands.batches import find_pictures, names_of
    from wholescene.commands.reporting import say_what_weights_know
    from wholescene.layers.fuse import fuse_for_inference
    from wholescene.weights import load

    check_device(device)
    found, skipped = find_pictures(pictures)
    given = Given(lens, grid, depth, depth_unit, depth_source, right, baseline, right_camera, points, precision, steps)
    given.check(len(found))
    check_place(out / "scene.npz")
    system = fuse_for_inference(load(weights, device))
    given.check_for(system)
    placement(grid, system.config.grid)
    if skipped:
        print(f"left out, not pictures by their names: {', '.join(p.name for p in skipped)}")
    jobs = list(zip(found, (out / name for name in names_of(found)), strict=True))
    alone = len(jobs) == 1 and not pictures[0].is_dir()
    failed = _all_of(jobs, system, given, stop=alone)
    if not alone:
        print(f"{len(jobs) - len(failed)} of {len(jobs)} pictures done" + (f"; failed: {', '.join(failed)}" if failed else ""))
    say_what_weights_know(system)
    return 0 if not failed else 1 if len(failed) < len(jobs) else 2


def overlay(
    picture: Annotated[Path, shown("PICTURE")],
    /,
    *,
    lens: CameraOptions = CameraOptions(),  # noqa: B008
    weights: Annotated[str | None, shown("NAME|FILE")] = None,
    grid: Annotated[str | None, shown("X,Y,Z@M[:x,y,z]")] = None,
    out: File | None = None,
) -> None:
    """Draw the grid on a picture, to check its camera.

    One look tells whether field of view, height and pitch are right: the bottom of the box must lie on the road, and its long lines must
    run along it.

    Try: wholescene overlay photo.jpg --height 1.5 --pitch 3

    Try: wholescene overlay room.jpg --weights monoscene-room-small

    Args:
        picture: the picture.
        weights: draw the grid of these, and take the height and pitch that they expect; by default a street's grid, 1.65 m and level.
        grid: as for `wholescene predict`.
        out: picture to write; by default NAME-overlay.png in the current folder.
    """
    from wholescene.commands.reporting import PICTURE_SUFFIXES, camera_facts, save_picture
    from wholescene.reading.pictures import read_picture
    from wholescene.structures import Frame, View
    from wholescene.systems.base import share_in_view, view_notes
    from wholescene.systems.config import SystemConfig
    from wholescene.view.overlay import draw_overlay
    from wholescene.weights import load

    lens.check()
    target = out if out is not None else Path(f"{picture.stem}-overlay.png")
    if target.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"cannot write {target}: an overlay is a picture; let its name end in {', '.join(PICTURE_SUFFIXES)}")
    expected = SystemConfig() if weights is None else load(weights).config
    base = placement(grid, expected.grid)
    read = read_picture(picture)
    camera = lens.of(read, expected.camera_height_m, expected.camera_pitch_deg).noted(*read.notes)
    frame = Frame(read.name, {"main": View(read.array, camera)}, base.place(camera, expected.camera_height_m))
    share = share_in_view(frame)
    save_picture(draw_overlay(read.array, camera, frame.grid), target)
    facts([*camera_facts(camera), ("in view", f"{percent(share)} of the grid"), ("wrote", target)])
    for note in view_notes(frame, share):
        warn(f"{read.name}: {note}")


def _all_of(jobs: list[tuple[Path, Path]], system: System, given: Given, stop: bool) -> list[str]:
    """Predict, report and write each (picture, folder); the names of those that failed. With `stop` the first failure is raised."""
    from wholescene.commands.reporting import report, write

    failed = []
    for path, folder in jobs:
        try:
            scene, more = _complete(system, path, given)
            written = write(scene, folder)
            print(path)
            report(scene, [*more, ("wrote", f"{folder}: {', '.join(p.name for p in written)}")])
        except (WholesceneError, OSError, MemoryError) as error:
            if stop:
                raise
            failed.append(path.name)
            print(f"failed: {error or f'{path}: not enough memory'}", file=sys.stderr, flush=True)
    return failed


def _complete(system: System, path: Path, given: Given) -> tuple[Scene, list[tuple[str, object]]]:
    """The scene of one picture, and what else to say of it."""
    from wholescene.reading.pictures import read_picture
    from wholescene.structures import Frame, View

    config = system.config
    read = read_picture(path)
    camera = given.lens.of(read, config.camera_height_m, config.camera_pitch_deg).noted(*map(as_text, read.notes))
    voxels = placement(given.grid, config.grid).place(camera, config.camera_height_m)
    frame, said = given.added_to(Frame(as_text(read.name), {"main": View(read.array, camera)}, voxels), system.needs)
    with _precision(system, given.precision):
        scene: Scene = system.predict(frame, steps=given.steps)
    return scene, said


def _precision(system: System, precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision == "float32":
        return contextlib.nullcontext()
    import torch

    return torch.autocast(system.device.type, dtype=torch.bfloat16)
