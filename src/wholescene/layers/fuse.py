"""Batch norms folded into the convolutions before them: fewer passes over memory at inference, the same numbers up to float rounding."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

M = TypeVar("M", bound=nn.Module)


def fuse_for_inference(model: M) -> M:
    """Fold every batch norm that directly follows a convolution into it, in place, and return the model in eval.

    Modules name their pairs in a class attribute `folds` (convolution, norm); in plain `nn.Sequential`s neighbours are found. A fused model
    predicts and nothing else: its state dict is no longer the system's, and it cannot be trained.

    Args:
        model: any module.
    """
    model.eval()
    for module in model.modules():
        pairs = list(getattr(type(module), "folds", ()))
        if type(module) is nn.Sequential:
            pairs += [(str(i), str(j)) for i, j in pairwise(range(len(module)))]
        for conv_name, norm_name in pairs:
            conv, norm = getattr(module, conv_name), getattr(module, norm_name)
            if isinstance(conv, _ConvNd) and isinstance(norm, _BatchNorm):
                _fold(conv, norm)
                setattr(module, norm_name, nn.Identity())
    return model


@torch.no_grad()
def _fold(conv: _ConvNd, norm: _BatchNorm) -> None:
    """conv := norm o conv, computed in float64."""
    mean, variance = _running(norm)
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    out_axis = 1 if isinstance(conv, _ConvTransposeNd) else 0
    shape = [1] * conv.weight.dim()
    shape[out_axis] = -1
    kind = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.double() * scale.view(shape)).to(kind), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(kind), requires_grad=False)


def _running(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    return norm.running_mean, norm.running_var
