"""DINOv2's trunk: against the installed library's with the same weights, sizes, names, positions on other grids, and what a pixel stays."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.backbones.vit import VARIANTS, ViT, stretched_to_patches, taps_of
from wholescene.errors import InputError


def randomised(variant: str = "tiny", **more: object) -> ViT:
    torch.manual_seed(0)
    trunk = ViT(variant, **more)  # type: ignore[arg-type]
    for p in trunk.parameters():
        p.data.normal_(0, 0.2)
    return trunk.double().eval()


def under_their_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict as the library names it."""
    parts = {"attn.proj": "attention.o_proj", "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}
    named = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.mask_token": torch.zeros(1, state["cls_token"].shape[2]),
    }
    for name, tensor in state.items():
        if name.startswith("patch_embed.proj"):
            named[name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")] = tensor
        elif name.startswith("norm."):
            named[f"layernorm.{name.removeprefix('norm.')}"] = tensor
        elif ".attn.qkv." in name:
            for one, part in zip("qkv", tensor.chunk(3), strict=True):
                named[name.replace("blocks", "encoder.layer").replace("attn.qkv", f"attention.{one}_proj")] = part
        elif name.startswith("blocks."):
            for ours, theirs in parts.items():
                name = name.replace(ours, theirs)
            named[name.replace("blocks", "encoder.layer")] = tensor
    return named


def test_every_tap_is_that_of_the_installed_library_with_the_same_weights() -> None:
    library = pytest.importorskip("transformers", minversion="5.0")
    rules = VARIANTS["tiny"]
    config = library.Dinov2Config(
        hidden_size=rules.width, num_hidden_layers=rules.depth, num_attention_heads=rules.heads, image_size=rules.table * rules.patch,
        patch_size=rules.patch, mlp_ratio=4, attn_implementation="eager",
    )  # fmt: skip
    trunk = randomised()
    other = library.Dinov2Model(config).double().eval()
    other.load_state_dict(under_their_names(trunk.state_dict()), strict=True)
    for size in ((70, 70), (42, 98)):  # the table's own grid, and another
        picture = torch.randn(2, 3, *size, dtype=torch.float64)
        with torch.inference_mode():
            hidden = other(picture, output_hidden_states=True).hidden_states[1:]
            for tap, ours in zip(trunk.taps, trunk(picture), strict=True):
                theirs = other.layernorm(hidden[tap])[:, 1:].transpose(1, 2).reshape(ours.shape)
                # the library resizes positions in float32
                assert (ours - theirs).abs().max() <= (1e-12 if size == (70, 70) else 1e-5) * theirs.abs().max()


# as its authors wrote the files: with a mask token, which no picture needs and the trunk does not have
PUBLISHED = {"vit_small_patch14_dinov2": 22_056_576, "vit_base_patch14_dinov2": 86_580_480, "vit_large_patch14_dinov2": 304_368_640}


@pytest.mark.parametrize("variant", PUBLISHED)
def test_the_published_sizes_and_names_of_timm(variant: str) -> None:
    with torch.device("meta"):
        trunk = ViT(variant)
    assert sum(p.numel() for p in trunk.parameters()) == PUBLISHED[variant] - trunk.width
    names = {"cls_token", "pos_embed", "patch_embed.proj.bias", "blocks.1.attn.qkv.weight", "blocks.0.ls2.gamma", "norm.bias"}
    assert names <= set(trunk.state_dict())
    assert taps_of(variant) == ((5, 11, 17, 23) if "large" in variant else (2, 5, 8, 11))


def test_a_trunk_ends_at_its_last_tap_and_loads_a_whole_file() -> None:
    whole, part = randomised(), ViT("tiny", (0, 1)).double()
    left = part.load_timm({**whole.state_dict(), "mask_token": torch.zeros(1, 32)})
    assert "mask_token" in left
    assert all(name == "mask_token" or name.startswith(("blocks.2.", "blocks.3.")) for name in left)
    assert len(part.blocks) == 2
    picture = torch.randn(1, 3, 28, 42, dtype=torch.float64)
    whole.taps = (0, 1)
    assert all(torch.equal(a, b) for a, b in zip(part.eval()(picture), whole(picture), strict=True))
    with pytest.raises(InputError, match="use a timm state dict"):
        part.load_timm({"cls_token": torch.zeros(1, 1, 32)})


@pytest.mark.parametrize("taps", [(), (1, 0), (0, 0), (4,), (-1,)])
def test_taps_that_are_not_there_or_out_of_order_are_refused(taps: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="blocks 0 to 3"):
        ViT("tiny", taps)


def test_an_unknown_variant_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="vit_base_patch14_dinov2"):
        ViT("vit_base_patch16_dinov2")


