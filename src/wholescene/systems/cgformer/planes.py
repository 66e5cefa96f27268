"""CGFormer's global branch: the volume pooled to three planes, which one shared Swin sees (section 3.4, the TPV-based branch)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.backbones.swin import Swin
from wholescene.errors import InputError
from wholescene.layers.residual_pyramid import GeneralisedFPN
from wholescene.systems.cgformer.config import CGFormerConfig

PLANES = {"xy": 2, "yz": 0, "zx": 1}  # plane -> the axis of the volume that it is pooled along


class PlanePool(nn.Module):
    """Max-pools one axis of a volume to a few slots, whose channels two 1x1 convolutions mix."""

    def __init__(self, axis: int, width: int, slots: int) -> None:
        super().__init__()
        self.axis, self.slots = axis, slots
        self.mix = nn.Sequential(nn.Conv2d(slots * width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to (B, C, h, w), the two other axes in their order."""
        kernel = [1, 1, 1]
        kernel[self.axis] = volume.shape[2 + self.axis] // self.slots
        pooled = F.max_pool3d(volume, kernel).movedim(2 + self.axis, 1)  # (B, slots, C, h, w)
        mixed: Tensor = self.mix(pooled.flatten(1, 2))
        return mixed


class NormOfPlanes(nn.ModuleList):
    """A batch norm for each plane inside a network that they share: their statistics differ, and those of all three together fit none.

    Attributes:
        plane: whose turn it is.
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.BatchNorm2d(width) for _ in PLANES)
        self.plane = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        normed: Tensor = self[self.plane](x)
        return normed


class ThreePlanes(nn.Module):
    """Pool, shared Swin, shared pyramid, back to the volume's size."""

    def __init__(self, config: CGFormerConfig) -> None:
        """
        Raises:
            InputError: a volume whose axes the slots do not divide.
        """
        super().__init__()
        if any(n % config.plane_slots for n in config.lifted_shape):
            raise InputError(
                f"CGFormer pools each axis of its volume of {config.lifted_shape} voxels to {config.plane_slots} slots, which do not divide them; "
                "choose another grid, lift_factor or plane_slots"
            )
        width = config.features
        self.pool = nn.ModuleDict({plane: PlanePool(axis, width, config.plane_slots) for plane, axis in PLANES.items()})
        self.swin = Swin(
            width, config.plane_width, config.plane_blocks, config.plane_heads, window=config.window, stride=1, drop_path=config.plane_drop_path,
            small_shift=config.small_shift, taps=range(1, len(config.plane_blocks)), activation_checkpointing=config.activation_checkpointing,
        )  # fmt: skip
        self.neck = GeneralisedFPN(self.swin.widths[1:], width, 2, _released_norm if config.plane_norms == "plane" else NormOfPlanes)

    def forward(self, volume: Tensor) -> list[Tensor]:
        """(B, C, X, Y, Z) to the planes xy (B, C, X, Y, 1), yz (B, C, 1, Y, Z) and zx (B, C, X, 1, Z)."""
        found = []
        for index, (plane, axis) in enumerate(PLANES.items()):
            for norm in self.neck.modules():
                if isinstance(norm, NormOfPlanes):
                    norm.plane = index
            found.append(self._plane(self.pool[plane](volume), axis, volume.shape[2:]))
        return found

    def _plane(self, pooled: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
        size = [n for i, n in enumerate(shape) if i != axis]
        seen = self.neck(self.swin(pooled))
        return F.interpolate(seen, size, mode="bilinear", align_corners=False).unsqueeze(2 + axis)


def _released_norm(width: int) -> nn.Module:
    """A batch norm that never keeps statistics is an instance norm where a batch holds one sample, as in the released code."""
    return nn.InstanceNorm2d(width, affine=True)
