from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from align_dist.evaluation.faithfulness import (
    Fill,
    Predict,
    area_under,
    deletion_curve,
    insertion_curve,
    soft_sufficiency_comprehensiveness,
    sufficiency_comprehensiveness,
)
from align_dist.evaluation.maps import blur


def linear_model(weights: Tensor, bias: float = 0.0) -> Predict:
    """Two classes; the probability of class 0 is bias + sum(weights * x), linear in the pixels."""

    def predict(images: Tensor) -> Tensor:
        first = bias + (images * weights).sum((1, 2, 3))
        return torch.stack([first, 1 - first], 1)

    return predict


def softmax_model(seed: int, height: int = 8, width: int = 8, classes: int = 3) -> Predict:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(classes, 3 * height * width, generator=generator) / 5
    return lambda images: (images.flatten(1) @ weights.T).softmax(1)


def random_images(seed: int, count: int = 4, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, size, size, generator=generator),
        torch.rand(count, size, size, generator=generator),
    )


def evidence(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A positive image of ones' size 16 x 16 and each pixel's share of class 0's probability, in all 0.8."""
    share = torch.rand(16, 16, generator=torch.Generator().manual_seed(seed)).double()
    share = share / share.sum() * 0.8
    return torch.ones(1, 3, 16, 16, dtype=torch.float64), share


def test_insertion_auc_of_a_linear_model_is_analytic() -> None:
    """p = sum of shares of inserted pixels; uninserted ones give their share times the blurred value."""
    image, share = evidence()
    predict = linear_model(share / 3)
    order = share.flatten().argsort(descending=True)
    blurred_share = (share * blur(image)[0, 0]).flatten()[order]
    true_share = share.flatten()[order]
    expected = [true_share[: 32 * k].sum() + blurred_share[32 * k :].sum() for k in range(9)]
    curve = insertion_curve(predict, image, share[None], pixels_per_step=32)
    torch.testing.assert_close(curve[0], torch.stack(expected))
    area = sum((a + b) / 2 for a, b in pairwise(expected)) / 8
    assert area_under(insertion_curve(predict, image, share[None], pixels_per_step=32)).item() == pytest.approx(
        float(area)
    )


def test_the_deletion_curve_of_a_linear_model_is_analytic() -> None:
    """p is the sum of the shares that are left; the mean colour, 0, gives nothing."""
    image, share = evidence()
    left = share.flatten().sort().values.cumsum(0).flip(0)
    expected = torch.stack([*left[::32], torch.zeros(())])
    curve = deletion_curve(linear_model(share / 3), image, share[None], pixels_per_step=32)
    torch.testing.assert_close(curve[0], expected)


def test_sufficiency_and_comprehensiveness_of_a_linear_model_are_analytic() -> None:
    """The class kept is 0 (p = 0.8); the top k pixels carry S_k of it, so suff = .8 - S_k and comp = S_k."""
    image, share = evidence()
    carried = share.flatten().sort(descending=True).values.cumsum(0)
    portion = torch.stack([carried[round(f * 256) - 1] for f in (0.01, 0.05, 0.10, 0.20, 0.50)]).mean()
    suff, comp = sufficiency_comprehensiveness(linear_model(share / 3), image, share[None])
    assert suff.item() == pytest.approx(0.8 - portion.item())
    assert comp.item() == pytest.approx(portion.item())


def test_soft_measures_of_a_linear_model_are_analytic() -> None:
    image, share = evidence()
    phi = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1))
    suff, comp = soft_sufficiency_comprehensiveness(linear_model(share / 3), image, phi)
    portion = (phi[0].double() * share).sum().item()
    assert suff.item() == pytest.approx(0.8 - portion)
    assert comp.item() == pytest.approx(portion)


def test_the_predicted_class_is_tracked_and_a_target_overrides_it() -> None:
    image, share = evidence()
    predict = linear_model(share / 3)
    predicted = sufficiency_comprehensiveness(predict, image, share[None])
    first = sufficiency_comprehensiveness(predict, image, share[None], target=torch.tensor([0]))
    second = sufficiency_comprehensiveness(predict, image, share[None], target=torch.tensor([1]))
    torch.testing.assert_close(predicted, first)
    torch.testing.assert_close(second, (-first[0], -first[1]))


