"""The Frustum Mamba decoder (supplement A.2): a 3D UNet of two stages, whose descent scans the voxels in the order of the camera's frustums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.geometry.orders import Permutation
from wholescene.layers.checkpoint import run
from wholescene.layers.mamba import BidirectionalMamba, Mamba, Mamba2
from wholescene.layers.slabs import convolve_whole
from wholescene.layers.unet3d import Downsample, Process, Upsample
from wholescene.systems.gamonossc.config import GAMonoSSCConfig

STAGES = 2


class FrustumMambaLayer(nn.Module):
    """The Frustum Mamba Layer: S = FReorder(V); S' = the Mamba blocks of S; LN(Composit(S')) + V. Each block is s + Mamba(LN(s))."""

    def __init__(self, width: int, config: GAMonoSSCConfig) -> None:
        super().__init__()
        self.activation_checkpointing = config.activation_checkpointing
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.scan_blocks))
        self.blocks = nn.ModuleList(_block(width, config, reverse=index % 2 == 1) for index in range(config.scan_blocks))
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, config.layer_norm_start)

    def forward(self, volume: Tensor, order: Permutation) -> Tensor:
        """(B, C, X, Y, Z) and the order of its voxels to (B, C, X, Y, Z)."""
        tokens = order.tokens(volume)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            said = run(block, norm(tokens), recompute=self.activation_checkpointing)
            tokens = tokens + said if torch.is_grad_enabled() else tokens.add_(said)
        return volume + order.volume(self.norm(tokens), volume.shape[2:])


class ResidualLayer(Process):
    """What MonoScene has where GA-MonoSSC scans: residual blocks of growing dilation; knows no order."""

    def forward(self, volume: Tensor, order: Permutation | None = None) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        return super().forward(volume)


class FrustumMambaDecoder(nn.Module):
    """Convolution, two frustum layers each followed by a halving, something at the coarsest scale, and back up over the layers' outputs.

    Attributes:
        middle: what works at the coarsest scale, (B, 4C, X/4, Y/4, Z/4) to the same and whatever else it wants to say.
    """

    def __init__(self, config: GAMonoSSCConfig, middle: nn.Module) -> None:
        """
        Args:
            config: of the system.
            middle: the 3D context relation prior.
        """
        super().__init__()
        width, recompute = config.features, config.activation_checkpointing
        self.stem = Stem(width)
        widths = [width * 2**stage for stage in range(STAGES)]
        self.layers = nn.ModuleList(_layer(wide, config) for wide in widths)
        self.halve = nn.ModuleList(Downsample(wide) for wide in widths)
        self.middle = middle
        self.enlarge = nn.ModuleList(Upsample(2 * wide, wide) for wide in widths)
        self.refine = nn.ModuleList(Process(wide, activation_checkpointing=recompute) for wide in widths)

    def forward(self, volume: Tensor, orders: Sequence[Permutation]) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            volume: (B, C, X, Y, Z), every axis divisible by 4.
            orders: of its voxels, and of the groups of 2x2x2 of them.

        Returns:
            (B, C, X, Y, Z) and what `middle` said beside its volume.
        """
        skips = []
        volume = self.stem(volume)
        for layer, halve, order in zip(self.layers, self.halve, orders, strict=True):
            volume = layer(volume, order)
            skips.append(volume)
            volume = halve(volume)
        volume, said = self.middle(volume)
        for enlarge, refine, skip in zip(reversed(self.enlarge), reversed(self.refine), reversed(skips), strict=True):
            volume = refine(enlarge(volume) + skip)
        return volume, said


class Stem(nn.Module):
    """The block of 3D convolution "to introduce inductive bias": 3x3x3, batch norm, ReLU."""

    folds = (("conv", "norm"),)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(width)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        activated: Tensor = self.norm(convolve_whole(self.conv, volume)).relu_()
        return activated


def _layer(width: int, config: GAMonoSSCConfig) -> nn.Module:
    if config.scan == "none":
        return ResidualLayer(width, activation_checkpointing=config.activation_checkpointing)
    return FrustumMambaLayer(width, config)


def _block(width: int, config: GAMonoSSCConfig, reverse: bool) -> nn.Module:
    """One scanning block.

    Raises:
        InputError: both directions asked of the scan that has one.
    """
    state, kernel, expand = config.scan_states, config.scan_kernel, config.scan_expand
    if config.directions == "both":
        if config.scan != "s6":
            raise InputError(f"directions: both exists for scan: s6; with {config.scan} take alternate, which reads every second block backwards")
        return BidirectionalMamba(width, state=state, kernel=kernel, expand=expand)
    turned = reverse and config.directions == "alternate"
    make: dict[str, Callable[[], nn.Module]] = {
        "s6": lambda: Mamba(width, state=state, kernel=kernel, expand=expand, reverse=turned),
        "ssd": lambda: Mamba2(width, state=state, kernel=kernel, expand=expand, head=config.scan_head, reverse=turned),
    }
    return make[config.scan]()
