from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from shares import look, take_step
from torch.nn.functional import cross_entropy

from align_dist.errors import ConfigError
from align_dist.methods.erm import ERM
from align_dist.methods.registry import METHODS, find_method


def test_a_step_is_a_plain_step_on_cross_entropy(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    engine = make_networks()["classifier"]
    plain = copy.deepcopy(engine.module)
    optimiser = torch.optim.SGD(plain.parameters(), 0.05, momentum=0.9)
    method = ERM({"classifier": engine}, make_context(warmup=2))
    for step in range(4):
        batch = make_batch(step)
        logged = take_step(method, batch, step)
        loss = cross_entropy(plain.network(batch.images), batch.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert set(logged) == {"classifier/classification", "classifier/gradient_norm"}
        torch.testing.assert_close(logged["classifier/classification"], loss.detach())
        assert not any(value.requires_grad for value in logged.values())
    for found, expected in zip(engine.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_probe_tells_the_loss_and_moves_nothing(
    make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    engine, batch = make_networks()["classifier"], make_batch()
    engine.module.eval()
    kept = state_of(engine.module)
    (terms,) = look(ERM({"classifier": engine}, make_context()), batch, 0).values()
    torch.testing.assert_close(terms["classification"], cross_entropy(engine.module(batch.images), batch.labels))
    assert changed(engine.module, kept) == []


def test_nothing_guides_it(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    method = ERM({"classifier": make_networks()["classifier"]}, make_context())
    assert method.mask(make_batch()) is None
    assert not method.uses_masker and not method.uses_true_masks(method.context.objective)


@pytest.mark.parametrize("name", METHODS)
def test_every_registered_method_is_found(name: str) -> None:
    assert find_method(name).__module__ == f"align_dist.methods.{name}"


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'alingn'.*did you mean 'align'.*erm"):
        find_method("alingn")
