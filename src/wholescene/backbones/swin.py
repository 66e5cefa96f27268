"""Swin Transformer (Liu et al., ICCV 2021) over maps of any size and any number of channels.

Parameter names are timm's (`patch_embed.proj`, `layers.1.blocks.0.attn.qkv`, `layers.1.downsample.reduction`, ...). One order differs: where four
cells are merged, theirs is cell by cell, ours channel by channel as in CGFormer's released weights; `load_timm` reorders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.backbones.loading import take_timm
from wholescene.errors import InputError
from wholescene.layers.checkpoint import run
from wholescene.layers.drop_path import DropPath

_MASKED = -100.0  # what Swin adds to a logit between two regions of a shifted window


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows with a bias by relative position (equation 4)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, apart: Tensor | None) -> Tensor:
        """
        Args:
            windows: (B, n, window^2, C), the cells of a window row by row.
            apart: (n, window^2, window^2) bool, pairs of cells that only lie side by side because the map was rolled; None: none.

        Returns:
            the same shape as `windows`.
        """
        query, key, value = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each (B, n, heads, window^2, d)
        bias = self._bias()[None]
        if apart is not None:
            bias = (bias + apart[:, None] * _MASKED).to(bias.dtype)
        bias = bias.expand(*query.shape[:2], *bias.shape[1:]).flatten(0, 1)
        query, key, value = (t.flatten(0, 1) for t in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(mixed.transpose(1, 2).flatten(2)).view(windows.shape)

    def _bias(self) -> Tensor:
        """(heads, window^2, window^2), rows queries."""
        place = torch.arange(self.window, device=self.relative_position_bias_table.device)
        apart = place[:, None] - place + self.window - 1
        index = apart[:, None, :, None] * (2 * self.window - 1) + apart[None, :, None, :]  # (row, column, key's row, key's column)
        return self.relative_position_bias_table[index.reshape(self.window**2, -1)].permute(2, 0, 1)


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, cells: Tensor) -> Tensor:
        """(..., width) to the same."""
        return self.fc2(F.gelu(self.fc1(cells)))


class Block(nn.Module):
    """Attention in windows, shifted by half a window in every second block, then an MLP; norms come first (equation 3)."""

    def __init__(self, width: int, heads: int, window: int, *, shifted: bool, drop_path: float, small_shift: bool) -> None:
        super().__init__()
        self.window, self.shift, self.small_shift = window, window // 2 if shifted else 0, small_shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = DropPath(drop_path)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, h, w, C) to the same."""
        cells = cells + self.drop_path(self._windowed(self.norm1(cells)))
        return cells + self.drop_path(self.mlp(self.norm2(cells)))

    def _windowed(self, cells: Tensor) -> Tensor:
        height, width = cells.shape[1:3]
        shift = [self.shift if self.small_shift or n > self.window else 0 for n in (height, width)]
        padded = F.pad(cells, (0, 0, 0, -width % self.window, 0, -height % self.window))  # padded cells are seen by the others, as in Swin
        rolled = torch.roll(padded, [-s for s in shift], (1, 2))
        rows, columns = (n // self.window for n in rolled.shape[1:3])
        windows = self._cut(rolled)
        apart = self._apart(rolled.shape[1:3], shift, cells.device) if any(shift) else None
        mixed = self.attn(windows, apart).unflatten(2, (self.window, self.window)).unflatten(1, (rows, columns))
        rolled = mixed.transpose(2, 3).reshape(rolled.shape)
        return torch.roll(rolled, shift, (1, 2))[:, :height, :width]

    def _cut(self, cells: Tensor) -> Tensor:
        """(B, h, w, C) to (B, windows, window^2, C), row by row."""
        rows = cells.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))  # (B, rows, window, columns, window, C)
        return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _apart(self, size: Sequence[int], shift: Sequence[int], device: torch.device) -> Tensor:
        """(windows, window^2, window^2) bool: the two cells come from opposite sides of the map."""
        sides = []
        for cells, step in zip(size, shift, strict=True):
            place = torch.arange(cells, device=device)
            sides.append((place >= cells - self.window).int() + (place >= cells - step).int() if step else torch.zeros_like(place))
        regions = self._cut((3 * sides[0][:, None] + sides[1])[None, ..., None])[0, ..., 0]
        return regions[:, :, None] != regions[:, None, :]


class PatchMerging(nn.Module):
    """Four neighbouring cells to one of twice the channels; a map of odd size is padded at the bottom and right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, h, w, C) to (B, ceil(h / 2), ceil(w / 2), 2 C)."""
        height, width = cells.shape[1:3]
        padded = F.pad(cells, (0, 0, 0, width % 2, 0, height % 2))
        four = padded.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h, row, w, column, C)
        return self.reduction(self.norm(four.permute(0, 1, 3, 5, 2, 4).flatten(3)))


class Stage(nn.Module):
    """Merging, in all stages but the first, then blocks."""

    def __init__(self, width: int, rates: Sequence[float], heads: int, window: int, *, merges: bool, small_shift: bool) -> None:
        super().__init__()
        self.downsample = PatchMerging(width // 2) if merges else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, heads, window, shifted=i % 2 == 1, drop_path=rate, small_shift=small_shift) for i, rate in enumerate(rates)
        )


