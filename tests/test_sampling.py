from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import rand
from scipy import stats
from torch import Tensor

from align_dist import objectives
from align_dist.data.sample_keys import SampleKeys, make_order, pack_keys
from align_dist.sampling import logistic_noise, random_keys, relaxed_sample, uniform_numbers

torch.set_num_threads(1)
# The statistics below are computed from fixed seeds: sound noise passes once and for all.
UNLIKELY = 1e-3


def sample_keys(count: int, pass_number: int = 1) -> SampleKeys:
    return pack_keys(np.arange(count, dtype=np.int64), pass_number)


@given(seed=st.integers(0, 2**40), step=st.integers(0, 1000), ranks=st.integers(1, 12))
@settings(max_examples=30)
def test_a_picture_gets_the_same_noise_on_any_number_of_ranks(seed: int, step: int, ranks: int) -> None:
    order = make_order((np.arange(40), np.arange(40, 97)), 12, seed=1)
    whole = logistic_noise(seed, order.batch(step), 5)
    parts = [logistic_noise(seed, order.batch(step)[rank::ranks], 5) for rank in range(ranks)]
    for rank, part in enumerate(parts):
        assert torch.equal(part, whole[rank::ranks])


def test_noise_differs_by_picture_pass_seed_and_place() -> None:
    noise = logistic_noise(0, sample_keys(50), 6)
    assert len(torch.unique(noise)) == noise.numel()
    assert not torch.isin(logistic_noise(1, sample_keys(50), 6), noise).any()
    assert not torch.isin(logistic_noise(0, sample_keys(50, pass_number=2), 6), noise).any()


def test_noise_is_logistic_and_unrelated_to_its_neighbours() -> None:
    noise = logistic_noise(4, sample_keys(300), 12).double().numpy()
    assert np.isfinite(noise).all()
    assert stats.kstest(noise.ravel(), "logistic").pvalue > UNLIKELY
    for one, other in ((noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1]), (noise[1:], noise[:-1])):
        assert stats.pearsonr(one.ravel(), other.ravel()).pvalue > UNLIKELY


def test_noise_leaves_every_global_generator_where_it_was() -> None:
    before, in_numpy = torch.get_rng_state(), copy.deepcopy(np.random.get_state(legacy=False))
    first = logistic_noise(0, sample_keys(4), 3)
    torch.manual_seed(99)
    assert torch.equal(logistic_noise(0, sample_keys(4), 3), first)
    torch.set_rng_state(before)
    np.testing.assert_equal(np.random.get_state(legacy=False), in_numpy)


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.05, 5), grid=st.integers(1, 9))
def test_a_sample_is_a_mask_and_grows_with_the_mask(seed: int, temperature: float, grid: int) -> None:
    noise, mask = logistic_noise(seed, sample_keys(3), grid), rand(seed, 3, 8, 10)
    mask[0, 0, :2] = torch.tensor([0.0, 1.0])
    sample = relaxed_sample(mask, noise, temperature)
    assert sample.shape == mask.shape and sample.min() >= 0 and sample.max() <= 1
    assert (relaxed_sample((mask + 0.1).clamp(max=1), noise, temperature) >= sample).all()


@pytest.mark.parametrize("value", [0.1, 0.5, 0.8])
def test_a_place_is_kept_as_often_as_its_mask_says(value: float) -> None:
    mask = torch.full((400, 8, 8), value)
    for temperature in (0.1, 2.0):
        binary_mask = relaxed_sample(mask, logistic_noise(0, sample_keys(400), 8), temperature) > 0.5
        assert float(binary_mask.float().mean()) == pytest.approx(value, abs=0.01)


