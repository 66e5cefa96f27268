"""MonoMRN's 3D half: volume -> encoder and decoder of dimensional-decomposition blocks -> coarse logits (figure 2, "3D network")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholescene import losses
from wholescene.errors import InputError
from wholescene.layers.checkpoint import run
from wholescene.layers.unet3d import Bottleneck, Upsample
from wholescene.losses import VoxelSums
from wholescene.lovasz import lovasz_softmax
from wholescene.ops.trilinear import resize_volume
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.halves import Half3D, answer_and_target, check_grid
from wholescene.systems.monomrn.config import MonoMRNConfig

COARSEST = 4  # the 3D network halves its grid twice


class DecompositionNet(nn.Module):
    """Blocks, halved; blocks, halved and widened; blocks; doubled twice, each time with the volume from before the halving added."""

    def __init__(self, width: int, blocks: int, *, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.fine = nn.ModuleList(Bottleneck(width, width // 4) for _ in range(blocks))
        self.halve = Bottleneck(width, width // 4, stride=2)
        self.middle = nn.ModuleList(Bottleneck(width, width // 4) for _ in range(blocks))
        self.halve_again = Bottleneck(width, width // 2, stride=2)
        self.coarse = nn.ModuleList(Bottleneck(2 * width, width // 2) for _ in range(blocks))
        self.up = nn.ModuleList([Upsample(2 * width, width), Upsample(width, width)])

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        fine = self._through(self.fine, volume)
        middle = self._through(self.middle, self._through([self.halve], fine))
        coarse = self._through(self.coarse, self._through([self.halve_again], middle))
        middle = self.up[0](coarse) + middle
        made: Tensor = self.up[1](middle) + fine
        return made

    def _through(self, blocks: nn.ModuleList | list[nn.Module], volume: Tensor) -> Tensor:
        for block in blocks:
            volume = run(block, volume, recompute=self.activation_checkpointing)
        return volume


class DecompositionCompletion(Half3D):
    """The 3D network and a head of one 1x1x1 convolution; logits are enlarged linearly to the output's grid."""

    def __init__(self, config: MonoMRNConfig) -> None:
        """
        Raises:
            InputError: a grid whose sides the strides do not divide, or features that are no multiple of four.
        """
        super().__init__()
        self.config, self.width, self.factor = config, config.features, config.lift_factor
        self.shape = config.grid.shape
        if any(n % (self.factor * COARSEST) for n in self.shape) or config.features % 4:
            raise InputError(
                f"MonoMRN's grid has {self.shape} voxels and {config.features} features; each count must be a multiple of {self.factor * COARSEST}, "
                "and features of 4"
            )
        self.volume_net = DecompositionNet(config.features, config.blocks, activation_checkpointing=config.activation_checkpointing)
        self.head = nn.Sequential(nn.Dropout3d(config.dropout), nn.Conv3d(config.features, config.classes, 1))

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z).

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        check_grid(batch, self.shape)
        volume = self.volume_net(lifted.volume)
        logits = self.head(volume)
        if self.factor > 1:
            logits = resize_volume(logits, [self.factor * n for n in logits.shape[2:]])
        return Completed(volume, lifted.grid, logits)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and Lovász-softmax, and the affinities where the config asks for them; all of weight 1.

        Raises:
            InputError: a batch without targets.
        """
        config = self.config
        logits, target = answer_and_target(prediction, batch)
        sums = VoxelSums.of(logits, target)
        weights = torch.tensor(config.weights_of_classes(), device=target.device)
        terms = {
            "cross_entropy": losses.cross_entropy(sums, weights, config.cross_entropy_over),
            "lovasz": lovasz_softmax(logits, target),
        }
        if config.affinities:
            terms |= {"semantic_affinity": losses.semantic_affinity(sums), "geometric_affinity": losses.geometric_affinity(sums)}
        return terms
