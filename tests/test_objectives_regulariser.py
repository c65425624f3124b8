from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from references import CLASSES, LABELS, Array, assert_gradient, held_normalise, rand, randn, softmax
from torch import Tensor

from align_dist import objectives
from align_dist.attribution import normalise
from align_dist.data.share import GlobalBatch, class_weights

torch.set_num_threads(1)


def weights(labels: Tensor, classes: int) -> Tensor:
    """What the host makes for a batch of one rank."""
    sample_keys = np.arange(len(labels), dtype=np.uint64)
    return torch.from_numpy(class_weights(GlobalBatch(sample_keys, labels.numpy(), classes)))


def class_average(values: Array) -> float:
    """Mean in each class present, over all classes."""
    labels = LABELS.numpy()
    return float(sum(values[labels == label].mean() for label in np.unique(labels)) / CLASSES)


class Mixed:
    """Maps and logits of six images and of their mixtures."""

    def __init__(self, seed: int) -> None:
        self.cam, self.mixed_cam = randn(seed, 6, 4, 3), randn(seed + 1, 6, 4, 3)
        self.mixed_logits = randn(seed + 2, 6, CLASSES)
        self.partners, self.share = torch.tensor([2, 4, 5, 3, 1, 0]), rand(seed + 3, 6)

    def permuted(self, order: Tensor) -> tuple[Mixed, Tensor]:
        """The same images in another order, and their labels."""
        other = Mixed(0)
        other.cam, other.mixed_cam = self.cam[order], self.mixed_cam[order]
        other.mixed_logits, other.share = self.mixed_logits[order], self.share[order]
        other.partners = order.argsort()[self.partners[order]]
        return other, LABELS[order]


# The regulariser


def test_consistency_by_hand() -> None:
    """Normalised maps are (0, n) and (n, 0), n = 1 / 1.01; their even mixture is (n/2, n/2).

    The mixture's own map is (0, n), n/2 away everywhere; the other image is alone and equals its target.
    """
    n, labels = 1 / 1.01, torch.tensor([1, 1, 3])
    cam = torch.tensor([[[0.0, 2.0]], [[5.0, 0.0]], [[0.0, 1.0]]])
    mixed_cam = torch.tensor([[[0.0, 7.0]], [[0.0, 7.0]], [[0.0, 3.0]]])
    partners, share = torch.tensor([1, 0, 2]), torch.tensor([0.5, 0.5, 0.9])
    term = objectives.consistency(cam, mixed_cam, cam[partners], share, weights(labels, 4))
    assert float(term) == pytest.approx((n / 2 + 0) / 4, rel=1e-5)


def test_consistency_is_zero_when_the_mixtures_map_is_the_mixture_of_maps() -> None:
    data = Mixed(0)
    share = torch.ones(6)
    moved, weight = data.cam[data.partners], weights(LABELS, CLASSES)
    assert float(objectives.consistency(data.cam, 3 * data.cam, moved, share, weight)) < 1e-6
    assert float(objectives.consistency(data.cam, moved, moved, 0 * share, weight)) < 1e-6


def test_attribution_sparsity_by_hand() -> None:
    """Rows (0, 1), (4, 2) in one map and (0, 2), (0, 0) in the other; divisors 4.04 and 2.02."""
    cam, mixed_cam = torch.tensor([[[0.0, 1.0], [4.0, 2.0]]]), torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])
    label = torch.tensor([0])
    mean = (7 / 4 / 4.04 + 2 / 4 / 2.02) / 2
    columns = ((4 + 2) / 2 / 4.04 + (0 + 2) / 2 / 2.02) / 2
    arguments = (cam, mixed_cam, weights(label, 3))
    assert float(objectives.attribution_sparsity(*arguments, "mean")) == pytest.approx(mean / 3, rel=1e-5)
    assert float(objectives.attribution_sparsity(*arguments, "column_maximum")) == pytest.approx(columns / 3, rel=1e-5)


@given(seed=st.integers(0, 10_000))
def test_column_maximum_is_the_matrix_norm_that_dres_code_takes(seed: int) -> None:
    """Its torch call: the 1-norm over (channel, height) of N x 1 x 7 x 7 maps, then the mean in each class."""
    cam, mixed_cam = randn(seed, 6, 7, 7), randn(seed + 1, 6, 7, 7)

    def norm(maps: Tensor) -> Tensor:
        columns = torch.linalg.norm(normalise(maps)[:, None], ord=1, dim=(1, 2))
        assert columns.shape == (6, 7)
        return columns.mean(1)

    expected = class_average(((norm(cam) + norm(mixed_cam)) / 2).double().numpy())
    term = float(objectives.attribution_sparsity(cam, mixed_cam, weights(LABELS, CLASSES), "column_maximum"))
    assert term == pytest.approx(expected, rel=1e-5)
    assert term >= float(objectives.attribution_sparsity(cam, mixed_cam, weights(LABELS, CLASSES), "mean"))


