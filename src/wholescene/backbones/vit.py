"""DINOv2's vision transformer (Oquab et al., TMLR 2024; patches of Dosovitskiy et al., ICLR 2021), without register tokens.

Parameter names are timm's (`patch_embed.proj`, `blocks.0.attn.qkv`, `blocks.0.ls1.gamma`, ...), so its weight files load as they are. A trunk
that ends at a tap holds no block past it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.backbones.loading import take_timm
from wholescene.errors import InputError, unknown_name
from wholescene.layers.checkpoint import run
from wholescene.layers.rows import RowLinear

Positions = Literal["size", "released"]


@dataclass(frozen=True)
class Variant:
    """One member of the family.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: of every attention.
        table: edge of the square table of positions, in patches.
        patch: edge of a patch, pixels.
        layer_scale: what the gains of the residual branches start from.
    """

    width: int
    depth: int
    heads: int
    table: int = 37
    patch: int = 14
    layer_scale: float = 1e-5


VARIANTS: Mapping[str, Variant] = {
    "vit_small_patch14_dinov2": Variant(384, 12, 6),
    "vit_base_patch14_dinov2": Variant(768, 12, 12),
    "vit_large_patch14_dinov2": Variant(1024, 24, 16),
    "tiny": Variant(32, 4, 2, table=5, layer_scale=0.1),  # seconds on a CPU; trained from scratch, so its branches start awake
}
_NORM_EPS = 1e-6


def taps_of(variant: str) -> tuple[int, ...]:
    """The last block of each of four equal groups, from 0: (2, 5, 8, 11) of twelve blocks."""
    depth = variant_of(variant).depth
    return tuple(depth * group // 4 - 1 for group in (1, 2, 3, 4))


def variant_of(name: str) -> Variant:
    """The member of that name.

    Raises:
        InputError: naming the nearest.
    """
    if name not in VARIANTS:
        raise unknown_name("DINOv2 variant", name, VARIANTS)
    return VARIANTS[name]


def stretched_to_patches(picture: Tensor, patch: int = 14) -> Tensor:
    """A picture stretched to the smallest size that whole patches fill and that is not smaller; the same one where they fill it already.

    Bilinear, borders on borders: the point at a share (u + 0.5) / W of the picture's width stays at that share. So a camera in the picture's own
    pixels stays right, as long as maps are read by shares and not by pixels of the stretched picture.

    Args:
        picture: (B, C, H, W).
        patch: pixels.

    Returns:
        (B, C, ceil(H / patch) * patch, ceil(W / patch) * patch).
    """
    height, width = (-(-n // patch) * patch for n in picture.shape[-2:])
    if picture.shape[-2:] == (height, width):
        return picture
    return F.interpolate(picture, (height, width), mode="bilinear", align_corners=False)


class PatchEmbed(nn.Module):
    """One token a patch."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, H/patch * W/patch, width), row by row."""
        tokens: Tensor = self.proj(picture).flatten(2).transpose(1, 2)
        return tokens


class Attention(nn.Module):
    """Softmax attention of all tokens to all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = RowLinear(width, 3 * width)
        self.proj = RowLinear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) to the same."""
        # (batch, token, which of three, head, channel) -> three of (batch, head, token, channel)
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return seen


class LayerScale(nn.Module):
    """A gain a channel on a residual branch (Touvron et al., ICCV 2021)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) to the same."""
        return tokens * self.gamma


class Mlp(nn.Module):
    """Four times as wide inside, exact GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = RowLinear(width, 4 * width)
        self.fc2 = RowLinear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) to the same."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP, each a scaled residual branch."""

    def __init__(self, rules: Variant) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(rules.width, _NORM_EPS)
        self.attn = Attention(rules.width, rules.heads)
        self.ls1 = LayerScale(rules.width, rules.layer_scale)
        self.norm2 = nn.LayerNorm(rules.width, _NORM_EPS)
        self.mlp = Mlp(rules.width)
        self.ls2 = LayerScale(rules.width, rules.layer_scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) to the same."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class ViT(nn.Module):
    """The trunk up to its last tap; the final norm acts on every tap.

    Attributes:
        taps: blocks whose outputs leave, from 0.
        width: channels of every map.
        patch: picture pixels per map cell.
    """

    def __init__(
        self, variant: str, taps: Sequence[int] | None = None, *, positions: Positions = "size", activation_checkpointing: bool = False
    ) -> None:
        """
        Args:
            variant: one of `VARIANTS`.
            taps: in the order of the data; None: the last block of each of four equal groups.
            positions: how the table of positions is resized (bicubically): to the "size" of the patch grid, or as "released" by a factor that was
                made 0.1 patches too large, which shifts positions by up to a tenth of a patch.
            activation_checkpointing: makes each block's activations again in the backward pass.

        Raises:
            InputError: unknown variant, or taps that it does not have or that are out of order.
        """
        super().__init__()
        rules = variant_of(variant)
        self.taps = taps_of(variant) if taps is None else tuple(taps)
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or not 0 <= self.taps[0] <= self.taps[-1] < rules.depth:
            raise InputError(f"taps of {variant} must be blocks 0 to {rules.depth - 1} in the order of the data, each once; found {list(self.taps)}")
        self.width, self.patch, self.table = rules.width, rules.patch, rules.table
        self.positions, self.activation_checkpointing = positions, activation_checkpointing
        self.cls_token = nn.Parameter(torch.randn(1, 1, rules.width) * 1e-6)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + rules.table**2, rules.width) * 0.02)
        self.patch_embed = PatchEmbed(rules.width, rules.patch)
        self.blocks = nn.ModuleList(Block(rules) for _ in range(self.taps[-1] + 1))
        self.norm = nn.LayerNorm(rules.width, _NORM_EPS)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """One map a tap.

        Args:
            picture: (B, 3, H, W) normalised, sides that whole patches fill (`stretched_to_patches`).

        Returns:
            (B, width, H / patch, W / patch) for each tap.

        Raises:
            InputError: a picture that whole patches do not fill: it is for the caller to say what then becomes of its pixels.
        """
        height, width = picture.shape[-2:]
        if height % self.patch or width % self.patch:
            raise InputError(f"a picture of {width}x{height} pixels is not made of whole {self.patch}x{self.patch} patches; stretch or pad it first")
        grid = (height // self.patch, width // self.patch)
        tokens = torch.cat([self.cls_token.expand(len(picture), -1, -1), self.patch_embed(picture)], 1) + self.positions_on(grid)
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = run(block, tokens, recompute=self.activation_checkpointing)
            if index in self.taps:
                maps.append(self.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, grid))
        return maps

    def positions_on(self, grid: tuple[int, int]) -> Tensor:
        """(1, 1 + h * w, width): the table of positions on a grid of (h, w) patches, the class token's first."""
        if grid == (self.table, self.table):
            return self.pos_embed
        own, table = self.pos_embed[:, :1], self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.table, self.table))
        if self.positions == "released":
            factors = [(n + 0.1) / self.table for n in grid]
            table = F.interpolate(table, scale_factor=factors, mode="bicubic", align_corners=False)
        else:
            table = F.interpolate(table, grid, mode="bicubic", align_corners=False)
        return torch.cat([own, table.flatten(2).transpose(1, 2)], 1)

    def load_timm(self, state: Mapping[str, Tensor]) -> list[str]:
        """Load a whole timm state dict of this variant.

        Returns:
            The names of `state` that are not part of this trunk.

        Raises:
            InputError: an entry of the trunk is absent or has another shape; the first ones are named.
        """
        return take_timm(self, state, "a timm state dict of the same vit_..._patch14_dinov2, without registers")
