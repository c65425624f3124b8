"""The parts of the contract that the product's own methods do not use, by methods that do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from methods.made_up import MADE_UP
from methods.making import in_plain_engine, make_batch, make_method, moved, states_of
from methods.test_never_waiting import META, engine, on_meta
from shares import look, take_step, with_share
from weights import assert_same_weights

from align_dist.config import RunConfig
from align_dist.errors import ConfigError
from align_dist.parallel.plain import make_optimiser
from align_dist.run import carry_out
from align_dist.training.checkpoint import load_checkpoint
from align_dist.training.run_folder import RunFolder


@pytest.mark.parametrize("name", MADE_UP)
def test_it_learns_probes_and_waits_for_nothing(name: str) -> None:
    method = make_method(name)
    kept, state = states_of(method), dict(method.state)
    look(method, make_batch(), 0)
    assert method.state == state
    for module in (network.module for network in method.networks.values()):
        module.load_state_dict(kept["classifier"])  # a probe of the product is in evaluation mode
    logged = take_step(method, make_batch(), 0)
    assert moved(method, kept) == {"classifier"} and float(logged["classifier/gradient_norm"]) > 0
    there = make_method(name, engine=engine)
    for step in range(3):
        terms = there.step(on_meta(with_share(make_batch(step), there, step)), step)
        assert all(isinstance(term, float) or term.device == META for term in terms.values())


def test_a_state_follows_the_means_of_the_whole_batchs_domains() -> None:
    method, share = make_method("made_up_worst", eta=0.5), torch.full((2,), 0.5)
    for step in range(2):
        batch = make_batch(step)
        network = copy.deepcopy(method.classifier.module)
        each = F.cross_entropy(network(batch.images), batch.labels, reduction="none").detach()
        means = torch.stack([each[batch.domains == domain].mean() for domain in range(2)])
        share = torch.softmax(share.log() + 0.5 * means, 0)
        logged = take_step(method, batch, step)
        torch.testing.assert_close(method.state["share"], share)
        torch.testing.assert_close(logged["classifier/worst"], share @ means)


def test_an_optimiser_that_is_reset_starts_anew() -> None:
    """Against an optimiser that is made again before step 2."""
    method = make_method("made_up_restarting", engine=in_plain_engine("adam", 1e-2))
    network: Any = copy.deepcopy(method.classifier.module)
    for step in range(4):
        if step in (0, 2):
            optimiser = make_optimiser(network, "adam", 1e-2, 0.0)
        take_step(method, make_batch(step), step)
        optimiser.zero_grad()
        F.cross_entropy(network(make_batch(step).images), make_batch(step).labels).backward()
        optimiser.step()
    for found, expected in zip(method.classifier.module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_features_are_what_the_head_takes() -> None:
    classifier, batch = make_method("erm").classifier, make_batch()
    logits = classifier.module.eval()(batch.images)
    torch.testing.assert_close(classifier(batch.images, inspect=lambda features, head: head(features)), logits)
    shapes = classifier(batch.images, inspect=lambda features, head: (features.shape, head.weight.shape))
    assert shapes[0] == (6, shapes[1][1])


def test_an_input_gradient_is_that_of_the_network_in_evaluation_mode() -> None:
    """By finite differences of the sum over colours; a move of the running statistics would show."""
    method, batch = make_method("made_up_salient"), make_batch()
    kept = states_of(method)
    found = method.prepare(batch, 0).values["kept"]
    assert moved(method, kept) == set() and method.classifier.module.training
    network = copy.deepcopy(method.classifier.module).eval()
    images = batch.images.clone().requires_grad_()
    network(images).gather(1, batch.labels[:, None]).sum().backward()
    assert images.grad is not None
    mean = images.grad.mean(1, keepdim=True)
    assert torch.equal(found, mean > mean.mean((2, 3), keepdim=True))
    assert all(parameter.grad is None for parameter in method.classifier.module.parameters())


def test_a_method_of_global_means_takes_no_parts(squares: RunConfig) -> None:
    data = squares.data.model_copy(update={"micro_batches": 2})
    config = squares.with_method("made_up_worst").model_copy(update={"data": data, "experiment": "parts"})
    with pytest.raises(ConfigError, match=r"data\.micro_batches: made_up_worst"):
        carry_out(config, say=lambda _: None)


@pytest.mark.parametrize("name", ["made_up_worst", "made_up_twoviews"])
def test_a_paused_run_goes_on_bit_for_bit(name: str, squares: RunConfig, tmp_path: Any) -> None:
    """On the pictures of a real beton: state, second views and their geometry among it."""
    config = squares.with_method(name)
    straight, paused = (config.model_copy(update={"runs": tmp_path / kind}) for kind in ("straight", "paused"))
    carry_out(straight, say=lambda _: None)
    first = paused.training.model_copy(update={"until": "9 steps"})
    carry_out(paused.model_copy(update={"training": first}), say=lambda _: None)
    carry_out(paused, say=lambda _: None)
    assert_same_weights(straight.folder, paused.folder)
    states = [load_checkpoint(RunFolder(c.folder).checkpoints, print) for c in (straight, paused)]
    kept = [state["method"] for state in states if state is not None]
    assert kept[0].keys() == kept[1].keys() and all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])
    assert ("share" in kept[0]) == (name == "made_up_worst")
