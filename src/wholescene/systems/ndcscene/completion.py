"""NDC-Scene's 3D half: volume -> 3D network with a light context prior -> logits; and the losses."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene import losses
from wholescene.errors import InputError
from wholescene.geometry.pyramid import pool_labels
from wholescene.layers.head import CompletionHead
from wholescene.losses import VoxelSums
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.halves import Half3D, answer_and_target, check_grid
from wholescene.systems.ndcscene.config import NDCSceneConfig
from wholescene.systems.ndcscene.momentum import set_momentum
from wholescene.systems.ndcscene.relations import neighbour_relation_loss, neighbour_relations
from wholescene.systems.ndcscene.sight import frustums_of
from wholescene.systems.ndcscene.volume_net import NeighbourContext, ddr, keep_height, strides_keeping

COARSEST = 4  # the 3D network halves the lifted grid twice
_TORCH_MOMENTUM = 0.1


class NeighbourCompletion(Half3D):
    """3D network whose middle tells the relations between neighbours, then the head at the batch's resolution."""

    def __init__(self, config: NDCSceneConfig) -> None:
        """
        Raises:
            InputError: a grid that lift and network do not divide, features that are no multiple of four, an even window, another number of
                relations than two or four, or a light head of another width than the volume it reads.
        """
        super().__init__()
        self.config, self.shape = config, config.grid.shape
        self.width, self.factor = config.features, config.lift_factor
        _check(config)
        recompute = config.activation_checkpointing
        keeps = config.volume_net == "keep-height"
        up = config.grid.axes.index("z")
        told = (1, 1, 1) if not keeps else tuple(COARSEST if axis == up else 1 for axis in range(3))
        width = COARSEST * config.features
        middle = NeighbourContext(width, config.relations, config.window**3, told, activation_checkpointing=recompute)  # type: ignore[arg-type]
        self.volume_net = (
            keep_height(config.features, middle, strides_keeping(up), activation_checkpointing=recompute)
            if keeps
            else ddr(config.features, middle, activation_checkpointing=recompute)
        )
        self.head = CompletionHead(
            config.features, config.head_width, config.classes, self.factor.bit_length() - 1,
            light=config.light_head, activation_checkpointing=recompute,
        )  # fmt: skip
        set_momentum(self, config.norm_momentum)
        if keeps:
            set_momentum(middle.aspp, _TORCH_MOMENTUM)
            set_momentum(self.head.segment, _TORCH_MOMENTUM)

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z); `extras` holds `neighbour_relation_logits` (B, R, M, N).

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        check_grid(batch, self.shape)
        assert lifted.volume is not None
        volume, told = self.volume_net(lifted.volume)
        return Completed(volume, lifted.grid, self.head(volume), extras={"neighbour_relation_logits": told})

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The five terms, all of weight 1: MonoScene's, with each sample's frustums on their own and relations between neighbours.

        Raises:
            InputError: a batch without targets.
        """
        config = self.config
        logits, target = answer_and_target(prediction, batch)
        sums = VoxelSums.of(logits, target, frustums_of(batch, config), config.frustum_divisions**2)
        relations = neighbour_relations(self._coarse_target(batch), config.relations, config.window)
        return {
            "cross_entropy": losses.cross_entropy(sums, torch.tensor(config.weights_of_classes(), device=target.device)),
            "semantic_affinity": losses.semantic_affinity(sums),
            "geometric_affinity": losses.geometric_affinity(sums),
            "frustum_proportion": losses.frustum_proportion(sums, over="samples"),
            "relation": neighbour_relation_loss(prediction.extras["neighbour_relation_logits"], relations),
        }

    def _coarse_target(self, batch: Batch) -> Tensor:
        """(B, x, y, z) labels of the voxels that relations are told of."""
        scale = self.factor * COARSEST
        if self.config.relation_labels == "strided":
            return batch.targets[1][:, ::scale, ::scale, ::scale]
        return batch.targets[scale] if scale in batch.targets else pool_labels(batch.targets[1], scale)


def _check(config: NDCSceneConfig) -> None:
    factor, shape = config.lift_factor, config.grid.shape
    if factor not in (1, 2, 4, 8) or config.features % 4 or any(n % (factor * COARSEST) for n in shape):
        raise InputError(
            f"NDC-Scene wants lift_factor 1, 2, 4 or 8, a multiple of 4 features and a grid of multiples of {factor * COARSEST} voxels; "
            f"found {factor}, {config.features} and {shape}"
        )
    if config.relations not in (2, 4) or config.window % 2 == 0 or config.window < 1:
        raise InputError(f"relations are 2 or 4 and their window is odd; found {config.relations} and {config.window}")
    if config.light_head and factor == 1 and config.head_width != config.features:
        raise InputError(f"a light head reads the volume as it is, so head_width must be features ({config.features}); found {config.head_width}")
