"""GA-MonoSSC's 2D half: picture -> semantic and geometric maps -> one volume along the lines of sight; and the loss of its geometric head."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.geometry.projection import locate_batch, project_batch
from wholescene.geometry.pyramid import pool_labels
from wholescene.geometry.selecting import indices_of
from wholescene.structures import Batch, Lifted, Prediction
from wholescene.systems.base import normalise
from wholescene.systems.gamonossc.config import GAMonoSSCConfig
from wholescene.systems.gamonossc.encoder import DualHeadEncoder
from wholescene.systems.gamonossc.fusion import ScaleFusion
from wholescene.systems.gamonossc.occupancy import SliceOccupancy, occupancy_loss
from wholescene.systems.halves import Half2D


class GlobalAwareLift(Half2D):
    """Dual-head encoder, line-of-sight projection of every scale and modality, fusion.

    Attributes:
        occupancy: the geometric head's slices; None without that head.
    """

    def __init__(self, config: GAMonoSSCConfig) -> None:
        """
        Raises:
            InputError: geometric features gated by a head that is left out.
        """
        super().__init__()
        if config.geometric_gate and not config.geometric_head:
            raise InputError("geometric_gate wants the geometric head, which geometric_head: false leaves out; set one of the two")
        self.config = config
        self.width, self.factor = config.features, config.lift_factor
        self.encoder = DualHeadEncoder(config)
        modalities = ("semantic", "geometric") if config.geometric_head else ("semantic",)
        self.lift = ScaleFusion(config.features, modalities, config.fusion_reduction)
        self.occupancy = SliceOccupancy(config.features, config.depth_slices, config.depth_range_m) if config.geometric_head else None

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z); with the geometric head `extras` holds `occupancy_logits` (B, X, Y, Z) float and `occupancy_known`,
        whether a voxel is in view and in range and so has one."""
        config = self.config
        grids = tuple(grid.coarser(config.lift_factor) for grid in batch.grids)
        maps = self.encoder(normalise(batch.pictures["main"], config.preparation))
        in_view = project_batch(batch, config.lift_factor, config.rounding, config.use_offset).in_view
        pixels, depth = locate_batch(batch, config.lift_factor, config.use_offset)
        height, width = batch.pictures["main"].shape[-2:]
        visible = [indices_of(mask) for mask in in_view]
        size = torch.tensor([width, height], dtype=pixels.dtype, device=pixels.device)
        shares = [((own[rows] + 0.5) / size).float() for own, rows in zip(pixels, visible, strict=True)]
        said = None
        if self.occupancy is not None:
            away = [own[rows].float() for own, rows in zip(depth, visible, strict=True)]
            slices = self.occupancy(maps["geometric"][0])
            said = [self.occupancy.at_voxels(*of_frame) for of_frame in zip(slices, shares, away, strict=True)]
        gates = [one.sigmoid() for one in said] if said is not None and config.geometric_gate else None
        volume = self.lift(maps, shares, visible, grids[0].shape, gates)
        extras = {} if said is None else self._extras(said, visible, in_view & (depth < config.depth_range_m), grids[0].shape)
        return Lifted(volume, grids, extras=extras)

    @staticmethod
    def _extras(said: list[Tensor], visible: list[Tensor], known: Tensor, shape: tuple[int, int, int]) -> dict[str, Tensor]:
        whole = torch.stack([one.new_zeros(known.shape[1]).index_copy(0, rows, one) for one, rows in zip(said, visible, strict=True)])
        return {"occupancy_logits": whole.unflatten(1, shape), "occupancy_known": known.unflatten(1, shape)}

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The binary cross-entropy of the geometric head (equation 9), with that head."""
        if self.occupancy is None:
            return {}
        logits, known = prediction.extras["occupancy_logits"], prediction.extras["occupancy_known"]
        labels = batch.targets[1] if self.factor == 1 else batch.targets.get(self.factor)
        return {"occupancy": occupancy_loss(logits, known, pool_labels(batch.targets[1], self.factor) if labels is None else labels)}
