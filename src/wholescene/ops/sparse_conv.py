"""Sparse 3D convolution: features on active voxels only (Graham, Engelcke and van der Maaten, CVPR 2018: submanifold convolution).

    y_p = bias + sum over kernel offsets k of W_k f_(p + k), over those p + k that are active; nothing elsewhere.

On the active voxels that is mask * conv(mask * f). Other tables (`ops.neighbours`) make it the strided and the inverse sparse convolution. Three
forms give the same numbers up to rounding; which is fastest depends on how many voxels are active, how many neighbours they have, and on the width:

    pairs    offset by offset, for the pairs that exist: gather, product, add to rows of which none occurs twice
    gather   for blocks of rows: all neighbours side by side (zeros where there is none), one product; no scatter, no add (on a GPU with Triton
             neighbours are read where they lie)
    dense    the masked dense convolution (`reference`)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wholescene.errors import InputError, unknown_name
from wholescene.ops.choice import reference_forced, triton_path, without_autocast
from wholescene.ops.counting import worth
from wholescene.ops.neighbours import Links
from wholescene.ops.products import float32_products, outer, product

Form = Literal["auto", "pairs", "gather", "dense"]
FORMS = ("auto", "pairs", "gather", "dense")

_ROWS = 512  # at a time: what is gathered for them (7 MB at 27 x 128 channels) stays in a CPU's cache, and is all the memory beside the result
_PAIRS = 4096
_BLOCKS_ON_GPU = 64  # so many times larger pieces
_CROSSING = {"tf32": 0.55, "ieee": 0.3}  # active share above which cuDNN's dense convolution is faster on an H100 (benchmarks/gpu.py)


def sparse_conv(features: Tensor, weight: Tensor, bias: Tensor | None, links: Links, form: Form = "auto") -> Tensor:
    """The convolution of the rows of a table, by the form that is fastest for it; `WHOLESCENE_OPS=reference` forces `reference` where it can.

    Computed in float32 (float64 for float64 features) whatever autocast says.

    Args:
        features: (n_in, Cin), one row an active input voxel.
        weight: (Cout, Cin, kx, ky, kz), as `nn.Conv3d` has it.
        bias: (Cout,) or None.
        links: the table, of that kernel.
        form: one of `FORMS`; "dense" needs a table with a mask.

    Returns:
        (n_out, Cout) in the dtype of `features`.

    Raises:
        InputError: shapes that do not belong together, an unknown form, or the dense form of a table without a mask.
    """
    if form not in FORMS:
        raise unknown_name("form of a sparse convolution", form, FORMS)
    if features.dim() != 2 or features.shape != (links.inputs, weight.shape[1]) or tuple(weight.shape[2:]) != links.kernel:
        raise InputError(
            f"features {tuple(features.shape)} and weight {tuple(weight.shape)} do not fit a table of {links.inputs} input rows and a kernel of "
            f"{links.kernel}; expected (rows, Cin) and (Cout, Cin, *kernel)"
        )
    kind = torch.float64 if features.dtype == torch.float64 else torch.float32
    with without_autocast(features.device):
        given = features.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        chosen = choose(links, weight.shape[1], weight.shape[0]) if form == "auto" else form
        if reference_forced() and links.mask is not None:
            chosen = "dense"
        # the dense form counts in full where it was asked for, not where it is a path to the same numbers
        with contextlib.nullcontext() if form == "dense" else worth(lambda: links.met * weight.shape[0] * weight.shape[1]):
            if chosen == "dense":
                return reference(*given, links).to(features.dtype)
            found: Tensor = _Convolution.apply(*given, links, chosen)
            return found.to(features.dtype)


def reference(features: Tensor, weight: Tensor, bias: Tensor | None, links: Links) -> Tensor:
    """The specification: a dense convolution of the volume in which inactive voxels are zero, read on the active ones. Arguments as `sparse_conv`.

    Raises:
        InputError: the table has no mask, so there is no volume.
    """
    if links.mask is None:
        raise InputError("the dense form needs a table of a masked volume (`links_of_mask`); this one is between places")
    B, X, Y, Z = links.mask.shape
    active = links.mask.reshape(-1).nonzero()[:, 0] if not links.mask.is_meta else torch.arange(links.inputs, device="meta")
    volume = features.new_zeros(B * X * Y * Z, features.shape[1]).index_copy(0, active, features)
    padding = [d * (k // 2) for k, d in zip(links.kernel, links.dilation, strict=True)]
    volume = volume.view(B, X, Y, Z, -1).movedim(-1, 1)  # (B, Cin, X, Y, Z)
    made = F.conv3d(volume, weight, bias, padding=padding, dilation=links.dilation)
    return made.movedim(1, -1).reshape(B * X * Y * Z, -1).index_select(0, active)


# Nanoseconds on a CPU (see benchmarks/sparse_conv.py): of a multiply-add, of a channel that is moved, and of a row.
_COSTS = {"pairs": (0.009, 0.27, 45.0), "gather": (0.0095, 0.24, 4.0), "dense": (0.0078, 0.0, 4.0)}


def choose(links: Links, wide_in: int, wide_out: int) -> Form:
    """The form that should be fastest for a table and widths: on a CPU by what each has to multiply and to move; on a GPU `gather`, which Triton
    does without gathering, up to the share of active voxels at which the dense form was measured to be faster."""
    if not links.outputs or links.rows.is_meta:
        return "gather"
    if links.rows.device.type != "cpu":
        return "dense" if links.mask is not None and links.outputs > _CROSSING[float32_products()] * links.mask.numel() else "gather"
    offsets = links.rows.shape[1]

    def cost(form: str, times: float, moved: int) -> float:
        multiply, move, start = _COSTS[form]
        return times * (multiply * wide_in * wide_out + move * moved + start)

    found: dict[Form, float] = {
        "pairs": cost("pairs", links.met, wide_in + wide_out),
        "gather": cost("gather", links.outputs * offsets, wide_in),
    }
    if links.mask is not None:
        found["dense"] = cost("dense", links.mask.numel() * offsets, wide_in)
    return min(found, key=lambda form: found[form])


class _Convolution(torch.autograd.Function):
    """Nothing but the inputs is kept; the gradient of the features is the convolution of the gradient by the turned table."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, links: Links, form: str) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.links, ctx.form, ctx.has_bias = links, form, bias is not None
        by_offset = weight.flatten(2).permute(2, 0, 1).contiguous()  # (K, Cout, Cin)
        return _FORWARD[form](features, by_offset, bias, links)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_out: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors
        to_out = to_out.contiguous()
        by_offset = weight.flatten(2).permute(2, 1, 0).contiguous()  # (K, Cin, Cout)
        wanted = ctx.needs_input_grad
        with without_autocast(features.device):
            to_features = _FORWARD[ctx.form](to_out, by_offset, None, ctx.links.turned()) if wanted[0] else None
            to_weight = _WEIGHT[ctx.form](features, to_out, ctx.links).permute(2, 1, 0).reshape(weight.shape) if wanted[1] else None
        return to_features, to_weight, to_out.sum(0) if ctx.has_bias and wanted[2] else None, None, None


