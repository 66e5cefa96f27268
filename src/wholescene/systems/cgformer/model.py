"""CGFormer (Yu et al., NeurIPS 2024): context and geometry aware voxel transformer.

With conventions `exact`, the released weights give the released logits. Its pre-training stage (`stage: depth`) makes no volume.
"""

from __future__ import annotations

from torch import Tensor

from wholescene.structures import Batch, Prediction
from wholescene.systems.base import System
from wholescene.systems.cgformer.completion import LocalGlobalCompletion
from wholescene.systems.cgformer.config import CGFormerConfig
from wholescene.systems.cgformer.lift import GeometryLift
from wholescene.systems.cgformer.pretraining import PointSegmentation, segmentation_loss


class CGFormer(System):
    """Depth net, lift and splat, voxel queries (`half_2d`); self-attention, local branch and planes, head (`half_3d`; figure 2)."""

    Config = CGFormerConfig
    name = "cgformer"
    Lift = GeometryLift
    Completion = LocalGlobalCompletion
    config: CGFormerConfig

    def __init__(self, config: CGFormerConfig) -> None:
        super().__init__(config)
        if not self.completes:
            del self.half_3d
            if config.segmentation:
                self.segmentation = PointSegmentation(config)

    @property
    def supervision(self) -> frozenset[str]:
        """Raw inputs that only the losses want: the segmentation head learns from points, whatever the depth loss weighs."""
        return super().supervision | (frozenset() if self.completes or not self.config.segmentation else frozenset({"points"}))

    def forward(self, batch: Batch) -> Prediction:
        """Logits (B, K, X, Y, Z), none in stage "depth"; `extras` holds `depth_distribution` (B, bins, h, w), and in that stage `point_logits`
        (B, K, H, W) of the pictures, padded to multiples of 32 pixels."""
        if self.completes:
            return super().forward(batch)
        lifted = self.lifted(batch)
        more = {"point_logits": self.segmentation(lifted.pyramids["context"][0])} if self.config.segmentation else {}
        return Prediction(None, extras={**lifted.extras, **more})

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and both affinities, and the depth loss where it has a weight; in stage "depth" that and the classes of the points.

        Raises:
            InputError: a batch without what they compare with.
        """
        if self.completes:
            return super().losses(prediction, batch)
        terms: dict[str, Tensor] = self.half_2d.losses(prediction, batch)
        if "point_logits" in prediction.extras:
            terms["segmentation"] = segmentation_loss(prediction.extras["point_logits"], batch, self.config)
        return terms
