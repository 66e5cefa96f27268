"""Make the street that the package carries for its demo: picture and exact truth, held out from training.

python benchmarks/make_demo_street.py SEED
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

from wholescene.labels import SEMANTIC_KITTI
from wholescene.scene import Scene
from wholescene.worlds.street import preset, street

BUNDLED = Path(__file__).resolve().parents[1] / "src" / "wholescene" / "bundled"


def main() -> None:
    """Render with nine rays a pixel, since people will look at it."""
    seed = int(sys.argv[1])
    frame = street(seed, replace(preset("full"), samples=9))
    Image.fromarray(frame.main.picture).save(BUNDLED / "street.jpg", quality=93, subsampling=0)
    provenance = {"note": f"truth of the procedural street {seed}, which no weights were trained on"}
    Scene(frame.targets[1], frame.grid, SEMANTIC_KITTI, camera=frame.main.camera, name=f"street {seed}", provenance=provenance).save(
        BUNDLED / "street.npz"
    )
    print({path.name: path.stat().st_size for path in BUNDLED.iterdir()})


if __name__ == "__main__":
    main()
