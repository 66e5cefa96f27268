"""`attention`: where an instance query of Symphonies looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from wholescene.commands.inputs import Given
from wholescene.commands.options import CameraOptions, File, check_device, placement, shown
from wholescene.commands.printing import as_text, facts, percent
from wholescene.errors import InputError


def attention(
    picture: Annotated[Path, shown("PICTURE")],
    /,
    *,
    weights: Annotated[str, shown("NAME|FILE")],
    query: Annotated[int, shown("N")] = 0,
    layer: Annotated[int, shown("N")] = 0,
    out: File | None = None,
    lens: CameraOptions = CameraOptions(),  # noqa: B008  frozen, and cyclopts reads the default
    grid: Annotated[str | None, shown("X,Y,Z@M[:x,y,z]")] = None,
    depth: File | None = None,
    depth_unit: Annotated[str | None, shown("U")] = None,
    device: Annotated[str, shown("D")] = "cpu",
) -> None:
    """Draw where an instance query looks, in the picture and in the volume.

    For weights of Symphonies: the places that the query reads in the picture (circles, larger where they count more) around its own point
    (cross), how much attention each voxel pays to it, from above and from the side, and the places that it reads in the scene.

    Try: wholescene attention street.png --weights symphonies.safetensors --depth street.npy --query 7

    Args:
        picture: the picture.
        weights: a file, or a name from `wholescene weights`; of Symphonies.
        query: which instance query, from 0.
        layer: which decoder layer, from 0; the last one's queries read the scene no more.
        out: picture to write; by default NAME-query-N.png in the current folder.
        grid: as for `wholescene predict`.
        depth: depth map of the picture.
        depth_unit: what its numbers mean; a unit is never guessed.
        device: cpu, cuda, cuda:1 or mps.
    """
    from wholescene.commands.reporting import PICTURE_SUFFIXES, save_picture
    from wholescene.data.collate import collate
    from wholescene.preparation import prepare
    from wholescene.reading.pictures import read_picture
    from wholescene.structures import Frame, View
    from wholescene.systems.base import share_in_view
    from wholescene.systems.symphonies.looking import look_of
    from wholescene.systems.symphonies.model import Symphonies
    from wholescene.view.attention import draw_attention
    from wholescene.weights import load

    target = out if out is not None else Path(f"{picture.stem}-query-{query}.png")
    if target.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"cannot write {target}: it is to be a picture; let its name end in {', '.join(PICTURE_SUFFIXES)}")
    check_device(device)
    given = Given(lens, grid, depth=depth, depth_unit=depth_unit)
    given.check(1)
    system = load(weights, device)
    if not isinstance(system, Symphonies):
        raise InputError(f"{weights} holds {system.name}, which has no instance queries; give weights of symphonies")
    given.check_for(system)
    read = read_picture(picture)
    camera = lens.of(read, system.config.camera_height_m, system.config.camera_pitch_deg).noted(*map(as_text, read.notes))
    voxels = placement(grid, system.config.grid).place(camera, system.config.camera_height_m)
    frame, said = given.added_to(Frame(as_text(read.name), {"main": View(read.array, camera)}, voxels), system.needs)
    system._check_needs(frame)
    share_in_view(frame)  # refuses a grid of which nothing is seen
    fitted = prepare(frame, system.config.preparation)
    found = look_of(system, collate([fitted]).to(system.device), query, layer)
    best = float(found.heard.max())
    caption = f"instance query {query} in layer {layer}: at most {percent(best)} of a voxel's attention"
    scene = frame.grid.coarser(system.config.factors)
    save_picture(
        draw_attention(
            fitted.main.picture, found.point, found.pixels, found.pixel_weights, scene, found.heard, found.voxels, found.voxel_weights,
            found.labels, system.config.label_set, caption,
        ),
        target,
    )  # fmt: skip
    said += [("note", note) for note in frame.main.camera.notes]
    facts([*said, ("query", caption), ("its point", f"pixel {found.point[0]:.0f}, {found.point[1]:.0f}"), ("wrote", target)])
