"""`growth`: how refinement's mask grows over the steps, on one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wholescene.commands.inputs import Given
from wholescene.commands.options import CameraOptions, File, check_device, placement, shown
from wholescene.commands.printing import facts, table
from wholescene.errors import InputError

if TYPE_CHECKING:
    from wholescene.structures import Frame
    from wholescene.systems.base import System
    from wholescene.view.growth import Stage

_MOST_STEPS = 20


def growth(
    picture: Annotated[Path | None, shown("PICTURE")] = None,
    /,
    *,
    weights: Annotated[str, shown("NAME|FILE")],
    street: Annotated[int | None, shown("SEED")] = None,
    setting: Annotated[str, shown("NAME")] = "full",
    steps: Annotated[int, shown("N")] = 5,
    lens: CameraOptions = CameraOptions(),  # noqa: B008
    grid: Annotated[str | None, shown("X,Y,Z@M[:x,y,z]")] = None,
    depth: File | None = None,
    depth_unit: Annotated[str | None, shown("U")] = None,
    depth_source: Annotated[str | None, shown("S")] = None,
    right: Annotated[Path | None, shown("PICTURE")] = None,
    baseline: Annotated[float | None, shown("M")] = None,
    right_camera: Annotated[str | None, shown("FILE[:NAME]")] = None,
    device: Annotated[str, shown("D")] = "cpu",
    out: File | None = None,
) -> None:
    """Draw how refinement's mask grows.

    One column a step: the active voxels on the picture and from above (new, kept, gone), and the answer after the step. For weights of a system
    that refines. A picture, a procedural street, or one above the other.

    Try: wholescene growth --street 7 --setting mini --weights runs/monomrn/final.safetensors

    Args:
        picture: the picture; may be left out where a street is made.
        weights: of a system that refines: a name from `wholescene weights`, or a file.
        street: number of a procedural street (extra `worlds`).
        setting: of that street: full, half or mini.
        steps: so many refinement steps, at most 20.
        grid: as for `wholescene predict`.
        depth: depth map of the picture, for systems that need one.
        depth_unit: what its numbers mean.
        depth_source: or where depth comes from, as for `wholescene predict`.
        right: the right picture of a rectified stereo pair.
        baseline: metres between the two cameras of the pair.
        right_camera: instead, the right picture's own camera, as for --camera (KITTI: calib.txt:P3).
        device: cpu, cuda, cuda:1 or mps.
        out: picture to write; by default NAME-growth.png in the current folder.
    """
    from wholescene.commands.reporting import PICTURE_SUFFIXES, save_picture
    from wholescene.systems.refine.stages import NOTHING_ACTIVE, stages_of
    from wholescene.view.growth import Stage, draw_growth, stack
    from wholescene.weights import load

    if picture is None and street is None:
        raise InputError("give a picture, or --street SEED for a procedural one, or both")
    if not 1 <= steps <= _MOST_STEPS:
        raise InputError(f"--steps {steps} cannot be drawn side by side; give a number from 1 to {_MOST_STEPS}")
    if picture is None and (grid, depth, depth_source, right) != (None, None, None, None):
        raise InputError("a procedural street has its own grid and depth; leave --grid, --depth, --depth-source and --right out, or give a picture")
    target = out if out is not None else Path(f"{picture.stem if picture is not None else f'street-{street}'}-growth.png")
    if target.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"cannot write {target}: it is a picture; let its name end in {', '.join(PICTURE_SUFFIXES)}")
    check_device(device)
    given = Given(lens, grid, depth, depth_unit, depth_source, right, baseline, right_camera, points=None, precision="float32", steps=steps)
    given.check(1)
    system = load(weights, device)
    given.check_for(system)
    frames = [_frame(picture, given, system)] if picture is not None else []
    frames += [_street(street, setting)] if street is not None else []
    found = [[Stage(scene, active) for scene, active in stages_of(system, frame, steps)] for frame in frames]
    named = str(system.card.get("name", ""))
    save_picture(stack([draw_growth(stages, f"{f.name}: refinement step by step", named) for f, stages in zip(frames, found, strict=True)]), target)
    for frame, stages in zip(frames, found, strict=True):
        if len(frames) > 1:
            print(frame.name)
        table(("step", "active %", "occupied", "changed"), _rows(stages))
        nothing = () if any(stage.active is not None and stage.active.any() for stage in stages) else (NOTHING_ACTIVE,)
        facts([("note", note) for note in (*frame.main.camera.notes, *nothing)])
    facts([("wrote", target)])


def _rows(stages: list[Stage]) -> list[tuple[object, ...]]:
    """Of every step: the active share, how many voxels are occupied after it, and how many changed."""
    rows: list[tuple[object, ...]] = []
    for step, stage in enumerate(stages):
        active, changed = stage.active, int((stage.scene.labels != stages[max(0, step - 1)].scene.labels).sum())
        rows.append((step, "-" if active is None else f"{100 * active.mean():.2f}", f"{int(stage.scene.occupied.sum()):,}", f"{changed:,}"))
    return rows


def _street(seed: int, setting: str) -> Frame:
    from wholescene.worlds.street import preset, street

    return street(seed, preset(setting))


def _frame(path: Path, given: Given, system: System) -> Frame:
    from wholescene.reading.pictures import read_picture
    from wholescene.structures import Frame, View

    config, read = system.config, read_picture(path)
    camera = given.lens.of(read, config.camera_height_m, config.camera_pitch_deg).noted(*read.notes)
    voxels = placement(given.grid, config.grid).place(camera, config.camera_height_m)
    frame, _ = given.added_to(Frame(read.name, {"main": View(read.array, camera)}, voxels), system.needs)
    return frame
