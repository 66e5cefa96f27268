"""`view` and `export`: scenes for the eye and for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wholescene.commands.options import Switch, shown


def view(
    scene: Annotated[Path, shown("SCENE")],
    /,
    *,
    open_: Annotated[bool, Parameter(name="--open", negative="--no-open", show_default=False)] = True,
) -> None:
    """Make one HTML page of a scene, and open it.

    The page lies beside the scene, needs no network and opens by double click.

    Try: wholescene view scenes/photo/scene.npz

    Args:
        scene: a scene.npz, or the folder that holds one.
        open_: open the page in a browser (default), or do not.
    """
    from wholescene.scene import Scene
    from wholescene.view.html import write_html

    path = scene / "scene.npz" if scene.is_dir() else scene
    loaded = Scene.load(path)
    page = path.with_suffix(".html")
    write_html(page, loaded)
    print(f"wrote {page}")
    if open_ and not _opened(page):
        print("no browser could be opened here; open the page by double click")


def export(scene: Annotated[Path, shown("SCENE")], file: Annotated[Path, shown("FILE")], /, *, points: Switch = False) -> None:
    """Write a scene for other programs.

    The suffix of FILE decides: .ply or .glb for 3D programs, .html for a browser, .png for a look, .npz for NumPy.

    Try: wholescene export scenes/photo/scene.npz photo.glb

    Args:
        scene: a scene.npz, or the folder that holds one.
        file: the file to write.
        points: in a .ply, one point a voxel instead of cubes.
    """
    from wholescene.scene import Scene
    from wholescene.view.export import export as write

    loaded = Scene.load(scene / "scene.npz" if scene.is_dir() else scene)
    write(loaded, file, **({"points": True} if points else {}))
    print(f"wrote {file}: {int(loaded.occupied.sum()):,} occupied voxels of {loaded.grid.voxels:,}")


def _opened(page: Path) -> bool:
    import webbrowser

    try:
        return webbrowser.open(page.absolute().as_uri())
    except (webbrowser.Error, OSError):
        return False
