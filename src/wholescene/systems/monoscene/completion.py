"""MonoScene's 3D half: volume -> 3D UNet with a context relation prior -> logits (sections 3.2 and 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholescene import losses
from wholescene.errors import InputError
from wholescene.geometry.frustums import frustum_ids
from wholescene.geometry.projection import project_batch
from wholescene.geometry.pyramid import pool_labels
from wholescene.geometry.relations import RELATIONS, relation_targets
from wholescene.layers.context_prior import ContextPrior
from wholescene.layers.head import CompletionHead
from wholescene.layers.unet3d import UNet3D
from wholescene.losses import VoxelSums
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.halves import Half3D, answer_and_target, check_grid
from wholescene.systems.monoscene.config import ContextConfig

COARSEST = 4  # the 3D UNet halves the lifted grid twice


class NoContext(nn.Module):
    """Stands where the context prior is left out (Table 4 of the paper)."""

    def forward(self, volume: Tensor) -> tuple[Tensor, None]:
        """The volume itself."""
        return volume, None


class ContextCompletion(Half3D):
    """3D UNet whose middle is the context relation prior, then the head at the batch's resolution; and the losses of section 3.4."""

    def __init__(self, config: ContextConfig) -> None:
        """
        Raises:
            InputError: a grid whose sides the lift and the 3D UNet do not divide, features that are no multiple of four, or another number
                of relations than two or four.
        """
        super().__init__()
        self.config, self.shape = config, config.grid.shape
        self.width, self.factor = config.features, config.lift_factor
        factor = config.lift_factor
        coarse = tuple(n // (factor * COARSEST) for n in self.shape)
        if any(n % (factor * COARSEST) for n in self.shape) or min(coarse) < 2:
            raise InputError(f"the grid has {self.shape} voxels; each count must be a multiple of {factor * COARSEST}, at least twice that")
        if factor not in (1, 2, 4, 8) or config.features % 4:
            raise InputError(f"lift_factor must be 1, 2, 4 or 8 and features a multiple of 4; found {factor} and {config.features}")
        if config.relations not in RELATIONS:
            raise InputError(f"the context prior knows 2 or 4 relations; found {config.relations}")
        recompute = config.activation_checkpointing
        prior = ContextPrior(COARSEST * config.features, coarse, config.relations, activation_checkpointing=recompute)
        self.volume_net = self.network(config, prior if config.context_prior else NoContext())
        self.head = CompletionHead(config.features, config.head_width, config.classes, factor.bit_length() - 1, activation_checkpointing=recompute)

    def network(self, config: ContextConfig, middle: nn.Module) -> nn.Module:
        """What completes the volume around `middle`; a system of the family with another one overrides it, and `complete`."""
        return UNet3D(config.features, middle, activation_checkpointing=config.activation_checkpointing)

    def complete(self, volume: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(B, C, X, Y, Z) to the same, and relation logits (B, R, M, N)."""
        found: tuple[Tensor, Tensor | None] = self.volume_net(volume)
        return found

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z); `extras` holds `relation_logits` (B, R, M, N).

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        check_grid(batch, self.shape)
        assert lifted.volume is not None
        volume, relation_logits = self.complete(lifted.volume, batch)
        extras = {} if relation_logits is None else {"relation_logits": relation_logits}
        return Completed(volume, lifted.grid, self.head(volume), extras=extras)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The five terms of section 3.4, all of weight 1; four where the context prior is left out.

        Raises:
            InputError: a batch without targets.
        """
        config = self.config
        logits, target = answer_and_target(prediction, batch)
        sums = VoxelSums.of(logits, target, self._frustums(batch), config.frustum_divisions**2)
        terms = {
            "cross_entropy": losses.cross_entropy(sums, torch.tensor(config.weights_of_classes(), device=target.device)),
            "semantic_affinity": losses.semantic_affinity(sums),
            "geometric_affinity": losses.geometric_affinity(sums),
            "frustum_proportion": losses.frustum_proportion(sums),
        }
        if "relation_logits" in prediction.extras:
            relations = relation_targets(self._coarse_target(batch), config.relations)
            terms["relation"] = losses.relation(prediction.extras["relation_logits"], relations, config.relation_epsilon)
        return terms

    def _frustums(self, batch: Batch) -> Tensor:
        """(B, X * Y * Z) the frustum of each voxel, -1 out of view."""
        table = project_batch(batch, 1, self.config.rounding, self.config.use_offset)
        sizes = [camera.size for camera in batch.cameras["main"]]
        views = zip(table.pixels, table.in_view, sizes, strict=True)
        return torch.stack([frustum_ids(pixels, in_view, size, self.config.frustum_divisions) for pixels, in_view, size in views])

    def _coarse_target(self, batch: Batch) -> Tensor:
        """(B, x, y, z) labels at the context prior's scale: the data's own where it has them (NYUv2 pools a finer volume), else pooled."""
        scale = self.factor * COARSEST
        return batch.targets[scale] if scale in batch.targets else pool_labels(batch.targets[1], scale)
