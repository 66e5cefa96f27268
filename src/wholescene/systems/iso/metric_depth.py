"""The metric depth network that a released ISO holds: Depth Anything (Yang et al., CVPR 2024) under ZoeDepth's bins (Bhat et al., 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wholescene.backbones.vit import ViT, variant_of
from wholescene.errors import InputError
from wholescene.layers.dpt import DPT
from wholescene.structures import Batch
from wholescene.systems.iso.metric_bins import MetricBins

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TARGET = (392, 518)  # rows and columns that the network was trained at


@dataclass(frozen=True)
class Decoder:
    """Sizes behind a trunk.

    Attributes:
        widths: channels of the four reassembled maps.
        features: channels of the fused ones.
        relative: channels before the relative depth.
        embedding: of the bins.
    """

    widths: tuple[int, int, int, int]
    features: int
    relative: int = 32
    embedding: int = 128


DECODERS = {
    "vit_small_patch14_dinov2": Decoder((48, 96, 192, 384), 64),
    "vit_base_patch14_dinov2": Decoder((96, 192, 384, 768), 128),
    "vit_large_patch14_dinov2": Decoder((256, 512, 1024, 1024), 256),
    "tiny": Decoder((8, 8, 16, 16), 8, 4, 8),
}


class MetricDepth(nn.Module):
    """Picture to metres. It is frozen: always in eval mode, without gradients; so fresh weights would stay what they are, and are refused.

    Attributes:
        filled: whether weights were loaded into it.
    """

    def __init__(self, variant: str, bins: int = 64) -> None:
        """
        Args:
            variant: of the ViT trunk; its last four blocks are read.
            bins: of depth.

        Raises:
            InputError: an unknown variant, with the nearest.
        """
        super().__init__()
        depth = variant_of(variant).depth
        sizes = DECODERS[variant]
        self.trunk = ViT(variant, range(depth - 4, depth), positions="released")
        self.decoder = DPT(self.trunk.width, sizes.widths, sizes.features)
        half = sizes.features // 2
        self.narrow = nn.Conv2d(sizes.features, half, 3, padding=1)
        self.last = nn.Conv2d(half, sizes.relative, 3, padding=1)
        self.relative = nn.Conv2d(sizes.relative, 1, 1)
        self.metric = MetricBins(sizes.features, sizes.relative, embedding=sizes.embedding, bins=bins)
        self.filled = False
        self.register_load_state_dict_post_hook(_note_filled)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> MetricDepth:
        """Stays in eval mode."""
        return super().train(False)  # type: ignore[return-value]  # nn.Module returns itself

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """
        Args:
            pictures: (B, 3, H, W), 0 to 1, not normalised.

        Returns:
            (B, H, W) metres along the optical axis.

        Raises:
            InputError: no weights were loaded.
        """
        if not (self.filled or self.relative.weight.is_meta):
            raise InputError(
                "the metric depth network has fresh weights and is never trained; load its weights (in a recipe: init_from: [{part: "
                'half_2d.metric_depth, source: FILE}]), or leave it out (depth_network: "") and give depth'
            )
        height, width = pictures.shape[-2:]
        # a mirrored border, so that no edge of the picture is an edge of what the network sees
        above, beside = (int(math.sqrt(n / 2) * 3) for n in (height, width))
        padded = F.pad(pictures, (beside, beside, above, above), mode="reflect")
        size = fitted_size(padded.shape[2], padded.shape[3], self.trunk.patch)
        seen = F.interpolate(padded, size, mode="bilinear", align_corners=True)
        mean, std = (torch.tensor(v, dtype=seen.dtype, device=seen.device)[:, None, None] for v in (_MEAN, _STD))
        metres = F.interpolate(self._network((seen - mean) / std)[:, None], padded.shape[-2:], mode="bicubic", align_corners=False)
        return metres[:, 0, above : above + height, beside : beside + width]

    def _network(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) normalised, of whole patches, to (B, H, W) metres."""
        levels = self.decoder.reassemble(self.trunk(picture))
        deepest = levels[-1]
        fused = self.decoder.fuse(levels)
        last = F.interpolate(self.narrow(fused[0]), picture.shape[-2:], mode="bilinear", align_corners=True)
        last = F.relu(self.last(last))
        metres: Tensor = self.metric(deepest, fused, last, F.relu(self.relative(last)))
        return metres

    def of_batch(self, batch: Batch) -> Tensor:
        """(B, H, W) float32 metres of a batch's main pictures, each at its true size; 0 where a smaller one is padded."""
        pictures = batch.pictures["main"]
        depth = torch.zeros(len(pictures), *pictures.shape[-2:], device=pictures.device)
        for index, camera in enumerate(batch.cameras["main"]):
            own = pictures[index : index + 1, :, : camera.height, : camera.width]
            depth[index, : camera.height, : camera.width] = self(own.float() / 255)[0]
        return depth

    def predict(self, picture: NDArray[Any]) -> NDArray[np.float32]:
        """Metres (H, W) of one picture (H, W, 3) uint8."""
        device = next(self.parameters()).device
        pixels = torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None]  # height, width, channel -> channel first
        return self(pixels.float() / 255)[0].cpu().numpy().astype(np.float32)  # type: ignore[no-any-return]


def _note_filled(network: nn.Module, incompatible: Any) -> None:
    network.filled = True  # type: ignore[assignment]  # a bool of MetricDepth


def fitted_size(height: int, width: int, patch: int = 14) -> tuple[int, int]:
    """Rows and columns that a picture is stretched to: scaled so that one edge is the trained one, by the scale of the two that is nearer to 1,
    then each rounded to whole patches.

    >>> fitted_size(572, 746)
    (392, 518)
    """
    scales = [target / n for target, n in zip(_TARGET, (height, width), strict=True)]
    by_rows, by_columns = scales
    scale = by_columns if abs(1 - by_columns) < abs(1 - by_rows) else by_rows
    rows, columns = (max(patch, round(n * scale / patch) * patch) for n in (height, width))
    return rows, columns
