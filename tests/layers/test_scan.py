"""The Scan Block against a slow version that follows the paper's text index by index."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wholescene.layers import scan
from wholescene.layers.scan import AxisCodes, Order, ScanBlock, margin_region, scan_mask

ORDERS: tuple[Order, ...] = ("first-to-last", "last-to-first", "centre-to-sides", "sides-to-centre")


def pseudocode_mask(axis: str, length: int) -> Tensor:
    """(L, L) bool, True = forbidden: the masks of algorithm G.1, built as it builds them."""
    if axis == "depth":
        mask = torch.triu(torch.ones(length, length), diagonal=1) == 1
        mask[:, : length // 2] = False
    elif axis == "width":
        mask = torch.tril(torch.ones(length // 2, length // 2), diagonal=-1) == 1
        mask = torch.cat((mask, mask.flip(-1)), -1)
        mask = torch.cat((mask, mask.flip(-2)), 0)
        mask[:, length // 4 : -(length // 4)] = False
    else:
        mask = torch.tril(torch.ones(length, length), diagonal=-1) == 1
    return mask


@pytest.mark.parametrize("length", [8, 16, 20])
def test_masks_are_those_of_the_pseudocode(length: int) -> None:
    assert torch.equal(~scan_mask(length, "first-to-last", 0.5), pseudocode_mask("depth", length))
    assert torch.equal(~scan_mask(length, "last-to-first", 0.0), pseudocode_mask("height", length))
    found = ~scan_mask(length, "centre-to-sides", 0.5)
    expected = pseudocode_mask("width", length)
    # the pseudocode forbids key < query in the left half: what lies nearer to the side
    assert torch.equal(found, expected)


def distance(position: int, length: int, order: Order) -> float:
    """How far a voxel lies along the scan, by the words of section 3.1: front to back, centre to side, high to low."""
    if order == "first-to-last":
        return position
    if order == "last-to-first":
        return length - 1 - position
    from_centre = abs(position - (length - 1) / 2)
    return from_centre if order == "centre-to-sides" else (length - 1) / 2 - from_centre


@pytest.mark.parametrize("length", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("margin", [0.0, 0.25, 0.5, 1.0])
def test_a_voxel_sees_what_is_not_farther_than_itself_and_the_margin(length: int, order: Order, margin: float) -> None:
    mask, region = scan_mask(length, order, margin), margin_region(length, order, margin)
    for query in range(length):
        for key in range(length):
            sees = distance(key, length, order) <= distance(query, length, order) or bool(region[key])
            assert mask[query, key] == sees
    assert mask.diagonal().all()
    inside = [distance(i, length, order) for i in range(length) if region[i]]
    outside = [distance(i, length, order) for i in range(length) if not region[i]]
    assert not inside or not outside or max(inside) < min(outside)  # the region is where the scan begins
    assert abs(len(inside) - margin * length) < (2 if "sides" in order else 1)  # from two sides positions come in pairs


def test_reversed_masks_let_near_voxels_see_far_ones() -> None:
    for order, other in (("first-to-last", "last-to-first"), ("centre-to-sides", "sides-to-centre")):
        assert torch.equal(scan_mask(6, order, 0.0) | scan_mask(6, other, 0.0), torch.ones(6, 6, dtype=torch.bool))  # type: ignore[arg-type]
    assert torch.equal(scan_mask(6, "last-to-first", 0.5), scan_mask(6, "first-to-last", 0.5).flip(0, 1))


def slow_linear(vector: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.stack([sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)])


def slow_block(block: ScanBlock, volume: Tensor, codes: Tensor | None, order: Order) -> Tensor:
    """Equation 3 voxel by voxel: each attends, head by head, to the voxels of its own line that are not farther, or in the margin."""
    line = volume.shape[2 + block.axis]
    width, heads = volume.shape[1], block.attention.heads
    size = width // heads
    region = margin_region(line, order, block.margin)
    out = []
    weight, bias = block.attention.in_proj.weight, block.attention.in_proj.bias
    for b in range(volume.shape[0]):
        for place in [(x, y, z) for x in range(volume.shape[2]) for y in range(volume.shape[3]) for z in range(volume.shape[4])]:
            here = place[block.axis]
            query, keys, values = None, [], []
            for i in range(line):
                at = tuple(i if a == block.axis else p for a, p in enumerate(place))
                vector = volume[(b, slice(None), *at)]
                normed = (vector - vector.mean()) / torch.sqrt(((vector - vector.mean()) ** 2).mean() + 1e-5) * block.norm1.weight + block.norm1.bias
                coded = normed if codes is None else normed + codes[at]
                if i == here:
                    query = slow_linear(coded, weight[:width], bias[:width])
                if distance(i, line, order) <= distance(here, line, order) or region[i]:
                    keys.append(slow_linear(coded, weight[width : 2 * width], bias[width : 2 * width]))
                    values.append(slow_linear(normed, weight[2 * width :], bias[2 * width :]))
            mixed = []
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                scores = torch.stack([(query[part] * key[part]).sum() / math.sqrt(size) for key in keys])
                shares = scores.exp() / scores.exp().sum()
                mixed.append(sum(share * value[part] for share, value in zip(shares, values, strict=True)))
            projected = slow_linear(torch.cat(mixed), block.attention.out_proj.weight, block.attention.out_proj.bias)
            vector = volume[(b, slice(None), *place)] + projected
            normed = (vector - vector.mean()) / torch.sqrt(((vector - vector.mean()) ** 2).mean() + 1e-5) * block.norm2.weight + block.norm2.bias
            hidden = slow_linear(normed, block.widen.weight, block.widen.bias).clamp(min=0)
            out.append(vector + slow_linear(hidden, block.narrow.weight, block.narrow.bias))
    return torch.stack(out).view(volume.shape[0], *volume.shape[2:], width).permute(0, 4, 1, 2, 3)


def made(axis: int, order: Order, margin: float) -> ScanBlock:
    torch.manual_seed(axis)
    block = ScanBlock(axis, 4, 6, 2, order=order, margin=margin).double().eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


@pytest.mark.parametrize(("axis", "order", "margin"), [(0, "first-to-last", 0.5), (1, "centre-to-sides", 0.5), (2, "last-to-first", 0.0)])
@pytest.mark.parametrize("coded", [False, True])
def test_a_block_is_the_slow_one_forward_and_backward_on_odd_volumes(axis: int, order: Order, margin: float, coded: bool) -> None:
    block = made(axis, order, margin)
    shape = (3, 2, 3) if axis else (5, 1, 2)
    codes = AxisCodes((2, 1), (7, 3), 4).double() if coded else None
    volume = torch.randn(1, 4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    table = None
    if codes is not None:
        table = torch.cat([codes.tables[0][: shape[2]].expand(*shape, 2), codes.tables[1][: shape[1], None].expand(*shape, 2)], -1)
    slow = slow_block(block, volume, table, order)
    fast = block(volume, codes)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    pull = torch.randn(slow.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = [volume, *block.parameters(), *([] if codes is None else codes.parameters())]
    for one, other in zip(torch.autograd.grad(fast, wanted, pull), torch.autograd.grad(slow, wanted, pull), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_parts_leave_the_numbers(axis: int) -> None:
    block, codes = made(axis, "first-to-last", 0.25), AxisCodes((2, 1, 0), (5, 4, 3), 4).double()
    volume = torch.randn(2, 4, 3, 4, 5, dtype=torch.float64)
    whole = block(volume, codes)
    block.part = 11
    with torch.no_grad():
        torch.testing.assert_close(block(volume, codes), whole.detach())


def test_no_far_voxel_moves_a_near_one_without_a_margin() -> None:
    block = made(0, "first-to-last", 0.0)
    volume = torch.randn(1, 4, 6, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moved = volume.clone()
    moved[:, 0, 4] += 1  # one channel: the layer norm would take back what moves all of them alike
    changed = (block(volume) - block(moved)).abs().amax((0, 1, 3, 4)) > 1e-6
    assert changed.tolist() == [False] * 4 + [True] * 2


def test_many_sequences_go_through_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block, volume = ScanBlock(2, 8, 16, 2).eval(), torch.randn(2, 8, 3, 4, 5, requires_grad=True)
    whole = block(volume)
    slope = torch.autograd.grad(whole.square().sum(), volume)[0]
    monkeypatch.setattr(scan, "_MOST_SEQUENCES", 7)
    parts = block(volume)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), volume)[0], slope)
