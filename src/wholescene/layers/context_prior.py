"""3D context relation prior, 3D CRP (MonoScene, section 3.3; the 2D form is Yu et al., CVPR 2020): every voxel gathers context from mega voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wholescene.layers.aspp import ASPP
from wholescene.layers.unet3d import Process


class ContextPrior(nn.Module):
    """Relation logits between voxels and mega voxels (2x2x2 voxels), and the mega voxels' context weighted by them (figure 5).

    Attributes:
        mega_shape: mega voxels along the three axes, halves rounded down.
    """

    def __init__(
        self,
        width: int,
        shape: Sequence[int],
        relations: int = 4,
        dilations: Sequence[int] = (1, 2, 3),
        *,
        momentum: float = 0.1,
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            width: channels F.
            shape: (X, Y, Z) voxels at this scale; the relation maps are bound to it.
            relations: 4 (same or different class, both empty, one empty) or 2 (same or different).
            dilations: of the ASPP.
            momentum: of the batch norms in the last block.
            activation_checkpointing: of the ASPP's branches.
        """
        super().__init__()
        self.shape = tuple(shape)
        self.mega_shape = tuple(n // 2 for n in shape)
        mega = math.prod(self.mega_shape)
        self.aspp = ASPP(width, dilations, activation_checkpointing=activation_checkpointing)
        # even axes are padded and odd ones not, so that both give floor(n / 2) mega voxels
        x, y, z = ((n + 1) % 2 for n in self.shape)
        self.mega_context = nn.Conv3d(width, 2 * width, 3, stride=2, padding=(x, y, z))
        self.relations = nn.ModuleList(nn.Conv3d(width, mega, 1) for _ in range(relations))
        self.merge = nn.Conv3d((2 * relations + 1) * width, width, 1, bias=False)
        self.refine = Process(width, (1,), momentum=momentum)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            volume: (B, F, X, Y, Z).

        Returns:
            volume: (B, F, X, Y, Z) with context.
            relation_logits: (B, R, M, N), M mega voxels and N voxels in C order.
        """
        seen = self.aspp(volume)
        mega = self.mega_context(seen).flatten(2)  # (B, 2F, M)
        logits = torch.stack([relation(seen).flatten(2) for relation in self.relations], 1)
        contexts = [(mega @ logits[:, r].sigmoid()).unflatten(2, volume.shape[2:]) for r in range(logits.shape[1])]
        return self.refine(self.merge(torch.cat([volume, *contexts], 1))), logits
