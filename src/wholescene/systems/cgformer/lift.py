"""CGFormer's 2D half: picture and depth map -> context and depth distribution -> volume -> proposed voxels that looked again (figure 2)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.ops.lss_pooling import splat
from wholescene.structures import Batch, Lifted, Prediction
from wholescene.systems.base import normalise
from wholescene.systems.cgformer.aggregation import DepthAggregation
from wholescene.systems.cgformer.config import GeometryConfig
from wholescene.systems.cgformer.depth_loss import depth_loss, depth_target
from wholescene.systems.cgformer.depth_net import CameraAwareNet
from wholescene.systems.cgformer.encoder import COARSEST, PictureEncoder
from wholescene.systems.cgformer.geometry import CAMERA_NUMBERS, camera_numbers, frustum_bags, places_of_voxels
from wholescene.systems.cgformer.proposals import propose
from wholescene.systems.cgformer.queries import VoxelQueries
from wholescene.systems.cgformer.stereo import StereoEncoder
from wholescene.systems.halves import Half2D


class GeometryDepthNet(nn.Module):
    """Depth distribution from the picture and from the stereo map, and the picture's context (section 3.2)."""

    def __init__(self, config: GeometryConfig, width: int) -> None:
        super().__init__()
        self.mono = CameraAwareNet(config, width, CAMERA_NUMBERS)
        self.stereo = StereoEncoder(config)
        self.aggregation = DepthAggregation(config)

    def forward(self, features: Tensor, cameras: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            features: (B, width, h, w) map at stride 8.
            cameras: (B, 33) float32.
            depth: (B, 8 h, 8 w) metres, 0 unknown.

        Returns:
            distribution (B, bins, h, w) and context (B, C, h, w).
        """
        logits, context = self.mono(features, cameras)
        mono, stereo = (t.float().softmax(1) for t in (logits, self.stereo(depth)))
        return self.aggregation(mono, stereo).float().softmax(1), context


class GeometryLift(Half2D):
    """Encoder, depth net, lift and splat, voxel queries: what ScanSSC calls its viewing transformation (its section 3.2)."""

    gives: ClassVar[frozenset[str]] = frozenset({"depth_distribution", "proposals"})

    def __init__(self, config: GeometryConfig) -> None:
        """
        Raises:
            InputError: bins that the depth net cannot halve twice, features that the heads do not divide, or an even window.
        """
        super().__init__()
        if config.depth_bins % 4 or config.features % config.heads or config.neighbourhood % 2 == 0 or config.aggregation_width % 2:
            raise InputError(
                f"depth_bins {config.depth_bins} must be a multiple of 4, features {config.features} of the {config.heads} heads, "
                f"neighbourhood {config.neighbourhood} odd and aggregation_width {config.aggregation_width} even"
            )
        self.config = config
        self.width, self.factor = config.features, config.lift_factor
        self.encoder = PictureEncoder(config)
        self.depth_net = GeometryDepthNet(config, self.encoder.width)
        if config.stage == "completion":
            self.lift = VoxelQueries(config)

    @property
    def needs(self) -> frozenset[str]:
        """The depth map of a stereo pair, or of whatever source."""
        return frozenset({"depth"})

    @property
    def supervision(self) -> frozenset[str]:
        """Raw inputs that only the losses want."""
        return frozenset({"points"}) if self.config.depth_loss_weight else frozenset()

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z) on the grid that is `lift_factor` times coarser; none in the stage "depth".

        Raises:
            InputError: a batch without depth.
        """
        config = self.config
        context, distribution = self.see(batch)
        grids = tuple(grid.coarser(config.lift_factor) for grid in batch.grids)
        seen = {"pyramids": {"context": [context]}, "depth": batch.depth, "depth_distribution": distribution}
        extras = {"depth_distribution": distribution}
        if config.stage == "depth":
            return Lifted(None, grids, **seen, extras=extras)  # type: ignore[arg-type]  # names of its fields
        proposals = propose(batch, config)
        references, in_view = places_of_voxels(batch, context.shape[-2:], config)
        volume = self.lift(self.splat(batch, context, distribution), context, distribution, references, in_view, proposals)
        return Lifted(volume.transpose(1, 2).unflatten(2, grids[0].shape), grids, **seen, proposals=proposals, extras=extras)  # type: ignore[arg-type]

    def see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Context (B, C, h, w) and depth distribution (B, bins, h, w) at stride 8 of the pictures, padded to multiples of 32 pixels."""
        if batch.depth is None:
            raise InputError(f"frames {', '.join(batch.names)} have no depth, which the depth net and the proposals are made from; give it with each")
        picture = normalise(batch.pictures["main"], self.config.preparation)
        height, width = picture.shape[-2:]
        padding = (0, -width % COARSEST, 0, -height % COARSEST)
        cameras = torch.stack([camera_numbers(camera) for camera in batch.cameras["main"]]).to(picture.device)
        features = self.encoder(F.pad(picture, padding))
        distribution, context = self.depth_net(features, cameras, F.pad(batch.depth, padding))
        return context, distribution

    def splat(self, batch: Batch, context: Tensor, distribution: Tensor) -> Tensor:
        """(B, N, C): the context of every cell in the voxels that its bins fall in, times their probability (Philion and Fidler, 2020)."""
        bags = frustum_bags(batch, context.shape[-2:], self.config)
        frames = zip(distribution.flatten(2), context.flatten(2).transpose(1, 2), bags, strict=True)
        return torch.stack([splat(depth, cells, own) for depth, cells, own in frames])

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The depth loss, where it has a weight."""
        if not self.config.depth_loss_weight:
            return {}
        distribution = prediction.extras["depth_distribution"]
        target = depth_target(batch, distribution.shape[-2:])
        return {"depth": self.config.depth_loss_weight * depth_loss(distribution, target, self.config)}
