"""LMSCNet and LMSCNet-SS (Roldao, de Charette and Verroust-Blondet, 3DV 2020): occupancy in, the whole scene out; no picture.

With conventions `exact`, released weights give the released voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene import losses
from wholescene.geometry.pyramid import pool_labels
from wholescene.losses import VoxelSums
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.base import System
from wholescene.systems.halves import answer_and_target
from wholescene.systems.lmscnet.completion import HeightCompletion, OccupancyLift, one_late
from wholescene.systems.lmscnet.config import LMSCNetConfig


class LMSCNet(System):
    """Occupancy, 2D UNet over height slices, multi-scale heads (figure 2)."""

    Config = LMSCNetConfig
    name = "lmscnet"
    looks_at_picture = False
    config: LMSCNetConfig

    def __init__(self, config: LMSCNetConfig) -> None:
        super().__init__(config)
        self.half_2d = OccupancyLift(config)
        self.half_3d = HeightCompletion(config)

    @property
    def needs(self) -> frozenset[str]:
        """The source of the input voxels."""
        return frozenset({self.config.source})

    def joints(self, batch: Batch) -> tuple[Lifted, Completed]:
        """The voxels; logits (B, K, X, Y, Z), in training `auxiliary` with those of the coarser scales, "1_2", "1_4" and "1_8"."""
        lifted = self.half_2d(batch)
        return lifted, self.half_3d(lifted, batch)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Class-weighted cross-entropy at every scale that was made, averaged over the scales (section 3.3).

        Raises:
            InputError: a batch without targets.
        """
        finest, _ = answer_and_target(prediction, batch)
        weights = torch.tensor(self.config.weights_of_classes(), device=finest.device)
        logits = {1: finest, **{int(name.removeprefix("1_")): x for name, x in prediction.auxiliary.items()}}
        return {
            f"cross_entropy_1_{scale}": losses.cross_entropy(VoxelSums.of(x, self._target(batch, scale)), weights) / len(logits)
            for scale, x in logits.items()
        }

    def _target(self, batch: Batch, scale: int) -> Tensor:
        """(B, x, y, z) labels at a scale: the data's own where it has them, else pooled by majority, on the voxels that the coarse maps stand on."""
        if scale in batch.targets:
            return batch.targets[scale]
        finest = batch.targets[1] if self.config.revision == "v1.1" else one_late(batch.targets[1])
        return pool_labels(finest, scale, "majority")
