"""The parts of the contract that the product's own methods do not use, by methods that do."""

from __future__ import annotations

import copy

import pytest
import torch
from methods.made_up import MADE_UP
from methods.making import make_batch, make_method, moved, states_of
from methods.test_never_waiting import META, engine, on_meta
from shares import look, take_step, with_share


@pytest.mark.parametrize("name", MADE_UP)
def test_it_learns_probes_and_waits_for_nothing(name: str) -> None:
    method = make_method(name)
    states, state = states_of(method), dict(method.state)
    look(method, make_batch(), 0)
    assert method.state == state
    for module in (network.module for network in method.networks.values()):
        module.load_state_dict(states["classifier"])  # a probe of the product is in evaluation mode
    logged = take_step(method, make_batch(), 0)
    assert moved(method, states) == {"classifier"} and float(logged["classifier/gradient_norm"]) > 0
    there = make_method(name, engine=engine)
    for step in range(3):
        terms = there.step(on_meta(with_share(make_batch(step), there, step)), step)
        assert all(isinstance(term, float) or term.device == META for term in terms.values())


def test_features_are_what_the_head_takes() -> None:
    classifier, batch = make_method("erm").classifier, make_batch()
    logits = classifier.module.eval()(batch.images)
    torch.testing.assert_close(classifier(batch.images, inspect=lambda features, head: head(features)), logits)
    shapes = classifier(batch.images, inspect=lambda features, head: (features.shape, head.weight.shape))
    assert shapes[0] == (6, shapes[1][1])


def test_an_input_gradient_is_that_of_the_network_in_evaluation_mode() -> None:
    """By finite differences of the sum over colours; a move of the running statistics would show."""
    method, batch = make_method("made_up_salient"), make_batch()
    states = states_of(method)
    mask = method.prepare(batch, 0).values["kept"]
    assert moved(method, states) == set() and method.classifier.module.training
    network = copy.deepcopy(method.classifier.module).eval()
    images = batch.images.clone().requires_grad_()
    network(images).gather(1, batch.labels[:, None]).sum().backward()
    assert images.grad is not None
    mean = images.grad.mean(1, keepdim=True)
    assert torch.equal(mask, mean > mean.mean((2, 3), keepdim=True))
    assert all(parameter.grad is None for parameter in method.classifier.module.parameters())
