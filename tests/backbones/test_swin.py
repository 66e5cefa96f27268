"""Swin's windows, shifts and orders, cell by cell; its numbers at full size are held by CGFormer's parity cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wholescene.backbones.swin import Block, PatchEmbed, PatchMerging, Swin
from wholescene.errors import InputError


def test_swin_tiny_has_the_published_size_and_names() -> None:
    with torch.device("meta"):
        trunk = Swin(3)
    norms = sum(p.numel() for p in trunk.norms.parameters())
    assert sum(p.numel() for p in trunk.parameters()) - norms == 27_519_354 - 2 * 768  # timm's without head, less its last norm
    shapes = {name: tuple(t.shape) for name, t in trunk.state_dict().items()}
    assert shapes["patch_embed.proj.weight"] == (96, 3, 4, 4)
    assert shapes["layers.2.blocks.5.attn.relative_position_bias_table"] == (169, 12)
    assert shapes["layers.1.downsample.reduction.weight"] == (192, 384)
    assert "layers.0.downsample.norm.weight" not in shapes


def block_of(*, shifted: bool, small_shift: bool = False) -> Block:
    torch.manual_seed(0)
    block = Block(4, 2, 3, shifted=shifted, drop_path=0.0, small_shift=small_shift).double().eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


def slow_attention(block: Block, cells: Tensor, shift: tuple[int, int]) -> Tensor:
    """Window by window after rolling the padded map: a cell attends to those of its window that its own map side holds. (h, w, C) to the same."""
    height, width, channels = cells.shape
    window, heads = block.window, block.attn.heads
    size = [-(-n // window) * window for n in (height, width)]
    out = torch.zeros_like(cells)

    def place(index: int, axis: int) -> tuple[int, int, int]:
        """Window, place inside of it, side of the map, of a cell along one axis."""
        rolled = (index - shift[axis]) % size[axis]
        side = 0 if not shift[axis] or rolled < size[axis] - window else 1 if rolled < size[axis] - shift[axis] else 2
        return rolled // window, rolled % window, side

    def normed(r: int, c: int) -> Tensor:
        return block.norm1(cells[r, c]) if r < height and c < width else torch.zeros(channels, dtype=cells.dtype)

    for r in range(height):
        for c in range(width):
            own = place(r, 0), place(c, 1)
            query = block.attn.qkv(normed(r, c))[:channels].view(heads, -1)
            scores, values = [], []
            for i in range(size[0]):
                for j in range(size[1]):
                    other = place(i, 0), place(j, 1)
                    if (own[0][0], own[1][0], own[0][2], own[1][2]) != (other[0][0], other[1][0], other[0][2], other[1][2]):
                        continue
                    _, key, value = block.attn.qkv(normed(i, j)).view(3, heads, -1)
                    row = (own[0][1] - other[0][1] + window - 1) * (2 * window - 1) + own[1][1] - other[1][1] + window - 1
                    scores.append((query * key).sum(-1) / query.shape[-1] ** 0.5 + block.attn.relative_position_bias_table[row])
                    values.append(value)
            shares = torch.stack(scores).softmax(0)
            out[r, c] = block.attn.proj((shares[..., None] * torch.stack(values)).sum(0).flatten())
    return out


@pytest.mark.parametrize(("size", "shifted", "small_shift", "shift"), [
    ((6, 6), False, False, (0, 0)),
    ((7, 5), False, False, (0, 0)),
    ((7, 5), True, False, (1, 1)),
    ((8, 3), True, False, (1, 0)),
    ((8, 3), True, True, (1, 1)),
    ((2, 2), True, True, (1, 1)),
])  # fmt: skip
def test_a_block_attends_within_windows(size: tuple[int, int], shifted: bool, small_shift: bool, shift: tuple[int, int]) -> None:
    block = block_of(shifted=shifted, small_shift=small_shift)
    cells = torch.randn(*size, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = cells + slow_attention(block, cells, shift)
        expected = expected + block.mlp(block.norm2(expected))
        torch.testing.assert_close(block(cells[None])[0], expected)


def test_merging_lays_the_four_cells_of_a_channel_side_by_side() -> None:
    merge = PatchMerging(2).double()
    cells = torch.randn(1, 3, 4, 2, dtype=torch.float64)  # an odd side is padded with zeros
    out = merge(cells)
    assert out.shape == (1, 2, 2, 4)
    four = torch.zeros(8, dtype=torch.float64)
    four[[0, 4]], four[[1, 5]] = cells[0, 2, 2], cells[0, 2, 3]
    torch.testing.assert_close(out[0, 1, 1], merge.reduction(merge.norm(four)))


def test_a_stride_of_one_keeps_the_size_with_zeros_after_the_map() -> None:
    embed = PatchEmbed(2, 3, 4, 1)
    embed.norm = torch.nn.Identity()  # type: ignore[assignment]
    maps = torch.randn(1, 2, 5, 6)
    out = embed(maps)
    assert out.shape == (1, 5, 6, 3)
    expected = (maps[0, :, 4, 5] * embed.proj.weight[:, :, 0, 0]).sum(1) + embed.proj.bias
    torch.testing.assert_close(out[0, 4, 5], expected)


def tiny(**more: bool) -> Swin:
    torch.manual_seed(0)
    return Swin(3, 8, (1, 2), (1, 2), window=3, taps=(0, 1), **more)


@pytest.mark.parametrize("original", [False, True])
def test_timm_files_load_in_our_order(original: bool) -> None:
    theirs, ours = tiny(), tiny()
    state = {name: torch.randn_like(t) for name, t in theirs.state_dict().items() if not name.startswith("norms.")}
    theirs.load_timm(state)
    merging = theirs.layers[1].downsample
    cells = torch.randn(1, 2, 2, 8)
    four = torch.cat([cells[:, 0::2, 0::2], cells[:, 1::2, 0::2], cells[:, 0::2, 1::2], cells[:, 1::2, 1::2]], -1)  # as Swin's authors merge
    scaled = torch.nn.functional.layer_norm(four, (32,), state["layers.1.downsample.norm.weight"], state["layers.1.downsample.norm.bias"])
    torch.testing.assert_close(merging(cells), scaled @ state["layers.1.downsample.reduction.weight"].T, rtol=1e-4, atol=1e-4)
    file = {**state, "head.weight": torch.zeros(2)}
    if original:
        file = {name.replace("layers.1.downsample", "layers.0.downsample"): t for name, t in file.items()}
    assert "head.weight" in ours.load_timm(file)
    assert torch.equal(ours.layers[1].downsample.reduction.weight, merging.reduction.weight)
    with pytest.raises(InputError, match="do not fit the trunk"):
        ours.load_timm({name: t for name, t in file.items() if "qkv" not in name})


def test_a_patch_embedding_of_other_channels_is_left() -> None:
    state = tiny().state_dict()
    other = Swin(5, 8, (1, 2), (1, 2), window=3, taps=(0, 1))
    before = other.patch_embed.proj.weight.clone()
    other.load_timm({name: t for name, t in state.items() if not name.startswith("norms.")})
    assert torch.equal(other.patch_embed.proj.weight, before)
    assert torch.equal(other.layers[0].blocks[0].attn.qkv.weight, state["layers.0.blocks.0.attn.qkv.weight"])


def test_numbers_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="as many heads as stages"):
        Swin(3, 8, (1, 1), (3, 2))
