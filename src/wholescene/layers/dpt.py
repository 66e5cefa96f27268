"""DPT, the decoder of dense prediction transformers (Ranftl et al., ICCV 2021) in the form of Depth Anything (Yang et al., CVPR 2024):
four maps of tokens become a pyramid, which is fused from deep to shallow."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.layers.checkpoint import run

LEVELS = 4


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))), both 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        out: Tensor = self.conv2(F.relu_(self.conv1(F.relu(x)))) + x
        return out


class Fusion(nn.Module):
    """Adds the level's map to the deeper one, refines, enlarges; the deepest level has nothing to be added to."""

    def __init__(self, width: int, deepest: bool) -> None:
        super().__init__()
        self.skip_unit = None if deepest else ResidualUnit(width)
        self.unit = ResidualUnit(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, level: Tensor, deeper: Tensor | None, size: Sequence[int]) -> Tensor:
        """(B, C, h, w) and, except at the deepest level, the fused deeper map (B, C, h, w) to (B, C, *size)."""
        if self.skip_unit is not None and deeper is not None:
            level = deeper + self.skip_unit(level)
        enlarged = F.interpolate(self.unit(level), tuple(size), mode="bilinear", align_corners=True)
        fused: Tensor = self.out(enlarged)
        return fused


class DPT(nn.Module):
    """Reassemble four maps of tokens at 4, 2, 1 and 1/2 times their size, then fuse them.

    Attributes:
        features: channels of every map that leaves.
    """

    def __init__(self, width: int, widths: Sequence[int], features: int, *, activation_checkpointing: bool = False) -> None:
        """
        Args:
            width: channels of the tokens.
            widths: channels of the four reassembled maps, shallow first.
            features: channels of the fused ones.
            activation_checkpointing: of the fusion blocks.
        """
        super().__init__()
        first, second, _, last = widths
        self.features, self.activation_checkpointing = features, activation_checkpointing
        self.project = nn.ModuleList(nn.Conv2d(width, w, 1) for w in widths)
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, 4, 4),
                nn.ConvTranspose2d(second, second, 2, 2),
                nn.Identity(),
                nn.Conv2d(last, last, 3, 2, 1),
            ]
        )
        self.smooth = nn.ModuleList(nn.Conv2d(w, features, 3, padding=1, bias=False) for w in widths)
        self.fusion = nn.ModuleList(Fusion(features, deepest=level == LEVELS - 1) for level in range(LEVELS))

    def reassemble(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Four (B, width, h, w), shallow first, to (B, features, 4h, 4w), (..., 2h, 2w), (..., h, w) and (..., ceil(h / 2), ceil(w / 2))."""
        rooms = zip(self.project, self.resize, self.smooth, tokens, strict=True)
        return [smooth(resize(project(x))) for project, resize, smooth, x in rooms]

    def fuse(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The reassembled maps to the fused ones, shallow (finest) first: (B, features, 8h, 8w), (..., 4h, 4w), (..., 2h, 2w), (..., h, w)."""
        height, width = levels[0].shape[-2:]
        sizes = [(2 * height, 2 * width), *(level.shape[-2:] for level in levels[:-1])]
        fused: list[Tensor] = []
        for fusion, level, size in reversed(list(zip(self.fusion, levels, sizes, strict=True))):
            fused.insert(0, run(fusion, level, fused[0] if fused else None, size, recompute=self.activation_checkpointing))
        return fused

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Four maps of tokens (B, width, h, w), shallow first, to four fused maps, finest first: 8, 4, 2 and 1 times their size."""
        return self.fuse(self.reassemble(tokens))
