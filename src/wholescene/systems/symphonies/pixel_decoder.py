"""The Instance-Aware Image Encoder (section 3.1): ResNet and MaskDINO's deformable transformer over four levels (Li et al., CVPR 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wholescene.backbones.resnet import STAGES, ResNet
from wholescene.layers.checkpoint import run
from wholescene.layers.deformable_attention import DeformableAttention
from wholescene.layers.voxel_attention import PostNormLayer
from wholescene.ops.deformable import Shapes
from wholescene.systems.symphonies.config import SymphoniesConfig

LEVELS = 4  # strides 8, 16, 32 of the backbone, and 64


class PixelLayer(PostNormLayer):
    """Every cell of every level looks around itself on all levels."""

    def forward(self, tokens: Tensor, positions: Tensor, references: Tensor, shapes: Shapes) -> Tensor:
        """
        Args:
            tokens: (B, S, C) the cells of all levels one after another.
            positions: (B or 1, S, C), for the queries alone.
            references: (B, S, 1, 2) the cells' centres.
            shapes: (h, w) of the levels.

        Returns:
            (B, S, C).
        """
        return self.settle(tokens, self.attention(tokens + positions, references, tokens, shapes))


class PixelDecoder(nn.Module):
    """Maps of the backbone to maps of one width that know of each other and of instances."""

    def __init__(self, widths: Sequence[int], config: SymphoniesConfig) -> None:
        """
        Args:
            widths: channels of the maps at strides 8, 16 and 32.
            config: the `pixel_*` fields.
        """
        super().__init__()
        self.activation_checkpointing = config.activation_checkpointing
        width, groups = config.pixel_width, config.pixel_groups

        def entry(channels: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(channels, width, kernel, stride, kernel // 2), nn.GroupNorm(groups, width))

        self.entries = nn.ModuleList([*(entry(w, 1, 1) for w in widths), entry(widths[-1], 3, 2)])
        self.level_embedding = nn.Parameter(torch.randn(LEVELS, width))

        def attention() -> DeformableAttention:
            return DeformableAttention(width, heads=config.pixel_heads, levels=LEVELS, points=config.pixel_points)

        self.layers = nn.ModuleList(PixelLayer(attention(), width, config.pixel_feedforward, 0.0) for _ in range(config.pixel_layers))
        for module in self.entries.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, widths[i], h_i, w_i) at strides 8, 16, 32 to (B, pixel_width, h, w) at strides 8, 16, 32, 64."""
        entered = [entry(m) for entry, m in zip(self.entries, [*maps, maps[-1]], strict=True)]
        shapes = [tuple(m.shape[-2:]) for m in entered]
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in entered], 1)
        positions = torch.cat([sine_positions(s, tokens.shape[2], tokens) + e for s, e in zip(shapes, self.level_embedding, strict=True)])[None]
        references = torch.cat([centres(s, tokens) for s in shapes])[None, :, None].expand(len(tokens), -1, -1, -1)
        for layer in self.layers:
            tokens = run(layer, tokens, positions, references, shapes, recompute=self.activation_checkpointing)
        parts = tokens.split([h * w for h, w in shapes], 1)
        return [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]


class InstanceAwareEncoder(nn.Module):
    """Backbone and pixel decoder: what MaskDINO's pre-trained file fills.

    Attributes:
        widths, strides: of the maps that `forward` returns.
    """

    def __init__(self, config: SymphoniesConfig) -> None:
        super().__init__()
        recompute = config.activation_checkpointing
        self.backbone = ResNet(config.encoder, STAGES, frozen_norms=config.frozen_norms, activation_checkpointing=recompute)
        self.pixel_decoder = PixelDecoder(self.backbone.widths[1:], config)
        self.widths = (self.backbone.widths[0], config.pixel_width, config.pixel_width)
        self.strides = self.backbone.strides[:3]

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised to maps (B, widths[i], ceil(H / strides[i]), ceil(W / strides[i])): the backbone's own, then two of the decoder."""
        finest, *coarser = self.backbone(picture)
        return [finest, *self.pixel_decoder(coarser)[:2]]


def sine_positions(shape: tuple[int, ...], width: int, like: Tensor) -> Tensor:
    """(h * w, width) the sine embedding of DETR, normalised: half of the channels say y, half x (Carion et al., ECCV 2020, appendix A.4)."""
    half = width // 2
    wavelength = 10000 ** (2 * (torch.arange(half, dtype=torch.float32, device=like.device) // 2) / half)
    axes = []
    for cells in shape:
        place = torch.arange(1, cells + 1, dtype=torch.float32, device=like.device) / (cells + 1e-6) * (2 * math.pi)
        angle = place[:, None] / wavelength
        axes.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 2).flatten(1))
    rows, columns = axes
    made = torch.cat([rows[:, None].expand(-1, shape[1], -1), columns[None].expand(shape[0], -1, -1)], 2)
    return made.flatten(0, 1).to(like.dtype)


def centres(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """(h * w, 2) the (x, y) centres of a map's cells, 0 and 1 being its edges."""
    y, x = ((torch.arange(n, dtype=torch.float32, device=like.device) + 0.5) / n for n in shape)
    return torch.stack([x[None].expand(len(y), -1), y[:, None].expand(-1, len(x))], -1).flatten(0, 1)
