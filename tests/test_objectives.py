from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from references import CLASSES, EPSILON, LABELS, Array, assert_gradient, held_normalise, rand, randn, softmax
from torch import Tensor

from align_dist import objectives
from align_dist.attribution import Normalisation, normalise

torch.set_num_threads(1)


# Distinction


def test_distinction_by_hand() -> None:
    """dist = .8 - .3 = .5 and .5 - .1 = .4: the mean of .25 and .36."""
    kept = torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log()
    removed = torch.tensor([[0.3, 0.7], [0.9, 0.1]]).log()
    assert float(objectives.distinction(kept, removed, torch.tensor([0, 1]))) == pytest.approx(0.305)


def test_distinction_is_zero_when_all_evidence_is_kept_and_four_when_none_is() -> None:
    sure, opposite = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    label = torch.tensor([0])
    assert float(objectives.distinction(sure, opposite, label)) == pytest.approx(0)
    assert float(objectives.distinction(opposite, sure, label)) == pytest.approx(4)
    assert float(objectives.distinction(sure, sure, label)) == pytest.approx(1)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
def test_distinction_is_in_range_and_ignores_the_order_of_images_and_the_offset_of_logits(
    seed: int, scale: float
) -> None:
    kept, removed = scale * randn(seed, 6, CLASSES), scale * randn(seed + 1, 6, CLASSES)
    term = objectives.distinction(kept, removed, LABELS)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert 0 <= term <= 4
    torch.testing.assert_close(objectives.distinction(kept[order], removed[order], LABELS[order]), term)
    torch.testing.assert_close(objectives.distinction(kept + 3, removed - 2, LABELS), term, rtol=1e-4, atol=1e-5)


def test_gradients_of_distinction() -> None:
    kept, removed, rows = randn(0, 6, CLASSES), randn(1, 6, CLASSES), np.arange(6)

    def reference(of_kept: Array, of_removed: Array) -> float:
        distance = softmax(of_kept)[rows, LABELS] - softmax(of_removed)[rows, LABELS]
        return float(((distance - 1) ** 2).mean())

    fixed_kept, fixed_removed = kept.double().numpy(), removed.double().numpy()
    assert_gradient(lambda x: objectives.distinction(x, removed, LABELS), lambda x: reference(x, fixed_removed), kept)
    assert_gradient(lambda x: objectives.distinction(kept, x, LABELS), lambda x: reference(fixed_kept, x), removed)


# Sparsity and smoothness


def test_sparsity_is_the_mean_area() -> None:
    mask = torch.zeros(2, 4, 5)
    mask[0, :, 0] = 1.0
    mask[1, 0, 0] = 0.5
    assert float(objectives.sparsity(mask)) == pytest.approx((4 + 0.5) / 40)
    assert float(objectives.sparsity(torch.ones(1, 3, 3))) == 1
    larger = mask.repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert float(objectives.sparsity(larger)) == pytest.approx(float(objectives.sparsity(mask)))


