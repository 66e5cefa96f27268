"""CGFormer's picture encoder: EfficientNet's five maps from stride 4 on, joined at stride 8."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.backbones.efficientnet import EfficientNet
from wholescene.layers.second_fpn import SECONDFPN
from wholescene.systems.cgformer.config import GeometryConfig

STRIDE = 8  # of the map that leaves
COARSEST = 32  # of the encoder's maps: pictures are padded to multiples of it
_TAPS = ("blocks.1", "blocks.2", "blocks.4", "blocks.6", "conv_head")


class PictureEncoder(nn.Module):
    """Picture to one map."""

    def __init__(self, config: GeometryConfig) -> None:
        super().__init__()
        self.trunk = EfficientNet(config.encoder, _TAPS, drop_path=config.encoder_drop_path, activation_checkpointing=config.activation_checkpointing)
        self.head_norm = nn.BatchNorm2d(self.trunk.widths[-1], eps=1e-3)
        self.neck = SECONDFPN(self.trunk.widths, self.trunk.strides, config.neck_width, STRIDE, momentum=config.neck_momentum)
        self.width = self.neck.width

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) normalised, H and W multiples of 32, to (B, 5 * neck_width, H / 8, W / 8)."""
        *maps, last = self.trunk(picture)
        joined: Tensor = self.neck([*maps, F.silu(self.head_norm(last))])
        return joined
