"""MonoScene's 2D half: picture -> pyramid -> features along the lines of sight (section 3.1 and 3.2)."""

from __future__ import annotations

from wholescene.geometry.projection import project_batch
from wholescene.layers.flosp import FLoSP
from wholescene.layers.unet2d import UNet2D
from wholescene.structures import Batch, Lifted
from wholescene.systems.base import normalise
from wholescene.systems.halves import Half2D
from wholescene.systems.monoscene.config import MonoSceneConfig


class LineOfSightLift(Half2D):
    """2D UNet and FLoSP: every voxel holds the sum of the features of the pixels it falls on, whatever its depth."""

    def __init__(self, config: MonoSceneConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.factor = config.features, config.lift_factor
        self.encoder = UNet2D(
            config.encoder,
            config.features,
            config.line_of_sight_scales,
            width=config.decoder_width,
            padding=config.decoder_padding,
            activation_checkpointing=config.activation_checkpointing,
        )
        self.lift = FLoSP()

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z) on the grid that is `lift_factor` times coarser than the batch's."""
        config = self.config
        grids = tuple(grid.coarser(config.lift_factor) for grid in batch.grids)
        table = project_batch(batch, config.lift_factor, config.rounding, config.use_offset)
        pyramid = self.encoder(normalise(batch.pictures["main"], config.preparation))
        return Lifted(self.lift(pyramid, table.pixels, table.in_view, grids[0].shape), grids)
