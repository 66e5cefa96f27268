"""ResNet with bottlenecks (He et al., CVPR 2016) in the form whose stride sits on the 3x3 convolution.

Parameter names are timm's and torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, ...), so their weight files load as
they are. A trunk that ends at a tap holds nothing past it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.backbones.loading import take_timm
from wholescene.errors import InputError, unknown_name
from wholescene.layers.checkpoint import run


@dataclass(frozen=True)
class Variant:
    """One member of the family.

    Attributes:
        blocks: of the four stages.
        stem: channels of the stem; stage i (from 0) has stem * 2^i inside its blocks and four times as many outside.
    """

    blocks: tuple[int, int, int, int]
    stem: int = 64


VARIANTS: Mapping[str, Variant] = {
    "resnet50": Variant((3, 4, 6, 3)),
    "resnet101": Variant((3, 4, 23, 3)),
    "small": Variant((2, 2, 2, 2), stem=32),  # 0.6 M parameters up to stride 16
    "tiny": Variant((2, 1, 1, 1), stem=8),  # seconds on a CPU, both kinds of block
}
STAGES = ("layer1", "layer2", "layer3", "layer4")
_EXPANSION = 4


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that is a constant: always the running statistics, and a scale and shift that are no parameters. Same state dict."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        for name in ("weight", "bias"):
            constant = getattr(self, name).detach()
            delattr(self, name)
            self.register_buffer(name, constant)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Stays in eval mode."""
        return super().train(False)  # type: ignore[return-value]  # nn.Module returns itself


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; the input is added, through a 1x1 convolution where size or width change (figure 5, right)."""

    folds = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(self, width: int, inner: int, stride: int, norm: type[nn.BatchNorm2d]) -> None:
        super().__init__()
        out = inner * _EXPANSION
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = norm(out)
        changes = stride != 1 or width != out
        self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), norm(out)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to (B, 4 inner, ceil(h / stride), ceil(w / stride))."""
        y = F.relu_(self.bn1(self.conv1(x)))
        y = F.relu_(self.bn2(self.conv2(y)))
        return F.relu_(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """The trunk up to its last tap.

    Attributes:
        taps: the stages whose outputs `forward` returns, in the order of the data.
        widths: channels of each tap.
        strides: picture pixels per map cell of each tap.
    """

    folds = (("conv1", "bn1"),)

    def __init__(
        self, variant: str = "resnet50", taps: Sequence[str] = STAGES, *, frozen_norms: bool = False, activation_checkpointing: bool = False
    ) -> None:
        """
        Args:
            variant: one of `VARIANTS`.
            taps: among "layer1" (stride 4) to "layer4" (stride 32), in the order of the data.
            frozen_norms: batch norms are constants, as is usual where a batch holds one or two pictures and weights come from ImageNet.
            activation_checkpointing: makes each block's activations again in the backward pass.

        Raises:
            InputError: unknown variant or tap, or taps out of order.
        """
        super().__init__()
        if variant not in VARIANTS:
            raise unknown_name("ResNet variant", variant, VARIANTS)
        for tap in taps:
            if tap not in STAGES:
                raise unknown_name("ResNet tap", tap, STAGES)
        if not taps or sorted(set(taps)) != list(taps):
            raise InputError(f"taps must be in the order of the data, each once; found {list(taps)}, expected a selection of {list(STAGES)}")
        self.taps, self.variant = tuple(taps), variant
        self.activation_checkpointing = activation_checkpointing
        norm = FrozenBatchNorm2d if frozen_norms else nn.BatchNorm2d
        rules = VARIANTS[variant]
        width = rules.stem
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = norm(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        sizes = {}
        for index, stage in enumerate(STAGES[: STAGES.index(taps[-1]) + 1]):
            row = []
            for repeat in range(rules.blocks[index]):
                row.append(Bottleneck(width, rules.stem * 2**index, 2 if repeat == 0 and index > 0 else 1, norm))
                width = rules.stem * 2**index * _EXPANSION
            self.add_module(stage, nn.Sequential(*row))
            sizes[stage] = (width, 4 * 2**index)
        self.widths = tuple(sizes[tap][0] for tap in taps)
        self.strides = tuple(sizes[tap][1] for tap in taps)
        self._initialise()

    def _initialise(self) -> None:
        """Every convolution by the fan of its output (He et al., ICCV 2015, equation 14 for ReLU)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, picture: Tensor) -> list[Tensor]:
        """One map a tap.

        Args:
            picture: (B, 3, H, W) normalised, any size.

        Returns:
            (B, widths[i], ceil(H / strides[i]), ceil(W / strides[i])) for each tap i.
        """
        x = self.maxpool(F.relu_(self.bn1(self.conv1(picture))))
        maps = []
        for stage in STAGES[: STAGES.index(self.taps[-1]) + 1]:
            for block in self.get_submodule(stage).children():
                x = run(block, x, recompute=self.activation_checkpointing)
            if stage in self.taps:
                maps.append(x)
        return maps

    def load_timm(self, state: Mapping[str, Tensor]) -> list[str]:
        """Take weights under timm's or torchvision's names; what lies past the last tap is left.

        Args:
            state: a whole state dict of this variant.

        Returns:
            The names of `state` that are not part of this trunk.

        Raises:
            InputError: an entry of the trunk is absent or has another shape; the first ones are named.
        """
        return take_timm(self, state, f"a state dict of {self.variant} from timm or torchvision")
