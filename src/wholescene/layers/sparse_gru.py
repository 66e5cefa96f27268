"""Masked sparse GRU (MonoMRN, "MS-GRU"): a convolutional GRU whose gates and candidate exist on active voxels only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wholescene.ops.neighbours import Links
from wholescene.ops.sparse_conv import Form, SparseConv3d


class MaskedSparseGRU(nn.Module):
    """z, r = sigmoid(W_zr * [h, x]); q = tanh(W_q * [r h, x]); h' = (1 - z) h + z q, on the active voxels alone.

    z is the update gate, r the reset gate. Elsewhere h' is h, bit by bit, without computation and without gradient to the weights; inactive
    neighbours count as zero. All three convolutions of a step share one table. z multiplies the new value (the
    opposite of `torch.nn.GRU`); its bias begins at -1, close to keeping h.
    """

    def __init__(self, width: int, inputs: int, kernel: int = 3, form: Form = "auto") -> None:
        """
        Args:
            width: channels of the state h.
            inputs: channels of x; 0 for none.
            kernel: odd extent of the convolutions.
            form: of the sparse convolution; "dense": by masked dense convolutions.
        """
        super().__init__()
        self.width = width
        self.conv_zr = SparseConv3d(width + inputs, 2 * width, kernel, form)
        self.conv_q = SparseConv3d(width + inputs, width, kernel, form)
        for conv in (self.conv_zr, self.conv_q):
            nn.init.zeros_(conv.bias)
        nn.init.constant_(self.conv_zr.bias[:width], -1.0)

    def forward(self, state: Tensor, inputs: Tensor, active: Tensor, links: Links) -> Tensor:
        """One step.

        Args:
            state: (N, width), one row a voxel, active or not.
            inputs: (n, C) x of the active ones.
            active: (n,) int64, their rows in `state`.
            links: (n rows to n rows) the table of the convolutions.

        Returns:
            (N, width), the next state.
        """
        moved = self.gates(state.index_select(0, active), inputs, links)
        return state.index_copy(0, active, moved["h"].to(state.dtype))

    def gates(self, h: Tensor, inputs: Tensor, links: Links) -> dict[str, Tensor]:
        """z, r, q and the next h, (n, width) each, of the active voxels' h (n, width)."""
        inputs = inputs.to(h.dtype)
        z, r = torch.sigmoid(self.conv_zr(torch.cat([h, inputs], 1), links)).chunk(2, 1)
        q = torch.tanh(self.conv_q(torch.cat([r * h, inputs], 1), links))
        return {"z": z, "r": r, "q": q, "h": (1 - z) * h + z * q}
