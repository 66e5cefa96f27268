"""The metric depth network inside ISO: its bins head against a slow loop and the installed library, its sizes, and what a pixel stays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.camera import Camera
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.grid import semantic_kitti_grid
from wholescene.structures import Frame, View
from wholescene.systems.iso.metric_bins import ATTRACTORS, MetricBins, binomial
from wholescene.systems.iso.metric_depth import MetricDepth, fitted_size

BINS = 12


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for p in module.parameters():
        p.data.normal_(0, 0.4)
    return module.double()


def maps() -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    torch.manual_seed(1)
    sizes = [(16, 24), (8, 12), (4, 6), (4, 6)]
    deepest = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    fused = [torch.randn(2, 6, *size, dtype=torch.float64) for size in sizes]
    return deepest, fused, torch.rand(2, 3, 20, 30, dtype=torch.float64), torch.rand(2, 1, 20, 30, dtype=torch.float64)


@torch.inference_mode()
def slowly(head: MetricBins, deepest: Tensor, fused: list[Tensor], last: Tensor, relative: Tensor, pixel: tuple[int, int, int]) -> float:
    """One pixel of the answer, bin by bin, from the facts; maps are resized whole, as what is compared is not the resize."""

    def resized(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)

    def soft(x: float) -> float:
        return math.log1p(math.exp(x))

    def dense(layer: nn.Module, values: list[float]) -> list[float]:
        weight, bias = layer.weight[:, :, 0, 0].tolist(), layer.bias.tolist()
        return [sum(w * v for w, v in zip(row, values, strict=True)) + b for row, b in zip(weight, bias, strict=True)]

    def everywhere(layers: nn.Sequential, x: Tensor, ends: bool) -> Tensor:
        out = torch.zeros(len(x), layers[2].out_channels, *x.shape[2:], dtype=x.dtype)
        for b, i, j in np.ndindex(len(x), *x.shape[2:]):
            inner = [max(0.0, v) for v in dense(layers[0], x[b, :, i, j].tolist())]
            found = dense(layers[2], inner)
            out[b, :, i, j] = torch.tensor([soft(v) for v in found] if ends else found)
        return out

    start = torch.einsum("oc,bchw->bohw", head.bottleneck.weight[:, :, 0, 0], deepest) + head.bottleneck.bias[:, None, None]
    centres, before = everywhere(head.seed_bins, start, True), everywhere(head.seed_embedding, start, False)
    for index, count in enumerate(ATTRACTORS):
        level = fused[3 - index]
        embedding = everywhere(head.projectors[index], level, False)
        attractors = everywhere(head.attractors[index], embedding + resized(before, level), True)
        centres = resized(centres, level)
        moved = centres.clone()
        for b, k, i, j in np.ndindex(*centres.shape):
            gaps = [float(attractors[b, n, i, j] - centres[b, k, i, j]) for n in range(count)]
            moved[b, k, i, j] += sum(gap / (1 + 300 * gap**2) for gap in gaps) / count
        centres, before = moved, embedding
    b, i, j = pixel
    joined = [*last[b, :, i, j].tolist(), *relative[b, :, i, j].tolist(), *resized(before, last)[b, :, i, j].tolist()]
    inner = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in dense(head.binomial[0], joined)]
    one, other, hot, cold = (soft(v) + 1e-4 for v in dense(head.binomial[2], inner))
    p, t = one / (one + other), 0.0212 + (50 - 0.0212) * hot / (hot + cold)

    def entropy(x: float) -> float:
        return x * math.log(x) if x > 0 else 0.0

    n = BINS - 1
    ways = [entropy(n) - entropy(k) - entropy(n - k) for k in range(BINS)]  # Stirling's formula
    scores = [w + k * math.log(max(p, 1e-4)) + (n - k) * math.log(max(1 - p, 1e-4)) for k, w in enumerate(ways)]
    shares = [math.exp((s - max(scores)) / t) for s in scores]
    places = resized(centres, last)[b, :, i, j].tolist()
    return sum(s * c for s, c in zip(shares, places, strict=True)) / sum(shares)


def test_the_bins_head_is_the_slow_loop() -> None:
    head, given = randomised(MetricBins(6, 3, embedding=5, bins=BINS)), maps()
    with torch.inference_mode():
        found = head(*given)
    assert found.shape == (2, 20, 30)
    for pixel in ((0, 0, 0), (0, 7, 13), (1, 19, 29)):
        assert float(found[pixel]) == pytest.approx(slowly(head, *given, pixel), rel=1e-5)  # type: ignore[arg-type]  # Stirling's epsilon


def test_the_bins_head_is_that_of_the_installed_library() -> None:
    library = pytest.importorskip("transformers.models.zoedepth.modeling_zoedepth")
    config = library.ZoeDepthConfig(
        backbone_config=None, bottleneck_features=6, fusion_hidden_size=6, bin_embedding_dim=128, num_attractors=list(ATTRACTORS),
        bin_configurations=[{"n_bins": BINS, "min_depth": 1e-3, "max_depth": 10.0}], bin_centers_type="softplus", num_relative_features=3,
        attractor_kind="mean",
    )  # fmt: skip
    theirs = library.ZoeDepthMetricDepthEstimationHead(config).double()
    # the library's seed is 256 wide inside and its projectors 128; ours follows the maps, so both are made alike here
    theirs.seed_bin_regressor.conv1, theirs.seed_bin_regressor.conv2 = nn.Conv2d(6, 6, 1).double(), nn.Conv2d(6, BINS, 1).double()
    head = randomised(MetricBins(6, 3, embedding=128, bins=BINS))
    pairs = [(theirs.conv2, head.bottleneck), (theirs.conditional_log_binomial.mlp, head.binomial)]
    twos = [(theirs.seed_bin_regressor, head.seed_bins), (theirs.seed_projector, head.seed_embedding)]
    twos += [*zip(theirs.projectors, head.projectors, strict=True), *zip(theirs.attractors, head.attractors, strict=True)]
    pairs += [pair for one, own in twos for pair in ((one.conv1, own[0]), (one.conv2, own[2]))]
    for one, own in pairs:
        one.load_state_dict(own.state_dict(), strict=True)
    deepest, fused, last, relative = maps()
    with torch.inference_mode():
        expected = theirs(last, deepest, fused[::-1], relative[:, 0])[0][:, 0]
        # the library counts the ways in float32, and a low temperature makes fifty times of its rounding
        assert (head(deepest, fused, last, relative) - expected).abs().max() <= 3e-5 * expected.abs().max()


def test_the_binomial_is_a_distribution_whose_mean_grows_with_success() -> None:
    shares = [binomial(torch.full((1, 1, 1, 1), p), torch.ones(1, 1, 1, 1), 64)[0, :, 0, 0] for p in (0.0, 0.2, 0.8, 1.0)]
    means = [float((s * torch.arange(64)).sum()) for s in shares]
    assert all(float(s.sum()) == pytest.approx(1) for s in shares)
    assert means == sorted(means)
    assert means[1] == pytest.approx(0.2 * 63, abs=0.5)


@pytest.mark.parametrize(
    ("size", "expected"), [((572, 746), (392, 518)), ((746, 572), (672, 518)), ((98, 130), (392, 518)), ((600, 2000), (392, 1302))]
)
def test_a_picture_is_scaled_by_the_edge_whose_scale_is_nearer_to_one(size: tuple[int, int], expected: tuple[int, int]) -> None:
    rows, columns = fitted_size(*size)
    assert rows % 14 == columns % 14 == 0
    assert (rows, columns) == expected


def test_the_released_network_has_the_released_parts() -> None:
    with torch.device("meta"):
        network = MetricDepth("vit_large_patch14_dinov2")
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert counts["trunk"] == 304_368_640 - 1024  # less the mask token, which no picture needs
    dead = 2 * (256 * 256 * 9 + 256)  # a residual unit of the deepest fusion, which has nothing to be added to
    assert counts["decoder"] + counts["narrow"] + counts["last"] + counts["relative"] == 30_947_009 - dead
    assert counts["metric"] == 478_145
    assert not any(p.requires_grad for p in network.parameters())


def test_it_is_frozen_and_answers_at_the_pictures_own_size() -> None:
    torch.manual_seed(0)
    network = MetricDepth("tiny").train()
    with pytest.raises(InputError, match="fresh weights and is never trained"):
        network.predict(np.zeros((64, 96, 3), np.uint8))
    network.load_state_dict(network.state_dict())
    assert not any(module.training for module in network.modules())
    rng = np.random.default_rng(0)
    sizes = [(96, 64), (70, 52)]
    pictures = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
    frames = [
        Frame(str(i), {"main": View(p, Camera.from_fov(70, size).on_ground(1.5))}, semantic_kitti_grid())
        for i, (p, size) in enumerate(zip(pictures, sizes, strict=True))
    ]
    depth = network.of_batch(collate(frames))
    assert depth.shape == (2, 64, 96)
    for index, (picture, (w, h)) in enumerate(zip(pictures, sizes, strict=True)):
        alone = network.predict(picture)
        assert alone.dtype == np.float32
        assert alone.shape == (h, w)
        assert np.allclose(depth[index, :h, :w].numpy(), alone, rtol=1e-5)
    assert float(depth[1, 52:].abs().max()) == 0