def test_weighted_classification_by_hand() -> None:
    """Two images of class 0, one of class 2, none of class 1: (mean(a, b) + c) / 3."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]]).log()
    expected = (-(math.log(0.5) + math.log(0.8)) / 2 - math.log(0.4)) / 3
    labels = torch.tensor([0, 0, 2])
    term = objectives.weighted_classification(logits, labels, weights(labels, 3))
    assert float(term) == pytest.approx(expected, rel=1e-5)


def all_terms(data: Mixed, labels: Tensor, classes: int) -> list[Tensor]:
    maps, weight = (data.cam, data.mixed_cam), weights(labels, classes)
    return [
        objectives.consistency(*maps, data.cam[data.partners], data.share, weight),
        objectives.attribution_sparsity(*maps, weight, "mean"),
        objectives.attribution_sparsity(*maps, weight, "column_maximum"),
        objectives.weighted_classification(data.mixed_logits, labels, weight),
    ]


@given(seed=st.integers(0, 10_000))
def test_the_regularisers_terms_are_in_range_and_ignore_the_order_of_images(seed: int) -> None:
    data = Mixed(seed)
    terms = all_terms(data, LABELS, CLASSES)
    assert all(term >= 0 for term in terms) and all(term <= 1 for term in terms[:3])
    other, labels = data.permuted(torch.randperm(6, generator=torch.Generator().manual_seed(seed)))
    for term, same in zip(terms, all_terms(other, labels, CLASSES), strict=True):
        torch.testing.assert_close(same, term)


def test_absent_classes_count_as_zero() -> None:
    data = Mixed(0)
    data.mixed_logits = torch.cat([data.mixed_logits, torch.full((6, 5), -1e4)], 1)  # five classes nobody is of
    for term, diluted in zip(all_terms(data, LABELS, CLASSES), all_terms(data, LABELS, 2 * CLASSES), strict=True):
        torch.testing.assert_close(diluted, term / 2)


def test_a_class_counts_once_however_many_images_it_has() -> None:
    """Image 3, alone in its class, twice in the batch."""
    data, order = Mixed(0), torch.tensor([0, 1, 2, 3, 4, 5, 3])
    twice = Mixed(0)
    twice.cam, twice.mixed_cam, twice.mixed_logits = data.cam[order], data.mixed_cam[order], data.mixed_logits[order]
    twice.share, twice.partners = data.share[order], data.partners[order]
    for term, same in zip(all_terms(data, LABELS, CLASSES), all_terms(twice, LABELS[order], CLASSES), strict=True):
        torch.testing.assert_close(same, term)


@pytest.mark.parametrize("kind", ["mean", "column_maximum"])
def test_the_regulariser_adds_its_terms_with_dres_weights(kind: Any) -> None:
    data = Mixed(4)
    consistency, mean, column_maximum, classification = all_terms(data, LABELS, CLASSES)
    sparse = mean if kind == "mean" else column_maximum
    regulariser = objectives.mixup_regulariser(
        data.cam,
        data.mixed_cam,
        data.cam[data.partners],
        data.mixed_logits,
        data.share,
        LABELS,
        weights(LABELS, CLASSES),
        kind,
    )
    torch.testing.assert_close(regulariser, 1.0 * consistency + 0.5 * sparse + 0.1 * classification)


def test_gradients_of_the_regularisers_terms() -> None:
    data = Mixed(7)
    partners, share = data.partners.numpy(), data.share.double().numpy()[:, None, None]
    fixed_cam, fixed_mixed = data.cam.double().numpy(), data.mixed_cam.double().numpy()

    def consistency(cam: Array, mixed_cam: Array) -> float:
        clean, mixed = held_normalise(cam, data.cam), held_normalise(mixed_cam, data.mixed_cam)
        target = share * clean + (1 - share) * clean[partners]
        return class_average(np.abs(mixed - target).mean((1, 2)))

    def ours(cam: Tensor, mixed_cam: Tensor) -> Tensor:
        weight = weights(LABELS, CLASSES)
        return objectives.consistency(cam, mixed_cam, cam[data.partners], data.share, weight)

    assert_gradient(lambda x: ours(x, data.mixed_cam), lambda x: consistency(x, fixed_mixed), data.cam)
    assert_gradient(lambda x: ours(data.cam, x), lambda x: consistency(fixed_cam, x), data.mixed_cam)

    def sparsity(cam: Array, columns: bool) -> float:
        clean, mixed = held_normalise(cam, data.cam), held_normalise(fixed_mixed, data.mixed_cam)
        sizes = [maps.max(1).mean(1) if columns else maps.mean((1, 2)) for maps in (clean, mixed)]
        return class_average((sizes[0] + sizes[1]) / 2)

    def ours_sparse(cam: Tensor, kind: Any) -> Tensor:
        return objectives.attribution_sparsity(cam, data.mixed_cam, weights(LABELS, CLASSES), kind)

    assert_gradient(lambda x: ours_sparse(x, "mean"), lambda x: sparsity(x, columns=False), data.cam)
    assert_gradient(lambda x: ours_sparse(x, "column_maximum"), lambda x: sparsity(x, columns=True), data.cam)

    def cross_entropy(logits: Array) -> float:
        return class_average(-np.log(softmax(logits)[np.arange(6), LABELS]))

    weight = weights(LABELS, CLASSES)
    assert_gradient(lambda x: objectives.weighted_classification(x, LABELS, weight), cross_entropy, data.mixed_logits)
