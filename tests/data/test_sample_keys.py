from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from align_dist.data.sample_keys import Order, SampleKeys, make_order, pack_keys, permutation, sample_ids, unaugmented

Ids = NDArray[np.int64]
# Five samples and seven, a batch of three and two, seed 7.
FIRST_STEPS = [[2, 0, 4, 8, 5], [1, 3, 2, 7, 6], [3, 4, 1, 9, 11], [0, 0, 1, 10, 9]]
FIRST_PASSES = [[1, 1, 1, 1, 1], [1, 1, 2, 1, 1], [2, 2, 2, 1, 1], [2, 3, 3, 1, 2]]


@st.composite
def domains(draw: st.DrawFn) -> tuple[Ids, ...]:
    """One to four domains of 1 to 30 samples each, with ids from all over the range, none twice."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = rng.choice(2**32 - 1, sum(sizes), replace=False).astype(np.int64)
    return tuple(np.split(ids, np.cumsum(sizes)[:-1]))


orders = st.builds(make_order, domains(), st.integers(1, 12), st.integers(0, 2**63 - 1))


def passes_of(sample_keys: SampleKeys) -> Ids:
    return (sample_keys >> np.uint64(32)).astype(np.int64)


def drawn_before(order: Order, steps: int) -> SampleKeys:
    return np.concatenate([order.batch(step) for step in range(steps)])


@given(
    samples=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20),
    pass_number=st.integers(0, 2**31 - 1),
)
def test_a_draw_holds_its_sample_and_its_pass(samples: list[int], pass_number: int) -> None:
    ids = np.array(samples, np.int64)
    sample_keys = pack_keys(ids, pass_number)
    assert sample_keys.dtype == np.uint64
    assert np.array_equal(sample_ids(sample_keys), ids)
    assert [int(draw) for draw in sample_keys] == [pass_number * 2**32 + sample for sample in samples]


def test_passes_may_differ_from_draw_to_draw() -> None:
    sample_keys = pack_keys(np.array([5, 5, 7]), np.array([1, 2, 3]))
    assert sample_keys.tolist() == [5 + 2**32, 5 + 2 * 2**32, 7 + 3 * 2**32]


def test_an_unaugmented_draw_is_pass_zero_of_its_sample_in_the_given_order() -> None:
    assert unaugmented(np.array([9, 2, 4])).tolist() == [9, 2, 4]


@given(domains(), st.integers(1, 9), st.integers(0, 1000))
def test_every_pass_takes_every_sample_once(parts: tuple[Ids, ...], batch_size: int, seed: int) -> None:
    order = make_order((np.concatenate(parts),), batch_size, seed)
    everything = np.sort(np.concatenate(parts))
    steps = -(-3 * len(everything) // batch_size)
    sample_keys = drawn_before(order, steps)[: 3 * len(everything)]
    for number, one_pass in enumerate(np.split(sample_keys, 3), start=1):
        assert np.array_equal(np.sort(sample_ids(one_pass)), everything)
        assert (passes_of(one_pass) == number).all()


@given(domains(), st.integers(4, 12), st.integers(0, 1000))
def test_balanced_domains_each_pass_over_their_own_samples(parts: tuple[Ids, ...], batch_size: int, seed: int) -> None:
    order = make_order(parts, batch_size, seed)
    sample_keys = drawn_before(order, 2 * max(map(len, parts)))
    for part in parts:
        own = sample_keys[np.isin(sample_ids(sample_keys), part)]
        complete = len(own) // len(part)
        assert complete >= 1
        for number in range(1, complete + 1):
            one_pass = own[(number - 1) * len(part) : number * len(part)]
            assert np.array_equal(np.sort(sample_ids(one_pass)), np.sort(part))
            assert (passes_of(one_pass) == number).all()


@given(domains(), st.integers(1, 13), st.integers(0, 99), st.integers(0, 50))
def test_balanced_shares_differ_by_one_image_at_most_and_the_first_domains_have_more(
    parts: tuple[Ids, ...], batch_size: int, seed: int, step: int
) -> None:
    batch = sample_ids(make_order(parts, batch_size, seed).batch(step))
    shares = [int(np.isin(batch, part).sum()) for part in parts]
    assert sum(shares) == len(batch) == batch_size
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


@given(orders, st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_a_batch_is_the_same_whatever_was_asked_before(order: Order, steps: list[int]) -> None:
    forwards = {step: order.batch(step).tolist() for step in steps}
    twin = Order(order.streams, order.counts, order.seed)
    for step in sorted(steps, reverse=True):
        assert twin.batch(step).tolist() == forwards[step]
        assert len(forwards[step]) == order.batch_size


@given(orders, st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_a_mixed_batch_has_the_images_of_the_batch_in_an_order_of_its_own(order: Order, steps: list[int]) -> None:
    mixed, twin = (Order(order.streams, order.counts, order.seed, is_mixed=True) for _ in range(2))
    for step in steps:
        assert sorted(mixed.batch(step).tolist()) == sorted(order.batch(step).tolist())
    assert all(np.array_equal(mixed.batch(step), twin.batch(step)) for step in reversed(steps))
    assert mixed.batch_size == order.batch_size and mixed.steps_per_epoch == order.steps_per_epoch


def test_a_mixed_batch_has_every_stream_at_every_place() -> None:
    order = make_order((np.arange(50), np.arange(50, 100)), 6, seed=0, is_mixed=True)
    at_places = np.mean([sample_ids(order.batch(step)) < 50 for step in range(1000)], axis=0)
    assert np.abs(at_places - 0.5).max() < 0.08  # five standard deviations


@given(domains(), st.integers(1, 40), st.booleans())
def test_an_epoch_draws_as_many_images_as_there_are_samples(
    parts: tuple[Ids, ...], batch_size: int, balanced: bool
) -> None:
    streams = parts if balanced else (np.concatenate(parts),)
    order = make_order(streams, batch_size, 0)
    assert order.batch_size == batch_size
    assert np.isclose(order.steps_per_epoch * batch_size, sum(map(len, parts)))


def test_a_domain_smaller_than_its_share_is_passed_over_several_times_in_one_batch() -> None:
    order = make_order((np.array([3, 8]), np.arange(10, 30)), 10, 0)
    small = order.batch(0)[:5]
    assert passes_of(small).tolist() == [1, 1, 2, 2, 3]
    assert Counter(sample_ids(small[:4]).tolist()) == {3: 2, 8: 2}


def by_definition(order: Order, step: int) -> list[int]:
    """A batch draw by draw, each from the whole permutation of its pass."""
    keys = []
    for stream, (samples, count) in enumerate(zip(order.streams, order.counts, strict=True)):
        for place in range(step * count, (step + 1) * count):
            number, inside = divmod(place, len(samples))
            sample = permutation(samples, order.seed, stream, number)[inside]
            keys.append(int(sample) + ((number + 1) << 32))
    return keys


@given(orders, st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_a_batch_is_a_piece_of_its_passes_permutations(order: Order, steps: list[int]) -> None:
    """In any order of asking, so that what an order keeps is never another pass's."""
    for step in steps:
        assert order.batch(step).tolist() == by_definition(order, step)