class PatchEmbed(nn.Module):
    """A convolution over patches, with norm; padded at the bottom and right so that every `stride` cells give one."""

    def __init__(self, channels: int, width: int, patch: int, stride: int) -> None:
        super().__init__()
        self.patch, self.stride = patch, stride
        self.proj = nn.Conv2d(channels, width, patch, stride)
        self.norm = nn.LayerNorm(width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, ceil(h / stride), ceil(w / stride), width)."""
        down, right = ((-(-n // self.stride) - 1) * self.stride + self.patch - n for n in maps.shape[2:])
        return self.norm(self.proj(F.pad(maps, (0, right, 0, down))).permute(0, 2, 3, 1))


class Swin(nn.Module):
    """The trunk, whose stages each end in a norm of their own.

    Attributes:
        widths: channels of each stage.
    """

    def __init__(
        self,
        channels: int,
        width: int = 96,
        blocks: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        *,
        window: int = 7,
        patch: int = 4,
        stride: int = 4,
        drop_path: float = 0.0,
        small_shift: bool = False,
        taps: Sequence[int] = (1, 2, 3),
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            channels: of the maps.
            width: channels of the first stage; they double with each.
            blocks, heads: of each stage.
            window: cells along the edges of a window.
            patch, stride: of the patch embedding (Swin: 4 and 4).
            drop_path: share of residual branches left out in training, for the last block; it grows linearly from 0.
            small_shift: windows are shifted along an axis that fits into one of them, too.
            taps: stages whose outputs `forward` returns, from 0.
            activation_checkpointing: makes each block's activations again in the backward pass.

        Raises:
            InputError: numbers that do not belong together.
        """
        super().__init__()
        if len(blocks) != len(heads) or any(width * 2**i % n for i, n in enumerate(heads)) or not all(0 <= tap < len(blocks) for tap in taps):
            raise InputError(
                f"Swin with {width} channels, blocks {list(blocks)}, heads {list(heads)} and taps {list(taps)}; expected as many heads as stages, "
                f"heads that divide {width} times two to the power of the stage, and taps among the stages"
            )
        self.taps, self.activation_checkpointing = tuple(taps), activation_checkpointing
        self.widths = tuple(width * 2**i for i in range(len(blocks)))
        self.patch_embed = PatchEmbed(channels, width, patch, stride)
        rates = (drop_path * i / max(1, sum(blocks) - 1) for i in range(sum(blocks)))
        self.layers = nn.ModuleList(
            Stage(own, [next(rates) for _ in range(count)], n, window, merges=i > 0, small_shift=small_shift)
            for i, (own, count, n) in enumerate(zip(self.widths, blocks, heads, strict=True))
        )
        self.norms = nn.ModuleDict({str(tap): nn.LayerNorm(self.widths[tap]) for tap in taps})
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """(B, channels, h, w) to one map a tap, (B, widths[tap], h', w') with h' = h / (stride * 2^tap), rounded up at every step."""
        cells = self.patch_embed(maps)
        found = []
        for i, stage in enumerate(self.layers[: max(self.taps) + 1]):
            cells = stage.downsample(cells)  # type: ignore[operator]  # a module
            for block in stage.blocks:  # type: ignore[union-attr]  # a list of modules
                cells = run(block, cells, recompute=self.activation_checkpointing)
            if i in self.taps:
                found.append(self.norms[str(i)](cells).permute(0, 3, 1, 2))
        return found

    def load_timm(self, state: Mapping[str, Tensor]) -> list[str]:
        """Take ImageNet weights under timm's or the original names; norms after stages stay as they are, and the patch embedding where it has another
        shape (it looks at another number of channels).

        Args:
            state: a whole state dict of a Swin of this size.

        Returns:
            The names of `state` that were left.

        Raises:
            InputError: an entry of the trunk is absent or has another shape; the first ones are named.
        """
        own = self.state_dict()
        given = dict(state)
        if any(name.startswith("layers.0.downsample") for name in state):  # the original merges at the end of a stage
            given = {re.sub(r"^layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", n): t for n, t in state.items()}
        taken = {name: _channel_by_channel(t) if ".downsample." in name else t for name, t in given.items()}
        taken |= {name: t for name, t in own.items() if name.startswith("norms.")}
        if taken.get("patch_embed.proj.weight", own["patch_embed.proj.weight"]).shape != own["patch_embed.proj.weight"].shape:
            taken |= {name: t for name, t in own.items() if name.startswith("patch_embed.proj.")}
        return take_timm(self, taken, "a state dict of a Swin of the same size from timm or its authors")


def _channel_by_channel(weight: Tensor) -> Tensor:
    """Weights over four merged cells (..., 4 C), given for the cells (0, 0), (1, 0), (0, 1), (1, 1) one after another, in our order: for each channel
    all four, row by row."""
    cells = weight.unflatten(-1, (2, 2, -1))  # (..., column, row, C)
    return cells.movedim(-1, -3).transpose(-1, -2).flatten(-3)
