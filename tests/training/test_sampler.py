"""Every frame once an epoch over all processes, whatever the numbers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.training.sampler import Draw, FrameStream, StreamSampler, shared_out


def _draws(frames: int, epochs: int, batch: int, parts: int, world: int, start: int = 0) -> list[list[list[Draw]]]:
    """For each process, the parts it works through."""
    stream = FrameStream(frames, seed=3, total=frames * epochs)
    samplers = [StreamSampler(stream, batch, parts, rank, world, start) for rank in range(world)]
    found = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(f) for f in found]
    return found


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(1, 30), epochs=st.integers(1, 4), per=st.integers(1, 3), parts=st.integers(1, 3), world=st.integers(1, 4))
def test_each_frame_counts_once_an_epoch_over_all_processes(frames: int, epochs: int, per: int, parts: int, world: int) -> None:
    found = _draws(frames, epochs, per * parts * world, parts, world)
    counted = Counter((d.epoch, d.index) for process in found for part in process for d in part if d.weight > 0)
    assert counted == Counter((e, i) for e in range(epochs) for i in range(frames))


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(1, 30), epochs=st.integers(1, 4), per=st.integers(1, 3), parts=st.integers(1, 3), world=st.integers(1, 4))
def test_processes_take_as_many_parts_and_none_is_larger_than_its_share(frames: int, epochs: int, per: int, parts: int, world: int) -> None:
    found = _draws(frames, epochs, per * parts * world, parts, world)
    assert len({len(process) for process in found}) == 1
    assert all(1 <= len(part) <= per for process in found for part in process)


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(1, 30), per=st.integers(1, 3), parts=st.integers(1, 3), world=st.integers(1, 4))
def test_weights_make_the_averaged_gradient_that_of_one_batch(frames: int, per: int, parts: int, world: int) -> None:
    """Processes average, and each divides by the number of parts, so a frame's share of a step of T frames must come out as 1 / T."""
    batch = per * parts * world
    found = _draws(frames, 1, batch, parts, world)
    for first in range(0, len(found[0]), parts):
        step = [part for process in found for part in process[first : first + parts]]
        frames_in_step = sum(d.weight > 0 for part in step for d in part)
        # the loss of a part is the mean over its frames times the sum of their weights: each frame counts with the mean weight of its part
        shares = [d.weight / (world * parts) for part in step for d in part if d.weight > 0]
        assert shares == pytest.approx([1 / frames_in_step] * frames_in_step)


@settings(max_examples=100, deadline=None)
@given(frames=st.integers(1, 20), world=st.integers(1, 3), parts=st.integers(1, 2), steps=st.integers(0, 12))
def test_a_resumed_sampler_goes_on_with_the_same_parts(frames: int, world: int, parts: int, steps: int) -> None:
    whole = _draws(frames, 3, world * parts, parts, world)
    rest = _draws(frames, 3, world * parts, parts, world, start=steps * world * parts)
    assert rest == [process[steps * parts :] for process in whole]


def test_five_frames_on_two_processes() -> None:
    one, two = _draws(5, 1, 2, 1, 2)
    assert [len(part) for part in one] == [len(part) for part in two] == [1, 1, 1]
    assert sorted(d.index for part in one + two for d in part if d.weight > 0) == [0, 1, 2, 3, 4]
    assert sum(d.weight == 0 for part in one + two for d in part) == 1


def test_orders_differ_by_epoch_and_by_seed_only() -> None:
    a, b = FrameStream(50, 0, None), FrameStream(50, 0, None)
    epochs = [[a.at(50 * e + p) for p in range(50)] for e in range(2)]
    assert [b.at(p) for p in range(100)] == epochs[0] + epochs[1]
    assert [i for _, i in epochs[0]] != [i for _, i in epochs[1]]
    assert [FrameStream(50, 1, None).at(p) for p in range(50)] != epochs[0]


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch of 3 .* multiple of 2"):
        StreamSampler(FrameStream(5, 0, 5), 3, world=2)


def test_a_run_that_a_clock_ends_has_no_length_and_no_end() -> None:
    sampler = StreamSampler(FrameStream(3, 0, None), 2)
    with pytest.raises(TypeError):
        len(sampler)
    assert [d.epoch for _, part in zip(range(4), sampler, strict=False) for d in part] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_an_empty_training_part_is_refused() -> None:
    with pytest.raises(InputError, match="holds no frame"):
        FrameStream(0, 0, None)


@given(frames=st.integers(0, 40), world=st.integers(1, 6))
def test_evaluation_counts_each_frame_once_and_keeps_processes_in_step(frames: int, world: int) -> None:
    lists = [shared_out(frames, rank, world) for rank in range(world)]
    assert sorted(i for own in lists for i, counted in own if counted) == list(range(frames))
    assert len({len(own) for own in lists}) == 1
