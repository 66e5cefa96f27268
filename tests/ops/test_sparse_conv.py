"""Sparse convolution: every form is the masked dense one, forward and every gradient, whatever the mask, the kernel and the order of rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.ops import sparse_conv as op
from wholescene.ops.neighbours import Links, links_between, links_of_mask, links_of_places
from wholescene.ops.sparse_conv import SparseConv3d, choose, reference, sparse_conv

FAST = ("pairs", "gather")
Kernel = tuple[int, int, int]
KERNELS: list[tuple[Kernel, int]] = [((3, 3, 3), 1), ((1, 1, 1), 1), ((3, 1, 5), 1), ((3, 3, 3), 2)]


def masks() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    one = torch.zeros(2, 5, 4, 6, dtype=torch.bool)
    one[1, 2, 3, 1] = True
    return {
        "random": torch.rand(2, 5, 4, 6, generator=random) < 0.3,
        "empty": torch.zeros(2, 5, 4, 6, dtype=torch.bool),
        "full": torch.ones(2, 5, 4, 6, dtype=torch.bool),
        "one voxel": one,
        "an item without any": torch.stack([torch.zeros(5, 4, 6, dtype=torch.bool), torch.rand(5, 4, 6, generator=random) < 0.5]),
    }


def given(mask: Tensor, kernel: Kernel = (3, 3, 3), kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    shapes = ((int(mask.sum()), 3), (4, 3, *kernel), (4,))
    x, w, b = (torch.randn(shape, dtype=kind, generator=random).requires_grad_() for shape in shapes)
    return x, w, b


def masked_dense(features: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, dilation: int) -> Tensor:
    """Written out by places, without a table and without torch's convolution."""
    volume = {tuple(place): features[i] for i, place in enumerate(mask.nonzero().tolist())}
    made = []
    for b, x, y, z in mask.nonzero().tolist():
        total = bias.clone()
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                for k in range(weight.shape[4]):
                    step = [dilation * (n - s // 2) for n, s in zip((i, j, k), weight.shape[2:], strict=True)]
                    near = volume.get((b, x + step[0], y + step[1], z + step[2]))
                    if near is not None:
                        total = total + weight[:, :, i, j, k] @ near
        made.append(total)
    return torch.stack(made) if made else features.new_zeros(0, len(bias))


@pytest.mark.parametrize(("kernel", "dilation"), KERNELS)
def test_the_reference_is_the_definition(kernel: Kernel, dilation: int) -> None:
    mask = masks()["random"]
    inputs = given(mask, kernel)
    expected = masked_dense(*inputs, mask, dilation)
    torch.testing.assert_close(reference(*inputs, links_of_mask(mask, kernel, dilation)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize(("kernel", "dilation"), KERNELS)
def test_every_form_is_the_masked_dense_convolution_with_every_gradient(
    name: str, kernel: Kernel, dilation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(op, "_ROWS", 7)  # several blocks, the last one shorter
    monkeypatch.setattr(op, "_PAIRS", 5)
    mask = masks()[name]
    inputs = given(mask, kernel)
    links = links_of_mask(mask, kernel, dilation)
    expected = reference(*inputs, links)
    to_out = torch.randn(expected.shape, dtype=torch.float64)
    slopes = torch.autograd.grad(expected, inputs, to_out)
    for form in FAST:
        found = sparse_conv(*inputs, links, form)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        for one, other in zip(torch.autograd.grad(found, inputs, to_out), slopes, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", masks())
def test_the_table_by_sorted_codes_is_that_by_the_dense_volume(name: str) -> None:
    mask = masks()[name]
    for kernel, dilation in KERNELS:
        by_volume, by_codes = links_of_mask(mask, kernel, dilation), links_of_places(mask.nonzero(), kernel, dilation)
        assert torch.equal(by_volume.rows, by_codes.rows)
        assert torch.equal(by_volume.back, by_codes.back)
        if kernel != (1, 1, 1):
            continue
        assert torch.equal(by_volume.rows[:, 0], torch.arange(int(mask.sum()), dtype=torch.int32))


def test_the_order_of_rows_changes_nothing() -> None:
    mask = masks()["random"]
    features, weight, bias = given(mask)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(2))
    straight = sparse_conv(features, weight, bias, links_of_mask(mask), "gather")
    mixed = sparse_conv(features[order], weight, bias, links_of_places(mask.nonzero()[order]), "gather")
    torch.testing.assert_close(mixed, straight[order], rtol=1e-13, atol=1e-13)


def test_places_far_apart_and_below_zero_need_no_volume() -> None:
    places = torch.tensor([[0, -10_000_000, 0, 0], [0, -9_999_999, 0, 0], [3, 1_000_000, 5, -7]])
    features, weight = torch.randn(3, 2, dtype=torch.float64), torch.randn(2, 2, 3, 3, 3, dtype=torch.float64)
    found = sparse_conv(features, weight, None, links_of_places(places))
    expected = features @ weight[:, :, 1, 1, 1].T
    expected[0] += weight[:, :, 2, 1, 1] @ features[1]
    expected[1] += weight[:, :, 0, 1, 1] @ features[0]
    torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match="2\\^62"):
        links_of_places(torch.tensor([[0, 0, 0, 0], [0, 2**40, 2**40, 0]]))
    with pytest.raises(InputError, match="occurs twice"):
        links_of_places(torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1]]))


def test_the_dense_form_reads_no_table() -> None:
    mask = masks()["random"]
    inputs, links = given(mask), links_of_mask(mask, table=False)
    assert links.rows.numel() == 0
    torch.testing.assert_close(sparse_conv(*inputs, links, "dense"), sparse_conv(*inputs, links_of_mask(mask), "gather"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FAST)
def test_the_gradients_are_the_slopes(form: str) -> None:
    mask = masks()["one voxel"] | masks()["random"]
    inputs, links = given(mask), links_of_mask(mask)
    assert torch.autograd.gradcheck(lambda *tensors: sparse_conv(*tensors, links, form), inputs, fast_mode=True)  # type: ignore[arg-type]


def test_a_turned_table_is_the_transposed_convolution() -> None:
    """<conv(f), g> = <f, turned(g)> with the same weights, for a strided convolution: what makes it the gradient and the inverse."""
    mask = masks()["random"]
    places, _, links = links_between(mask.nonzero(), mask.shape[1:], (2, 3, 2), 2, 1)
    f, g = torch.randn(int(mask.sum()), 3, dtype=torch.float64), torch.randn(len(places), 4, dtype=torch.float64)
    weight = torch.randn(4, 3, 2, 3, 2, dtype=torch.float64)
    left = (sparse_conv(f, weight, None, links) * g).sum()
    right = (f * sparse_conv(g, weight.transpose(0, 1), None, links.turned())).sum()
    torch.testing.assert_close(left, right)


def test_strided_output_is_the_dense_one_where_any_input_lies_in_the_window() -> None:
    mask = masks()["random"]
    features, weight, bias = given(mask)
    places, out, links = links_between(mask.nonzero(), mask.shape[1:], 3, 2, 1)
    volume = torch.zeros(*mask.shape, 3, dtype=torch.float64)
    volume[mask] = features.detach()
    dense = torch.nn.functional.conv3d(volume.movedim(-1, 1), weight, bias, stride=2, padding=1)
    reached = torch.nn.functional.conv3d(mask[:, None].double(), torch.ones(1, 1, 3, 3, 3, dtype=torch.float64), stride=2, padding=1)[:, 0] > 0
    assert dense.shape[2:] == out
    assert torch.equal(places, reached.nonzero())
    torch.testing.assert_close(sparse_conv(features, weight, bias, links), dense.movedim(1, -1)[reached], rtol=1e-12, atol=1e-12)


def test_half_precision_is_computed_in_float32_and_autocast_changes_nothing() -> None:
    mask = masks()["random"]
    features, weight, bias = given(mask, kind=torch.float32)
    expected = reference(features.bfloat16().float(), weight, bias, links_of_mask(mask))
    with torch.autocast("cpu", torch.bfloat16):
        found = sparse_conv(features.bfloat16(), weight, bias, links_of_mask(mask))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=1e-3)


def test_the_choice_takes_pairs_for_few_voxels_and_dense_for_all() -> None:
    few, every = torch.rand(1, 16, 16, 8, generator=torch.Generator().manual_seed(0)) < 0.03, torch.ones(1, 16, 16, 8, dtype=torch.bool)
    for width in (16, 64, 128):
        assert choose(links_of_mask(few), width, width) == "pairs"
        assert choose(links_of_mask(every), width, width) == "dense"
    assert choose(links_of_places(every.nonzero()), 64, 64) != "dense"


def test_the_environment_forces_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = masks()["random"]
    inputs, links = given(mask), links_of_mask(mask)
    monkeypatch.setenv("WHOLESCENE_OPS", "reference")
    monkeypatch.setattr(op, "_Convolution", None)
    torch.testing.assert_close(sparse_conv(*inputs, links), reference(*inputs, links))


def test_a_module_takes_the_state_of_a_dense_convolution() -> None:
    dense = torch.nn.Conv3d(3, 4, 3, padding=1)
    sparse = SparseConv3d(3, 4)
    sparse.load_state_dict(dense.state_dict())
    mask = masks()["full"]
    volume = torch.randn(2, 3, 5, 4, 6)
    found = sparse(volume.movedim(1, -1)[mask], links_of_mask(mask))
    torch.testing.assert_close(found, dense(volume).movedim(1, -1)[mask], rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    mask = masks()["random"]
    features, weight, bias = given(mask)
    links: Links = links_of_mask(mask)
    with pytest.raises(InputError, match="do not fit a table"):
        sparse_conv(features[1:], weight, bias, links)
    with pytest.raises(InputError, match="do not fit a table"):
        sparse_conv(features, weight[..., :1], bias, links)
    with pytest.raises(InputError, match="the nearest is 'pairs'"):
        sparse_conv(features, weight, bias, links, "pair")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="odd ones"):
        links_of_mask(mask, (3, 2, 3))
    with pytest.raises(InputError, match="between places"):
        sparse_conv(features, weight, bias, links_of_places(mask.nonzero()), "dense")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("form", ["auto", *FAST])
def test_a_gpu_gives_the_reference_forward_and_backward(form: str) -> None:
    mask = masks()["random"]
    inputs = given(mask)
    expected = reference(*inputs, links_of_mask(mask))
    to_out = torch.randn_like(expected)
    on_gpu = [t.detach().cuda().requires_grad_() for t in inputs]
    found = sparse_conv(*on_gpu, links_of_mask(mask.cuda()), form)  # type: ignore[arg-type]
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)
    slopes = torch.autograd.grad(expected, inputs, to_out)
    for one, other in zip(torch.autograd.grad(found, on_gpu, to_out.cuda()), slopes, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-10, atol=1e-10)
