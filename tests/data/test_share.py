"""Partners, shares of a mixture and class weights, made on the host for a whole global batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from align_dist.data.share import GlobalBatch, class_weights, pair_within_class, positions_within


def batch_of(labels: list[int], first: int = 0, classes: int = 5, rank: int = 0, ranks: int = 1) -> GlobalBatch:
    sample_keys = np.arange(first, first + len(labels), dtype=np.uint64) + np.uint64(1 << 32)
    return GlobalBatch(sample_keys, np.array(labels), classes, rank, ranks)


@given(seed=st.integers(0, 2**64 - 1), labels=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_partners_are_a_permutation_within_each_class(seed: int, labels: list[int]) -> None:
    partners, share = pair_within_class(batch_of(labels), seed)
    assert [labels[partner] for partner in partners] == labels
    assert sorted(partners.tolist()) == list(range(len(labels)))
    assert ((share >= 0) & (share <= 1)).all() and share.dtype == np.float32


def test_seed_and_draws_decide_everything_about_a_mixture() -> None:
    labels, before = [0, 2, 0, 3, 2, 0], torch.get_rng_state()
    first, second = pair_within_class(batch_of(labels), 5), pair_within_class(batch_of(labels, rank=1, ranks=2), 5)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    for other in (pair_within_class(batch_of(labels), 6), pair_within_class(batch_of(labels, first=6), 5)):
        assert not np.array_equal(first[1], other[1])


def test_shares_follow_beta_and_are_independent_of_each_other() -> None:
    _, share = pair_within_class(batch_of([0] * 20_000), 0)
    values = share.astype(np.float64)
    # In bins, for float32 rounds one value in a hundred to 1.
    edges = np.array([0, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999, 1])
    expected = np.diff(stats.beta(0.2, 0.2).cdf(edges)) * len(values)
    assert stats.chisquare(np.histogram(values, edges)[0], expected).pvalue > 1e-3
    table, _, _ = np.histogram2d(values[:-1] > 0.5, values[1:] > 0.5, bins=2)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_every_pairing_within_a_class_is_equally_likely() -> None:
    counts = Counter(tuple(pair_within_class(batch_of([1, 0, 1, 1], first=4 * i), 0)[0].tolist()) for i in range(1200))
    assert len(counts) == 6 and all(partners[1] == 1 for partners in counts)
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    ranks=st.integers(1, 4),
    values=st.lists(st.floats(-3, 3), min_size=24, max_size=24),
)
def test_weighted_means_of_shares_average_to_the_class_average_of_the_batch(
    labels: list[int], ranks: int, values: list[float]
) -> None:
    """Against the definition: the mean within each class, summed, over all classes."""
    whole = np.array(labels * ranks)
    numbers = np.array(values[: len(whole)])
    expected = sum(numbers[whole == label].mean() for label in np.unique(whole)) / 5
    shares = [batch_of(whole.tolist(), rank=rank, ranks=ranks) for rank in range(ranks)]
    means = [(class_weights(share) * numbers)[share.rows].mean() for share in shares]
    np.testing.assert_allclose(np.mean(means), expected, rtol=1e-5, atol=1e-6)


@given(size=st.integers(1, 6), ranks=st.integers(1, 5))
def test_gathered_places_are_where_the_ranks_shares_stand_one_after_another(size: int, ranks: int) -> None:
    batch = batch_of([0] * (size * ranks), ranks=ranks)
    joined = np.concatenate([batch_of([0] * (size * ranks), rank=rank, ranks=ranks).rows for rank in range(ranks)])
    places = np.arange(size * ranks)
    assert np.array_equal(joined[batch.gathered_positions(places)], places)


def test_places_count_each_groups_images_in_order() -> None:
    assert positions_within(np.array([4, 0, 4, 4, 0])).tolist() == [0, 0, 1, 2, 1]
