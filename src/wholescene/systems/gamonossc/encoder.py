"""The dual-head multi-modality encoder (supplement A.2): a vision transformer whose four groups of layers feed two decoders."""

from __future__ import annotations

from torch import Tensor, nn

from wholescene.backbones.vit import ViT, stretched_to_patches
from wholescene.layers.dpt import DPT, LEVELS
from wholescene.systems.gamonossc.config import GAMonoSSCConfig


class ModalityDecoder(nn.Module):
    """Dec_sem or Dec_geo: a DPT head, and for each of its maps a 1x1 convolution to the width of the volume."""

    def __init__(self, width: int, config: GAMonoSSCConfig) -> None:
        super().__init__()
        features, out = config.decoder_features, config.features
        self.decoder = DPT(width, config.decoder_widths, features, activation_checkpointing=config.activation_checkpointing)
        self.out = nn.ModuleList(nn.Conv2d(features, out, 1) for _ in range(LEVELS))

    def forward(self, tokens: list[Tensor]) -> list[Tensor]:
        """Four maps of tokens (B, width, h, w) to four of features, finest first: (B, F, 8h, 8w), (B, F, 4h, 4w), (B, F, 2h, 2w), (B, F, h, w)."""
        return [leave(level) for leave, level in zip(self.out, self.decoder(tokens), strict=True)]


class DualHeadEncoder(nn.Module):
    """DM_Enc: semantic maps, and geometric ones that are added to them scale by scale.

    Attributes:
        geometric: None where the config leaves the geometric head out.
    """

    def __init__(self, config: GAMonoSSCConfig) -> None:
        super().__init__()
        self.couple = config.couple
        self.trunk = ViT(config.encoder, activation_checkpointing=config.activation_checkpointing)
        self.semantic = ModalityDecoder(self.trunk.width, config)
        self.geometric = ModalityDecoder(self.trunk.width, config) if config.geometric_head else None

    def forward(self, picture: Tensor) -> dict[str, list[Tensor]]:
        """Normalised picture (B, 3, H, W) to "semantic" and, with that head, "geometric": four maps each, finest first.

        The picture is stretched to whole patches, so maps are read by shares of its width and height, never by pixels.
        """
        tokens = self.trunk(stretched_to_patches(picture, self.trunk.patch))
        semantic = self.semantic(tokens)
        if self.geometric is None:
            return {"semantic": semantic}
        geometric = self.geometric(tokens)
        if self.couple:
            semantic = [own + other for own, other in zip(semantic, geometric, strict=True)]
        return {"semantic": semantic, "geometric": geometric}