def _kernels(features: Tensor) -> Any:
    """The Triton kernels where they can run, else None; they multiply in float32."""
    return triton_path("sparse_conv", features) if features.dtype == torch.float32 else None


def _gather(features: Tensor, by_offset: Tensor, bias: Tensor | None, links: Links) -> Tensor:
    """(n_out, Cout) from features (n_in, Cin) and weights (K, Cout, Cin)."""
    fast = _kernels(features)
    if fast is not None:
        made: Tensor = fast.forward(features, by_offset, links)
        return made if bias is None else made.add_(bias)
    table, flat = _with_zero(features), by_offset.transpose(0, 1).flatten(1)
    out = features.new_empty(links.outputs, by_offset.shape[1])
    for rows, place in _parts(links.rows, out, size=_ROWS):
        place.copy_(product(table.index_select(0, rows.reshape(-1)).view(len(rows), -1), flat))
    return out if bias is None else out.add_(bias)


def _gather_weight(features: Tensor, to_out: Tensor, links: Links) -> Tensor:
    """(K, Cin, Cout), the gradient of the weights."""
    fast = _kernels(features)
    if fast is not None:
        found: Tensor = fast.weight(features, to_out, links)
        return found
    table = _with_zero(features)
    total = features.new_zeros(links.rows.shape[1] * features.shape[1], to_out.shape[1])
    for rows, slope in _parts(links.rows, to_out, size=_ROWS):
        total += outer(table.index_select(0, rows.reshape(-1)).view(len(rows), -1), slope)
    return total.view(links.rows.shape[1], features.shape[1], -1)


def _pairs(features: Tensor, by_offset: Tensor, bias: Tensor | None, links: Links) -> Tensor:
    """As `_gather`; within an offset no output row occurs twice, so the sums do not depend on any order."""
    out = features.new_zeros(links.outputs, by_offset.shape[1]) if bias is None else bias.expand(links.outputs, -1).clone()
    for weight, (written, read) in zip(by_offset, links.pairs, strict=True):
        for to, of in _parts(written, read, size=_PAIRS):
            out.index_add_(0, to, product(features.index_select(0, of), weight))
    return out


def _pairs_weight(features: Tensor, to_out: Tensor, links: Links) -> Tensor:
    """As `_gather_weight`."""
    total = features.new_zeros(links.rows.shape[1], features.shape[1], to_out.shape[1])
    for whole, (written, read) in zip(total, links.pairs, strict=True):
        for to, of in _parts(written, read, size=_PAIRS):
            whole += outer(features.index_select(0, of), to_out.index_select(0, to))
    return total


def _parts(one: Tensor, other: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two tensors of one length, so many rows at a time."""
    size *= 1 if one.device.type == "cpu" else _BLOCKS_ON_GPU
    return zip(one.split(size), other.split(size), strict=True) if len(one) else iter(())


def _with_zero(features: Tensor) -> Tensor:
    """A last row of zeros, which stands for every neighbour that is not there."""
    return torch.cat([features, features.new_zeros(1, features.shape[1])])


_FORWARD = {"gather": _gather, "pairs": _pairs}
_WEIGHT = {"gather": _gather_weight, "pairs": _pairs_weight}


class SparseConv3d(nn.Module):
    """A sparse convolution with the parameters (names, shapes, first values) of `nn.Conv3d`."""

    def __init__(self, width: int, out: int, kernel: int = 3, form: Form = "auto") -> None:
        """
        Args:
            width: input channels.
            out: output channels.
            kernel: odd extent along all axes.
            form: see `sparse_conv`.
        """
        super().__init__()
        plain = nn.Conv3d(width, out, kernel)
        self.form: Form = form
        self.weight = plain.weight
        assert plain.bias is not None
        self.bias = plain.bias

    def forward(self, features: Tensor, links: Links) -> Tensor:
        """(n_in, width) to (n_out, out)."""
        return sparse_conv(features, self.weight, self.bias, links, self.form)