def test_smoothness_by_hand() -> None:
    """Rows (0, .5, 1) and (0, 0, 0): differences down 0, .5, 1; across .5, .5, 0, 0."""
    mask = torch.tensor([[[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]])
    assert float(objectives.smoothness(mask, "absolute")) == pytest.approx(1.5 / 3 + 1.0 / 4)
    assert float(objectives.smoothness(mask, "squared")) == pytest.approx(1.25 / 3 + 0.5 / 4)


@pytest.mark.parametrize("kind", ["absolute", "squared"])
def test_smoothness_is_largest_for_a_chessboard(kind: Any) -> None:
    board = (torch.arange(5)[:, None] + torch.arange(6)) % 2
    assert float(objectives.smoothness(board[None].float(), kind)) == 2


@pytest.mark.parametrize("kind", ["absolute", "squared"])
@given(seed=st.integers(0, 10_000), value=st.floats(0, 1), place=st.tuples(st.integers(0, 3), st.integers(0, 4)))
def test_smoothness_is_zero_for_constant_masks_and_for_no_other(
    kind: Any, seed: int, value: float, place: tuple[int, int]
) -> None:
    constant = torch.full((2, 4, 5), value)
    assert float(objectives.smoothness(constant, kind)) == 0
    changed = constant.clone()
    changed[1, place[0], place[1]] = 1 - value if abs(value - 0.5) > 0.01 else 0.0
    assert 0 < float(objectives.smoothness(changed, kind)) <= 2
    mask = rand(seed, 3, 4, 5)
    term = objectives.smoothness(mask, kind)
    for same in (mask.flip(0), mask.flip(1), mask.flip(2), 1 - mask):
        torch.testing.assert_close(objectives.smoothness(same, kind), term)


def test_gradients_of_sparsity_and_smoothness() -> None:
    mask = rand(0, 2, 4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(objectives.sparsity, mask)
    assert torch.autograd.gradcheck(lambda m: objectives.smoothness(m, "absolute"), mask)
    assert torch.autograd.gradcheck(lambda m: objectives.smoothness(m, "squared"), mask)


# Classification


def test_classification_is_the_mean_cross_entropy() -> None:
    logits = torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log()
    expected = -(math.log(0.8) + math.log(0.5)) / 2
    assert float(objectives.classification(logits, torch.tensor([0, 1]))) == pytest.approx(expected)


def test_gradients_of_classification() -> None:
    def reference(logits: Array) -> float:
        return float(-np.log(softmax(logits)[np.arange(6), LABELS]).mean())

    assert_gradient(lambda x: objectives.classification(x, LABELS), reference, randn(2, 6, CLASSES))


# Guidance


def reachable(seed: int, count: int = 3, side: int = 6) -> Tensor:
    """Attributions that `normalise` leaves as they are: from 0 to 1 / (1 + epsilon)."""
    values = rand(seed, count, side, side)
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    return (values - low) / (high - low) / (1 + EPSILON)


def binary_entropy(probability: Tensor) -> float:
    p = probability.double()
    return float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_guidance_is_least_where_attribution_equals_the_mask(seed: int, scale: float) -> None:
    """There it is the mask's entropy, and more at any other attribution."""
    cam = reachable(seed)
    mask = EPSILON + (1 - 2 * EPSILON) * cam
    least = float(objectives.guidance(scale * cam, mask))
    assert least == pytest.approx(binary_entropy(mask), rel=1e-4)
    for amount in (0.05, 1.0):
        assert float(objectives.guidance(cam + amount * randn(seed + 1, 3, 6, 6), mask)) > least


def test_guidance_by_hand() -> None:
    """A map from 0 to 4 and a mask of 4 x 2: halves of area 1/4 and 1."""
    cam = torch.tensor([[[0.0, 4.0]]])
    mask = torch.tensor([[[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]])
    low, high = EPSILON, EPSILON + (1 - 2 * EPSILON) / (1 + EPSILON)
    first = -(0.25 * math.log(low) + 0.75 * math.log(1 - low))
    second = -math.log(high)
    assert float(objectives.guidance(cam, mask)) == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize("normalisation", ["minmax", "relu_max"])
@pytest.mark.parametrize("resolution", ["map", "image"])
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-4, 1e4))
@settings(max_examples=30)
def test_guidance_is_bounded_and_ignores_scale_and_order(
    normalisation: Any, resolution: Any, seed: int, scale: float
) -> None:
    cam, mask = randn(seed, 3, 6, 6), rand(seed + 1, 3, 24, 24).round()
    term = objectives.guidance(cam, mask, normalisation, resolution)
    assert 0 <= term <= -math.log(EPSILON) + 1e-5
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(objectives.guidance(cam[order], mask[order], normalisation, resolution), term)
    torch.testing.assert_close(objectives.guidance(scale * cam, mask, normalisation, resolution), term)


@pytest.mark.parametrize("normalisation", ["minmax", "relu_max"])
def test_gradients_of_guidance(normalisation: Normalisation) -> None:
    cam, mask = randn(3, 2, 3, 3) + 0.1, rand(4, 2, 6, 6)
    scale = np.abs(cam.double().numpy()).max((1, 2), keepdims=True)

    def reference(maps: Array, masks: Array) -> float:
        if normalisation == "minmax":
            attribution = held_normalise(maps, cam)
        else:
            positive = np.maximum(maps, 0)
            attribution = positive / (positive.max((1, 2), keepdims=True) + EPSILON * scale)
        q = EPSILON + (1 - 2 * EPSILON) * attribution
        area = masks.reshape(2, 3, 2, 3, 2).mean((2, 4))
        return float(-(area * np.log(q) + (1 - area) * np.log(1 - q)).mean())

    fixed_cam, fixed_mask = cam.double().numpy(), mask.double().numpy()
    assert_gradient(lambda x: objectives.guidance(x, mask, normalisation), lambda x: reference(x, fixed_mask), cam)
    assert_gradient(lambda x: objectives.guidance(cam, x, normalisation), lambda x: reference(fixed_cam, x), mask)


def test_guidance_at_image_resolution_enlarges_the_map() -> None:
    cam, mask = randn(5, 2, 4, 4), rand(6, 2, 16, 16)
    attribution = F.interpolate(normalise(cam)[:, None], (16, 16), mode="bilinear", align_corners=False)[:, 0]
    expected = F.binary_cross_entropy(EPSILON + (1 - 2 * EPSILON) * attribution, mask)
    torch.testing.assert_close(objectives.guidance(cam, mask, resolution="image"), expected)


def test_a_flat_mask_at_either_resolution_asks_the_same_of_a_flat_map() -> None:
    cam, mask = torch.full((1, 4, 4), 2.0), torch.full((1, 16, 16), 0.3)
    expected = -(0.3 * math.log(EPSILON) + 0.7 * math.log(1 - EPSILON))
    for resolution in ("map", "image"):
        term = objectives.guidance(cam, mask, resolution=resolution)  # type: ignore[arg-type]
        assert float(term) == pytest.approx(expected, rel=1e-5)
