"""MonoScene's forward written plainly from its paper's and weights' description, under the released parameter names: the form ours is timed against.

No fusing, no slabs, no early freeing: what a careful reader of the paper would write first.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor


class PlainMonoScene:
    """The released graph over a state dict under released names, eval mode.

    Args:
        state: released names -> tensors.
        indoors: NYUv2's graph (60, 36, 60) instead of SemanticKITTI's (128, 128, 16) -> (256, 256, 32).
    """

    def __init__(self, state: dict[str, Tensor], indoors: bool = False) -> None:
        self.state, self.indoors = state, indoors

    # ---- small pieces ----
    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int | str = 0, groups: int = 1) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        if padding == "same":
            pads: list[int] = []
            for size, kernel in zip(reversed(x.shape[2:]), reversed(weight.shape[2:]), strict=True):
                total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                pads += [total // 2, total - total // 2]
            return F.conv2d(F.pad(x, pads), weight, bias, stride, 0, 1, groups)
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)

    def conv3(self, x: Tensor, name: str, stride: int | tuple = 1, padding: int | tuple = 0, dilation: int | tuple = 1) -> Tensor:
        return F.conv3d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, padding, dilation)

    def norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        s = self.state
        return F.batch_norm(x, s[f"{name}.running_mean"], s[f"{name}.running_var"], s[f"{name}.weight"], s[f"{name}.bias"], False, 0.1, eps)

    # ---- 2D ----
    def trunk(self, x: Tensor) -> list[Tensor]:
        p, eps = "net_rgb.encoder.original_model", 1e-3
        strides = (1, 2, 2, 2, 1, 2, 1)
        x = F.silu(self.norm(self.conv(x, f"{p}.conv_stem", 2, "same"), f"{p}.bn1", eps))
        taps = []
        for stage in range(7):
            blocks = len({m[1] for k in self.state if (m := re.match(rf"{re.escape(p)}\.blocks\.{stage}\.(\d+)\.", k))})
            for block in range(blocks):
                x = self.block(x, f"{p}.blocks.{stage}.{block}", strides[stage] if block == 0 else 1, eps)
            taps.append(x)
        return [taps[0], taps[1], taps[2], taps[4], self.conv(x, f"{p}.conv_head")]

    def block(self, x: Tensor, n: str, stride: int, eps: float) -> Tensor:
        kept, y = x, x
        expanded = f"{n}.conv_pwl.weight" in self.state
        if expanded:
            y = F.silu(self.norm(self.conv(y, f"{n}.conv_pw"), f"{n}.bn1", eps))
        kernel = self.state[f"{n}.conv_dw.weight"].shape[-1]
        y = self.conv(y, f"{n}.conv_dw", stride, "same" if stride > 1 else kernel // 2, y.shape[1])
        y = F.silu(self.norm(y, f"{n}.bn2" if expanded else f"{n}.bn1", eps))
        gate = self.conv(F.silu(self.conv(y.mean((2, 3), keepdim=True), f"{n}.se.conv_reduce")), f"{n}.se.conv_expand")
        y = y * torch.sigmoid(gate)
        y = self.norm(self.conv(y, f"{n}.conv_pwl" if expanded else f"{n}.conv_pw"), f"{n}.bn3" if expanded else f"{n}.bn2", eps)
        return y + kept if y.shape == kept.shape and stride == 1 else y

    def decoder(self, taps: list[Tensor]) -> dict[int, Tensor]:
        p = "net_rgb.decoder"
        x = self.conv(taps[-1], f"{p}.conv2", padding=1)
        maps = {}
        for scale, skip in zip((16, 8, 4, 2, 1), reversed(taps[:-1]), strict=True):
            x = torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=True), skip], 1)
            for layer in (0, 3):
                x = F.leaky_relu(self.norm(self.conv(x, f"{p}.up{scale}._net.{layer}", padding=1), f"{p}.up{scale}._net.{layer + 1}"), 0.01)
            maps[scale] = self.conv(x, f"{p}.resize_output_1_{scale}")
        return maps

    # ---- lift ----
    def lift(self, maps: dict[int, Tensor], pixels: Tensor, in_view: Tensor, shape: tuple[int, ...]) -> Tensor:
        volume: Tensor | None = None
        for scale in (1, 2, 4, 8):
            m = maps[scale]
            flat = torch.cat([m.flatten(2)[0], torch.zeros(m.shape[1], 1)], 1)
            index = (pixels[:, 1] // scale) * m.shape[3] + pixels[:, 0] // scale
            index = torch.where(in_view, index, flat.shape[1] - 1)
            lifted = torch.gather(flat, 1, index.expand(m.shape[1], -1)).reshape(1, m.shape[1], *shape)
            volume = lifted if volume is None else volume + lifted
        assert volume is not None
        return volume

    # ---- 3D ----
    def bottleneck(self, x: Tensor, n: str, stride: int = 1, dilation: int = 1) -> Tensor:
        s, d = stride, dilation
        o1 = F.relu(self.norm(self.conv3(x, f"{n}.conv1"), f"{n}.bn1"))
        o2 = self.norm(self.conv3(o1, f"{n}.conv2", (1, 1, s), (0, 0, d), (1, 1, d)), f"{n}.bn2")
        o3 = self.norm(self.conv3(F.relu(o2), f"{n}.conv3", (1, s, 1), (0, d, 0), (1, d, 1)), f"{n}.bn3")
        if s == 2:
            o2 = self.pooled(o2, f"{n}.downsample2", (1, 2, 1))
        o3 = o3 + o2
        o4 = self.norm(self.conv3(F.relu(o3), f"{n}.conv4", (s, 1, 1), (d, 0, 0), (d, 1, 1)), f"{n}.bn4")
        if s == 2:
            o2, o3 = self.pooled(o2, f"{n}.downsample3", (2, 1, 1)), self.pooled(o3, f"{n}.downsample4", (2, 1, 1))
        o5 = self.norm(self.conv3(F.relu(o4 + o2 + o3), f"{n}.conv5"), f"{n}.bn5")
        return F.relu(o5 + (self.pooled(x, f"{n}.downsample", 2) if s == 2 else x))

    def pooled(self, x: Tensor, n: str, kernel: int | tuple) -> Tensor:
        return self.norm(self.conv3(F.avg_pool3d(x, kernel, kernel), f"{n}.1"), f"{n}.2")

    def process(self, x: Tensor, n: str) -> Tensor:
        for i, dilation in enumerate((1, 2, 3)):
            x = self.bottleneck(x, f"{n}.main.{i}", dilation=dilation)
        return x

    def aspp(self, x: Tensor, n: str) -> Tensor:
        total: Tensor | int = 0
        for i, d in enumerate((1, 2, 3)):
            y = F.relu(self.norm(self.conv3(x, f"{n}conv1.{i}", 1, d, d), f"{n}bn1.{i}"))
            total = total + self.norm(self.conv3(y, f"{n}conv2.{i}", 1, d, d), f"{n}bn2.{i}")
        return F.relu(x + total)

    def context_prior(self, x: Tensor, n: str) -> Tensor:
        b, _, *size = x.shape
        a = self.aspp(x, f"{n}.aspp.")
        mega = self.conv3(a, f"{n}.mega_context.0", 2, tuple(1 - s % 2 for s in size)).flatten(2).transpose(1, 2)
        contexts = []
        for r in range(len({k.split(".")[3] for k in self.state if k.startswith(f"{n}.context_prior_logits.")})):
            logits = self.conv3(a, f"{n}.context_prior_logits.{r}.0").flatten(2)
            contexts.append(torch.bmm(torch.sigmoid(logits.transpose(1, 2)), mega))
        context = torch.cat(contexts, 2).transpose(1, 2).reshape(b, -1, *size)
        y = self.conv3(torch.cat([x, context], 1), f"{n}.resize.0")
        return self.bottleneck(y, f"{n}.resize.1.main.0")

    def up(self, x: Tensor, n: str) -> Tensor:
        s = self.state
        y = F.conv_transpose3d(x, s[f"{n}.main.0.weight"], s[f"{n}.main.0.bias"], 2, 1, 1)
        return F.relu(self.norm(y, f"{n}.main.1"))

    def head(self, x: Tensor, n: str) -> Tensor:
        return self.conv3(self.aspp(F.relu(self.conv3(x, f"{n}.conv0", 1, 1)), f"{n}."), f"{n}.conv_classes", 1, 1)

    def complete(self, x1: Tensor) -> Tensor:
        p = "net_3d_decoder"
        down = ("process_1_4", "process_1_8") if self.indoors else ("process_l1", "process_l2")
        ups = ("up_1_16_1_8", "up_1_8_1_4") if self.indoors else ("up_13_l2", "up_12_l1")
        x2 = self.bottleneck(self.process(x1, f"{p}.{down[0]}.0"), f"{p}.{down[0]}.1.main", 2)
        x3 = self.bottleneck(self.process(x2, f"{p}.{down[1]}.0"), f"{p}.{down[1]}.1.main", 2)
        x = self.context_prior(x3, f"{p}.CP_mega_voxels")
        x = self.up(self.up(x, f"{p}.{ups[0]}") + x2, f"{p}.{ups[1]}") + x1
        return self.head(x, f"{p}.ssc_head_1_4") if self.indoors else self.head(self.up(x, f"{p}.up_l1_lfull"), f"{p}.ssc_head")

    def __call__(self, picture: Tensor, pixels: Tensor, in_view: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Logits (1, K, X, Y, Z) of a normalised picture (1, 3, H, W) and one pixel table (N, 2), (N,)."""
        return self.complete(self.lift(self.decoder([picture, *self.trunk(picture)]), pixels, in_view, shape))
