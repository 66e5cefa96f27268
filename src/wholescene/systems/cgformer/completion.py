"""CGFormer's 3D half: all voxels look at each other, a local branch and three planes see the volume, then every voxel gets its class (section 3.4).

ScanSSC shares the beginning (self-attention) and the end (head, the three common losses).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholescene import losses
from wholescene.errors import InputError
from wholescene.layers.residual_pyramid import ResidualPyramid
from wholescene.layers.slabs import may_stream
from wholescene.layers.voxel_attention import VoxelTransformer
from wholescene.losses import VoxelSums
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.cgformer.config import CGFormerConfig, GeometryConfig
from wholescene.systems.cgformer.head import OccupancyHead
from wholescene.systems.cgformer.planes import ThreePlanes
from wholescene.systems.halves import Half3D, answer_and_target, check_grid


class DynamicFusion(nn.Module):
    """Each voxel weighs the local branch and the planes by what the local branch says of it."""

    slab = 8  # slices at a time where no gradient is recorded

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        self.weigh = nn.Conv3d(width, branches, 1, bias=False)

    def forward(self, local: Tensor, planes: list[Tensor]) -> Tensor:
        """The local volume (B, C, X, Y, Z) and planes of length 1 along one axis each, to (B, C, X, Y, Z); without gradients it is written into the
        local volume."""
        weights = torch.softmax(self.weigh(local), 1)
        if not may_stream(self, local):
            return sum((w[:, None] * part for w, part in zip(weights[:, 1:].unbind(1), planes, strict=True)), weights[:, :1] * local)
        for start in range(0, local.shape[2], self.slab):
            part = slice(start, start + self.slab)
            own, shares = local[:, :, part], weights[:, :, part]
            own *= shares[:, :1]
            for i, plane in enumerate(planes):
                own.addcmul_(shares[:, i + 1, None], plane if plane.shape[2] == 1 else plane[:, :, part])
        return local


class LocalGlobalEncoder(nn.Module):
    """Self-attention of all voxels, then the local branch, the planes, and their fusion (figure 2)."""

    def __init__(self, config: CGFormerConfig) -> None:
        super().__init__()
        self.attention = voxel_transformer(config)
        self.local = ResidualPyramid(config.features, config.local_blocks, activation_checkpointing=config.activation_checkpointing)
        self.planes = ThreePlanes(config)
        self.fusion = DynamicFusion(config.features, 4)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        volume = self.attention(volume)
        planes = self.planes(volume)
        return self.fusion(self.local(volume), planes)


class GeometryCompletion(Half3D):
    """What the 3D halves of CGFormer and ScanSSC share; a subclass makes the `volume_net`."""

    def __init__(self, config: GeometryConfig, volume_net: nn.Module) -> None:
        """
        Raises:
            InputError: a grid that the strides do not divide, or features that the heads do not.
        """
        super().__init__()
        if any(n % config.lift_factor for n in config.grid.shape) or config.features % config.heads:
            raise InputError(
                f"the grid has {config.grid.shape} voxels, lift_factor is {config.lift_factor}, and {config.heads} heads share {config.features} "
                "features; expected multiples of the factor and of the heads"
            )
        self.config = config
        self.width, self.factor = config.features, config.lift_factor
        self.volume_net = volume_net
        self.head = OccupancyHead(config.features, config.head_width, config.classes, config.lift_factor)

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z).

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        check_grid(batch, self.config.grid.shape)
        assert lifted.volume is not None
        volume = self.volume_net(lifted.volume)
        return Completed(volume, lifted.grid, self.head(volume))

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and both affinities (section 3.5), all of weight 1.

        Raises:
            InputError: a batch without targets.
        """
        logits, target = answer_and_target(prediction, batch)
        sums = VoxelSums.of(logits, target)
        return {
            "cross_entropy": losses.cross_entropy(sums, torch.tensor(self.config.weights_of_classes(), device=logits.device)),
            "semantic_affinity": losses.semantic_affinity(sums),
            "geometric_affinity": losses.geometric_affinity(sums, self.config.affinity_epsilon),
        }


class LocalGlobalCompletion(GeometryCompletion):
    """CGFormer's own."""

    def __init__(self, config: CGFormerConfig) -> None:
        super().__init__(config, LocalGlobalEncoder(config))


def voxel_transformer(config: GeometryConfig) -> VoxelTransformer:
    """The self-attention of all voxels as configured."""
    return VoxelTransformer(
        config.lifted_shape, config.features, layers=config.self_layers, heads=config.heads, points=config.points, hidden=config.feedforward,
        dropout=config.dropout, neighbours=config.neighbours, queues=config.queues, activation_checkpointing=config.activation_checkpointing,
    )  # fmt: skip
