"""MonoScene (Cao and de Charette, CVPR 2022): the whole scene from one picture.

With conventions `exact`, released weights give the released logits, in both published settings (SemanticKITTI and NYUv2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene import losses
from wholescene.errors import InputError
from wholescene.geometry.frustums import frustum_ids
from wholescene.geometry.projection import project_batch
from wholescene.geometry.pyramid import pool_labels
from wholescene.geometry.relations import relation_targets
from wholescene.losses import VoxelSums
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.base import System
from wholescene.systems.monoscene.completion import COARSEST, ContextCompletion
from wholescene.systems.monoscene.config import MonoSceneConfig
from wholescene.systems.monoscene.lift import LineOfSightLift


class MonoScene(System):
    """2D UNet, FLoSP, 3D UNet with context relation prior, head (figure 2)."""

    Config = MonoSceneConfig
    name = "monoscene"
    config: MonoSceneConfig

    def __init__(self, config: MonoSceneConfig) -> None:
        super().__init__(config)
        self.half_2d = LineOfSightLift(config)
        self.half_3d = ContextCompletion(config)

    def joints(self, batch: Batch) -> tuple[Lifted, Completed]:
        """Features on the lifted grid; logits, and in `extras` the `relation_logits` (B, R, M, N) unless the context prior is left out."""
        lifted = self.half_2d(batch)
        return lifted, self.half_3d(lifted, batch)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The five terms of section 3.4, all of weight 1.

        Raises:
            InputError: a batch without targets.
        """
        if prediction.logits is None or 1 not in batch.targets:
            raise InputError(f"frames {', '.join(batch.names)} have no target labels, so there is nothing to compute losses with")
        config, target = self.config, batch.targets[1]
        sums = VoxelSums.of(prediction.logits, target, self._frustums(batch), config.frustum_divisions**2)
        terms = {
            "cross_entropy": losses.cross_entropy(sums, torch.tensor(config.weights_of_classes(), device=target.device)),
            "semantic_affinity": losses.semantic_affinity(sums),
            "geometric_affinity": losses.geometric_affinity(sums),
            "frustum_proportion": losses.frustum_proportion(sums),
        }
        if "relation_logits" in prediction.extras:
            relations = relation_targets(self._coarse_target(batch), config.relations)
            terms["relation"] = losses.relation(prediction.extras["relation_logits"], relations)
        return terms

    def _frustums(self, batch: Batch) -> Tensor:
        """(B, X * Y * Z) the frustum of each voxel, -1 out of view."""
        table = project_batch(batch, 1, self.config.rounding, self.config.use_offset)
        sizes = [camera.size for camera in batch.cameras["main"]]
        views = zip(table.pixels, table.in_view, sizes, strict=True)
        return torch.stack([frustum_ids(pixels, in_view, size, self.config.frustum_divisions) for pixels, in_view, size in views])

    def _coarse_target(self, batch: Batch) -> Tensor:
        """(B, x, y, z) labels at the context prior's scale: the data's own where it has them (NYUv2 pools a finer volume), else pooled."""
        scale = self.config.lift_factor * COARSEST
        return batch.targets[scale] if scale in batch.targets else pool_labels(batch.targets[1], scale)
