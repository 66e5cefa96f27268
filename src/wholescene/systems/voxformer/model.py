"""VoxFormer (Li et al., CVPR 2023) with one picture: sparse voxel queries where depth says something is, then the whole scene.

With conventions `exact`, the released weights of both stages (VoxFormer-S) give the released logits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene import losses
from wholescene.errors import InputError
from wholescene.geometry.occupancy import occupancy_of_batch
from wholescene.geometry.pyramid import pool_labels
from wholescene.labels import UNKNOWN
from wholescene.losses import VoxelSums
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.base import System
from wholescene.systems.halves import target_of
from wholescene.systems.voxformer.completion import VoxelCompletion
from wholescene.systems.voxformer.config import VoxFormerConfig
from wholescene.systems.voxformer.lift import QueryLift
from wholescene.systems.voxformer.proposals import QueryProposal


class VoxFormer(System):
    """Query proposals (stage 1), cross-attention to the picture, self-attention of all voxels, head (stage 2; figure 2)."""

    Config = VoxFormerConfig
    name = "voxformer"
    config: VoxFormerConfig

    def __init__(self, config: VoxFormerConfig) -> None:
        """
        Raises:
            InputError: a grid that the strides do not divide, or features that the heads do not.
        """
        super().__init__(config)
        if any(n % 8 for n in config.grid.shape) or config.lift_factor not in (1, 2, 4) or config.features % config.heads:
            raise InputError(
                f"VoxFormer's grid has {config.grid.shape} voxels, lift_factor is {config.lift_factor}, and {config.heads} heads share "
                f"{config.features} features; expected multiples of 8, a factor of 1, 2 or 4, and a multiple of the heads"
            )
        if config.stage != "completion":
            self.proposer = QueryProposal(config)
        if config.stage != "proposals":
            self.half_2d = QueryLift(config)
            self.half_3d = VoxelCompletion(config)

    @property
    def needs(self) -> frozenset[str]:
        """The source of the voxels that stage 1 corrects."""
        return frozenset({self.config.source})

    def forward(self, batch: Batch) -> Prediction:
        """Logits (B, K, X, Y, Z), none in stage "proposals"; `extras` holds `proposals` (B, x, y, z) bool on the coarser grid, and where stage 1 made
        them its `proposal_logits` (B, 2, x, y, z)."""
        if not self.completes:
            proposals, extras = self._propose(batch)
            return Prediction(None, extras={"proposals": proposals, **extras})
        return Prediction.of(*self.joints(batch))

    def joints(self, batch: Batch) -> tuple[Lifted, Completed]:
        """What the proposed voxels saw; logits."""
        proposals, extras = self._propose(batch)
        lifted = self.lifted(replace(batch, proposals=proposals))
        lifted.extras |= {"proposals": proposals, **extras}
        return lifted, self.half_3d(lifted, batch)

    def _propose(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, x, y, z) bool: stage 1's; where it is not built the frames' own, or the voxels of the source; and what the losses want."""
        if self.config.stage == "completion" and batch.proposals is not None:
            return batch.proposals, {}
        occupancy = occupancy_of_batch(batch, self.config.source)
        if self.config.stage == "completion":
            return F.max_pool3d(occupancy.float(), self.config.lift_factor) > 0, {}
        logits = self.proposer(occupancy)
        return logits[:, 1] > logits[:, 0], {"proposal_logits": logits}

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Of what was made: stage 1's cross-entropy (section 3.3), stage 2's with both affinities (section 3.5), all of weight 1.

        Raises:
            InputError: a batch without targets.
        """
        config, target, terms = self.config, target_of(batch), {}
        if prediction.logits is not None:
            sums = VoxelSums.of(prediction.logits, target)
            weights = torch.tensor(config.weights_of_classes(), device=prediction.logits.device)
            terms["cross_entropy"] = losses.cross_entropy(sums, weights, config.cross_entropy_over)
            terms["semantic_affinity"] = losses.semantic_affinity(sums)
            terms["geometric_affinity"] = losses.geometric_affinity(sums)
        if "proposal_logits" in prediction.extras:
            logits = prediction.extras["proposal_logits"]
            sums = VoxelSums.of(logits, self._occupied(batch))
            terms["proposal"] = losses.cross_entropy(sums, torch.tensor(config.proposal_weights, device=logits.device), "voxels")
        return terms

    def _occupied(self, batch: Batch) -> Tensor:
        """(B, x, y, z) uint8 on the coarser grid: 0 empty, 1 occupied, 255 unknown."""
        factor = self.config.lift_factor
        labels = batch.targets[factor] if factor in batch.targets else pool_labels(batch.targets[1], factor)
        return torch.where(labels == UNKNOWN, UNKNOWN, (labels > 0).to(labels.dtype)).to(torch.uint8)
