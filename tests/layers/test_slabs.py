"""Streams give the whole's numbers for every kernel, dilation, length and cut."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wholescene.layers.aspp import ASPP
from wholescene.layers.head import CompletionHead
from wholescene.layers.slabs import aligned, convolve, convolve_whole, cut, double, each, enlarge, gather, may_stream, split

lengths, slabs = st.integers(1, 14), st.integers(1, 15)


@given(
    length=lengths,
    slab=slabs,
    kernel=st.sampled_from([1, 3, 5]),
    dilation=st.integers(1, 3),
    dims=st.sampled_from([2, 3]),
    width=st.sampled_from([2, 16, 19, 128, 131]),
)
@settings(max_examples=60, deadline=None)
def test_a_streamed_convolution_is_the_whole_one(length: int, slab: int, kernel: int, dilation: int, dims: int, width: int) -> None:
    torch.manual_seed(0)
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    conv = kind(width, width + 1, kernel, padding=dilation * (kernel // 2), dilation=dilation)
    x = torch.randn(1, width, length, *(3,) * (dims - 1))
    with torch.no_grad():
        torch.testing.assert_close(gather(convolve(conv, cut(x, slab)), length), conv(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dims", "width"), [(2, 128), (3, 16)])
@pytest.mark.parametrize("length", [3, 16, 37])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_convolution_of_a_whole_is_cut_into_slabs_that_leave_the_numbers(dims: int, width: int, length: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = (nn.Conv2d if dims == 2 else nn.Conv3d)(width, width, 3, padding=dilation, dilation=dilation)
    x = torch.randn(2, width, length, *(5,) * (dims - 1))
    with torch.inference_mode():
        expected = conv(x)
        assert (convolve_whole(conv, x) - expected).abs().max() <= 3e-6 * expected.abs().max()
    assert convolve_whole(conv, x).requires_grad  # with gradients it is the convolution itself


@given(length=lengths, slab=slabs)
@settings(max_examples=40, deadline=None)
def test_a_streamed_doubling_is_the_whole_one(length: int, slab: int) -> None:
    torch.manual_seed(0)
    conv = nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1)
    x = torch.randn(1, 2, length, 3, 2)
    with torch.no_grad():
        torch.testing.assert_close(gather(double(conv, cut(x, slab)), 2 * length), conv(x))


@given(length=lengths, slab=slabs)
@settings(max_examples=40, deadline=None)
def test_a_streamed_transposed_convolution_that_keeps_the_first_axis_is_the_whole_one(length: int, slab: int) -> None:
    torch.manual_seed(0)
    conv = nn.ConvTranspose3d(2, 3, 3, stride=(1, 1, 2), padding=1, output_padding=(0, 0, 1))
    x = torch.randn(1, 2, length, 3, 2)
    with torch.no_grad():
        torch.testing.assert_close(gather(enlarge(conv, cut(x, slab)), length), conv(x))


@given(length=lengths, slab=slabs)
@settings(max_examples=20, deadline=None)
def test_a_streamed_aspp_is_the_whole_one(length: int, slab: int) -> None:
    torch.manual_seed(0)
    aspp = ASPP(3).eval()
    x = torch.randn(2, 3, length, 4, 5)
    before = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(gather(aspp.stream(cut(x, slab)), length), aspp(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("doublings", [0, 1, 2])
@pytest.mark.parametrize("slab", [1, 3, 50])
def test_the_head_in_slabs_gives_the_whole_logits(doublings: int, slab: int) -> None:
    torch.manual_seed(0)
    head = CompletionHead(6, 4, 5, doublings, slab=None).eval()
    for norm in (m for m in head.modules() if isinstance(m, nn.BatchNorm3d)):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    volume = torch.randn(2, 6, 5, 4, 3)
    with torch.no_grad():
        whole = head(volume)
        head.slab = slab
        streamed = head(volume)
    assert whole.shape == (2, 5, 5 * 2**doublings, 4 * 2**doublings, 3 * 2**doublings)
    torch.testing.assert_close(streamed, whole)


def test_training_and_gradients_never_stream() -> None:
    head, x = CompletionHead(4, 4, 2), torch.zeros(1)
    assert not may_stream(head, x)
    head.eval()
    assert not may_stream(head, x)
    with torch.no_grad():
        assert may_stream(head, x)
        assert not may_stream(head.train(), x)


def test_aligned_streams_are_cut_where_any_is_cut() -> None:
    x = torch.arange(7.0).view(1, 1, 7)
    pieces = list(aligned(cut(x, 3), cut(10 * x, 2)))
    assert [p[0].shape[2] for p in pieces] == [2, 1, 1, 2, 1]
    assert all(torch.equal(10 * one, other) for one, other in pieces)
    assert torch.equal(torch.cat([p[0] for p in pieces], 2), x)


def test_streams_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        list(aligned(cut(torch.zeros(1, 1, 4), 2), cut(torch.zeros(1, 1, 5), 2)))
    with pytest.raises(ValueError, match="expected 5 slices"):
        gather(cut(torch.zeros(1, 1, 4), 2), 5)


def test_a_convolution_that_changes_the_length_cannot_be_streamed() -> None:
    with pytest.raises(ValueError, match="stride-1"):
        list(convolve(nn.Conv3d(1, 1, 3, stride=2, padding=1), cut(torch.zeros(1, 1, 4, 4, 4), 2)))
    with pytest.raises(ValueError, match="double"):
        list(double(nn.ConvTranspose3d(1, 1, 2, stride=2), cut(torch.zeros(1, 1, 4, 4, 4), 2)))


def test_a_split_stream_is_read_once_from_its_source() -> None:
    reads = []
    one, other = split(each(lambda s: reads.append(len(reads)) or s, cut(torch.arange(6.0).view(1, 1, 6), 2)), 2)
    assert torch.equal(gather(one, 6), gather(other, 6))
    assert reads == [0, 1, 2]


def test_a_slab_lives_until_the_slowest_reader_has_passed_and_no_longer() -> None:
    """What waits is what slabs are for: a reader that lags by two slabs holds two, however many there are."""
    made: list[weakref.ref[Tensor]] = []

    def source() -> Iterator[Tensor]:
        for number in range(70):
            slab = [torch.full((1, 1, 2), float(number))]
            made.append(weakref.ref(slab[0]))
            yield slab.pop()

    ahead, behind = split(source(), 2)
    for number in range(60):
        assert float(next(ahead)[0, 0, 0]) == number
        if number >= 2:
            assert float(next(behind)[0, 0, 0]) == number - 2
        assert sum(reference() is not None for reference in made) == min(number + 1, 2)
    assert [float(slab[0, 0, 0]) for slab in behind] == list(range(58, 70))
    assert [float(slab[0, 0, 0]) for slab in ahead] == list(range(60, 70))
