from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from methods.making import in_plain_engine, make_batch, make_method
from refusals import raises
from shares import look, take_step
from torch import Tensor

from align_dist.assembly import assemble
from align_dist.config import RunConfig
from align_dist.data.batch import Batch
from align_dist.errors import ConfigError
from align_dist.methods.irm import scale_gradient
from align_dist.options.clock import Clock
from align_dist.options.general import IRMOptions
from align_dist.parallel.plain import make_optimiser

HALVES = {0: ([0, 4], [1]), 1: ([2, 5], [3])}  # even and odd places of make_batch's domains


def written_out(network: Any, batch: Batch, weight: float) -> tuple[Tensor, Tensor]:
    """CE and penalty as the paper and DomainBed define them, the dummy scale's gradients by autograd."""
    logits, labels, scale = network(batch.images), batch.labels, torch.ones((), requires_grad=True)
    risks, penalties = [], []
    for even, odd in HALVES.values():
        risks.append(F.cross_entropy(logits[[*even, *odd]], labels[[*even, *odd]]))
        slopes = [
            torch.autograd.grad(F.cross_entropy(scale * logits[half], labels[half]), scale, create_graph=True)[0]
            for half in (even, odd)
        ]
        penalties.append(slopes[0] * slopes[1])
    return torch.stack(risks).mean(), weight * torch.stack(penalties).mean()


def test_the_slope_of_one_image_by_hand() -> None:
    """z = (ln 3, 0): p = (3/4, 1/4), so 3/4 ln 3 - ln 3 for the first class and 3/4 ln 3 for the second."""
    logits = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()
    gradient = scale_gradient(logits, torch.tensor([0, 1]))
    torch.testing.assert_close(gradient, torch.tensor([-0.25, 0.75]) * torch.tensor(3.0).log())


@pytest.mark.parametrize(("step", "weight"), [(0, 1.0), (1, 1.0), (2, 7.0), (3, 7.0)])
def test_terms_are_those_of_the_dummy_scale(step: int, weight: float) -> None:
    method, batch = make_method("irm", penalty=7.0, penalty_anneal="2 steps", freeze_batchnorm=True), make_batch()
    terms = look(method, batch, step)["classifier"]
    for term, expected in zip(terms.values(), written_out(method.classifier.module, batch, weight), strict=True):
        torch.testing.assert_close(term, expected)


def test_steps_are_those_of_an_optimiser_that_starts_anew_where_the_weight_jumps() -> None:
    options = {"penalty": 7.0, "penalty_anneal": "2 steps"}
    method = make_method("irm", engine=in_plain_engine("adam", 1e-3), freeze_batchnorm=True, **options)
    network: Any = copy.deepcopy(method.classifier.module)
    for step in range(4):
        if step in (0, 2):
            optimiser = make_optimiser(network, "adam", 1e-3, 0.0)
        batch = make_batch(step)
        take_step(method, batch, step)
        optimiser.zero_grad()
        sum(written_out(network, batch, 7.0 if step >= 2 else 1.0)).backward()  # type: ignore[union-attr]
        optimiser.step()
    for weight, expected in zip(method.classifier.module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)


def test_without_a_weight_it_is_the_mean_over_domains() -> None:
    method = make_method("irm", penalty=0.0, penalty_anneal="0 steps", freeze_batchnorm=True)
    erm, batch = make_method("erm", freeze_batchnorm=True), make_batch()  # as many images of each domain
    for step in range(2):
        take_step(method, batch, step)
        take_step(erm, batch, step)
    for weight, expected in zip(method.classifier.module.parameters(), erm.classifier.module.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)


def test_an_empty_half_and_a_domain_without_an_image_count_as_zero() -> None:
    method = make_method("irm", penalty=3.0, penalty_anneal="0 steps", freeze_batchnorm=True)
    single = replace(make_batch(), domains=torch.tensor([0, 0, 0, 0, 0, 1]))
    assert look(method, single, 0)["classifier"]["penalty"].isfinite()
    alone = replace(make_batch(), domains=torch.zeros(6, dtype=torch.int64))
    terms = look(method, alone, 0)["classifier"]
    whole = F.cross_entropy(method.classifier.module(alone.images), alone.labels)
    torch.testing.assert_close(terms["classification"], whole / 2)


def test_a_single_source_domain_is_refused_before_the_first_step(squares: RunConfig) -> None:
    with raises(ConfigError, "method: irm", "protocol.kind=leave_one_out"):
        assemble(squares.with_method("irm"))


def test_a_penalty_that_would_never_reach_its_weight_is_refused() -> None:
    IRMOptions(penalty_anneal="19 steps").check(Clock(20, 0, 4.0))
    with raises(ConfigError, "irm.penalty_anneal: ", "5 epochs", "20 steps"):
        IRMOptions(penalty_anneal="5 epochs").check(Clock(20, 0, 4.0))
