"""ALIGN with sampled masks (objective.mask_sampling=relaxed)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from shares import with_share

from align_dist import objectives
from align_dist.methods.align import ALIGN
from align_dist.sampling import logistic_noise, relaxed_sample


def test_a_sampled_mask_is_seen_by_distinction_alone(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    """Written out: the classifier sees x times the sample, sparsity, smoothness and guidance the mask itself."""
    engines, batch = make_networks(), make_batch()
    weights: dict[str, Any] = {"seed": 3, "lambda1": 0.8, "lambda2": 0.3}
    plain = ALIGN(engines, make_context(**weights))
    sampled = ALIGN(
        engines, make_context(**weights, mask_sampling="relaxed", sampling_grid=5, sampling_temperature=0.4)
    )
    found, without = (
        m.masker_terms(engines["masker"].module, with_share(batch, m), (), 0) for m in (sampled, plain)
    )
    assert torch.equal(found["sparsity"], without["sparsity"])
    assert torch.equal(found["smoothness"], without["smoothness"])
    assert torch.equal(sampled.mask(batch), plain.mask(batch))
    keep = relaxed_sample(plain.mask(batch), logistic_noise(3, batch.draws, 5), 0.4)[:, None]
    network = engines["classifier"].module.eval()
    expected = objectives.distinction(network(batch.images * keep), network(batch.images * (1 - keep)), batch.labels)
    torch.testing.assert_close(found["distinction"], expected)
    assert (found["distinction"] - without["distinction"]).abs() > 1e-6


def test_without_sampling_the_classifier_sees_the_mask_itself(
    make_networks: Any, make_context: Any, make_batch: Any
) -> None:
    """The default, to the bit: its grid and temperature are not looked at."""
    batch, mask = make_batch(), torch.rand(6, 32, 32, generator=torch.Generator().manual_seed(0))
    method = ALIGN(make_networks(), make_context(sampling_grid=3, sampling_temperature=9.0))
    assert method.seen(mask, batch) is mask


def test_samples_are_new_in_every_pass_and_the_same_in_parts_of_a_batch(
    make_networks: Any, make_context: Any, make_batch: Any
) -> None:
    batch, grey = make_batch(), torch.full((6, 32, 32), 0.5)
    method = ALIGN(make_networks(), make_context(mask_sampling="relaxed"))
    whole = method.seen(grey, with_share(batch, method))
    later = replace(batch, draws=batch.draws + np.uint64(1 << 32))
    assert float((method.seen(grey, with_share(later, method)) - whole).abs().mean()) > 0.1
    for rank in range(2):
        share = with_share(batch, method, rank=rank, ranks=2)
        assert torch.equal(method.seen(grey[rank::2], share), whole[rank::2])
    for part, rows in zip(with_share(batch, method).parts(2), (slice(0, None, 2), slice(1, None, 2)), strict=True):
        assert torch.equal(method.seen(grey[rows], part), whole[rows])


def test_the_masker_learns_through_its_samples(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    engines = make_networks()
    method = ALIGN(engines, make_context(lambda1=0.0, lambda2=0.0, mask_sampling="relaxed"))
    terms = method.masker_terms(engines["masker"].module, with_share(make_batch(), method), (), 0)
    found = torch.autograd.grad(terms["distinction"], list(engines["masker"].module.parameters()))
    assert all(torch.isfinite(gradient).all() and gradient.abs().max() > 0 for gradient in found)


# Who changes when
