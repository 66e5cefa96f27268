"""FLoSP, Features Line of Sight Projection (MonoScene, section 3.2, equation 1): every voxel takes the features of the pixel it falls on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wholescene.errors import InputError


class FLoSP(nn.Module):
    """Sums the maps of a pyramid along the lines of sight; no parameters."""

    def forward(
        self, pyramid: Mapping[int, Tensor], pixels: Tensor, in_view: Tensor, shape: Sequence[int], gains: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """
        Args:
            pyramid: scale s -> (B, C, ceil(H / s), ceil(W / s)), added in this order.
            pixels: (B, N, 2) int64 (u, v) at full resolution; only read where in view.
            in_view: (B, N) bool.
            shape: (X, Y, Z) with X * Y * Z = N; voxels are in C order of it.
            gains: scale s -> (B, N), how many times a voxel takes the features of that scale beside the once that every voxel does (ISO's
                D-FLoSP); None: no more.

        Returns:
            (B, C, X, Y, Z): the sum over s of map_s at row v // s, column u // s, times 1 + gain_s; 0 out of view.

        Raises:
            InputError: pixels, in_view and shape do not belong together, or a pixel in view lies outside a map.
        """
        batch, voxels = in_view.shape
        if pixels.shape != (batch, voxels, 2) or voxels != shape[0] * shape[1] * shape[2]:
            raise InputError(
                f"FLoSP wants a pixel and a visibility for each of {shape[0]}x{shape[1]}x{shape[2]} voxels; "
                f"found pixels {tuple(pixels.shape)}, in_view {tuple(in_view.shape)}"
            )
        gains = gains or {}
        lifted = [self._lift({s: m[b] for s, m in pyramid.items()}, pixels[b], in_view[b], {s: g[b] for s, g in gains.items()}) for b in range(batch)]
        volume = lifted[0][None] if batch == 1 else torch.stack(lifted)  # a stack of one would be a copy
        return volume.unflatten(2, tuple(shape))

    @staticmethod
    def _lift(maps: Mapping[int, Tensor], pixels: Tensor, in_view: Tensor, gains: Mapping[int, Tensor]) -> Tensor:
        """(C, N) of one frame."""
        visible = in_view.nonzero()[:, 0]
        u, v = pixels[visible].unbind(1)
        if not maps:
            raise InputError("FLoSP wants at least one scale")
        _check_inside(maps, u, v)
        total: Tensor | None = None
        for scale, features in maps.items():
            width = features.shape[2]
            rows = _read(features, (v // scale) * width + u // scale)
            if scale in gains:
                rows = torch.addcmul(rows, rows, gains[scale][visible, None].to(rows.dtype))
            total = rows if total is None else total.add_(rows)
        assert total is not None
        return total.new_zeros(total.shape[1], in_view.numel()).index_copy_(1, visible, total.T)


def _read(features: Tensor, cells: Tensor) -> Tensor:
    """(n, C) what a map (C, h, w) holds at n cells of its flat order."""
    if features.is_contiguous() and not torch.is_grad_enabled():  # channel by channel, so that no second map is made
        return features.flatten(1).gather(1, cells.expand(len(features), -1)).T
    return features.permute(1, 2, 0).flatten(0, 1).index_select(0, cells)  # (h w, C): a voxel reads one contiguous row


def _check_inside(maps: Mapping[int, Tensor], u: Tensor, v: Tensor) -> None:
    if not u.numel():
        return
    last_column, last_row = (int(n) for n in torch.stack([u.max(), v.max()]).tolist())
    for scale, features in maps.items():
        height, width = features.shape[1:]
        if last_row // scale >= height or last_column // scale >= width:
            raise InputError(
                f"a voxel in view falls on pixel ({last_column}, {last_row}) or beyond, outside the {width}x{height} map of scale {scale}; "
                "were picture and camera resized alike?"
            )