def test_the_order_of_a_seed_is_the_one_it_always_was() -> None:
    """As written by the first version: a checkpoint of then resumes with the batches of then."""
    order = make_order((np.arange(5), np.arange(5, 12)), 5, seed=7)
    assert [sample_ids(order.batch(step)).tolist() for step in range(4)] == FIRST_STEPS
    assert [passes_of(order.batch(step)).tolist() for step in range(4)] == FIRST_PASSES


def test_an_order_keeps_one_permutation_a_stream_however_long_it_is_used() -> None:
    order = make_order((np.arange(40), np.arange(40, 70)), 8, seed=0)
    for step in range(100):
        order.batch(step)
    assert sum(len(samples) for _, samples in order.permutations.values()) == 70


def test_seeds_passes_and_streams_are_shuffled_apart() -> None:
    samples = np.arange(50)
    keys = [(seed, stream, number) for seed in range(3) for stream in range(3) for number in range(3)]
    permutations = {tuple(permutation(samples, *key).tolist()) for key in keys}
    assert len(permutations) == len(keys)
    assert np.array_equal(permutation(samples, 1, 2, 0), permutation(samples, 1, 2, 0))


def test_every_sample_is_first_equally_often() -> None:
    """Over 6,000 passes of 6 samples each leads 1,000 times; 5 standard deviations are 144."""
    firsts = Counter(int(permutation(np.arange(6), 7, 0, number)[0]) for number in range(6000))
    assert all(abs(firsts[sample] - 1000) < 144 for sample in range(6))