def test_a_grey_mask_keeps_some_evidence_whole_and_loses_the_rest() -> None:
    """Nearly binary where the mask was .5 everywhere, in patches as large as the grid's."""
    sample = relaxed_sample(torch.full((100, 96, 96), 0.5), logistic_noise(0, sample_keys(100), 12), 0.05)
    assert float((2 * sample - 1).abs().mean()) > 0.9
    binary_mask = (sample > 0.5).float()
    assert 0.4 < float(binary_mask.mean()) < 0.6
    assert float(binary_mask.diff(dim=2).abs().mean()) < 0.1


def test_a_sure_mask_is_its_own_sample() -> None:
    mask = torch.zeros(4, 16, 16)
    mask[:, 4:9, 5:] = 1
    torch.testing.assert_close(relaxed_sample(mask, logistic_noise(0, sample_keys(4), 4), 0.3), mask, rtol=0, atol=1e-3)


def test_contrast_does_not_matter_to_a_sampled_mask_of_one_value() -> None:
    """Why this is here: a network blind to contrast sees evidence in x⊙m and x⊙(1−m) alike, unless m is sampled."""

    def logits(mask: Tensor) -> Tensor:
        evidence = (mask[:, 3, 3] > 0.05).float() * 20 - 10
        return torch.stack([evidence, -evidence], dim=1)

    grey, labels = torch.full((200, 7, 7), 0.5), torch.zeros(200, dtype=torch.int64)
    sample = relaxed_sample(grey, logistic_noise(0, sample_keys(200), 7), 0.05)
    assert float(objectives.distinction(logits(grey), logits(1 - grey), labels)) == pytest.approx(1, abs=1e-3)
    assert float(objectives.distinction(logits(sample), logits(1 - sample), labels)) > 1.5


def test_gradients_reach_the_mask() -> None:
    noise, mask = logistic_noise(0, sample_keys(2), 3), (0.2 + 0.6 * rand(0, 2, 6, 6)).requires_grad_()
    (gradient,) = torch.autograd.grad(relaxed_sample(mask, noise, 0.7).sum(), mask)
    assert (gradient > 0).all()
    step = 1e-3

    def shifted(amount: float) -> Any:
        return relaxed_sample(mask.detach() + amount, noise, 0.7).double()

    torch.testing.assert_close(gradient.double(), (shifted(step) - shifted(-step)) / (2 * step), rtol=1e-2, atol=1e-2)
    sure = torch.tensor([0.0, 1.0]).repeat(1, 2, 1).requires_grad_()
    assert torch.isfinite(torch.autograd.grad(relaxed_sample(sure, noise[:1], 0.7).sum(), sure)[0]).all()


# Numbers made on the device


def splitmix(state: int, count: int) -> list[float]:
    """SplitMix64's first outputs from a state, upper 24 bits, in Python's own integers."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        numbers.append(((mixed ^ mixed >> 31) >> 40) / 2**24)
    return numbers


@given(key=st.integers(0, 2**53 - 1), count=st.integers(1, 40))
def test_numbers_are_splitmixs_from_the_key_on(key: int, count: int) -> None:
    assert uniform_numbers(torch.tensor([key]), count).tolist() == [splitmix(key, count)]


def test_numbers_are_uniform_in_each_picture_and_over_pictures() -> None:
    numbers = uniform_numbers(random_keys(0, sample_keys(300)), 300).double().numpy()
    assert numbers.min() >= 0 and numbers.max() < 1
    for values in (numbers.ravel(), numbers[0], numbers[:, 0]):
        assert stats.kstest(values, "uniform").pvalue > UNLIKELY
    for first, second in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        assert stats.pearsonr(first.ravel(), second.ravel()).pvalue > UNLIKELY


def test_a_pictures_key_is_of_its_draw_and_the_seed_alone() -> None:
    keys = random_keys(0, sample_keys(50))
    assert torch.equal(random_keys(0, sample_keys(50)[7:9]), keys[7:9])
    others = torch.cat([keys, random_keys(1, sample_keys(50)), random_keys(0, sample_keys(50, pass_number=2))])
    assert len(torch.unique(others)) == 150
