"""ScanSSC's 3D half: self-attention, the Scan Module (section 3.3), the head; and its losses (section 3.5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.layers.checkpoint import run
from wholescene.layers.residual_pyramid import ResidualPyramid
from wholescene.layers.scan import AxisCodes, Order, ScanBlock
from wholescene.structures import Batch, Prediction
from wholescene.systems.cgformer.completion import GeometryCompletion, voxel_transformer
from wholescene.systems.halves import answer_and_target
from wholescene.systems.scanssc.config import AXES, ScanSSCConfig
from wholescene.systems.scanssc.fusion import Average, ConcatLinear, TriFeatureFusion, WeightedSum
from wholescene.systems.scanssc.losses import near_to_far_weights, scan_loss, weighted_cross_entropy

_ORDERS: dict[str, tuple[Order, Order]] = {  # near to far, and reversed
    "depth": ("first-to-last", "last-to-first"),
    "width": ("centre-to-sides", "sides-to-centre"),
    "height": ("last-to-first", "first-to-last"),
}
_FUSED = ("depth", "height", "width")  # the released order of the fusion's weights


class ScanModule(nn.Module):
    """Scan Blocks along the axes side by side, a spatial mixing network after each, and the fusion of their features (figure 3)."""

    def __init__(self, config: ScanSSCConfig) -> None:
        super().__init__()
        axes = [axis for axis in _FUSED if axis in config.scan_axes]
        width, recompute = config.features, config.activation_checkpointing
        self.activation_checkpointing = recompute
        self.codes = _codes(config)
        self.blocks = nn.ModuleDict({axis: _block(config, axis) for axis in axes})
        self.mixers = nn.ModuleDict(
            {axis: ResidualPyramid(width, config.mixing_blocks, activation_checkpointing=recompute) for axis in axes if config.mixing}
        )
        self.fusion = _fusion(config, len(axes))

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        features = []
        for axis, block in self.blocks.items():
            feature = run(block, volume, self.codes, recompute=self.activation_checkpointing)
            features.append(self.mixers[axis](feature) if axis in self.mixers else feature)
            del feature
        fused: Tensor = self.fusion(features) if self.fusion is not None else features[0]
        return fused


class ScanEncoder(nn.Module):
    """Self-attention of all voxels, then the Scan Module unless it is left out."""

    def __init__(self, config: ScanSSCConfig) -> None:
        super().__init__()
        self.attention = voxel_transformer(config)
        self.scan = ScanModule(config) if config.scan_axes else None

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same."""
        volume = self.attention(volume)
        return volume if self.scan is None else self.scan(volume)


class ScanCompletion(GeometryCompletion):
    """ScanSSC's own 3D half."""

    config: ScanSSCConfig

    def __init__(self, config: ScanSSCConfig) -> None:
        super().__init__(config, ScanEncoder(config))

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, both affinities and the Scan Loss of each axis (equations 9 and 10), or what stands for it in Table D.2.

        Raises:
            InputError: a batch without targets.
        """
        config, terms = self.config, super().losses(prediction, batch)
        logits, target = answer_and_target(prediction, batch)
        if config.near_to_far_weights:
            orders = [_ORDERS[axis][0] for axis in sorted(AXES, key=config.array_axis)]
            weights = torch.tensor(config.weights_of_classes(), device=logits.device)
            terms["cross_entropy"] = weighted_cross_entropy(logits, target, weights, near_to_far_weights(target.shape[1:], orders))
        if config.cross_entropy_weight != 1:
            terms["cross_entropy"] = config.cross_entropy_weight * terms["cross_entropy"]
        for axis in config.scan_loss_axes if config.scan_loss_weight else ():
            found = scan_loss(logits, target, config.array_axis(axis), loss_order(config, axis), count_unknown=config.unknown_in_scan == "counted")
            terms[f"scan_{axis}"] = config.scan_loss_weight * found
        return terms


def scan_order(config: ScanSSCConfig, axis: str) -> Order:
    """How the Scan Module goes along an axis: near to far (section 3.1), or reversed."""
    return _ORDERS[axis][axis in config.reversed_scans]


def loss_order(config: ScanSSCConfig, axis: str) -> Order:
    """How the Scan Loss's means go along an axis: far to near (section 3.4), or reversed."""
    is_reversed = axis in config.reversed_scan_losses
    if axis == "width" and config.width_scan == "whole":
        return "last-to-first" if is_reversed else "first-to-last"
    return _ORDERS[axis][not is_reversed]


def _codes(config: ScanSSCConfig) -> AxisCodes | None:
    if config.positions == "none":
        return None
    axes = [2, 1, 0] if config.positions == "x-y-z" else [2, 1]
    return AxisCodes(axes, [config.position_rows or config.lifted_shape[axis] for axis in axes], config.features)


def _block(config: ScanSSCConfig, axis: str) -> ScanBlock:
    return ScanBlock(
        config.array_axis(axis), config.features, config.feedforward, config.heads, order=scan_order(config, axis),
        margin=config.margins[AXES.index(axis)], dropout=config.scan_dropout,
    )  # fmt: skip


def _fusion(config: ScanSSCConfig, features: int) -> nn.Module | None:
    """None where one axis is scanned: its feature is the result."""
    if features == 1:
        return None
    if config.fusion == "weighted-sum":
        return WeightedSum(config.lifted_shape, features)
    if config.fusion == "average":
        return Average()
    if config.fusion == "concat-linear":
        return ConcatLinear(config.features, features)
    if config.fusion == "tri-feature":
        return TriFeatureFusion(config.features, features)
    raise InputError(f"fusion {config.fusion!r} is not one of tri-feature, concat-linear, average, weighted-sum")
