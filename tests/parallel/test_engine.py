from __future__ import annotations

import pytest
import torch
from torch import nn

from align_dist.parallel.engine import frozen
from align_dist.parallel.plain import PlainEngine, make_optimiser


def make_engine() -> PlainEngine:
    """Training mode but for one BatchNorm, every weight trainable but one: as a user may have left it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    engine = PlainEngine(network, make_optimiser(network, "sgd", 0.1, 0.0))
    network.train()
    network[3].eval()
    network[4].bias.requires_grad_(False)
    return engine


def condition(module: nn.Module) -> tuple[list[bool], list[bool]]:
    return [child.training for child in module.modules()], [p.requires_grad for p in module.parameters()]


def test_a_frozen_network_is_in_evaluation_mode_and_its_weights_are_constants() -> None:
    engine = make_engine()
    before = {name: value.clone() for name, value in engine.module.state_dict().items()}
    inputs = torch.randn(6, 4, requires_grad=True)
    with frozen(engine) as module:
        assert module is engine.module
        assert condition(module) == ([False] * 6, [False] * 8)
        outputs = module(inputs)
    outputs.square().sum().backward()
    assert inputs.grad is not None and inputs.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in engine.module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in engine.module.state_dict().items())


def test_what_was_frozen_is_left_as_it_was_found() -> None:
    engine = make_engine()
    before = condition(engine.module)
    assert False in before[0] and True in before[0] and False in before[1] and True in before[1]
    with frozen(engine), frozen(engine):
        pass
    assert condition(engine.module) == before
    with pytest.raises(KeyError), frozen(engine):
        raise KeyError
    assert condition(engine.module) == before