def keys(x: float) -> float:
    """Keys' cubic kernel with a = -0.75, as the library resizes pictures."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


@pytest.mark.parametrize("positions", ["size", "released"])
def test_positions_on_another_grid_are_the_tables_read_bicubically(positions: str) -> None:
    """A slow loop; as released, the grid is taken to be 0.1 patches larger than it is."""
    trunk = randomised(positions=positions)
    table, grid = trunk.pos_embed[0, 1:].unflatten(0, (5, 5)), (3, 7)
    found = trunk.positions_on(grid)[0, 1:].unflatten(0, grid)
    extra = 0.1 if positions == "released" else 0.0

    def read(index: int, count: int) -> list[tuple[int, float]]:
        centre = (index + 0.5) * 5 / (count + extra) - 0.5
        near = math.floor(centre)
        return [(min(max(near + step, 0), 4), keys(centre - near - step)) for step in (-1, 0, 1, 2)]

    for row in range(3):
        for column in range(7):
            slow = sum(a * b * table[i, j] for i, a in read(row, 3) for j, b in read(column, 7))
            assert torch.allclose(found[row, column], slow, atol=1e-9)  # type: ignore[arg-type]
    assert torch.equal(trunk.positions_on(grid)[0, 0], trunk.pos_embed[0, 0])


def test_a_picture_of_broken_patches_is_refused_and_a_stretched_one_keeps_its_shares() -> None:
    trunk = randomised()
    picture = torch.rand(1, 3, 48, 64, dtype=torch.float64)
    with pytest.raises(InputError, match="64x48 pixels is not made of whole 14x14 patches"):
        trunk(picture)
    stretched = stretched_to_patches(picture)
    assert stretched.shape == (1, 3, 56, 70)
    assert trunk(stretched)[0].shape == (1, 32, 4, 5)
    assert stretched_to_patches(stretched) is stretched
    # a ramp over the picture's shares stays that ramp, but at the border where there is nothing to interpolate with
    ramp = ((torch.arange(64, dtype=torch.float64) + 0.5) / 64).expand(1, 1, 48, 64)
    again = stretched_to_patches(ramp)[0, 0, 0]
    assert torch.allclose(again[1:-1], ((torch.arange(70, dtype=torch.float64) + 0.5) / 70)[1:-1])


def test_activation_checkpointing_changes_no_gradient() -> None:
    picture, grads = torch.randn(1, 3, 28, 42, dtype=torch.float64), []
    for recompute in (False, True):
        trunk = randomised(activation_checkpointing=recompute)
        sum(m.square().sum() for m in trunk(picture)).backward()  # type: ignore[union-attr]
        grads.append([p.grad for p in trunk.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert all(g is not None and bool(g.abs().sum() > 0) for g in grads[0])


def test_attention_is_softmax_of_scaled_products() -> None:
    attention = randomised().blocks[0].attn
    tokens = torch.randn(1, 6, 32, dtype=torch.float64)
    q, k, v = (part.unflatten(2, (2, 16)).transpose(1, 2) for part in F.linear(tokens, attention.qkv.weight, attention.qkv.bias).chunk(3, 2))
    slow = (torch.softmax(q @ k.transpose(2, 3) / 4, -1) @ v).transpose(1, 2).flatten(2)
    assert torch.allclose(attention(tokens), attention.proj(slow))
