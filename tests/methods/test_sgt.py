from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from methods.making import changed, in_plain_engine, make_batch, make_method, moved, state_of, states_of
from references import Array, assert_gradient, randn, softmax
from shares import look, take_step, with_share
from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.methods.sgt import divergence, lowest

seeds = given(seed=st.integers(0, 10_000))


def replaced(method: Any, batch: Batch) -> Tensor:
    """x̃ of a batch that has its share."""
    pictures: Tensor = method.prepare(batch, 0).values["replaced"]
    return pictures


# Its parts


def test_the_lowest_places_are_those_of_the_least_value_with_its_sign() -> None:
    gradient = torch.tensor([[[3.0, -1.0], [0.0, -2.0]], [[0.5, 0.5], [0.5, 0.5]]])
    assert lowest(gradient, 0.5).tolist() == [[[False, True], [False, True]], [[True, True], [False, False]]]
    assert not lowest(gradient, 0.0).any() and lowest(gradient, 1.0).all()


@seeds
@settings(max_examples=20)
def test_no_place_that_stays_is_lower_than_one_that_goes(seed: int) -> None:
    gradient = (5 * randn(seed, 3, 6, 5)).round()
    for one, mask in zip(gradient, lowest(gradient, 0.3), strict=True):
        assert int(mask.sum()) == 9 and one[mask].max() <= one[~mask].min()


def test_a_divergence_by_hand() -> None:
    logits, others = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(3)]])
    assert float(divergence(logits, others)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert float(divergence(others, others)) == 0


@seeds
@settings(max_examples=20)
def test_a_divergence_is_kullbacks_and_leiblers_and_tells_both_sides(seed: int) -> None:
    logits, others = randn(seed, 4, 5), randn(seed + 1, 4, 5)

    def reference(first: Array, second: Array) -> float:
        p, q = softmax(first), softmax(second)
        return float((p * np.log(p / q)).sum(1).mean())

    first, second = logits.double().numpy(), others.double().numpy()
    assert_gradient(lambda x: divergence(x, others), lambda x: reference(x, second), logits)
    assert_gradient(lambda x: divergence(logits, x), lambda x: reference(first, x), others)


# The second version of a picture


def input_gradient_of(network: Any, batch: Batch) -> Tensor:
    images = batch.images.clone().requires_grad_()
    network.eval()(images).gather(1, batch.labels[:, None]).sum().backward()
    assert images.grad is not None
    return images.grad


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("replacement", ["random", "mean"])
def test_the_pixels_of_the_lowest_input_gradient_are_replaced(replacement: str, absolute: bool) -> None:
    """Of all colours at once, in evaluation mode; the rest is as it was, and so is the classifier."""
    method: Any = make_method("sgt", fraction=0.25, replacement=replacement, absolute=absolute)
    batch, states = with_share(make_batch(), method), states_of(method)
    pictures = replaced(method, batch)
    gradient = input_gradient_of(copy.deepcopy(method.classifier.module), batch).mean(1)
    gradient = gradient.abs() if absolute else gradient
    assert moved(method, states) == set() and not pictures.requires_grad
    for picture, image, slope in zip(pictures, batch.images, gradient, strict=True):
        mask = slope <= slope.flatten().sort().values[255]
        assert int(mask.sum()) == 256 and torch.equal(picture[:, ~mask], image[:, ~mask])
        for values, colour in zip(picture[:, mask], image, strict=True):
            if replacement == "mean":
                torch.testing.assert_close(values, colour.mean().expand(256))
            else:
                assert (colour.min() <= values).all() and (values <= colour.max()).all()
                position = (values - colour.min()) / (colour.max() - colour.min())
                assert abs(float(position.mean()) - 0.5) < 0.1 and len(values.unique()) > 250


def test_the_gradient_is_not_that_of_sixteen_bits() -> None:
    kinds = (torch.float32, torch.bfloat16)
    precise, coarse = (make_method("sgt", engine=in_plain_engine(precision=kind)) for kind in kinds)
    batch = make_batch()
    assert torch.equal(replaced(coarse, with_share(batch, coarse)), replaced(precise, with_share(batch, precise)))


def test_values_are_new_in_every_pass_and_the_same_on_any_rank_and_in_any_part() -> None:
    method: Any = make_method("sgt", freeze_batchnorm=True, fraction=0.5, replacement="random")
    batch = make_batch()
    whole = replaced(method, with_share(batch, method))
    later = replace(batch, sample_keys=batch.sample_keys + np.uint64(1 << 32))
    assert float((replaced(method, with_share(later, method)) != whole).float().mean()) > 0.4
    shares = {rank: with_share(batch, method, rank=rank, ranks=2) for rank in range(2)}
    parts = dict(enumerate(with_share(batch, method).parts(2)))
    for batches in (shares, parts):
        for start, part in batches.items():
            assert torch.equal(method.values(part), method.values(with_share(batch, method))[start::2])


# A step


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_its_loss_is_cross_entropy_and_the_divergence_of_the_two_versions(weight: float) -> None:
    """Written out, with BatchNorm in evaluation mode, as a probe has it."""
    method: Any = make_method("sgt", weight=weight)
    method.classifier.module.eval()
    batch = with_share(make_batch(), method)
    network, pictures = method.classifier.module, replaced(method, batch)
    plain, other = network(batch.images), network(pictures)
    terms = look(method, make_batch(), 0)["classifier"]
    torch.testing.assert_close(terms["classification"], F.cross_entropy(plain, batch.labels))
    expected = F.kl_div(other.log_softmax(1), plain.softmax(1), reduction="batchmean")
    torch.testing.assert_close(terms["divergence"], weight * expected)


@pytest.mark.parametrize("replacement", ["random", "mean"])
def test_without_weight_it_is_erm_to_the_bit(replacement: str) -> None:
    method, erm = make_method("sgt", weight=0.0, replacement=replacement), make_method("erm")
    for step in range(3):
        take_step(method, make_batch(step), step)
        take_step(erm, make_batch(step), step)
    assert changed(method.classifier.module, state_of(erm.classifier.module)) == []


@pytest.mark.parametrize("replacement", ["random", "mean"])
def test_a_step_lowers_its_own_loss(replacement: str) -> None:
    method = make_method("sgt", replacement=replacement, engine=in_plain_engine(rate=0.02))
    losses = [float(take_step(method, make_batch(), step)["classifier/loss"]) for step in range(15)]
    assert losses[-1] < 0.8 * losses[0]
