"""Stage 1 of VoxFormer: class-agnostic query proposals (section 3.3). Voxels of the depth map, corrected by an occupancy network."""

from __future__ import annotations

from torch import Tensor, nn

from wholescene.layers.head import SegmentationHead
from wholescene.layers.height_unet import HeightUNet
from wholescene.systems.voxformer.config import VoxFormerConfig


class QueryProposal(nn.Module):
    """LMSCNet that ends at the coarser grid with two classes, empty and occupied."""

    def __init__(self, config: VoxFormerConfig) -> None:
        super().__init__()
        self.up = config.grid.axes.index("z")
        recompute = config.activation_checkpointing
        self.finest = config.lift_factor
        self.net = HeightUNet(config.grid.shape[self.up], self.finest, activation_checkpointing=recompute)
        self.head = SegmentationHead(1, config.proposal_width, 2, activation_checkpointing=recompute)

    def forward(self, occupancy: Tensor) -> Tensor:
        """Occupied voxels (B, X, Y, Z) bool, noisy, to logits (B, 2, X/f, Y/f, Z/f) of empty and occupied on the f times coarser grid."""
        slices = self.net(occupancy.movedim(1 + self.up, 1).float())[self.finest]  # (B, Z/f, X/f, Y/f), heights as channels
        logits: Tensor = self.head(slices[:, None])
        return logits.movedim(2, 2 + self.up)
