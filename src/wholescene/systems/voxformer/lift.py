"""VoxFormer's 2D half: picture -> map; proposed voxels -> queries -> what they see of the map (section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wholescene.backbones.resnet import ResNet
from wholescene.errors import InputError
from wholescene.geometry.projection import locate_batch
from wholescene.geometry.selecting import indices_of
from wholescene.layers.checkpoint import run
from wholescene.layers.deformable_attention import DeformableAttention
from wholescene.layers.fpn import FPN
from wholescene.layers.voxel_attention import PictureAttentionLayer
from wholescene.structures import Batch, Lifted
from wholescene.systems.base import normalise
from wholescene.systems.voxformer.config import VoxFormerConfig

_STAGE = "layer3"  # stride 16


class PictureEncoder(nn.Module):
    """ResNet to stride 16 and a feature pyramid of one level."""

    def __init__(self, config: VoxFormerConfig) -> None:
        super().__init__()
        recompute = config.activation_checkpointing
        self.backbone = ResNet(config.encoder, (_STAGE,), frozen_norms=config.frozen_norms, activation_checkpointing=recompute)
        self.neck = FPN(self.backbone.widths, config.features)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) normalised to (B, features, ceil(H / 16), ceil(W / 16))."""
        found: Tensor = self.neck(self.backbone(picture))[0]
        return found


class VoxelQueries(nn.Module):
    """One learned query a voxel. The proposed ones attend to the map; the mask token stands for all others (figure 2, stage 2)."""

    def __init__(self, config: VoxFormerConfig) -> None:
        super().__init__()
        width = config.features
        self.activation_checkpointing = config.activation_checkpointing
        self.shape = config.lifted_shape
        self.queries = nn.Parameter(torch.randn(math.prod(self.shape), width))
        self.mask_token = nn.Parameter(torch.randn(1, width))
        self.camera_embedding = nn.Parameter(torch.randn(1, width))
        self.level_embedding = nn.Parameter(torch.randn(config.level_rows, width))

        def attention() -> DeformableAttention:
            return DeformableAttention(width, heads=config.heads, points=config.points)

        self.layers = nn.ModuleList(PictureAttentionLayer(attention(), width, config.feedforward, config.dropout) for _ in range(config.cross_layers))

    def forward(self, features: Tensor, references: Tensor, in_view: Tensor, proposals: Tensor) -> Tensor:
        """
        Args:
            features: (B, C, h, w) map of the picture.
            references: (B, N, 2) where each voxel falls on the map, 0 and 1 being its edges; only read where in view.
            in_view: (B, N) bool.
            proposals: (B, X, Y, Z) bool, X Y Z = N in C order.

        Returns:
            (B, C, X, Y, Z).
        """
        cells = features.flatten(2).transpose(1, 2) + self.camera_embedding + self.level_embedding[0]
        shape = features.shape[-2:]
        samples = zip(cells.split(1), references, in_view, proposals, strict=True)
        volumes = torch.stack([self._complete(one, shape, where, seen, indices_of(voxels)) for one, where, seen, voxels in samples])
        return volumes.transpose(1, 2).unflatten(2, self.shape)

    def _complete(self, cells: Tensor, shape: Sequence[int], references: Tensor, in_view: Tensor, proposed: Tensor) -> Tensor:
        """(N, C) of one frame: every frame proposes another number of voxels."""
        voxels = self.queries[proposed][None]
        references, seen = references[proposed][None], indices_of(in_view[proposed])
        for layer in self.layers:
            voxels = run(layer, voxels, references, seen, cells, shape, recompute=self.activation_checkpointing)
        return self.mask_token.expand_as(self.queries).index_copy(0, proposed, voxels[0].to(self.mask_token.dtype))


class QueryLift(nn.Module):
    """The encoder, and the voxel queries that look at its map."""

    def __init__(self, config: VoxFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PictureEncoder(config)
        self.lift = VoxelQueries(config)

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z) on the grid that is `lift_factor` times coarser than the batch's, for `batch.proposals`.

        Raises:
            InputError: proposals on another grid.
        """
        config = self.config
        grids = tuple(grid.coarser(config.lift_factor) for grid in batch.grids)
        proposals = batch.proposals
        if proposals is None or tuple(proposals.shape[1:]) != grids[0].shape:
            found = "none" if proposals is None else f"{tuple(proposals.shape[1:])}"
            raise InputError(f"VoxFormer's proposals lie on its grid of {grids[0].shape} voxels; found {found}; pool or upsample them first")
        features = self.encoder(normalise(batch.pictures["main"], config.preparation))
        references, in_view = self.sight(batch, features.shape[-2:])
        volume = self.lift(features, references, in_view, proposals)
        return Lifted(volume, grids, pyramids={"picture": [features]}, proposals=proposals)

    def sight(self, batch: Batch, cells: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Where the lifted grid's voxels fall on the map of a batch, by the configured alignment.

        Args:
            batch: B frames.
            cells: (h, w) of the map; pictures that were padded to one size have their own part of it.

        Returns:
            references (B, N, 2) float32, 0 and 1 being the map's edges, and in_view (B, N) bool.
        """
        stride = self.encoder.backbone.strides[0]
        pixels, depth = locate_batch(batch, self.config.lift_factor)
        sizes = torch.tensor([camera.size for camera in batch.cameras["main"]], dtype=pixels.dtype, device=pixels.device)[:, None]
        edge = torch.tensor(list(reversed(cells)), dtype=pixels.dtype, device=pixels.device)
        if self.config.pixel_alignment == "released":
            share = pixels / sizes
            inside, references = (share > 0) & (share < 1), share * (torch.ceil(sizes / stride) / edge)
        else:  # cell i of a chain of halvings is centred on pixel i * stride
            inside, references = (pixels > -0.5) & (pixels < sizes - 0.5), (pixels / stride + 0.5) / edge
        return references.float(), inside.all(-1) & (depth > 1e-5)
