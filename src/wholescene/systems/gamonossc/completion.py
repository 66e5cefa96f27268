"""GA-MonoSSC's 3D half: volume -> Frustum Mamba decoder with the 3D context relation prior -> logits; the losses are MonoScene's (supplement A.3)."""

from __future__ import annotations

from torch import Tensor, nn

from wholescene.geometry.orders import VoxelOrder, order_batch
from wholescene.structures import Batch
from wholescene.systems.gamonossc.config import GAMonoSSCConfig
from wholescene.systems.gamonossc.decoder import STAGES, FrustumMambaDecoder
from wholescene.systems.monoscene.completion import ContextCompletion
from wholescene.systems.monoscene.config import ContextConfig


class FrustumMambaCompletion(ContextCompletion):
    """MonoScene's 3D half with another network around the context prior, which also wants to know in which order the voxels are scanned."""

    config: GAMonoSSCConfig

    def network(self, config: ContextConfig, middle: nn.Module) -> nn.Module:
        """The Frustum Mamba decoder."""
        assert isinstance(config, GAMonoSSCConfig)
        return FrustumMambaDecoder(config, middle)

    def complete(self, volume: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The decoder, with the orders of both stages: its second one scans groups of 2x2x2 voxels in cells twice as large."""
        config = self.config
        orders = [
            order_batch(batch, VoxelOrder(config.order, config.cell * 2**stage, config.depth_serpentine, group=2**stage), self.factor)
            for stage in range(STAGES)
        ]
        found: tuple[Tensor, Tensor | None] = self.volume_net(volume, orders)
        return found
