"""LMSCNet's halves: the occupancy as it is, and the network that completes it (section 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.geometry.occupancy import occupancy_of_batch
from wholescene.labels import UNKNOWN
from wholescene.layers.head import CompletionHead
from wholescene.layers.height_unet import SCALES, HeightUNet
from wholescene.structures import Batch, Completed, Lifted
from wholescene.systems.halves import check_grid
from wholescene.systems.lmscnet.config import LMSCNetConfig


class OccupancyLift(nn.Module):
    """No encoder and nothing to learn: the volume is the occupancy, whether given or made from depth or points."""

    def __init__(self, config: LMSCNetConfig) -> None:
        super().__init__()
        self.source, self.revision = config.source, config.revision

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, 1, X, Y, Z), 1 where occupied."""
        occupancy = occupancy_of_batch(batch, self.source)
        if self.revision == "v1.0":
            occupancy = one_late(occupancy, fill=0)
        return Lifted(occupancy[:, None].float(), batch.grids)


class HeightCompletion(nn.Module):
    """2D UNet over the height slices, and a 3D head a scale that reads the channels of its map as heights again."""

    def __init__(self, config: LMSCNetConfig) -> None:
        """
        Raises:
            InputError: a grid whose sides are no multiples of 8, or scales without the finest one.
        """
        super().__init__()
        self.shape, self.revision = config.grid.shape, config.revision
        self.up = config.grid.axes.index("z")
        self.auxiliary = False  # whether the coarser scales are made in eval too
        if any(n % SCALES[-1] for n in self.shape):
            raise InputError(f"LMSCNet's grid has {self.shape} voxels; each count must be a multiple of {SCALES[-1]}")
        if 1 not in config.scales or not set(config.scales) <= set(SCALES) or len(set(config.scales)) != len(config.scales):
            raise InputError(f"scales are {list(config.scales)}; expected 1 and any of {list(SCALES[1:])}, each once")
        recompute = config.activation_checkpointing
        self.volume_net = HeightUNet(self.shape[self.up], activation_checkpointing=recompute)
        # whole volumes: at this width they are small, and slabs of 8 channels take a CPU several times as long
        self.head = nn.ModuleDict(
            {
                str(scale): CompletionHead(1, config.head_width, config.classes, slab=None, activation_checkpointing=recompute)
                for scale in sorted(config.scales)
            }
        )

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z); `auxiliary` holds "1_s" (B, K, X/s, Y/s, Z/s) for the coarser scales s in training, or in eval on request.

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        check_grid(batch, self.shape)
        assert lifted.volume is not None
        maps = self.volume_net(lifted.volume[:, 0].movedim(1 + self.up, 1))  # heights as channels: (B, Z, X, Y)
        logits = {scale: self._segment(scale, slices) for scale, slices in maps.items() if self._wanted(scale)}
        volume = maps[1].movedim(1, 1 + self.up)[:, None]
        finest = logits.pop(1)
        return Completed(volume, batch.grids, finest if self.revision == "v1.1" else one_early(finest), {f"1_{s}": x for s, x in logits.items()})

    def _wanted(self, scale: int) -> bool:
        return str(scale) in self.head and (scale == 1 or self.training or self.auxiliary)

    def _segment(self, scale: int, slices: Tensor) -> Tensor:
        """Logits (B, K, x, y, z) of a map (B, z, x, y) seen as a volume of one channel."""
        logits: Tensor = self.head[str(scale)](slices[:, None])
        return logits.movedim(2, 2 + self.up)


def one_late(volume: Tensor, fill: int = UNKNOWN) -> Tensor:
    """A volume (B, X, Y, Z) as v1.0 of SemanticKITTI has it: every voxel one place later in the flat order, the first one filled."""
    return F.pad(volume.flatten(1)[:, :-1], (1, 0), value=fill).view(volume.shape)


def one_early(logits: Tensor) -> Tensor:
    """Logits (B, K, X, Y, Z) on v1.0's voxels as v1.1 has them: one place earlier; the last voxel, which v1.0 lost, keeps its own."""
    flat = logits.new_empty(*logits.shape[:2], logits[0, 0].numel() + 1)
    flat[..., :-1].view(logits.shape).copy_(logits)
    flat[..., -1] = flat[..., -2]
    return flat[..., 1:].view(logits.shape)
