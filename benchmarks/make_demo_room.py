"""Make the room that the package carries for its demo: picture and exact truth, held out from training.

python benchmarks/make_demo_room.py SEED
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

from wholescene.labels import NYUV2
from wholescene.scene import Scene
from wholescene.worlds.room import preset, room

BUNDLED = Path(__file__).resolve().parents[1] / "src" / "wholescene" / "bundled"


def main() -> None:
    """Render with nine rays a pixel, since people will look at it."""
    seed = int(sys.argv[1])
    frame = room(seed, replace(preset("half"), picture=(640, 480), samples=9))
    Image.fromarray(frame.main.picture).save(BUNDLED / "room.jpg", quality=93, subsampling=0)
    provenance = {"note": f"truth of the procedural room {seed}, which no weights were trained on"}
    Scene(frame.targets[1], frame.grid, NYUV2, camera=frame.main.camera, name=f"room {seed}", provenance=provenance).save(BUNDLED / "room.npz")
    print({path.name: path.stat().st_size for path in BUNDLED.iterdir()})


if __name__ == "__main__":
    main()