def test_true_evidence_beats_its_reverse_on_every_measure() -> None:
    image, share = evidence()
    predict = linear_model(share / 3)
    good, bad = share[None], -share[None]
    assert area_under(insertion_curve(predict, image, good)) > area_under(insertion_curve(predict, image, bad))
    suff_good, comp_good = sufficiency_comprehensiveness(predict, image, good)
    suff_bad, comp_bad = sufficiency_comprehensiveness(predict, image, bad)
    assert suff_good < suff_bad and comp_good > comp_bad


@pytest.mark.parametrize(("size", "points"), [(224, 29), (48, 7), (20, 4)])
def test_default_step_is_eight_rows(size: int, points: int) -> None:
    images = torch.zeros(1, 3, size, size)
    curve = insertion_curve(lambda x: torch.full((len(x), 2), 0.5), images, torch.rand(1, 7, 7))
    assert curve.shape == (1, points)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_curve_runs_from_the_blurred_to_the_true_image(seed: int) -> None:
    predict, (images, saliency) = softmax_model(seed), random_images(seed)
    curve = insertion_curve(predict, images, saliency, pixels_per_step=13)
    classes = predict(images).argmax(1, keepdim=True)
    torch.testing.assert_close(curve[:, :1], predict(blur(images)).gather(1, classes))
    torch.testing.assert_close(curve[:, -1:], predict(images).gather(1, classes))
    assert ((curve >= 0) & (curve <= 1)).all()


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_batching_over_steps_changes_nothing(seed: int, largest_batch: int) -> None:
    predict, (images, saliency) = softmax_model(seed), random_images(seed)
    whole = insertion_curve(predict, images, saliency, pixels_per_step=5)
    torch.testing.assert_close(
        insertion_curve(predict, images, saliency, pixels_per_step=5, largest_batch=largest_batch), whole
    )


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_each_image_is_measured_alone_and_only_the_order_of_pixels_matters(seed: int) -> None:
    predict, (images, saliency) = softmax_model(seed), random_images(seed)
    together = area_under(insertion_curve(predict, images, saliency, pixels_per_step=6))
    one = [slice(i, i + 1) for i in range(4)]
    alone = torch.cat([area_under(insertion_curve(predict, images[i], saliency[i], pixels_per_step=6)) for i in one])
    torch.testing.assert_close(together, alone)
    stretched = area_under(insertion_curve(predict, images, saliency * 4, pixels_per_step=6))
    torch.testing.assert_close(together, stretched)


@pytest.mark.parametrize("fill", ["zero", "blur"])
def test_the_whole_image_as_rationale_is_sufficient_and_without_it_only_the_fill_is_left(fill: Fill) -> None:
    predict, (images, saliency) = softmax_model(1), random_images(1)
    suff, comp = sufficiency_comprehensiveness(predict, images, saliency, fractions=(1.0,), fill=fill)
    torch.testing.assert_close(suff, torch.zeros(4))
    classes = predict(images).argmax(1, keepdim=True)
    left = blur(images) if fill == "blur" else torch.zeros_like(images)
    expected = (predict(images) - predict(left)).gather(1, classes)[:, 0]
    torch.testing.assert_close(comp, expected)


def test_ties_are_broken_in_row_major_order() -> None:
    """With a constant map and four pixels a step, one row of a 4 x 4 image arrives at a time."""
    images = torch.zeros(1, 3, 4, 4)
    images[0, :, 1] = 1.0
    weights = torch.zeros(3, 4, 4)
    weights[:, 1] = 1 / 24

    def predict(x: Tensor) -> Tensor:
        return linear_model(weights, bias=0.5)(torch.where(x == 1, x, torch.zeros_like(x)))

    curve = insertion_curve(predict, images, torch.ones(1, 4, 4), pixels_per_step=4)
    torch.testing.assert_close(curve[0], torch.tensor([0.5, 0.5, 1.0, 1.0, 1.0]))


def test_area_under_a_straight_line_and_a_step() -> None:
    curves = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.0, 1.0], [0.3, 0.3, 0.3]])
    torch.testing.assert_close(area_under(curves), torch.tensor([0.5, 0.25, 0.3]))


def test_soft_measures_refuse_signed_maps() -> None:
    images, saliency = random_images(0)
    with pytest.raises(ValueError):
        soft_sufficiency_comprehensiveness(softmax_model(0), images, saliency - 0.5)
