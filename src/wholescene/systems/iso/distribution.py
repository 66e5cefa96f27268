"""ISO's depth branch: how likely each depth is at each pixel, from the picture's features, a metric depth map, and the focal length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholescene.layers.camera_gate import CameraGate
from wholescene.layers.checkpoint import run
from wholescene.layers.residual import ResidualBlock
from wholescene.layers.slabs import convolve, convolve_whole, each, may_stream

BLOCKS = 3
_BAND = 4 * 640 * 256  # numbers in a band of one map
_CELLS = 2**12  # pixels at a time


class DepthDistribution(nn.Module):
    """Convolution, gates from the camera, residual blocks, 1x1 convolution to the bins, softmax over them; all at the picture's size.

    Attributes:
        band: rows a band in eval without gradients; 0: as many as a CPU's cache holds (the branch's maps take 0.3 GB each at 640 x 480, a band of
            four rows 3 MB; small maps are one band); None: whole maps.
    """

    def __init__(self, features: int, width: int, bins: int, *, band: int | None = 0, activation_checkpointing: bool = False) -> None:
        """
        Args:
            features: channels of the picture's finest map.
            width: channels inside.
            bins: of depth.
            band: see above.
            activation_checkpointing: of the convolutions.
        """
        super().__init__()
        self.band, self.activation_checkpointing = band, activation_checkpointing
        self.reduce = nn.Sequential(nn.Conv2d(features + 1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.gate = CameraGate(1, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, width) for _ in range(BLOCKS))
        self.predict = nn.Conv2d(width, bins, 1)

    def forward(self, features: Tensor, depth: Tensor, camera: Tensor) -> Tensor:
        """
        Args:
            features: (B, C, H, W).
            depth: (B, H, W) metres, 0 where unknown.
            camera: (B, 1), see `focal_number`.

        Returns:
            (B, bins, H, W) probabilities.
        """
        conv, norm, activation = self.reduce
        joined = torch.cat([features, depth[:, None].to(features.dtype)], 1)
        inner = activation(norm(convolve_whole(conv, joined)))  # type: ignore[arg-type]  # a Conv2d
        del joined
        inner = self.gate(inner, camera)
        for block in self.blocks:
            inner = run(block, inner, recompute=self.activation_checkpointing)
        return self._probabilities(inner)

    def streams(self, features: Tensor) -> bool:
        """Whether `at` works in bands here."""
        return self.band is not None and may_stream(self, features)

    def at(self, features: Tensor, depth: Tensor, camera: Tensor, sample: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The probabilities at some pixels alone, in bands of rows; eval without gradients only.

        Args:
            features, depth, camera: as for the whole.
            sample, row, column: (n,) int64, the pixels.

        Returns:
            (n, bins).
        """
        if not len(sample):  # nothing in view within the last bin
            return features.new_zeros(0, self.predict.out_channels, dtype=torch.promote_types(features.dtype, torch.float32))
        conv, norm, activation = self.reduce
        gates, rows = self.gate.gates(camera), self.band or max(1, _BAND // (self.predict.in_channels * features.shape[3]))
        joined = (
            torch.cat([features[:, :, start : start + rows], depth[:, None, start : start + rows].to(features.dtype)], 1)
            for start in range(0, features.shape[2], rows)
        )
        inner = each(lambda x: activation(norm(x)).mul_(gates), convolve(conv, joined))  # type: ignore[arg-type]  # a Conv2d
        *others, last = self.blocks
        for block in others:
            inner = block.stream(inner)  # type: ignore[operator]  # a ResidualBlock
        found: Tensor = last.at(inner, sample, row, column)  # type: ignore[operator]
        return torch.cat([self._probabilities(part.T[None, :, :, None])[0, :, :, 0].T for part in found.split(_CELLS)])

    def _probabilities(self, inner: Tensor) -> Tensor:
        """Softmax in float32 at least, whatever autocast says: a voxel reads one bin of many."""
        logits = self.predict(inner)
        return torch.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 1)


def focal_number(fx: float, fy: float) -> float:
    """The one number that tells the branch how the camera is built: 1000 times the length of (1 / fx, 1 / fy), in 1 / pixels.

    >>> round(focal_number(518.8579, 518.8579), 5)
    2.72563
    """
    return 1000 * float((1 / fx**2 + 1 / fy**2) ** 0.5)
