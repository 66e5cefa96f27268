"""ISO's 2D half: picture -> pyramid; depth -> its distribution; both -> features along the lines of sight, more of them where the surface is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.geometry.lid import lid_bins
from wholescene.geometry.projection import ProjectionTable, project_batch
from wholescene.layers.flosp import FLoSP
from wholescene.layers.unet2d import UNet2D
from wholescene.structures import Batch, Lifted, Prediction
from wholescene.systems.base import normalise
from wholescene.systems.halves import Half2D
from wholescene.systems.iso.config import ISOConfig
from wholescene.systems.iso.distribution import DepthDistribution, focal_number
from wholescene.systems.iso.losses import depth_labels, depth_loss
from wholescene.systems.iso.metric_depth import MetricDepth


class DualLineOfSightLift(Half2D):
    """2D UNet, depth branch and D-FLoSP: every voxel holds the features of its line of sight, and once more as much of them as its own depth is
    likely at its pixel."""

    gives = frozenset({"depth"})

    def __init__(self, config: ISOConfig) -> None:
        """
        Raises:
            InputError: no map at the picture's own size for the depth branch to read.
        """
        super().__init__()
        if 1 not in config.line_of_sight_scales:
            raise InputError(f"ISO's depth branch reads the map of scale 1; line_of_sight_scales are {list(config.line_of_sight_scales)}; add 1")
        self.config = config
        self.width, self.factor = config.features, config.lift_factor
        recompute = config.activation_checkpointing
        self.encoder = UNet2D(
            config.encoder,
            config.features,
            config.line_of_sight_scales,
            width=config.decoder_width,
            padding=config.decoder_padding,
            activation_checkpointing=recompute,
        )
        self.distribution = DepthDistribution(config.features, config.depth_width, config.depth_bins, activation_checkpointing=recompute)
        self.lift = FLoSP()
        self.metric_depth = MetricDepth(config.depth_network) if config.depth_network else None

    @property
    def needs(self) -> frozenset[str]:
        """A depth map, unless the network that makes one is part of the model."""
        return frozenset({"depth"} if self.metric_depth is None else ())

    @property
    def supervision(self) -> frozenset[str]:
        """The true depth, for the distribution's loss."""
        return frozenset({"depth"})

    def train(self, mode: bool = True) -> DualLineOfSightLift:
        """Training mode; the encoder's norms keep their statistics if they are frozen."""
        super().train(mode)
        self.encoder.trunk.train(mode and not self.config.frozen_norms)
        return self

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z) and the depth that was used. In training, or in eval with whole maps, the `depth_distribution` too.

        Raises:
            InputError: no depth, and no network to make one.
        """
        config = self.config
        grids = tuple(grid.coarser(config.lift_factor) for grid in batch.grids)
        table = project_batch(batch, config.lift_factor, config.rounding, config.use_offset)
        depth = self._depth(batch)
        pyramid = self.encoder(normalise(batch.pictures["main"], config.preparation))
        chances, distribution = self._chances(pyramid[1], depth, table, batch)
        gain = config.depth_gain * chances
        weighted = pyramid if config.weighted_scales == "all" else [max(pyramid)]
        volume = self.lift(pyramid, table.pixels, table.in_view, grids[0].shape, dict.fromkeys(weighted, gain))
        extras: dict[str, Any] = {} if distribution is None else {"depth_distribution": distribution}
        return Lifted(volume, grids, depth=depth, depth_distribution=distribution, extras=extras)

    def _depth(self, batch: Batch) -> Tensor:
        """(B, H, W) metres, 0 where unknown: the network's where it is built, else the frame's."""
        if self.metric_depth is not None:
            return self.metric_depth.of_batch(batch)
        if batch.depth is None:
            raise InputError(f"frames {', '.join(batch.names)} have no depth, and this ISO has no network that makes one; give a depth map")
        return batch.depth

    def _chances(self, features: Tensor, depth: Tensor, table: ProjectionTable, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(B, N) the probability of each voxel's own depth at its pixel, 0 out of view and beyond the bins; and the whole distribution
        (B, bins, H, W), or None where it was made at the voxels' pixels alone."""
        bins = lid_bins(table.depth, self.config.depth_bins, self.config.depth_range_m)
        sample, voxel = (table.in_view & (bins < self.config.depth_bins)).nonzero(as_tuple=True)
        (u, v), k = table.pixels[sample, voxel].unbind(1), bins[sample, voxel]
        intrinsics = [camera.intrinsics for camera in batch.cameras["main"]]
        camera = torch.tensor([[focal_number(K[0, 0], K[1, 1])] for K in intrinsics], dtype=features.dtype, device=features.device)
        whole = None
        if self.distribution.streams(features):
            rows = self.distribution.at(features, depth, camera, sample, v, u)
            found = rows.gather(1, k[:, None])[:, 0]
        else:
            whole = self.distribution(features, depth, camera)
            found = whole[sample, k, v, u]
        chances = found.new_zeros(table.in_view.shape).index_put((sample, voxel), found)
        return chances, whole

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The depth loss, against the truth where the frames have one, else against the depth that they bring; none without either."""
        truth = batch.depth if batch.depth_target is None else batch.depth_target
        probabilities = prediction.extras.get("depth_distribution")
        if truth is None or probabilities is None:
            return {}
        size = (probabilities.shape[2], probabilities.shape[3])
        return {"depth": depth_loss(probabilities, depth_labels(truth, size, self.config.depth_bins, self.config.depth_range_m))}
