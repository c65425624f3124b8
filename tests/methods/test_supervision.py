"""Explanation supervision by masks that nobody learns: HAICS, GRADIA, CARE and RES-G."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from methods.making import changed, in_plain_engine, make_batch, make_method, state_of
from references import Array, assert_gradient, held_normalise, rand, randn
from shares import look, take_step
from torch import Tensor

from align_dist import objectives
from align_dist.attribution import normalise, size_of
from align_dist.methods.care import attention
from align_dist.methods.gradia import distance
from align_dist.methods.res import blurred, disagreement, threshold
from align_dist.places import Places, pool_to_cells

# What a map of 0 and a largest value is normalised to.
TOP = 1 / 1.01
SUPERVISED = ("haics", "gradia", "care", "res")
every_method = pytest.mark.parametrize("name", SUPERVISED)
seeds = given(seed=st.integers(0, 10_000))


def places(mask: Tensor, side: int) -> Array:
    """What each of side × side places covers of a mask, averaged."""
    count, height, _ = mask.shape
    size = height // side
    means: Array = mask.double().numpy().reshape(count, side, size, side, size).mean((2, 4))
    return means


def enlarged(maps: Array, side: int) -> Array:
    """Bilinear, pixel by pixel: a pixel's middle lies between the middles of the four nearest places."""
    count, small, _ = maps.shape
    at = ((np.arange(side) + 0.5) * small / side - 0.5).clip(0, small - 1)
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, small - 1), at - low
    rows = maps[:, low] * (1 - part)[:, None] + maps[:, high] * part[:, None]
    pixels: Array = rows[:, :, low] * (1 - part) + rows[:, :, high] * part
    assert pixels.shape == (count, side, side)
    return pixels


# HAICS


def test_haics_is_a_fixed_mask_without_what_is_aligns_to_the_bit() -> None:
    haics = make_method("haics", warmup=1, weight=0.7)
    fixed = make_method("fixed_mask", warmup=1, mask="given", lambda3=0.7, lambda4=0.0)
    for step in range(3):
        take_step(haics, make_batch(step), step)
        take_step(fixed, make_batch(step), step)
    assert changed(haics.classifier.module, state_of(fixed.classifier.module)) == []


# GRADIA


