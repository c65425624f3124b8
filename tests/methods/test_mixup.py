from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from methods.making import make_batch, make_method
from scipy import stats
from shares import look, with_share

from align_dist.data.share import GlobalBatch
from align_dist.methods.mixup import mixed_cross_entropy, pair_across_domains


def batch_of(domains: list[int], first: int = 0, rank: int = 0, ranks: int = 1) -> GlobalBatch:
    sample_keys = np.arange(first, first + len(domains), dtype=np.uint64) + np.uint64(1 << 32)
    return GlobalBatch(sample_keys, np.zeros(len(domains), np.int64), 3, rank, ranks, np.array(domains))


def test_the_loss_of_two_images_by_hand() -> None:
    """p = (2/3, 1/3) and (1/2, 1/2): shares 1/4 and 1."""
    logits = torch.tensor([[2.0, 1.0], [1.0, 1.0]]).log()
    loss = mixed_cross_entropy(logits, torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0.25, 1.0]))
    expected = ((0.25 * np.log(3 / 2) + 0.75 * np.log(3)) + np.log(2)) / 2
    assert float(loss) == pytest.approx(expected)


@given(seed=st.integers(0, 2**64 - 1), domains=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_partners_are_of_the_next_domain_of_one_circle(seed: int, domains: list[int]) -> None:
    partners, mixing = pair_across_domains(batch_of(domains), 0.2, seed)
    following = {domain: {domains[partners[i]] for i, d in enumerate(domains) if d == domain} for domain in domains}
    assert all(len(targets) == 1 for targets in following.values())
    circle, domain = [], domains[0]
    while domain not in circle:
        circle.append(domain)
        (domain,) = following[domain]
    assert sorted(circle) == sorted(set(domains)) and domain == domains[0]
    assert len(circle) == 1 or all(domains[i] != domains[partner] for i, partner in enumerate(partners))
    assert all(len(set(mixing[np.array(domains) == domain])) == 1 for domain in domains)
    counts = Counter(domains)
    if len(set(counts.values())) == 1:
        assert sorted(partners.tolist()) == list(range(len(domains))), "each image is taken once"


def test_seed_and_draws_decide_everything() -> None:
    domains, before = [0, 0, 1, 1, 2, 2], torch.get_rng_state()
    first = pair_across_domains(batch_of(domains), 0.2, 5)
    second = pair_across_domains(batch_of(domains, rank=1, ranks=2), 0.2, 5)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    for other in (pair_across_domains(batch_of(domains), 0.2, 6), pair_across_domains(batch_of(domains, 6), 0.2, 5)):
        assert not np.array_equal(first[1], other[1])


def test_shares_follow_beta_and_circles_are_equally_likely() -> None:
    drawn = [pair_across_domains(batch_of([0, 1, 2], first=3 * i), 0.7, 0) for i in range(3000)]
    shares = np.concatenate([mixing for _, mixing in drawn]).astype(np.float64)
    edges = np.array([0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1])
    expected = np.diff(stats.beta(0.7, 0.7).cdf(edges)) * len(shares)
    assert stats.chisquare(np.histogram(shares, edges)[0], expected).pvalue > 1e-3
    circles = Counter(tuple(partners.tolist()) for partners, _ in drawn)
    assert len(circles) == 2 and stats.chisquare(list(circles.values())).pvalue > 1e-3


def test_the_network_sees_mixtures_and_is_asked_for_both_labels() -> None:
    method = make_method("mixup", alpha=1.0, freeze_batchnorm=True)
    batch = with_share(make_batch(), method)
    partners, mixing = pair_across_domains(
        GlobalBatch(batch.sample_keys, batch.labels.numpy(), 3, domains=batch.domains.numpy()), 1.0, 0
    )
    keep = torch.from_numpy(mixing)
    weight = keep[:, None, None, None]
    logits = method.classifier.module(weight * batch.images + (1 - weight) * batch.images[partners])
    target = F.one_hot(batch.labels, 3) * keep[:, None] + F.one_hot(batch.labels[partners], 3) * (1 - keep[:, None])
    terms = look(method, make_batch(), 0)["classifier"]
    torch.testing.assert_close(terms["mixed_classification"], F.cross_entropy(logits, target))


def test_images_of_a_single_domain_are_mixed_with_one_another() -> None:
    tally = Counter(tuple(pair_across_domains(batch_of([3] * 3, first=3 * i), 0.2, 0)[0].tolist()) for i in range(1200))
    assert len(tally) == 6 and stats.chisquare(list(tally.values())).pvalue > 1e-3
