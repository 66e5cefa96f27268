"""MonoScene's 3D half: volume -> 3D UNet with a context relation prior -> logits (sections 3.2 and 3.3)."""

from __future__ import annotations

from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.geometry.relations import RELATIONS
from wholescene.layers.context_prior import ContextPrior
from wholescene.layers.head import CompletionHead
from wholescene.layers.unet3d import UNet3D
from wholescene.structures import Batch, Completed, Lifted
from wholescene.systems.monoscene.config import MonoSceneConfig

COARSEST = 4  # the 3D UNet halves the lifted grid twice


class NoContext(nn.Module):
    """Stands where the context prior is left out (Table 4 of the paper)."""

    def forward(self, volume: Tensor) -> tuple[Tensor, None]:
        """The volume itself."""
        return volume, None


class ContextCompletion(nn.Module):
    """3D UNet whose middle is the context relation prior, then the head at the batch's resolution."""

    def __init__(self, config: MonoSceneConfig) -> None:
        """
        Raises:
            InputError: a grid whose sides the lift and the 3D UNet do not divide, features that are no multiple of four, or another number
                of relations than two or four.
        """
        super().__init__()
        self.shape = config.grid.shape
        factor = config.lift_factor
        coarse = tuple(n // (factor * COARSEST) for n in self.shape)
        if any(n % (factor * COARSEST) for n in self.shape) or min(coarse) < 2:
            raise InputError(f"MonoScene's grid has {self.shape} voxels; each count must be a multiple of {factor * COARSEST}, at least twice that")
        if factor not in (1, 2, 4, 8) or config.features % 4:
            raise InputError(f"lift_factor must be 1, 2, 4 or 8 and features a multiple of 4; found {factor} and {config.features}")
        if config.relations not in RELATIONS:
            raise InputError(f"the context prior knows 2 or 4 relations; found {config.relations}")
        recompute = config.activation_checkpointing
        prior = ContextPrior(COARSEST * config.features, coarse, config.relations, activation_checkpointing=recompute)
        self.volume_net = UNet3D(config.features, prior if config.context_prior else NoContext(), activation_checkpointing=recompute)
        self.head = CompletionHead(config.features, config.head_width, config.classes, factor.bit_length() - 1, activation_checkpointing=recompute)

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z); `extras` holds `relation_logits` (B, R, M, N).

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        if batch.grids[0].shape != self.shape:
            raise InputError(f"this MonoScene was built for a grid of {self.shape} voxels; found {batch.grids[0].shape}; set the grid in its config")
        volume, relation_logits = self.volume_net(lifted.volume)
        extras = {} if relation_logits is None else {"relation_logits": relation_logits}
        return Completed(volume, lifted.grid, self.head(volume), extras=extras)