def test_a_distance_by_hand() -> None:
    """The map is (0, n; n, 0), the mask's places 1, 0, ½ and 0."""
    cam = torch.tensor([[[0.0, 2.0], [2.0, 0.0]]])
    mask = torch.tensor([[[1.0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]])
    assert float(distance(cam, mask)) == pytest.approx((1 + TOP + (TOP - 0.5) + 0) / 4)


@seeds
@settings(max_examples=20)
def test_a_distance_is_the_mean_difference_of_map_and_mask(seed: int) -> None:
    cam, mask = randn(seed, 3, 4, 4), rand(seed + 1, 3, 8, 8)
    assert_gradient(
        lambda x: distance(x, mask), lambda x: float(np.abs(held_normalise(x, cam) - places(mask, 4)).mean()), cam
    )


# CARE


@pytest.mark.parametrize(
    ("right", "threshold", "expected"),
    [
        (1.0, 1.0, 0.0),  # inside and outside, n / 2 each
        (1.0, 0.2, TOP / 2 - 0.2),  # more inside than is rewarded
        (0.25, 1.0, -TOP * (0.25 / 0.5) + TOP * (1.75 / 3.5)),  # a soft mask counts each pixel by its share
    ],
)
def test_attention_by_hand(right: float, threshold: float, expected: float) -> None:
    """The map is (0, n; n, 0) and the right column is the object's."""
    cam, mask = torch.tensor([[[0.0, 3.0], [3.0, 0.0]]]), torch.tensor([[[0.0, right], [0.0, right]]])
    assert float(attention(cam, mask, threshold)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("value", "expected"), [(1.0, -TOP / 2), (0.0, TOP / 2)])
def test_a_mask_without_an_outside_or_an_inside_has_the_other_alone(value: float, expected: float) -> None:
    cam = torch.tensor([[[0.0, 3.0], [3.0, 0.0]]])
    assert float(attention(cam, torch.full((1, 2, 2), value), 1.0)) == pytest.approx(expected)


@seeds
@settings(max_examples=20)
def test_attention_is_what_is_outside_less_what_is_inside_up_to_a_threshold(seed: int) -> None:
    cam, mask, limit = randn(seed, 3, 4, 4), rand(seed + 1, 3, 8, 8), 0.45
    inner, outer = mask.double().numpy(), 1 - mask.double().numpy()

    def reference(x: Array) -> float:
        maps = enlarged(held_normalise(x, cam), 8)
        each = []
        for one, inside, outside in zip(maps, inner / inner.sum((1, 2), keepdims=True), outer, strict=True):
            each.append(-min((one * inside).sum(), limit) + (one * outside).sum() / outside.sum())
        return float(np.mean(each))

    assert_gradient(lambda x: attention(x, mask, limit), reference, cam)


def test_care_takes_from_cross_entropy_what_attention_gets() -> None:
    """Once warm-up is over, in which cross-entropy has all."""
    method = make_method("care", warmup=1, weight=0.3)
    warmup, guided = (take_step(method, make_batch(step), step) for step in range(2))
    assert warmup["classifier/weight/classification"] == 1 and "classifier/weight/attention" not in warmup
    assert (guided["classifier/weight/classification"], guided["classifier/weight/attention"]) == (0.7, 0.3)


# RES-G


@pytest.mark.parametrize(
    ("values", "signs", "expected"),
    [
        ([0.2, 0.8], [-1.0, 1.0], 0.2001),  # just above what is rejected is as good as what is accepted
        ([0.9, 0.1, 0.5, 0.3], [0.4, -1.0, 0.0, -0.6], 0.3001),  # what is unknown has no say
        ([0.9, 0.1, 0.5], [-1.0, 1.0, 1.0], 0.1),  # the wrong way round: one half is right whatever it is
        ([0.7, 0.6, 0.4, 0.5], [1.0, -1.0, -1.0, -1.0], 0.6001),  # shares, not counts
        ([0.7, 0.3], [1.0, 1.0], 0.3),
    ],
)
def test_a_threshold_by_hand(values: list[float], signs: list[float], expected: float) -> None:
    assert float(threshold(torch.tensor([[values]]), torch.tensor([[signs]]))) == pytest.approx(expected, abs=1e-6)


def balance(bound: float, values: Array, signs: Array) -> float:
    """The share of what is for that is not below a bound and of what is against that is."""
    shares = ((values[signs > 0] >= bound), (values[signs < 0] < bound))
    return float(sum(share.mean() for share in shares if len(share)))


@seeds
@settings(max_examples=50)
def test_no_other_threshold_is_better(seed: int) -> None:
    """Of coarse values, many of which are equal."""
    attribution, signs = (rand(seed, 2, 3, 4) * 10).round() / 10, (3 * rand(seed + 1, 2, 3, 4)).floor() - 1
    values, wanted = attribution.double().numpy(), signs.numpy()
    score = balance(float(threshold(attribution, signs)), values, wanted)
    assert score >= max(balance(bound, values, wanted) for bound in np.linspace(-0.05, 1.05, 111)) - 1e-6


def test_a_disagreement_by_hand() -> None:
    """a = 0.2001; what is unknown is not counted, and the slack is free."""
    attribution, signs = torch.tensor([[[0.2, 0.8, 0.3]]]), torch.tensor([[[-1.0, 1.0, 0.0]]])
    each = abs(math.tanh(5 * (0.2 - 0.2001)) + 1) + abs(math.tanh(5 * (0.8 - 0.2001)) - 1)
    assert float(disagreement(attribution, signs, 0.1)) == pytest.approx(each / 2 - 0.1, rel=1e-5)
    assert float(disagreement(attribution, signs, 0.9)) == 0
    assert float(disagreement(attribution, torch.zeros(1, 1, 3), 0.0)) == 0, "nothing is known"


@seeds
@settings(max_examples=20)
def test_a_disagreement_is_that_of_the_steep_map_and_the_mask(seed: int) -> None:
    attribution, signs = rand(seed, 2, 3, 4), (3 * rand(seed + 1, 2, 3, 4)).floor() - 1
    bound, wanted = float(threshold(attribution, signs)), signs.double().numpy()

    def reference(x: Array) -> float:
        known = wanted != 0
        return max(0.0, float(np.abs(np.tanh(5 * (x - bound)) - wanted)[known].mean()) - 0.1)

    assert_gradient(lambda x: disagreement(x, signs, 0.1), reference, attribution)


@seeds
@settings(max_examples=20)
def test_a_mask_is_blurred_as_opencv_does_it(seed: int) -> None:
    masks = rand(seed, 3, 7, 5)
    for blurred_mask, mask in zip(blurred(masks), masks.numpy(), strict=True):
        expected = cv2.GaussianBlur(mask, (3, 3), 0)
        np.testing.assert_allclose(blurred_mask.numpy(), expected / expected.max(), rtol=1e-5)
    assert (blurred(torch.zeros(1, 4, 4)) == 0).all()


# All of them


def terms_of(name: str, cam: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The terms of supervision by their definitions, unweighted, of a network whose cells look at pixels 0, 8, ..."""
    off = Places(0, 8)
    if name == "haics":
        return {"guidance": objectives.guidance(cam, mask, places=off)}
    if name == "gradia":
        return {"guidance": distance(cam, mask, off)}
    if name == "care":
        return {"attention": attention(cam, mask, 0.5, off)}
    wanted = pool_to_cells(mask, size_of(cam), off)
    return {
        "disagreement": disagreement(normalise(cam), 2 * wanted - 1, 0.1),
        "imputation": (normalise(cam) - blurred(wanted)).abs().mean(),
    }


@every_method
@pytest.mark.parametrize("shuffled", [False, True])
def test_grad_cam_of_the_true_class_is_held_against_the_mask(name: str, shuffled: bool) -> None:
    batch = make_batch()
    method = make_method(name, weight=0.4, shuffled=shuffled)
    cam = method.classifier.module.eval()(batch.images, explain=batch.labels).cam
    assert batch.masks is not None
    mask = batch.masks[[5, 0, 1, 2, 3, 4]] if shuffled else batch.masks
    terms = look(method, batch, 0)["classifier"]
    expected = terms_of(name, cam, mask)
    assert terms.keys() == {"classification", *expected}
    for term, value in expected.items():
        torch.testing.assert_close(terms[term], 0.4 * value)


@every_method
def test_an_image_whose_mask_marks_nothing_is_left_out_of_supervision(name: str) -> None:
    """Not taught that nothing anywhere is evidence, as the sources leave such images out."""
    images, masks = make_batch().images, torch.zeros(6, 32, 32)
    masks[:, 8:24, 8:20] = 1
    masks[[1, 4]] = 0.3 * masks[[1, 4]]
    batch = replace(make_batch(masks=masks), images=images)
    other = replace(batch, images=images + torch.randn_like(images) * torch.tensor([0, 1, 0, 0, 1, 0]).view(6, 1, 1, 1))
    method = make_method(name, weight=0.4, freeze_batchnorm=True)
    terms, of_others = (look(method, shown, 0)["classifier"] for shown in (batch, other))
    supervised = list(terms_of(name, torch.zeros(6, 4, 4), masks))
    for term in supervised:
        torch.testing.assert_close(terms[term], of_others[term])
    assert not torch.allclose(terms["classification"], of_others["classification"], atol=1e-3)
    if name == "res":  # pools the cells of all images that count
        return
    kept = [0, 2, 3, 5]
    cam = method.classifier.module(images[kept], explain=batch.labels[kept]).cam
    for term, value in terms_of(name, cam, masks[kept]).items():
        torch.testing.assert_close(terms[term], 0.4 * value * len(kept) / len(images))


@every_method
def test_without_weight_it_is_erm_to_the_bit(name: str) -> None:
    method, erm = make_method(name, weight=0.0), make_method("erm")
    for step in range(3):
        take_step(method, make_batch(step), step)
        take_step(erm, make_batch(step), step)
    assert changed(method.classifier.module, state_of(erm.classifier.module)) == []


@every_method
def test_a_step_lowers_its_own_loss(name: str) -> None:
    masks = torch.zeros(6, 32, 32)
    masks[:, 8:24, 8:20] = 1
    method = make_method(name, engine=in_plain_engine(rate=0.02))
    logged = [take_step(method, make_batch(masks=masks), step) for step in range(15)]
    own = list(terms_of(name, torch.zeros(6, 4, 4), masks))
    losses, supervised = ([float(step["classifier/loss"]) for step in logged], [of(step, own) for step in logged])
    assert losses[-1] < losses[0] - 0.05
    assert min(supervised[-3:]) < supervised[0]


def of(logged: dict[str, Any], terms: list[str]) -> float:
    return sum(float(logged[f"classifier/{term}"]) for term in terms)
