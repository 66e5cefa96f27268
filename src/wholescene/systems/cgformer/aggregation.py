"""Both depth distributions joined: each looks at the other's neighbourhood, then a 3D network decides (CGFormer, section 3.2, figure 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.checkpoint import run
from wholescene.layers.hourglass import Hourglass
from wholescene.layers.slabs import convolve_whole
from wholescene.ops.neighbourhood import neighbourhood_attention
from wholescene.systems.cgformer.config import GeometryConfig


class NeighbourAttention(nn.Module):
    """One head of neighbourhood cross-attention; what it finds is added to the map that is looked at, by a learned share that starts at 0."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(1, 2 * window - 1, 2 * window - 1))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, looking: Tensor, seen: Tensor) -> Tensor:
        """Two maps (B, C, h, w) to one."""
        queries, other = looking.movedim(1, -1), seen.movedim(1, -1)
        keys, values = self.kv(other).chunk(2, -1)
        found = neighbourhood_attention(self.q(queries) * queries.shape[-1] ** -0.5, keys, values, self.bias[0])
        return (self.gamma * self.proj(found)).movedim(-1, 1) + seen


class ChannelAttention(nn.Module):
    """Channel gates between two convolutions, added to the input by a learned share that starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 8)
        self.conv1, self.norm1 = nn.Conv3d(width, width, 3, padding=1), nn.GroupNorm(1, width)
        self.reduce, self.expand = nn.Conv3d(width, inner, 1), nn.Conv3d(inner, width, 1)
        self.conv2, self.norm2 = nn.Conv3d(width, width, 3, padding=1), nn.GroupNorm(2, width)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, K, h, w) to the same."""
        inner = self.norm1(F.gelu(convolve_whole(self.conv1, x)))
        gate = F.gelu(self.expand(F.gelu(self.reduce(inner.mean((2, 3, 4), keepdim=True))))).sigmoid()
        inner = inner * gate if torch.is_grad_enabled() else inner.mul_(gate)
        return x + self.scale * self.norm2(F.gelu(convolve_whole(self.conv2, inner)))


class DepthAggregation(nn.Module):
    """Distributions of the picture and of the stereo map to one."""

    def __init__(self, config: GeometryConfig) -> None:
        super().__init__()
        width = config.aggregation_width
        self.activation_checkpointing = config.activation_checkpointing
        self.mono_stereo = NeighbourAttention(config.depth_bins, config.neighbourhood)
        self.stereo_mono = NeighbourAttention(config.depth_bins, config.neighbourhood)
        self.stem = nn.Conv3d(2, width, 3, padding=1)
        self.unet = Hourglass(width, axes=3)
        self.channel_attention = ChannelAttention(width)
        self.out = nn.Conv3d(width, 1, 3, padding=1)

    def forward(self, mono: Tensor, stereo: Tensor) -> Tensor:
        """Two distributions (B, bins, h, w) to logits of the same shape; bins, h and w multiples of 4."""
        pair = torch.stack([self.mono_stereo(mono, stereo), self.stereo_mono(stereo, mono)], 1)
        volume = F.relu_(self.stem(pair))
        for block in (self.unet, self.channel_attention):
            volume = run(block, volume, recompute=self.activation_checkpointing)
        logits: Tensor = self.out(volume)[:, 0]
        return logits
