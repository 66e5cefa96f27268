"""Draw the masks of ScanSSC's Scan Blocks for a small grid: rows are voxels that look, columns those that are seen.

    python benchmarks/scan_masks.py [--grid 16 16 8] [--margins 0.5 0.5 0] [--reversed] --out scan_masks.png

Bright: seen because it is not farther; green: seen only because it lies in the margin region; dark: hidden.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from wholescene.layers.scan import margin_region, scan_mask
from wholescene.systems.scanssc.completion import scan_order
from wholescene.systems.scanssc.config import AXES, ScanSSCConfig
from wholescene.view.style import BACKGROUND, TEXT, font

SEEN, MARGIN, HIDDEN = (232, 234, 237), (90, 180, 120), (58, 63, 70)
STARTS = {"depth": "front", "width": "right side", "height": "bottom"}


def picture_of(axis: str, length: int, config: ScanSSCConfig, cell: int) -> Image.Image:
    """One mask with its title, `cell` pixels a voxel."""
    order, margin = scan_order(config, axis), config.margins[AXES.index(axis)]
    before, seen = scan_mask(length, order, 0.0).numpy(), scan_mask(length, order, margin).numpy()
    colours = np.where(before[..., None], SEEN, np.where(seen[..., None], MARGIN, HIDDEN)).astype(np.uint8)
    mask = Image.fromarray(colours).resize((length * cell, length * cell), Image.Resampling.NEAREST)
    lines = ImageDraw.Draw(mask)
    for i in range(1, length):
        lines.line([(i * cell, 0), (i * cell, length * cell)], fill=BACKGROUND)
        lines.line([(0, i * cell), (length * cell, i * cell)], fill=BACKGROUND)
    whole = Image.new("RGB", (max(mask.width, 330) + 60, mask.height + 96), BACKGROUND)
    whole.paste(mask, (40, 66))
    pen = ImageDraw.Draw(whole)
    pen.text((40, 8), f"{axis}: {order}, margin {margin:.0%}", fill=TEXT, font=font(16))
    inside = np.flatnonzero(margin_region(length, order, margin).numpy())
    region = f"{inside.min()} to {inside.max()}" if len(inside) else "none"
    pen.text((40, 30), f"{length} voxels from the {STARTS[axis]}; margin region {region}", fill=TEXT, font=font(13))
    pen.text((40, 48), "seen voxel ->", fill=TEXT, font=font(12))
    pen.text((40, mask.height + 72), "rows: the voxel that looks, from the top", fill=TEXT, font=font(12))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", nargs=3, type=int, default=(16, 16, 8), metavar=("DEPTH", "WIDTH", "HEIGHT"))
    parser.add_argument("--margins", nargs=3, type=float, default=(0.5, 0.5, 0.0))
    parser.add_argument("--reversed", action="store_true", help="every direction turned round (Table 6)")
    parser.add_argument("--cell", type=int, default=22, help="pixels a voxel")
    parser.add_argument("--out", type=Path, default=Path("scan_masks.png"))
    asked = parser.parse_args()
    config = ScanSSCConfig(margins=tuple(asked.margins), reversed_scans=AXES if asked.reversed else ())
    masks = [picture_of(axis, length, config, asked.cell) for axis, length in zip(AXES, asked.grid, strict=True)]
    whole = Image.new("RGB", (sum(m.width for m in masks), max(m.height for m in masks)), BACKGROUND)
    for i, mask in enumerate(masks):
        whole.paste(mask, (sum(m.width for m in masks[:i]), 0))
    whole.save(asked.out)
    print(f"wrote {asked.out}")


if __name__ == "__main__":
    main()
