"""The discontinuity of voxel orders: how far consecutive tokens lie apart in the picture and in space, as a table and as a figure.

python benchmarks/orders.py [--out orders.png]

Cameras and grids are those of the published settings: NYUv2 (60x36x60 voxels of 0.08 m, 640x480 pixels) and half of SemanticKITTI (128x128x16 of
0.4 m, 1220x370). A figure's line is an order: what share of the steps is longer than so many pixels (left) or metres (right).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from machine import processor
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wholescene.camera import Camera
from wholescene.geometry.orders import VoxelOrder, jumps, steps
from wholescene.grid import GridPlacement, VoxelGrid

ORDERS = {
    "raster": VoxelOrder("raster"),
    "z-order": VoxelOrder("z-order"),
    "hilbert": VoxelOrder("hilbert"),
    "frustum, 4 px": VoxelOrder(cell=4),
    "frustum, 8 px": VoxelOrder(cell=8),
    "frustum, 8 px, far and near in turn": VoxelOrder(cell=8, depth_serpentine=True),
    "frustum, 16 px": VoxelOrder(cell=16),
    "frustum, 32 px": VoxelOrder(cell=32),
}
COLOURS = ("#7f7f7f", "#bcbd22", "#2ca02c", "#aec7e8", "#1f77b4", "#d62728", "#ff7f0e", "#9467bd")
PLOT, MARGIN = (520, 380), 70


def scenes() -> dict[str, tuple[Camera, VoxelGrid]]:
    """Name -> camera and grid."""
    room = Camera.from_intrinsics(518.8579, 518.8579, 320.0, 240.0, (640, 480)).on_ground(1.35, 15)
    street = Camera.from_intrinsics(707.0912, 707.0912, 601.8873, 183.1104, (1220, 370)).on_ground(1.65)
    indoors = GridPlacement((60, 36, 60), (0.08, 0.08, 0.08), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")
    outdoors = GridPlacement((128, 128, 16), (0.4, 0.4, 0.4))
    return {"NYUv2": (room, indoors.place(room)), "SemanticKITTI, halved": (street, outdoors.place(street))}


def table(camera: Camera, grid: VoxelGrid) -> None:
    print(f"{'':38}{'image px: mean':>15}{'median':>9}{'95 %':>9}{'max':>9}{'space m: mean':>15}{'95 %':>9}")
    for name, how in ORDERS.items():
        found = jumps(camera, grid, how)
        mean, median, most, largest = found.image
        print(f"{name:38}{mean:>15.1f}{median:>9.1f}{most:>9.1f}{largest:>9.0f}{found.space[0]:>15.2f}{found.space[1]:>9.2f}")


def curve(lengths: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """(points, 2): log position 0..1 of a length between low and high, and the share of steps that are longer."""
    ticks = np.geomspace(low, high, 200)
    longer = 1 - np.searchsorted(np.sort(lengths), ticks, side="right") / len(lengths)
    return np.stack([np.linspace(0, 1, 200), longer], 1)


def panel(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], title: str, unit: str, limits: tuple[float, float], lines: list[NDArray[np.float64]]
) -> None:
    (x0, y0), (width, height), font = corner, PLOT, ImageFont.load_default(15)
    draw.text((x0, y0 - 28), title, fill="black", font=font)
    draw.rectangle((x0, y0, x0 + width, y0 + height), outline="black")
    low, high = limits
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        x = x0 + width * math.log(10**power / low) / math.log(high / low)
        draw.line((x, y0, x, y0 + height), fill="#dddddd")
        draw.text((x, y0 + height + 6), f"{10**power:g} {unit}", fill="black", font=font, anchor="ma")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = y0 + height * (1 - share)
        draw.line((x0, y, x0 + width, y), fill="#dddddd")
        draw.text((x0 - 8, y), f"{share:.0%}", fill="black", font=font, anchor="rm")
    for line, colour in zip(lines, COLOURS, strict=True):
        draw.line([(x0 + width * x, y0 + height * (1 - y)) for x, y in line], fill=colour, width=2)


def figure(out: Path) -> None:
    rows, font = scenes(), ImageFont.load_default(15)
    width = 2 * (PLOT[0] + 2 * MARGIN)
    row_height = PLOT[1] + 2 * MARGIN
    image = Image.new("RGB", (width, row_height * len(rows) + 30 * math.ceil(len(ORDERS) / 3) + 20), "white")
    draw = ImageDraw.Draw(image)
    for row, (name, (camera, grid)) in enumerate(rows.items()):
        found = [steps(camera, grid, how) for how in ORDERS.values()]
        y = row * row_height + MARGIN
        draws = (("in the picture", "px", (0.3, 1500.0), 0), ("in space", "m", (0.05, 50.0), 1))
        for column, (what, unit, limits, which) in enumerate(draws):
            lines = [curve(pair[which].numpy(), *limits) for pair in found]
            corner = (MARGIN + column * (PLOT[0] + 2 * MARGIN), y)
            panel(draw, corner, f"{name}: share of steps that are longer, {what}", unit, limits, lines)
    for index, (name, colour) in enumerate(zip(ORDERS, COLOURS, strict=True)):
        x, y = MARGIN + index % 3 * 400, row_height * len(rows) + 30 * (index // 3)
        draw.line((x, y + 9, x + 30, y + 9), fill=colour, width=4)
        draw.text((x + 38, y), name, fill="black", font=font)
    image.save(out)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("orders.png"))
    given = parser.parse_args()
    print(processor())
    for name, (camera, grid) in scenes().items():
        print(f"\n{name}: {grid.shape} voxels, {grid.share_in_view(camera):.0%} in view")
        table(camera, grid)
    figure(given.out)
    print(f"\nwrote {given.out}")


if __name__ == "__main__":
    main()
